package watch_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

// resources of several groups, versions and verbs.
var served = []watchtest.Resource{
	watchtest.Pods, watchtest.Events, watchtest.Deployments, watchtest.Nodes,
	{Group: "events.k8s.io", Version: "v1", Name: "events", Kind: "Event", Namespaced: true},
	{Group: "example.com", Version: "v1", Name: "widgets", Kind: "Widget", Namespaced: true, Custom: true, ShortNames: []string{"wd"}},
	{Group: "example.com", Version: "v1beta1", Name: "widgets", Kind: "Widget", Namespaced: true, Custom: true, ShortNames: []string{"wd"}},
	{Version: "v1", Name: "bindings", Kind: "Binding", Namespaced: true, Verbs: []string{"create"}},
}

// discoveries are the two ways in which API servers tell what they serve.
var discoveries = map[string]func(*watchtest.Server){
	"in one document": func(*watchtest.Server) {},
	"group by group":  (*watchtest.Server).DiscoverByGroup,
}

// A resource may be named as kubectl's users do; of several the API server's first counts, and each is read once.
func TestResourcesAreNamedAsForKubectl(t *testing.T) {
	for args, want := range map[string]string{
		"pods":                    "/api/v1/pods",
		"po pod pods Pod PODS":    "/api/v1/pods",
		"deploy deployments.apps": "/apis/apps/v1/deployments",
		"deployments.v1.apps":     "/apis/apps/v1/deployments",
		"events":                  "/api/v1/events",
		"events.events.k8s.io events.v1.events.k8s.io": "/apis/events.k8s.io/v1/events",
		"wd widgets.example.com":                       "/apis/example.com/v1/widgets",
		"widgets.v1beta1.example.com":                  "/apis/example.com/v1beta1/widgets",
		"no":                                           "/api/v1/nodes",
		"pods.v1.":                                     "/api/v1/pods",
	} {
		for name, discovery := range discoveries {
			t.Run(args+" "+name, func(t *testing.T) {
				bubble(t, served, func(t *testing.T, srv *watchtest.Server) {
					discovery(srv)
					r := start(t, srv, newMemory(), strings.Fields(args))
					pass(time.Second)
					r.stop(t)
					watches := srv.Requests(watchtest.Watches())
					if len(watches) != 1 || watches[0].Path != want {
						t.Errorf("watches %+v, want one of %s", watches, want)
					}
				})
			})
		}
	}
}

// What cannot be watched is refused at once, with what to do.
func TestWrongResourcesAreRefused(t *testing.T) {
	for arg, want := range map[string]string{
		"pod5":              `unknown resource "pod5": the API server serves none of that name; did you mean "pods"?`,
		"deploymnets":       `did you mean "deployments.apps"?`,
		"deployment.app":    `unknown resource "deployment.app"`,
		"entirelydifferent": `unknown resource "entirelydifferent": the API server serves none of that name`,
		"bindings":          `resource "bindings" cannot be watched: the API server offers no "list" for it`,
		"pods/status":       `unknown resource "pods/status"`,
		".v1.apps":          `unknown resource ".v1.apps"`,
	} {
		t.Run(arg, func(t *testing.T) {
			bubble(t, served, func(t *testing.T, srv *watchtest.Server) {
				srv.DiscoverByGroup() // as which subresources are told like resources
				r := start(t, srv, newMemory(), []string{"pods", arg})
				err := <-r.done
				if usage := (*watch.UsageError)(nil); !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %s", err, want)
				}
				if len(r.events) > 0 {
					t.Errorf("wrote %q", r.said(""))
				}
			})
		})
	}
}

// A fully qualified resource that is not served yet is looked for every minute and said once; the others go on.
func TestAPendingResourceIsFoundWhenItIsServed(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		r := start(t, srv, newMemory(), []string{"widgets.v1.example.com", "pods"})
		pass(5 * time.Minute)
		srv.Create(watchtest.Pods, "shop/p")
		if n := r.logged("not served yet"); n != 1 {
			t.Errorf("said %d times", n)
		}
		srv.Add(watchtest.Widgets)
		srv.Create(watchtest.Widgets, "shop/w")
		pass(61 * time.Second)
		srv.Delete(watchtest.Widgets, "shop/w")
		pass(time.Second)
		r.stop(t)
		check(t, r.said("widgets")[:4], "started at 102", "present shop/w@102", "synced 1 at 102", "deleted shop/w@103")
		check(t, r.said("pods")[:3], "started at 100", "synced 0 at 100", "added shop/p@101")
	})
}

// An aggregated API that is down hides only itself.
func TestAnAPIThatIsDownHidesOnlyItself(t *testing.T) {
	for name, discovery := range discoveries {
		t.Run(name, func(t *testing.T) {
			bubble(t, served, func(t *testing.T, srv *watchtest.Server) {
				discovery(srv)
				srv.GroupDown("example.com/v1")
				r := start(t, srv, newMemory(), []string{"pods", "widgets.v1.example.com"})
				pass(time.Second)
				check(t, r.said("pods"), "started at 100", "synced 0 at 100")
				srv.GroupUp("example.com/v1")
				pass(time.Minute)
				check(t, r.said("widgets"), "started at 100", "synced 0 at 100")
				r.stop(t)
			})
		})
	}
}

// A version of a group that answers nonsense, or nothing, hides only itself, too.
func TestABadAPIHidesOnlyItself(t *testing.T) {
	for name, fault := range map[string]watchtest.Fault{
		"login page": watchtest.HTML(200), "broken": watchtest.HTML(502), "hangs": watchtest.Hang(), "forbidden": watchtest.Forbidden(),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, served, func(t *testing.T, srv *watchtest.Server) {
				srv.DiscoverByGroup()
				for _, path := range []string{"/apis/example.com/v1", "/apis/events.k8s.io/v1"} {
					srv.On(watchtest.Discovery().When(func(q *watchtest.Request) bool { return q.Path == path }), fault)
				}
				r := start(t, srv, newMemory(), []string{"pods"})
				pass(31 * time.Second) // both hang at the same time
				r.stop(t)
				check(t, r.said("pods"), "started at 100", "synced 0 at 100", "stopped at 100")
			})
		})
	}
}

// What keeps the API server itself from telling what it serves is waited out: no name is unknown because of it.
func TestADiscoveryThatFailsIsWaitedFor(t *testing.T) {
	faults := map[string]watchtest.Fault{
		"404": watchtest.HTML(404), "503": watchtest.HTML(503), "401": watchtest.Fail(401, metav1.StatusReasonUnauthorized, "who?"),
		"429": watchtest.Fail(429, metav1.StatusReasonTooManyRequests, "later"), "403": watchtest.Forbidden(),
	}
	for _, path := range []string{"/apis", "/api/v1", "/apis/apps/v1"} {
		for name, fault := range faults {
			t.Run(path+" "+name, func(t *testing.T) {
				bubble(t, served, func(t *testing.T, srv *watchtest.Server) {
					srv.DiscoverByGroup()
					srv.On(watchtest.Discovery().When(func(q *watchtest.Request) bool { return q.Path == path }).Times(2), fault)
					r := start(t, srv, newMemory(), []string{"deployments"})
					pass(time.Minute)
					r.stop(t)
					check(t, r.said("deployments"), "started at 100", "synced 0 at 100", "stopped at 100")
				})
			})
		}
	}
}

// A plural is taken before a short name, as by kubectl, whichever group comes first.
func TestAPluralComesBeforeAShortName(t *testing.T) {
	quotas := []watchtest.Resource{
		{Version: "v1", Name: "resourcequotas", Kind: "ResourceQuota", Namespaced: true, ShortNames: []string{"quota"}},
		{Group: "q.example.com", Version: "v1", Name: "quota", Kind: "Quota", Namespaced: true, Custom: true},
	}
	bubble(t, quotas, func(t *testing.T, srv *watchtest.Server) {
		r := start(t, srv, newMemory(), []string{"quota"})
		pass(time.Second)
		r.stop(t)
		check(t, r.said("quota"), "started at 100", "synced 0 at 100", "stopped at 100")
	})
}

// An API server need not have the core group.
func TestAServerWithoutTheCoreGroupIsDiscovered(t *testing.T) {
	bubble(t, served, func(t *testing.T, srv *watchtest.Server) {
		srv.On(watchtest.Any().Times(1), watchtest.Fail(404, metav1.StatusReasonNotFound, "no /api here"))
		r := start(t, srv, newMemory(), []string{"deployments"})
		pass(time.Second)
		r.stop(t)
		check(t, r.said("deployments"), "started at 100", "synced 0 at 100", "stopped at 100")
	})
}

// What is wrong with a resource that came late must not end what is watched already.
func TestALateResourceEndsNothing(t *testing.T) {
	bubble(t, served, func(t *testing.T, srv *watchtest.Server) {
		srv.GroupDown("example.com/v1")
		r := start(t, srv, newMemory(), []string{"pods", "widgets.v1.example.com"})
		pass(time.Second)
		srv.On(watchtest.Lists(watchtest.Widgets), watchtest.Fail(400, metav1.StatusReasonBadRequest, "field label not supported"))
		srv.GroupUp("example.com/v1")
		pass(5 * time.Minute)
		srv.Create(watchtest.Pods, "shop/p")
		pass(time.Second)
		check(t, r.said("pods"), "started at 100", "synced 0 at 100", "added shop/p@101")
		if n := r.logged("refuses"); n != 1 {
			t.Errorf("said %d times", n)
		}
		r.stop(t)
	})
}

// Two names of one resource are one stream, also if it came late.
func TestALateResourceIsReadOnce(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		r := start(t, srv, newMemory(), []string{"widgets.v1.example.com", "widget.v1.example.com"})
		pass(time.Second)
		srv.Add(watchtest.Widgets)
		srv.Create(watchtest.Widgets, "shop/w")
		pass(2 * time.Minute)
		r.stop(t)
		check(t, r.said("widgets")[:3], "started at 101", "present shop/w@101", "synced 1 at 101")
		if n := srv.Count(watchtest.Watches(watchtest.Widgets)); n != 1 {
			t.Errorf("%d watches", n)
		}
	})
}

// While a version of its group is down, no other version is taken for a resource, and it is no mistake of the user's.
func TestAGroupThatIsHalfDownIsWaitedFor(t *testing.T) {
	bubble(t, served, func(t *testing.T, srv *watchtest.Server) {
		srv.GroupDown("example.com/v1")
		r := start(t, srv, newMemory(), []string{"pods", "widgets.example.com"})
		pass(5 * time.Minute)
		check(t, r.said("pods"), "started at 100", "synced 0 at 100")
		check(t, r.said("widgets"))
		srv.GroupUp("example.com/v1")
		pass(2 * time.Minute)
		r.stop(t)
		if watches := srv.Requests(watchtest.Watches().When(func(q *watchtest.Request) bool { return strings.Contains(q.Path, "widgets") })); len(watches) != 1 || watches[0].Path != "/apis/example.com/v1/widgets" {
			t.Errorf("watches %+v", watches)
		}
	})
}

// Discovery asks no more often than a stream, waits no longer for an answer, and says what is wrong.
func TestDiscoveryIsBounded(t *testing.T) {
	for name, faults := range map[string][]watchtest.Fault{
		"hangs":       {watchtest.Hang()},
		"hangs up":    {watchtest.Reset()},
		"retry after": {watchtest.Fail(503, metav1.StatusReasonServiceUnavailable, "not ready"), watchtest.RetryAfter(time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				rule := srv.On(watchtest.Discovery(), faults...)
				r := start(t, srv, newMemory(), []string{"pods"})
				pass(time.Minute)
				if n, said := r.tries.Load(), r.logged(""); n > outage || said != 1 {
					t.Errorf("%d requests in the first minute, %d warnings", n, said)
				}
				rule.Off()
				pass(2 * time.Minute)
				r.stop(t)
				check(t, r.said("pods")[:2], "started at 100", "synced 0 at 100")
			})
		})
	}
}
