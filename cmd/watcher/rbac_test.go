package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

// TestTheManifestsInTheRepositoryAreTheProgramsOwn: deploy/rbac.yaml is what rbac prints.
func TestTheManifestsInTheRepositoryAreTheProgramsOwn(t *testing.T) {
	t.Parallel()
	code, got, stderr := once(t, t.TempDir(), environment(t.TempDir(), ""), "rbac")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	path := filepath.Join("..", "..", "deploy", "rbac.yaml")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if want := slurp(path); got != want {
		t.Errorf("deploy/rbac.yaml is\n%s\nrbac prints\n%s", want, got)
	}
}

// decoded is each document of manifests as "Kind namespace/name", read as strictly as an API server does.
func decoded(t *testing.T, manifests string) []string {
	t.Helper()
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	var out []string
	for r := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(manifests))); ; {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(doc), "\n"+"kind:") {
			continue // the comment that says how they were made
		}
		obj, gvk, err := strict.Decode(doc, nil, nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		m, err := meta.Accessor(obj)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %s/%s", gvk.Kind, m.GetNamespace(), m.GetName()))
	}
}

// TestManifestsAreValidWhateverTheNames: names are data, in the comments as well.
func TestManifestsAreValidWhateverTheNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, resources...)
	for _, c := range []struct {
		args []string
		want []string
	}{
		{nil, []string{"Namespace /watcher", "ServiceAccount watcher/watcher", "ClusterRole /watcher", "ClusterRoleBinding /watcher",
			"Role kube-system/watcher", "RoleBinding kube-system/watcher"}},
		{[]string{"--subject", "yes"}, []string{"ClusterRole /watcher:yes", "ClusterRoleBinding /watcher:yes",
			"Role kube-system/watcher:yes", "RoleBinding kube-system/watcher:yes"}},
		{[]string{"--once", "--subject", "a: \"b\"\n# ü\u2028'%/\t{}"}, []string{"ClusterRole /watcher:a: \"b\"\n# ü\u2028'=25=2F\t{}", "ClusterRoleBinding /watcher:a: \"b\"\n# ü\u2028'=25=2F\t{}"}},
		{[]string{"--once", "-n", "1", "--subject", "system:serviceaccount:0:1e3", "--field-selector", "metadata.name=a\nkind: x"},
			[]string{"ServiceAccount 0/1e3", "Role 1/watcher:system:serviceaccount:0:1e3", "RoleBinding 1/watcher:system:serviceaccount:0:1e3"}},
		{[]string{"x\nkind: x.v1.example.com", "--once"}, []string{"Namespace /watcher", "ServiceAccount watcher/watcher", "ClusterRole /watcher", "ClusterRoleBinding /watcher"}},
	} {
		code, stdout, stderr := once(t, w.dir, w.env, append([]string{"rbac"}, c.args...)...)
		if code != 0 {
			t.Fatalf("%q: exit code %d, %s", c.args, code, stderr)
		}
		if got := decoded(t, stdout); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.args, got, c.want)
		}
	}
}

// TestNoSubjectReplacesTheRoleOfAnother: each has roles of its own name.
func TestNoSubjectReplacesTheRoleOfAnother(t *testing.T) {
	t.Parallel()
	dir, env := t.TempDir(), environment(t.TempDir(), "")
	byName := map[string]string{}
	for _, subject := range []string{"a/b", "a%b", "a-b", "a=b", "a=2Fb", "watcher", "ops:audit", "system:serviceaccount:ops:audit", defaultSubject} {
		_, stdout, _ := once(t, dir, env, "rbac", "--subject", subject)
		objects := decoded(t, stdout)
		name := objects[len(objects)-1]
		if other, taken := byName[name]; taken {
			t.Errorf("%q has the %s of %q", subject, name, other)
		}
		byName[name] = subject
	}
}

// TestAnEmptyNameNamesNothing: a rule for the name "" would be one for all.
func TestAnEmptyNameNamesNothing(t *testing.T) {
	t.Parallel()
	_, stdout, _ := once(t, t.TempDir(), environment(t.TempDir(), ""), "rbac", "--once", "pods", "--field-selector", "metadata.name=")
	if strings.Contains(stdout, "resourceNames") {
		t.Errorf("it names what it is for:\n%s", stdout)
	}
}

// TestTheCommandInTheManifestsMakesThemAgain: a shell reads it as it was given.
func TestTheCommandInTheManifestsMakesThemAgain(t *testing.T) {
	t.Parallel()
	dir, env := t.TempDir(), environment(t.TempDir(), "")
	for _, args := range [][]string{
		{"services,pods", "-n", "b,a", "--field-selector", "metadata.name!=it's  $HOME", "--once"},
		{"pods", "--subject", "o'neil \"$(id)\" `id` \\n ü"},
		{"--subject", "two\nlines \t'\u2028\"\\"},
	} {
		_, first, _ := once(t, dir, env, append([]string{"rbac"}, args...)...)
		line, _, _ := strings.Cut(first, "\n")
		cmd := exec.Command("bash", "-c", strings.TrimPrefix(line, "# Printed by: "))
		cmd.Dir, cmd.Env = dir, append(env, "LC_ALL=C.UTF-8")
		again, err := cmd.Output()
		if err != nil || string(again) != first {
			t.Errorf("%s: %v\n%s\nwant\n%s", line, err, again, first)
		}
	}
}
