package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"watcher/test/actor"
)

// A scene is what TestWatcherWritesExactlyWhatTheAPIServerSends plays, and what a GET said after some of its writes.
type scene struct {
	*api
	t       *testing.T
	ns      string
	widgets schema.GroupVersionResource
	read    map[string][]byte // by id
}

func TestWatcherWritesExactlyWhatTheAPIServerSends(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	s := &scene{api: connect(t, c.Config()), t: t, ns: "fidelity", read: map[string][]byte{}}
	s.namespace(t, s.ns)
	s.widgets = s.installWidgets(t, "fidelity.example.com")
	s.play("before")

	paths := map[string]string{
		"pods": "/api/v1/pods", "services": "/api/v1/services", "deployments": "/apis/apps/v1/deployments",
		"widgets": "/apis/fidelity.example.com/v1/widgets",
	}
	w := watch(t, c.Kubeconfig(), "pods,deployments.apps", "services", "widgets.v1.fidelity.example.com")
	recorded := map[string]func() []frame{}
	for resource, ev := range w.synced(t, len(paths)) {
		recorded[resource] = s.record(t, paths[resource], ev.Data.ResourceVersion)
		s.sameAsList(paths[resource], ev.Data.ResourceVersion, pick(w.events(t), func(ev *event) bool {
			return ev.Data.Resource == resource && ev.is("present")
		}))
	}
	stop := background(t, func(ctx context.Context) error {
		return actor.Run(ctx, c.Config(), actor.Options{Namespace: "fidelity-shop", Seed: 1, Every: 10 * time.Millisecond})
	})
	s.play("during")
	w.wait(t, 3*patience, "500 changes of pods", func(evs []event) bool {
		return count(evs, func(ev *event) bool { return ev.Data.Resource == "pods" && ev.live() }) >= 500
	})
	stop()
	s.play("last")
	for resource, frames := range recorded {
		eventually(t, patience, "the raw watch has everything of "+resource, func() bool { return s.lastFrame(frames()) > 0 })
		w.wait(t, patience, "watcher has everything of "+resource, func(evs []event) bool { return s.lastChange(evs, resource) != "" })
	}
	evs := w.stop(t)
	for resource, frames := range recorded {
		all := frames()
		all = all[:s.lastFrame(all)]
		last := s.lastChange(evs, resource)
		live := pick(evs, func(ev *event) bool { return ev.Data.Resource == resource && ev.live() })
		live = live[:1+slices.IndexFunc(live, func(ev event) bool { return ev.ID == last })]
		t.Logf("%s: %d changes", resource, len(live))
		s.sameAsFrames(resource, live, all)
	}
	s.sameAsReads(evs)
	if n := count(evs, only("gap")); n > 0 {
		t.Errorf("%d gaps on an API server that was always there", n)
	}
}

// lastFrame returns how many frames there are up to the scene's last change, or 0. Other tests write, too.
func (s *scene) lastFrame(frames []frame) int {
	return 1 + slices.IndexFunc(frames, func(f frame) bool { return f.Type == "DELETED" && s.isLast(f.meta.Namespace, f.meta.Name) })
}

// lastChange returns the id of the scene's last change of the resource, or "".
func (s *scene) lastChange(evs []event, resource string) string {
	for _, ev := range evs {
		if d := &ev.Data; d.Resource == resource && d.Op == "deleted" && s.isLast(d.Namespace, d.Name) {
			return ev.ID
		}
	}
	return ""
}

func (s *scene) isLast(namespace, name string) bool {
	return name == "last" && (namespace == s.ns || namespace == "default")
}

// play does to one object of each kind what is done to such objects. What it creates "before" stays.
func (s *scene) play(name string) {
	s.t.Helper()
	s.playPod(name)
	s.playDeployment(name)
	s.playService(name)
	s.playWidget(name)
}

func (s *scene) playPod(name string) {
	s.t.Helper()
	t, pods := s.t, s.CoreV1().Pods(s.ns)
	path := "/api/v1/namespaces/" + s.ns + "/pods/" + name
	p := s.pod(t, s.ns, name)
	s.remember(path)
	p.Labels["tier"] = "front"
	p, err := pods.Update(t.Context(), p, metav1.UpdateOptions{})
	must(t, p, err)
	s.remember(path)
	binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: name}, Target: corev1.ObjectReference{Kind: "Node", Name: "node-1"}}
	if err := pods.Bind(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.remember(path)
	status := `{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`
	p, err = pods.Patch(t.Context(), name, types.StrategicMergePatchType, []byte(status), metav1.PatchOptions{}, "status")
	must(t, p, err)
	s.remember(path)
	if name == "before" {
		return
	}
	if err := pods.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil { // asks: deletionTimestamp is set
		t.Fatal(err)
	}
	s.remember(path)
	now := int64(0)
	if err := pods.Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
}

func (s *scene) playDeployment(name string) {
	s.t.Helper()
	t, deployments := s.t, s.AppsV1().Deployments(s.ns)
	path := "/apis/apps/v1/namespaces/" + s.ns + "/deployments/" + name
	labels := map[string]string{"app": name}
	d, err := deployments.Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod("").Spec},
		},
	}, metav1.CreateOptions{})
	must(t, d, err)
	s.remember(path)
	scale, err := deployments.GetScale(t.Context(), name, metav1.GetOptions{})
	must(t, scale, err)
	scale.Spec.Replicas = 3
	scale, err = deployments.UpdateScale(t.Context(), name, scale, metav1.UpdateOptions{})
	must(t, scale, err)
	s.remember(path)
	rollout := `{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"shop/web:1.1"}]}}}}`
	d, err = deployments.Patch(t.Context(), name, types.StrategicMergePatchType, []byte(rollout), metav1.PatchOptions{})
	must(t, d, err)
	s.remember(path)
	d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 3, UpdatedReplicas: 1, ReadyReplicas: 2, AvailableReplicas: 2}
	d, err = deployments.UpdateStatus(t.Context(), d, metav1.UpdateOptions{})
	must(t, d, err)
	s.remember(path)
	if name == "before" {
		return
	}
	if err := deployments.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (s *scene) playService(name string) {
	s.t.Helper()
	t, services := s.t, s.CoreV1().Services(s.ns)
	path := "/api/v1/namespaces/" + s.ns + "/services/" + name
	svc, err := services.Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	must(t, svc, err)
	s.remember(path)
	svc.Spec.Ports[0].Port = 8080
	svc, err = services.Update(t.Context(), svc, metav1.UpdateOptions{})
	must(t, svc, err)
	s.remember(path)
	if name == "before" {
		return
	}
	if err := services.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (s *scene) playWidget(name string) {
	s.t.Helper()
	t, widgets := s.t, s.dynamic.Resource(s.widgets).Namespace("default")
	path := "/apis/fidelity.example.com/v1/namespaces/default/widgets/" + name
	obj := s.widget(t, s.widgets, name)
	s.remember(path)
	obj.Object["spec"].(map[string]any)["ratio"] = 1e21
	obj, err := widgets.Update(t.Context(), obj, metav1.UpdateOptions{})
	must(t, obj, err)
	s.remember(path)
	obj.Object["status"] = map[string]any{"phase": "spinning", "note": "\"quoted\"\nand\u2028broken"}
	obj, err = widgets.UpdateStatus(t.Context(), obj, metav1.UpdateOptions{})
	must(t, obj, err)
	s.remember(path)
	if name == "before" {
		return
	}
	if err := widgets.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// remember keeps what a GET says now.
func (s *scene) remember(path string) {
	s.t.Helper()
	raw := s.get(s.t, path)
	m := metaOf(s.t, raw)
	s.read[id("", m.UID, m.ResourceVersion)] = raw
}

// sameAsList demands that the present events are the items of the LIST at that version, in its order.
func (s *scene) sameAsList(path, resourceVersion string, evs []event) {
	s.t.Helper()
	var list struct {
		Kind, APIVersion string
		Items            []json.RawMessage
	}
	raw := s.get(s.t, path+"?resourceVersionMatch=Exact&resourceVersion="+resourceVersion)
	if err := json.Unmarshal(raw, &list); err != nil {
		s.t.Fatal(err)
	}
	if len(evs) != len(list.Items) {
		s.t.Fatalf("%s: %d present events for the %d items of the list", path, len(evs), len(list.Items))
	}
	for i := range evs {
		want := normal(s.t, list.Items[i])
		want["kind"], want["apiVersion"] = strings.TrimSuffix(list.Kind, "List"), list.APIVersion
		if got := normal(s.t, evs[i].Data.Object); !reflect.DeepEqual(got, want) {
			s.t.Errorf("%s: item %d is\n%s\nwant\n%s", path, i, evs[i].Data.Object, list.Items[i])
		}
	}
}

// sameAsFrames demands that the live events are the frames, in their order.
func (s *scene) sameAsFrames(resource string, evs []event, frames []frame) {
	s.t.Helper()
	for i := range min(len(evs), len(frames)) {
		d, f := &evs[i].Data, &frames[i]
		if d.Op != strings.ToLower(f.Type) || d.UID != f.meta.UID || d.ResourceVersion != f.meta.ResourceVersion {
			s.t.Fatalf("%s: change %d is %s of %s at %s, want %s of %s at %s", resource, i,
				d.Op, d.UID, d.ResourceVersion, f.Type, f.meta.UID, f.meta.ResourceVersion)
		}
		if bytes.Contains(d.Object, []byte(`"managedFields"`)) {
			s.t.Errorf("%s: change %d has managedFields", resource, i)
		}
		if !reflect.DeepEqual(normal(s.t, d.Object), normal(s.t, f.Object)) {
			s.t.Errorf("%s: change %d is\n%s\nwant\n%s", resource, i, d.Object, f.Object)
		}
	}
	if len(evs) != len(frames) {
		s.t.Errorf("%s: %d changes, want %d", resource, len(evs), len(frames))
	}
}

// sameAsReads demands that what was read after a write is what the event of that version says.
func (s *scene) sameAsReads(evs []event) {
	s.t.Helper()
	found := 0
	for _, ev := range evs {
		if want, ok := s.read[ev.ID]; ok {
			found++
			if !reflect.DeepEqual(normal(s.t, ev.Data.Object), normal(s.t, want)) {
				s.t.Errorf("%s is\n%s\nwant\n%s", ev.ID, ev.Data.Object, want)
			}
		}
	}
	// Of the states of the four objects of the first scene only the last was there to be listed.
	if superseded := 4 + 4 + 2 + 3 - 4; found != len(s.read)-superseded {
		s.t.Errorf("%d of the %d states that were read have an event, want all but %d", found, len(s.read), superseded)
	}
}
