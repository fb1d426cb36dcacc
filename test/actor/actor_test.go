package actor_test

import (
	"context"
	"regexp"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"watcher/test/actor"
	"watcher/test/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestActorShowsEveryStory plays faster than life and watches until each
// story has been seen.
func TestActorShowsEveryStory(t *testing.T) {
	c, err := cluster.Start(t.Context(), cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	played := make(chan error, 1)
	go func() { played <- actor.Run(ctx, c.Config(), actor.Options{Seed: 1, Every: 5 * time.Millisecond}) }()

	seen := &sights{seen: map[string]bool{}, images: map[string]string{}, replicas: map[string]int32{}, crashed: map[string]bool{}}
	seen.watchAll(ctx, t, c.Config())
	for _, want := range stories() {
		if !seen.seen[want] {
			t.Errorf("not seen: %s", want)
		}
	}
	stop()
	if err := <-played; err != nil {
		t.Error(err)
	}
}

func stories() []string {
	return []string{
		"pod pending", "pod bound", "pod running", "pod crashed", "pod recovered", "pod terminating", "pod deleted", "job succeeded",
		"image changed", "scaled up", "scaled down", "rolled out", "service added", "service changed", "service deleted",
		"kubectl", "kubectl-set", "kubelet", "kube-scheduler", "kube-controller-manager",
	}
}

func TestActorReturnsAnErrorWithoutAnAPIServer(t *testing.T) {
	err := actor.Run(t.Context(), &rest.Config{Host: "127.0.0.1:1"}, actor.Options{})
	if err == nil {
		t.Error("no error without an API server")
	}
}

type sights struct {
	seen     map[string]bool
	images   map[string]string
	replicas map[string]int32
	crashed  map[string]bool
}

// watchAll reads until every story was seen or the context ends.
func (s *sights) watchAll(ctx context.Context, t *testing.T, cfg *rest.Config) {
	t.Helper()
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.CloseIdleConnections)
	client, err := kubernetes.NewForConfigAndClient(cfg, h)
	if err != nil {
		t.Fatal(err)
	}
	pods := open(t, client.CoreV1().Pods("shop").Watch)
	deployments := open(t, client.AppsV1().Deployments("shop").Watch)
	services := open(t, client.CoreV1().Services("shop").Watch)
	for slices.ContainsFunc(stories(), func(want string) bool { return !s.seen[want] }) {
		select {
		case ev := <-pods:
			s.pod(t, ev)
		case ev := <-deployments:
			s.deployment(ev)
		case ev := <-services:
			s.service(ev)
		case <-ctx.Done():
			return
		}
	}
}

func open(t *testing.T, f func(context.Context, metav1.ListOptions) (watch.Interface, error)) <-chan watch.Event {
	t.Helper()
	w, err := f(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return w.ResultChan()
}

func (s *sights) pod(t *testing.T, ev watch.Event) {
	t.Helper()
	p, ok := ev.Object.(*corev1.Pod)
	if !ok {
		return
	}
	if !regexp.MustCompile(`^(web|api|cart|search)-[a-z0-9]{9}-[a-z0-9]{5}$|^report-[a-z0-9]{5}$`).MatchString(p.Name) {
		t.Errorf("pod %s has no conventional name", p.Name)
	}
	s.managers(p.ManagedFields)
	s.see("pod pending", p.Status.Phase == corev1.PodPending && p.Spec.NodeName == "")
	s.see("pod bound", p.Status.Phase == corev1.PodPending && p.Spec.NodeName != "")
	s.see("pod terminating", p.DeletionTimestamp != nil && ev.Type == watch.Modified)
	s.see("pod deleted", ev.Type == watch.Deleted)
	s.see("job succeeded", p.Labels["job"] != "" && p.Status.Phase == corev1.PodSucceeded)
	for _, cs := range p.Status.ContainerStatuses {
		s.see("pod running", cs.Ready)
		s.see("pod recovered", cs.Ready && s.crashed[p.Name])
		if cs.State.Waiting != nil && cs.RestartCount > 1 {
			s.crashed[p.Name] = true
			s.see("pod crashed", cs.State.Waiting.Reason == "CrashLoopBackOff")
		}
	}
	// Binding is a subresource that leaves no trace in managedFields but its condition's.
	for _, c := range p.Status.Conditions {
		s.see("kube-scheduler", c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue)
	}
}

func (s *sights) deployment(ev watch.Event) {
	d, ok := ev.Object.(*appsv1.Deployment)
	if !ok {
		return
	}
	s.managers(d.ManagedFields)
	image := d.Spec.Template.Spec.Containers[0].Image
	s.see("image changed", s.images[d.Name] != "" && s.images[d.Name] != image)
	s.images[d.Name] = image
	was, known := s.replicas[d.Name]
	s.see("scaled up", known && *d.Spec.Replicas > was)
	s.see("scaled down", known && *d.Spec.Replicas < was)
	s.replicas[d.Name] = *d.Spec.Replicas
	n := *d.Spec.Replicas
	st := d.Status
	s.see("rolled out", d.Generation > 1 && st.ObservedGeneration == d.Generation && st.Replicas == n && st.UpdatedReplicas == n && st.AvailableReplicas == n)
}

func (s *sights) service(ev watch.Event) {
	if svc, ok := ev.Object.(*corev1.Service); ok && svc.Name == "canary" {
		s.see("service added", ev.Type == watch.Added)
		s.see("service changed", ev.Type == watch.Modified)
		s.see("service deleted", ev.Type == watch.Deleted)
	}
}

func (s *sights) managers(fields []metav1.ManagedFieldsEntry) {
	for _, f := range fields {
		s.see(f.Manager, true)
	}
}

func (s *sights) see(what string, yes bool) {
	if yes {
		s.seen[what] = true
	}
}
