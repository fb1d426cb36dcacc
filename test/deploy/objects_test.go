package deploy

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// objects is what `kubectl apply -k deploy` sends, by kind and name, after edit has changed deploy's files.
func objects(t *testing.T, edit func(file string, data []byte) []byte) map[string]runtime.Object {
	t.Helper()
	dir := filesys.MakeFsInMemory()
	found, err := filepath.Glob(filepath.Join(repository, "deploy", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := dir.WriteFile(filepath.Join("/deploy", filepath.Base(path)), edit(filepath.Base(path), data)); err != nil {
			t.Fatal(err)
		}
	}
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(dir, "/deploy")
	if err != nil {
		t.Fatal(err)
	}
	// Strict: a field that the API does not know, misspelt or at the wrong depth, would be dropped by the API server.
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	all := map[string]runtime.Object{}
	for _, r := range resources.Resources() {
		data, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		obj, kind, err := strict.Decode(data, nil, nil)
		if err != nil {
			t.Fatalf("%s %s: %v", r.GetKind(), r.GetName(), err)
		}
		all[kind.Kind+" "+r.GetName()] = obj
	}
	return all
}

func asItIs(_ string, data []byte) []byte { return data }

// pod returns the Deployment and its only container.
func pod(t *testing.T, all map[string]runtime.Object) (*appsv1.Deployment, corev1.Container) {
	t.Helper()
	d, is := all["Deployment watcher"].(*appsv1.Deployment)
	if !is || len(d.Spec.Template.Spec.Containers) != 1 {
		t.Fatalf("Deployment watcher is %v, want one with one container", all["Deployment watcher"])
	}
	return d, d.Spec.Template.Spec.Containers[0]
}

func TestTheDeploymentKeepsItsPromises(t *testing.T) {
	d, c := pod(t, objects(t, asItIs))
	p := d.Spec.Template.Spec
	for _, promise := range []struct {
		name string
		of   any
		want string
	}{
		{"it is found by name", []any{d.Namespace, d.Labels["app.kubernetes.io/name"]}, `["watcher","watcher"]`},
		{"it owns its pods", []any{d.Spec.Selector.MatchLabels, d.Spec.Template.Labels},
			`[{"app.kubernetes.io/name":"watcher"},{"app.kubernetes.io/name":"watcher"}]`},
		{"one writes", d.Spec.Replicas, `1`},
		{"the old one has ended before a new one starts", d.Spec.Strategy, `{"type":"Recreate"}`},
		{"no variables that nobody asked for", p.EnableServiceLinks, `false`},
		{"nobody is root", p.SecurityContext,
			`{"runAsUser":65532,"runAsGroup":65532,"runAsNonRoot":true,"fsGroup":65532,"fsGroupChangePolicy":"OnRootMismatch","seccompProfile":{"type":"RuntimeDefault"}}`},
		{"the program can do nothing but run", c.SecurityContext,
			`{"capabilities":{"drop":["ALL"]},"readOnlyRootFilesystem":true,"allowPrivilegeEscalation":false}`},
		{"an image that was loaded is enough", c.ImagePullPolicy, `"IfNotPresent"`},
		{"the image's own entry point", c.Command, `null`},
		{"memory is bounded, the processor is not", c.Resources,
			`{"limits":{"memory":"128Mi"},"requests":{"cpu":"50m","memory":"64Mi"}}`},
		{"the collector is told the limit", c.Env,
			`[{"name":"GOMEMLIMIT","valueFrom":{"resourceFieldRef":{"resource":"limits.memory","divisor":"0"}}}]`},
	} {
		if got, err := json.Marshal(promise.of); err != nil || string(got) != promise.want {
			t.Errorf("%s: %s, %v, want %s", promise.name, got, err, promise.want)
		}
	}
}

func TestTheDeploymentRemembersItsPosition(t *testing.T) {
	all := objects(t, asItIs)
	d, c := pod(t, all)
	volumes := d.Spec.Template.Spec.Volumes
	if len(volumes) != 1 || len(c.VolumeMounts) != 1 || volumes[0].Name != c.VolumeMounts[0].Name || c.VolumeMounts[0].ReadOnly {
		t.Fatalf("volumes %v, mounted as %v, want one that the program may write to", volumes, c.VolumeMounts)
	}
	if want := "--state-dir=" + c.VolumeMounts[0].MountPath; !slices.Contains(c.Args, want) {
		t.Errorf("arguments %q, want %s", c.Args, want)
	}
	source := volumes[0].PersistentVolumeClaim
	if source == nil || source.ReadOnly {
		t.Fatalf("the volume is %v, want one that outlives the pod", volumes[0])
	}
	claim, is := all["PersistentVolumeClaim "+source.ClaimName].(*corev1.PersistentVolumeClaim)
	if !is || claim.Namespace != d.Namespace || !slices.Equal(claim.Spec.AccessModes, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}) {
		t.Errorf("claim %v, want one in the Deployment's namespace, for one node at a time", claim)
	}
}

func TestTheDeploymentLetsWatcherDrain(t *testing.T) {
	source, err := os.ReadFile(filepath.Join(repository, "internal", "watch", "run.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`drainTimeout = (\d+) \* time\.Second`).FindSubmatch(source)
	if found == nil {
		t.Fatal("internal/watch/run.go does not say how long watcher drains")
	}
	drain, err := strconv.ParseInt(string(found[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	d, _ := pod(t, objects(t, asItIs))
	if grace := d.Spec.Template.Spec.TerminationGracePeriodSeconds; grace == nil || *grace < drain+5 {
		t.Errorf("the pod is killed after %v s, want 5 s more than the %d s that watcher drains", grace, drain)
	}
}

func TestTheDeploymentsArgumentsAreWatchers(t *testing.T) {
	for name, edit := range map[string]func(string, []byte) []byte{
		"as it is": asItIs,
		"with what the comment offers": func(_ string, data []byte) []byte {
			return []byte(strings.ReplaceAll(string(data), "# - --", "- --"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, c := pod(t, objects(t, edit))
			if name != "as it is" && len(c.Args) < 3 {
				t.Fatalf("arguments %q: no comment offers one", c.Args)
			}
			for i := range c.Args {
				c.Args[i] = strings.Replace(c.Args[i], c.VolumeMounts[0].MountPath, t.TempDir(), 1)
			}
			limit := fmt.Sprintf("GOMEMLIMIT=%d", c.Resources.Limits.Memory().Value())
			if out := start(t, []string{limit}, c.Args...); !strings.Contains(out, "no API server to talk to") {
				t.Errorf("watcher %q says %q, want it to look for an API server", c.Args, out)
			}
		})
	}
}

func TestTheDeploymentRunsAsTheImagesUser(t *testing.T) {
	b, err := native()
	if err != nil {
		t.Fatal(err)
	}
	d, _ := pod(t, objects(t, asItIs))
	p := d.Spec.Template.Spec.SecurityContext
	if user := fmt.Sprintf("%d:%d", *p.RunAsUser, *p.RunAsGroup); user != b.image.user {
		t.Errorf("the Deployment runs as %s, the image is made for %s", user, b.image.user)
	}
}

func TestTheDeploymentHasItsNamespaceAndItsRights(t *testing.T) {
	all := objects(t, asItIs)
	d, _ := pod(t, all)
	account := rbacv1.Subject{Kind: "ServiceAccount", Name: d.Spec.Template.Spec.ServiceAccountName, Namespace: d.Namespace}
	sa, is := all["ServiceAccount "+account.Name].(*corev1.ServiceAccount)
	if !is || sa.Namespace != account.Namespace {
		t.Fatalf("there is no %v", account)
	}
	for _, token := range []*bool{sa.AutomountServiceAccountToken, d.Spec.Template.Spec.AutomountServiceAccountToken} {
		if token != nil && !*token {
			t.Error("the pod gets no token")
		}
	}
	bound := 0
	for name, obj := range all {
		o, err := meta.Accessor(obj)
		if err != nil {
			t.Fatal(err)
		}
		if ns := o.GetNamespace(); ns != "" && ns != "kube-system" && all["Namespace "+ns] == nil {
			t.Errorf("nothing makes the namespace of %s, %s", name, ns)
		}
		var subjects []rbacv1.Subject
		switch b := obj.(type) {
		case *rbacv1.ClusterRoleBinding:
			subjects = b.Subjects
		case *rbacv1.RoleBinding:
			subjects = b.Subjects
		default:
			continue
		}
		bound++
		if len(subjects) != 1 || subjects[0] != account {
			t.Errorf("%s binds %v, want %v", name, subjects, account)
		}
	}
	if bound == 0 {
		t.Error("no binding gives the Deployment rights")
	}
}

func TestKustomizeSetsTheImage(t *testing.T) {
	_, c := pod(t, objects(t, asItIs))
	if c.Image != "watcher:devel" {
		t.Errorf("image %q, want the tag that a build without a version has", c.Image)
	}
	_, c = pod(t, objects(t, func(file string, data []byte) []byte {
		if file != "kustomization.yaml" {
			return data
		}
		// What `kustomize edit set image` does to an entry that is there.
		var k types.Kustomization
		if err := yaml.UnmarshalStrict(data, &k); err != nil {
			t.Fatal(err)
		}
		if len(k.Images) != 1 || k.Images[0].Name != "watcher" {
			t.Fatalf("images %v, want watcher", k.Images)
		}
		k.Images[0].NewName, k.Images[0].NewTag = "registry.example.com/watcher", "v1"
		data, err := yaml.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}))
	if want := "registry.example.com/watcher:v1"; c.Image != want {
		t.Errorf("image %q, want %q", c.Image, want)
	}
}
