package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A report is what "watcher check -o json" writes.
type report struct {
	OK        bool
	Server    struct{ Address, User, ClusterUID string }
	Resources []struct{ Resource, List, Watch, Exact string }
	Problems  []problem
}

type problem struct{ Severity, Resource, Namespace, Problem, Mend string }

// check runs "watcher check", demands that exit code, and returns what it writes with -o json.
func check(t *testing.T, code int, kubeconfig string, args ...string) *report {
	t.Helper()
	got, stdout, stderr := execute(t, append([]string{"check", "-o", "json", "--kubeconfig", kubeconfig}, args...)...)
	var r report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v in what check %q writes:\n%s\n%s", err, args, stdout, stderr)
	}
	if got != code || r.OK != (code == 0) || stderr != "" {
		t.Errorf("check %q: exit code %d, want %d\n%s\n%s", args, got, code, stdout, stderr)
	}
	return &r
}

// says returns the only problem with these words, and fails the test if there is no such one.
func (r *report) says(t *testing.T, words ...string) problem {
	t.Helper()
	found := slices.DeleteFunc(slices.Clone(r.Problems), func(p problem) bool {
		all := strings.Join([]string{p.Severity, p.Resource, p.Namespace, p.Problem, p.Mend}, " | ")
		return slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(all, w) })
	})
	if len(found) != 1 {
		t.Fatalf("%d problems with the words %q, want one, in\n%+v", len(found), words, r.Problems)
	}
	return found[0]
}

func TestCheckIsContentWhereRunWouldWork(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	r := check(t, 0, c.Kubeconfig())
	if r.Server.User != "admin" || r.Server.Address != c.Config().Host || len(r.Problems) > 0 || len(r.Resources) != 3 {
		t.Errorf("check finds %+v", r)
	}
	for _, res := range r.Resources {
		if res.List != "yes" || res.Watch != "yes" || res.Exact != "yes" {
			t.Errorf("of %s check finds %+v", res.Resource, res)
		}
	}
	if code, stdout, stderr := execute(t, "check", "--kubeconfig", c.Kubeconfig()); code != 0 || stderr != "" || !strings.HasSuffix(stdout, "\nok: `watcher run` would work.\n") {
		t.Errorf("check: exit code %d\n%s\n%s", code, stdout, stderr)
	}
}

func TestWhatCheckPrintsAsTheCureCures(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	a := connect(t, c.Config())
	a.namespace(t, "cured")
	const everywhere, cured = "forbidden in all namespaces", "forbidden in the namespace cured"
	for name, tt := range map[string]struct {
		rules []rbacv1.PolicyRule
		args  []string
		says  map[string]string // by resource
	}{
		"nobody": {nil, nil, map[string]string{
			"pods": "list and watch are " + everywhere, "deployments.apps": "list and watch are " + everywhere, "services": "list and watch are " + everywhere,
		}},
		"lister": {[]rbacv1.PolicyRule{may("services", "list"), may("pods", "list", "watch")}, []string{"pods", "services"}, map[string]string{
			"services": "watch is " + everywhere,
		}},
		`O'Neil & "Sons"`: {nil, []string{"po", "nodes", "-n", "cured", "--field-selector", "metadata.name!=it's"}, map[string]string{
			"pods": "list and watch are " + cured, "nodes": "list and watch are forbidden in the cluster",
		}},
	} {
		_, path := user(t, name, "", tt.rules...)
		r := check(t, 1, path, tt.args...)
		cure := r.says(t, "warning", "uid of kube-system").Mend
		for resource, words := range tt.says {
			if p := r.says(t, "error", resource, words); p.Mend != cure {
				t.Errorf("%s: the cure for %s is %q, want %q", name, resource, p.Mend, cure)
			}
		}
		if len(r.Problems) != 1+len(tt.says) {
			t.Errorf("%s: problems that are none in %+v", name, r.Problems)
		}
		code, stdout, stderr := execute(t, append([]string{"check", "--kubeconfig", path}, tt.args...)...)
		if code != 1 || stderr != "" || !strings.Contains(stdout, "\n         "+cure+"  ") {
			t.Errorf("%s: exit code %d; in words check does not print %q\n%s\n%s", name, code, cure, stdout, stderr)
		}
		manifests := obey(t, cure)
		if manifests != rbac(t, append(slices.Clone(tt.args), "--subject", name, "--kubeconfig", path)...) {
			t.Errorf("%s: the cure is not what rbac prints for the same arguments, but\n%s", name, manifests)
		}
		a.install(t, manifests)
		if r := check(t, 0, path, tt.args...); len(r.Problems) > 0 {
			t.Errorf("%s: after the cure check still finds %+v", name, r.Problems)
		}
	}
}

// TestCheckHasNothingGrantedToEverybody: who is anonymous may not even ask what is served, unless somebody allowed it.
func TestCheckHasNothingGrantedToEverybody(t *testing.T) {
	t.Parallel()
	a := connect(t, common.start(t).Config())
	path := tlsKubeconfig(t, a.config.Host, a.config.CAData, "")
	r := check(t, 1, path)
	if p := r.says(t, "error", "what is served", "cannot get path", "log in", "system:discovery"); len(r.Problems) > 1 {
		t.Errorf("beside %q check finds %+v", p.Problem, r.Problems)
	}
	for _, role := range []string{"system:discovery", "system:basic-user"} {
		binding, err := a.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "anonymous-" + role},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "system:anonymous"}},
		}, metav1.CreateOptions{})
		must(t, binding, err)
	}
	settle(t)
	r = check(t, 1, path)
	for _, resource := range []string{"pods", "deployments.apps", "services"} {
		r.says(t, "error", resource, "list and watch are forbidden", "watcher rbac --subject USER |")
	}
	for _, p := range r.Problems {
		if strings.Contains(p.Mend, "anonymous") {
			t.Errorf("to mend %q check advises %q", p.Problem, p.Mend)
		}
	}
}

func TestCheckOfADeadAddressEndsSoon(t *testing.T) {
	t.Parallel()
	server := "https://" + freeAddr(t)
	begin := time.Now()
	r := check(t, 1, kubeconfig(t, server))
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %s", took.Round(time.Second))
	}
	p := r.says(t, "cannot be reached", strings.TrimPrefix(server, "https://"))
	if p.Severity != "error" || !strings.Contains(p.Mend, "--server") || r.Server.Address != server || len(r.Problems) > 1 {
		t.Errorf("check finds %+v", r)
	}
}

func TestCheckWarnsOfAnAPIServerThatIgnoresExact(t *testing.T) {
	t.Parallel()
	p := newProxy(t, "", common.start(t).Config(), nil)
	ignorant := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); !q.Has("watch") {
			q.Del("resourceVersion")
			q.Del("resourceVersionMatch")
			r.URL.RawQuery = q.Encode()
		}
		p.ServeHTTP(w, r)
	}))
	t.Cleanup(ignorant.Close)
	r := check(t, 0, kubeconfig(t, ignorant.URL))
	for _, res := range r.Resources {
		if res.List != "yes" || res.Watch != "yes" || res.Exact != "no" {
			t.Errorf("of %s check finds %+v", res.Resource, res)
		}
		r.says(t, "warning", res.Resource, "resourceVersionMatch=Exact", "not answered truly")
	}
	if len(r.Problems) != len(played) {
		t.Errorf("check finds %+v", r.Problems)
	}
}
