package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPayloadSaysHowMuchOfAnObjectIsWritten(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	a := connect(t, c.Config())
	a.namespace(t, "payload")
	a.configMap(t, "payload", "old", map[string]string{"app": "web"})
	full := watch(t, c.Kubeconfig(), "-n", "payload", "--managed-fields", "configmaps")
	metadata := watch(t, c.Kubeconfig(), "-n", "payload", "--payload", "metadata", "configmaps")
	none := watch(t, c.Kubeconfig(), "-n", "payload", "--payload", "none", "configmaps")
	all := []*process{full, metadata, none}
	for _, w := range all {
		w.synced(t, 1)
	}
	frames := a.record(t, "/api/v1/namespaces/payload/configmaps", full.synced(t, 1)["payload/configmaps"].Data.ResourceVersion)
	a.configMap(t, "payload", "new", nil)
	a.label(t, "payload", "new", "app", "web")
	a.deleteConfigMap(t, "payload", "new")
	for _, w := range all {
		w.wait(t, patience, "the changes", has("deleted", "payload", "new"))
	}
	eventually(t, patience, "the raw watch has them too", func() bool { return len(frames()) == 3 })

	live := pick(full.stop(t), (*event).live)
	for i, f := range frames() {
		if !bytes.Equal(live[i].Data.Object, f.Object) || !bytes.Contains(f.Object, []byte(`"managedFields"`)) {
			t.Errorf("--managed-fields: %s is not what the API server sent:\n%s", live[i].Data.Object, f.Object)
		}
	}
	for _, ev := range pick(metadata.stop(t), (*event).ofObject) {
		o := normal(t, ev.Data.Object)
		delete(o, "metadata")
		if len(o) != 2 || o["kind"] != "PartialObjectMetadata" || ev.Data.Kind != "ConfigMap" {
			t.Errorf("--payload metadata: %s", ev.Data.Object)
		}
		if m := metaOf(t, ev.Data.Object); m.UID != ev.Data.UID || m.ResourceVersion != ev.Data.ResourceVersion {
			t.Errorf("--payload metadata: %s at %s has the metadata %+v", ev.Data.UID, ev.Data.ResourceVersion, m)
		}
	}
	ids := func(evs []event) (ids []string) {
		for _, ev := range pick(evs, (*event).ofObject) {
			ids = append(ids, ev.ID)
		}
		return ids
	}
	bare := none.stop(t)
	for _, ev := range pick(bare, (*event).ofObject) {
		if ev.Data.Object != nil {
			t.Errorf("--payload none: %s", ev.Data.Object)
		}
	}
	if got, want := ids(bare), ids(full.events(t)); !slices.Equal(got, want) || len(got) < 4 {
		t.Errorf("--payload none wrote %v, without it: %v", got, want)
	}
}

func TestSecretsGiveNothingAwayUnlessAskedTo(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	a := connect(t, c.Config())
	a.namespace(t, "secrets")
	const password = "correct horse battery staple"
	encoded := base64.StdEncoding.EncodeToString([]byte(password))
	secret := func(name string) *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{
				"kubectl.kubernetes.io/last-applied-configuration": `{"data":{"password":"` + encoded + `"}}`, "kept": "yes",
			}},
			Data: map[string][]byte{"password": []byte(password)},
		}
	}
	secrets := a.CoreV1().Secrets("secrets")
	s, err := secrets.Create(t.Context(), secret("old"), metav1.CreateOptions{})
	must(t, s, err)
	redacted := watch(t, c.Kubeconfig(), "-n", "secrets", "--log-level", "debug", "secrets")
	full := watch(t, c.Kubeconfig(), "-n", "secrets", "--payload", "full", "secrets")
	redacted.synced(t, 1)
	full.synced(t, 1)
	s, err = secrets.Create(t.Context(), secret("new"), metav1.CreateOptions{})
	must(t, s, err)
	s.Labels = map[string]string{"app": "web"}
	s, err = secrets.Update(t.Context(), s, metav1.UpdateOptions{})
	must(t, s, err)
	if err := secrets.Delete(t.Context(), "new", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, w := range []*process{redacted, full} {
		w.wait(t, patience, "the changes", has("deleted", "secrets", "new"))
		w.stop(t)
	}
	for _, line := range slices.Concat(redacted.stdout.all(), redacted.stderr.all()) {
		if strings.Contains(line, encoded) || strings.Contains(line, password) || strings.Contains(line, "last-applied") {
			t.Errorf("gives a secret away: %s", line)
		}
	}
	if n := count(redacted.events(t), func(ev *event) bool { return bytes.Contains(ev.Data.Object, []byte(`"kept":"yes"`)) }); n != 4 {
		t.Errorf("%d events have the other annotation, want all 4", n)
	}
	if n := count(full.events(t), func(ev *event) bool {
		return bytes.Contains(ev.Data.Object, []byte(`"password":"`+encoded+`"`)) && bytes.Contains(ev.Data.Object, []byte("last-applied"))
	}); n != 4 {
		t.Errorf("--payload full: %d events have everything, want all 4", n)
	}
}

func TestNamespacesAreStreamsOfTheirOwn(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	a := connect(t, c.Config())
	for _, ns := range []string{"ns-a", "ns-b", "ns-c"} {
		a.namespace(t, ns)
		a.configMap(t, ns, "old", nil)
	}
	w := watch(t, c.Kubeconfig(), "-n", "ns-b,ns-a", "-n", "ns-a", "configmaps")
	w.synced(t, 2)
	for _, ns := range []string{"ns-c", "ns-a", "ns-b"} {
		a.configMap(t, ns, "new", nil)
	}
	for _, ns := range []string{"ns-a", "ns-b"} {
		w.wait(t, patience, "a change in "+ns, has("added", ns, "new"))
	}
	evs := w.stop(t)
	for _, ev := range evs {
		if ns := ev.Data.Namespace; ns != "ns-a" && ns != "ns-b" {
			t.Errorf("%s is about namespace %q", ev.ID, ns)
		}
		if ev.is("started") && !slices.Equal(ev.Data.Namespaces, []string{ev.Data.Namespace}) {
			t.Errorf("%s starts namespaces %v", ev.ID, ev.Data.Namespaces)
		}
	}
	if got := count(evs, only("present")) + count(evs, only("added")); got != 4 {
		t.Errorf("%d objects, want 2 in each namespace", got)
	}
}

func TestAFieldSelectorLeavesANamespaceOut(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	a := connect(t, c.Config())
	a.namespace(t, "fields")
	a.configMap(t, "kube-system", "fields-old", nil)
	w := watch(t, c.Kubeconfig(), "--field-selector", "metadata.namespace!=kube-system", "configmaps")
	w.synced(t, 1)
	a.configMap(t, "kube-system", "fields-new", nil)
	a.configMap(t, "fields", "new", nil)
	a.deleteConfigMap(t, "kube-system", "fields-new")
	a.deleteConfigMap(t, "fields", "new")
	evs := w.wait(t, patience, "the deletion, which is certain", has("deleted", "fields", "new"))
	if n := count(evs, func(ev *event) bool { return ev.Data.Namespace == "kube-system" }); n > 0 {
		t.Errorf("%d events of kube-system", n)
	}
	for _, ev := range pick(w.stop(t), only("started")) {
		if ev.Data.FieldSelector != "metadata.namespace!=kube-system" {
			t.Errorf("started says %q", ev.Data.FieldSelector)
		}
	}
}

func TestResourcesAreNamedAsKubectlDoes(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	all := []string{"po", "pod", "Pods", "pods.v1", "deploy", "deployments.apps", "deployment.v1.apps", "svc,cm", "no", "crd"}
	w := watch(t, c.Kubeconfig(), append([]string{"--once"}, all...)...)
	var got []string
	for _, ev := range pick(w.exit(t, 0), only("started")) {
		got = append(got, ev.Data.Version+"/"+ev.Data.Resource+"/"+ev.Data.Kind)
	}
	slices.Sort(got)
	want := []string{
		"v1/configmaps/ConfigMap", "v1/customresourcedefinitions/CustomResourceDefinition", "v1/deployments/Deployment", "v1/nodes/Node",
		"v1/pods/Pod", "v1/services/Service",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q, each once", got, want)
	}
	if said := refused(t, "--kubeconfig", c.Kubeconfig(), "deploymets"); !strings.Contains(said, "deploymets") || !strings.Contains(said, "deployments.apps") {
		t.Errorf("of an unknown resource it says %q, want the nearest name", said)
	}
	if said := refused(t, "--kubeconfig", c.Kubeconfig(), "tokenreviews"); !strings.Contains(said, "tokenreviews") {
		t.Errorf("of a resource that cannot be watched it says %q", said)
	}
	if said := refused(t, "--kubeconfig", c.Kubeconfig(), "--field-selector", "spec.colour=blue", "pods"); !strings.Contains(said, "spec.colour") {
		t.Errorf("of a field that pods have not it says %q", said)
	}
}

func TestOnceListsWhatThereIsAndEnds(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	a := connect(t, c.Config())
	a.namespace(t, "once")
	for i := range 600 { // more than a page
		a.configMap(t, "once", fmt.Sprintf("cm-%03d", i), nil)
	}
	w := watch(t, c.Kubeconfig(), "--once", "-n", "once", "configmaps", "services")
	evs := w.exit(t, 0)
	for i, ev := range pick(evs, only("present")) {
		if want := fmt.Sprintf("cm-%03d", i); ev.Data.Name != want {
			t.Fatalf("object %d is %s, want %s: each once, in the list's order", i, ev.Data.Name, want)
		}
	}
	types := map[string]int{}
	for _, ev := range evs {
		types[ev.Type]++
	}
	if types["watcher.object.present"] != 600 || types["watcher.stream.started"] != 2 || types["watcher.stream.synced"] != 2 || types["watcher.stream.stopped"] != 2 || len(types) != 4 {
		t.Errorf("wrote %v", types)
	}
}

func TestInitialNoneBeginsNow(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	a := connect(t, c.Config())
	a.namespace(t, "initial")
	a.configMap(t, "initial", "old", nil)
	w := watch(t, c.Kubeconfig(), "--initial", "none", "-n", "initial", "configmaps")
	w.wait(t, patience, "the start", func(evs []event) bool { return count(evs, only("started")) == 1 })
	a.configMap(t, "initial", "new", nil)
	a.deleteConfigMap(t, "initial", "old")
	w.wait(t, patience, "the changes", has("deleted", "initial", "old"))
	if evs := pick(w.stop(t), (*event).ofObject); len(evs) != 2 || !evs[0].of("added", "initial", "new") {
		t.Errorf("%d events of objects, want what happened since the start: one added, one deleted", len(evs))
	}
}

func TestTheLargestConfigMapAndTheOddestTextArriveWhole(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	a := connect(t, c.Config())
	// As protobuf it stays below the API server's limit of 3 MiB a request; as JSON each byte takes six.
	config := *c.Config()
	config.ContentType = "application/vnd.kubernetes.protobuf"
	b := connect(t, &config)
	a.namespace(t, "sizes")
	w := watch(t, c.Kubeconfig(), "-n", "sizes", "configmaps")
	cut := watch(t, c.Kubeconfig(), "-n", "sizes", "--max-event-bytes", "1Mi", "configmaps")
	rv := w.synced(t, 1)["sizes/configmaps"].Data.ResourceVersion
	cut.synced(t, 1)
	frames := a.record(t, "/api/v1/namespaces/sizes/configmaps", rv)
	odd := "ünïcödé 🦫\u2028 \"quoted\" 'single' \\ back\\u0041slash <&> \t\r\n\x01\x7f\ufeff end"
	large := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "large", Annotations: map[string]string{"odd": odd}},
		Data:       map[string]string{"large": strings.Repeat("\x01", 1<<20-1), "x": "\x02"},
	}
	cm, err := b.CoreV1().ConfigMaps("sizes").Create(t.Context(), large, metav1.CreateOptions{})
	must(t, cm, err)
	a.label(t, "sizes", "large", "app", "web")
	a.deleteConfigMap(t, "sizes", "large")
	for _, p := range []*process{w, cut} {
		p.wait(t, patience, "the deletion", has("deleted", "sizes", "large"))
	}
	eventually(t, patience, "the raw watch has it", func() bool { return len(frames()) == 3 })
	s := &scene{api: a, t: t}
	live := pick(w.stop(t), (*event).live)
	s.sameAsFrames("configmaps", live, frames())
	o := normal(t, live[0].Data.Object)
	if got := o["metadata"].(map[string]any)["annotations"].(map[string]any)["odd"]; got != odd {
		t.Errorf("the annotation is %q, want %q", got, odd)
	}
	if size := len(live[0].Data.Object); size < 6<<20 {
		t.Errorf("the event's object has %d bytes, want over 6 MiB", size)
	}
	for i, ev := range pick(cut.stop(t), (*event).live) {
		if ev.Data.Object != nil || ev.Data.ObjectOmitted == nil || ev.Data.ObjectOmitted.Bytes != len(live[i].Data.Object) {
			t.Errorf("--max-event-bytes: %s has an object of %d bytes and omits %+v", ev.ID, len(ev.Data.Object), ev.Data.ObjectOmitted)
		}
		if ev.ID != live[i].ID {
			t.Errorf("--max-event-bytes: id %s, want %s", ev.ID, live[i].ID)
		}
	}
}

// Only here is the cluster's own name of it at stake: all kubeconfigs of these tests say dev.
func TestClusterNameIsTheKubeconfigsUnlessGiven(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	out := watch(t, c.Kubeconfig(), "--once", "--cluster-name", "eu/prod", "namespaces")
	eventually(t, patience, "watcher ends", func() bool { return !out.running() })
	for _, ev := range out.events(t) {
		if ev.Source != "/clusters/eu%2Fprod/api/v1/namespaces" {
			t.Errorf("source %s", ev.Source)
		}
	}
}
