package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
)

func TestWhatRBACPrintsIsAccepted(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	a := connect(t, c.Config())
	a.namespace(t, "accepted-a")
	a.namespace(t, "accepted-b")
	for subject, args := range map[string][]string{
		"system:serviceaccount:accepted-a:everywhere": nil,
		"system:serviceaccount:accepted-a:two":        {"-n", "accepted-a,accepted-b", "pods", "services"},
		"system:serviceaccount:accepted-a:kinds":      {"nodes", "deployments.apps", "widgets.v1.example.com", "-n", "accepted-b"},
		"system:serviceaccount:accepted-a:identity":   {"-n", "kube-system", "pods"},
		"system:serviceaccount:accepted-a:once":       {"--once", "secrets", "--field-selector", "metadata.name=one"},
		"jane@example.com":                            {"pods"},
		`O'Neil & "Sons"/ops: 100%`:                   {"-n", "accepted-b", "configmaps"},
	} {
		a.install(t, rbac(t, append(args, "--kubeconfig", c.Kubeconfig(), "--subject", subject)...))
	}
}

func TestRBACNamesResourcesAsTheAPIServerDoes(t *testing.T) {
	t.Parallel()
	a := connect(t, common.start(t).Config())
	a.namespace(t, "named")
	a.installWidgets(t, "named.example.com")
	args := []string{"po", "deploy", "widget.named.example.com", "nodes", "-n", "named"}
	w := newAccount(t, a, "named", args...)

	// What belongs to no namespace needs a ClusterRole whatever the namespace, and that must give nothing else.
	role, err := a.RbacV1().ClusterRoles().Get(t.Context(), "watcher:system:serviceaccount:named:watcher", metav1.GetOptions{})
	must(t, role, err)
	if want := []rbacv1.PolicyRule{may("nodes", "list", "watch")}; !reflect.DeepEqual(role.Rules, want) {
		t.Errorf("the ClusterRole gives %v, want %v", role.Rules, want)
	}
	if r := check(t, 0, w.direct(t), args...); len(r.Problems) > 0 {
		t.Errorf("with what rbac gives for the same arguments check finds %v", r.Problems)
	}
	for _, resource := range []string{"pods", "deployments.apps", "widgets.named.example.com"} {
		for _, verb := range []string{"list", "watch"} {
			w.mayNot(t, verb, resource, "")
			w.mayNot(t, verb, resource, "default")
		}
	}
}

// execute runs watcher until it ends by itself.
func execute(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, problems strings.Builder
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), problems.String()
}

// rbac is what "watcher rbac" prints.
func rbac(t *testing.T, args ...string) string {
	t.Helper()
	code, manifests, stderr := execute(t, append([]string{"rbac"}, args...)...)
	if code != 0 {
		t.Fatalf("watcher rbac %q: exit code %d\n%s", args, code, stderr)
	}
	return manifests
}

// obey runs a command line that watcher printed, in a shell that finds our watcher, and for kubectl a program that hands
// on what it is to apply. It returns that.
func obey(t *testing.T, line string) (manifests string) {
	t.Helper()
	dir := t.TempDir()
	err := errors.Join(os.Symlink(program, filepath.Join(dir, "watcher")),
		os.WriteFile(filepath.Join(dir, "kubectl"), []byte("#!/bin/sh\n[ \"$1 $2 $3\" = 'apply -f -' ] && exec cat\n"), 0o700))
	must(t, dir, err)
	cmd := exec.Command("sh", "-c", line)
	cmd.Env = append(os.Environ(), "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return string(must(t, out, err))
}

// install demands that the API server takes the manifests, first as a dry run and then for good, and returns when it acts
// on them. Only namespaces cannot wait for the end of the dry run.
func (a *api) install(t *testing.T, manifests string) {
	t.Helper()
	objects := documents(t, manifests)
	if len(objects) == 0 {
		t.Fatalf("no objects in\n%s", manifests)
	}
	for _, obj := range objects {
		if obj.GetKind() == "Namespace" {
			a.apply(t, obj)
		}
	}
	for _, obj := range objects {
		a.apply(t, obj, metav1.DryRunAll)
	}
	for _, obj := range objects {
		a.apply(t, obj)
	}
	settle(t)
}

// settle returns when the API server acts on the roles that were written.
func settle(t *testing.T) {
	t.Helper()
	c := common.start(t)
	common.mu.Lock()
	defer common.mu.Unlock()
	if err := c.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// apply does what kubectl does with --server-side.
func (a *api) apply(t *testing.T, obj *unstructured.Unstructured, dryRun ...string) {
	t.Helper()
	force := true
	gvr, _ := apimeta.UnsafeGuessKindToResource(obj.GroupVersionKind()) // the plurals of what is installed here are regular
	body, err := json.Marshal(obj)
	must(t, body, err)
	_, err = a.dynamic.Resource(gvr).Namespace(obj.GetNamespace()).Patch(t.Context(), obj.GetName(), types.ApplyPatchType, body,
		metav1.PatchOptions{FieldManager: "kubectl", Force: &force, FieldValidation: metav1.FieldValidationStrict, DryRun: dryRun})
	if err != nil {
		t.Fatalf("apply %s %s, dry run %q: %v", obj.GetKind(), obj.GetName(), dryRun, err)
	}
}

func documents(t *testing.T, manifests string) (all []*unstructured.Unstructured) {
	t.Helper()
	d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifests), 4096)
	for {
		obj := &unstructured.Unstructured{}
		switch err := d.Decode(&obj.Object); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatalf("%v in\n%s", err, manifests)
		case obj.Object != nil: // nil: nothing but comments
			all = append(all, obj)
		}
	}
}
