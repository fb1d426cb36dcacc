package e2e

import (
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/rest"
)

func may(resource string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{resource}, Verbs: verbs}
}

// user makes a user of the common cluster with these permissions in the namespace, or in all if it is "".
func user(t *testing.T, name, namespace string, rules ...rbacv1.PolicyRule) (*rest.Config, string) {
	t.Helper()
	c := common.start(t)
	common.mu.Lock()
	defer common.mu.Unlock()
	config, path, err := c.User(t.Context(), name, namespace, rules...)
	must(t, config, err)
	return config, path
}

func grant(t *testing.T, name string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	c := common.start(t)
	common.mu.Lock()
	defer common.mu.Unlock()
	if err := c.Grant(t.Context(), name, "", rules...); err != nil {
		t.Fatal(err)
	}
}

func TestAMissingPermissionConcernsItsStreamAloneAndEndsByItself(t *testing.T) {
	t.Parallel()
	a := connect(t, common.start(t).Config())
	a.namespace(t, "access")
	config, _ := user(t, "guest", "", may("pods", "list", "watch"))
	p := newProxy(t, "", config, nil)
	w := watch(t, p.kubeconfig(t), "pods", "services")
	line := w.saidOnce(t, `"resource":"services"`)
	for _, word := range []string{"list", "services", "-n", "cluster scope"} {
		if !strings.Contains(line, word) {
			t.Errorf("of a missing permission it says %s, without %q", line, word)
		}
	}
	w.synced(t, 1)
	a.pod(t, "access", "first")
	w.wait(t, patience, "pods stream without services", has("added", "access", "first"))

	// Now services may be read, and a watch of pods is not opened again.
	grant(t, "guest", may("pods", "list"), may("services", "list", "watch"))
	p.hangUpAll()
	line = w.saidOnce(t, `"resource":"pods"`, "forbidden")
	if !strings.Contains(line, "watch pods") || !strings.Contains(line, "-n") {
		t.Errorf("of a permission taken away it says %s", line)
	}
	a.pod(t, "access", "unseen")
	grant(t, "guest", may("pods", "list", "watch"), may("services", "list", "watch"))
	w.wait(t, aMinute, "services, by themselves", func(evs []event) bool {
		return count(evs, func(ev *event) bool { return ev.is("synced") && ev.Data.Resource == "services" }) > 0
	})
	evs := w.wait(t, aMinute, "pods, by themselves", func(evs []event) bool {
		return has("added", "access", "unseen")(evs) || has("present", "access", "unseen")(evs)
	})
	for _, gap := range pick(evs, only("gap")) { // if the API server has forgotten the position
		if gap.Data.Reason != "forbidden" || gap.Data.Resource != "pods" {
			t.Errorf("gap in %s because of %s", gap.Data.Resource, gap.Data.Reason)
		}
	}
	if !has("added", "access", "unseen")(evs) && count(evs, only("gap")) == 0 {
		t.Error("a pod that was created while the permission was missing is neither added nor in a gap")
	}
	w.saidOnce(t, `"resource":"services"`)
	w.saidOnce(t, `"resource":"pods"`, "forbidden")
	a.pod(t, "access", "last")
	w.wait(t, patience, "pods stream", has("added", "access", "last"))
	w.stop(t)
}

func TestOnceFailsIfSomethingMayNotBeListed(t *testing.T) {
	t.Parallel()
	a := connect(t, common.start(t).Config())
	a.namespace(t, "access-once")
	a.pod(t, "access-once", "seen")
	_, path := user(t, "guest-once", "", may("pods", "list", "watch"))
	w := watch(t, path, "--once", "pods", "services")
	evs := w.exit(t, 1)
	if !has("present", "access-once", "seen")(evs) || count(evs, func(ev *event) bool { return ev.Data.Resource == "services" }) > 0 {
		t.Error("what may be listed was not, or what may not was")
	}
	if last := w.stderr.tail(1); !strings.Contains(last, "services") || !strings.Contains(last, "forbidden") || !strings.Contains(last, "-n") {
		t.Errorf("its last word is %q", last)
	}
}

func TestAPermissionInANamespaceIsEnoughForANamespace(t *testing.T) {
	t.Parallel()
	a := connect(t, common.start(t).Config())
	a.namespace(t, "access-narrow")
	_, path := user(t, "guest-narrow", "access-narrow", may("configmaps", "list", "watch"))
	w := watch(t, path, "-n", "access-narrow", "configmaps")
	w.synced(t, 1)
	a.configMap(t, "access-narrow", "new", nil)
	w.wait(t, patience, "a change", has("added", "access-narrow", "new"))
	w.stop(t)
	if said := w.said(); len(said) > 0 {
		t.Errorf("complains: %q", said)
	}
}

func TestAnUnreachableAPIServerIsWaitedFor(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	addr := freeAddr(t)
	path := kubeconfig(t, "http://"+addr)
	once := watch(t, path, "--once", "pods")
	w := watch(t, path, "pods")
	once.exit(t, 1)
	if said := once.stderr.tail(10); !strings.Contains(said, "cannot be reached") || !strings.Contains(said, addr) {
		t.Errorf("--once says %q", said)
	}
	line := w.saidOnce(t)
	if !strings.Contains(line, "cannot be reached") || !strings.Contains(line, addr) || !strings.Contains(line, "--server") {
		t.Errorf("says %s", line)
	}
	w.stays(t, 6*time.Second) // three tries
	w.saidOnce(t)
	newProxy(t, addr, c.Config(), nil)
	w.synced(t, 1)
	w.saidOnce(t)
	w.stop(t)
}

func TestExpiredCredentialsAreSaidAndTriedAgain(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	common.mu.Lock()
	path, err := c.ExpiredCertKubeconfig("late")
	common.mu.Unlock()
	must(t, path, err)
	once := watch(t, path, "--once", "pods")
	w := watch(t, path, "pods")
	once.exit(t, 1)
	if said := once.stderr.tail(10); !strings.Contains(said, "expired") || !strings.Contains(said, "credentials") {
		t.Errorf("--once says %q", said)
	}
	if line := w.saidOnce(t); !strings.Contains(line, "expired") || !strings.Contains(line, "credentials") {
		t.Errorf("says %s", line)
	}
	w.stays(t, 6*time.Second)
	w.saidOnce(t)
	if evs := w.stop(t); len(evs) > 0 {
		t.Errorf("%d events, want none", len(evs))
	}
}
