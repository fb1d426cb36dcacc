package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDeploy installs deploy/ as it is. Its names are the default ones: no other test may give them to its own.
func TestDeploy(t *testing.T) {
	t.Parallel()
	a := connect(t, common.start(t).Config())
	for _, file := range []string{"rbac.yaml", "deployment.yaml"} {
		manifests, err := os.ReadFile(filepath.Join("..", "..", "deploy", file))
		a.install(t, string(must(t, manifests, err)))
	}
	w := &account{admin: a, namespace: "watcher"}
	w.logIn(t)
	t.Run("MakesANamespaceThatAdmitsItsPod", w.podIsAdmitted)
	t.Run("GivesWhatRunNeeds", func(t *testing.T) {
		a.namespace(t, "deployed")
		w.streams(t, "deployed", nil, played...).stop(t)
	})
	t.Run("GivesNothingElse", w.mayDoNothingElse)
	t.Run("GivesAllThatCheckWants", func(t *testing.T) {
		r := check(t, 0, w.direct(t))
		system, err := a.CoreV1().Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{})
		must(t, system, err)
		if r.Server.User != "system:serviceaccount:watcher:watcher" || r.Server.ClusterUID != string(system.UID) || len(r.Problems) > 0 {
			t.Errorf("check finds %+v and %v, want the service account, the uid %s and no problem", r.Server, r.Problems, system.UID)
		}
	})
}

func (w *account) podIsAdmitted(t *testing.T) {
	d, err := w.admin.AppsV1().Deployments(w.namespace).Get(t.Context(), "watcher", metav1.GetOptions{})
	must(t, d, err)
	create := func(p *corev1.Pod) error {
		_, err := w.admin.CoreV1().Pods(w.namespace).Create(t.Context(), p, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	if err := create(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "watcher"}, Spec: d.Spec.Template.Spec}); err != nil {
		t.Error(err)
	}
	if err := create(pod("careless")); !apierrors.IsForbidden(err) {
		t.Errorf("a pod that restricts nothing: %v, want it forbidden", err)
	}
}

func (w *account) mayDoNothingElse(t *testing.T) {
	for _, neighbour := range [][3]string{
		{"get", "pods"}, {"create", "pods"}, {"delete", "pods"}, {"get", "pods/log"}, {"create", "pods/exec"},
		{"patch", "deployments.apps"}, {"list", "replicasets.apps"}, {"update", "services/status"}, {"watch", "configmaps"}, {"list", "events"},
		{"list", "secrets"}, {"list", "secrets", "watcher"}, {"get", "secrets", "kube-system"}, {"create", "serviceaccounts/token", "watcher"},
		{"get", "namespaces", "default"}, {"get", "namespaces", "watcher"}, {"list", "namespaces"}, {"update", "namespaces", "kube-system"},
		{"impersonate", "users"}, {"list", "clusterroles.rbac.authorization.k8s.io"},
	} {
		w.mayNot(t, neighbour[0], neighbour[1], neighbour[2])
	}
	if !w.may(t, "get", "namespaces", "kube-system") {
		t.Error("it may not get the namespace kube-system")
	}
	if _, err := w.own.CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("list secrets: %v, want it forbidden", err)
	}
	if _, err := w.own.CoreV1().Pods("default").Get(t.Context(), "any", metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("get a pod: %v, want it forbidden", err)
	}
}

func TestARoleInANamespaceShowsThatNamespaceAlone(t *testing.T) {
	t.Parallel()
	a := connect(t, common.start(t).Config())
	a.namespace(t, "narrow")
	a.namespace(t, "narrow-not")
	args := []string{"-n", "narrow", "pods"}
	w := newAccount(t, a, "narrow", args...)
	for _, ns := range []string{"", "narrow-not", "kube-system"} {
		w.mayNot(t, "list", "pods", ns)
		w.mayNot(t, "watch", "pods", ns)
	}
	a.pod(t, "narrow-not", "before")
	run := w.streams(t, "narrow", args, "pods")
	a.pod(t, "narrow-not", "live")
	a.pod(t, "narrow", "last")
	run.wait(t, patience, "a pod that comes after another namespace's", has("added", "narrow", "last"))
	if n := count(run.stop(t), func(ev *event) bool { return ev.ofObject() && ev.Data.Namespace != "narrow" }); n > 0 {
		t.Errorf("%d events of another namespace", n)
	}
}

func TestATakenPermissionIsNamedOnceAndCostsNothingWhenItIsGivenBack(t *testing.T) {
	t.Parallel()
	for ns, scope := range map[string][]string{"taken-in-all": {}, "taken-in-one": {"-n", "taken-in-one"}} {
		t.Run(ns, func(t *testing.T) {
			t.Parallel()
			a := connect(t, common.start(t).Config())
			a.namespace(t, ns)
			args := append(scope, "pods", "deployments.apps", "services")
			w := newAccount(t, a, ns, args...)
			p, kubeconfig := w.proxied(t)
			run := watch(t, kubeconfig, args...)
			run.synced(t, len(played))
			a.install(t, w.rbac(t, args[:len(args)-1]...)) // it replaces what the role gave before
			p.hangUpAll()
			line := run.saidOnce(t, `"resource":"services"`, "forbidden")
			for _, words := range []string{"permission is missing", "list services", "grant list and watch on services", "-n", w.user()} {
				if !strings.Contains(line, words) {
					t.Errorf("of a permission that was taken it says %s, without %q", line, words)
				}
			}
			a.play(t, ns, "unseen")
			run.wait(t, patience, "the others", lived(ns, "unseen", "pods", "deployments"))

			a.install(t, w.rbac(t, args...))
			evs := run.wait(t, aMinute, "services, by themselves", func(evs []event) bool {
				return lived(ns, "unseen", "services")(evs) || count(evs, ofServices("synced")) > 1
			})
			if !lived(ns, "unseen", "services")(evs) && count(evs, ofServices("gap")) == 0 {
				t.Error("what became of a service while the permission was missing is neither written nor in a gap")
			}
			a.play(t, ns, "last")
			run.wait(t, patience, "all of them", lived(ns, "last", played...))
			evs = run.stop(t)
			for _, gap := range pick(evs, only("gap")) { // if the API server has forgotten the position
				if gap.Data.Reason != "forbidden" || gap.Data.Resource != "services" {
					t.Errorf("gap in %s because of %s", gap.Data.Resource, gap.Data.Reason)
				}
			}
			run.saidOnce(t, "forbidden")
		})
	}
}

func ofServices(typ string) func(*event) bool {
	return func(ev *event) bool { return ev.is(typ) && ev.Data.Resource == "services" }
}

// withToken runs watcher, through a proxy, with nothing but the token of an account that may see the namespace's pods.
func withToken(t *testing.T, namespace string) (*api, *account, *proxy, *process) {
	t.Helper()
	a := connect(t, common.start(t).Config())
	a.namespace(t, namespace)
	w := newAccount(t, a, namespace, "-n", namespace, "pods")
	p, kubeconfig := w.proxied(t)
	run := watch(t, kubeconfig, "-n", namespace, "pods")
	run.synced(t, 1)
	return a, w, p, run
}

func TestATokenThatIsReplacedCostsNothing(t *testing.T) {
	t.Parallel()
	a, w, p, run := withToken(t, "token")
	w.revoke(t, w.renew(t))
	a.pod(t, "token", "held") // by the watch that is open
	run.wait(t, patience, "a change", has("added", "token", "held"))
	p.hangUpAll()
	a.pod(t, "token", "new")
	run.wait(t, aMinute, "a change that only the new token shows", has("added", "token", "new")) // client-go reads the file every minute
	if evs := run.stop(t); count(evs, only("gap")) > 0 {
		t.Errorf("%d gaps, want none", count(evs, only("gap")))
	}
	if said := run.said(); len(said) > 1 || len(run.said("credentials")) != len(said) {
		t.Errorf("complains: %q", said)
	}
}

func TestATokenThatIsRevokedIsSaidOnceAndEndsWithTheNextOne(t *testing.T) {
	t.Parallel()
	a, w, p, run := withToken(t, "revoked")
	w.revoke(t, w.token)
	p.hangUpAll()
	if line := run.saidOnce(t, "credentials"); !strings.Contains(line, "does not accept") || !strings.Contains(line, "log in again") {
		t.Errorf("says %s", line)
	}
	a.pod(t, "revoked", "unseen")
	tries := func() int { return len(p.asked("/api/v1/namespaces/revoked/pods")) }
	before := tries()
	eventually(t, patience, "more tries", func() bool { return tries() >= before+2 })
	w.renew(t)
	run.wait(t, aMinute, "what was unseen", has("added", "revoked", "unseen"))
	if evs := run.stop(t); count(evs, only("gap")) > 0 {
		t.Errorf("%d gaps, want none", count(evs, only("gap")))
	}
	run.saidOnce(t)
}
