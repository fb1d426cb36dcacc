package watch_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"watcher/internal/event"
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

// A field selector that the API server refuses is the user's mistake, not an outage.
func TestARefusedSelectorEndsTheProgram(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.FieldSelector = "spec.bogus=1" })
		if err := <-r.done; !errors.As(err, new(*watch.UsageError)) || !strings.Contains(err.Error(), "--field-selector") {
			t.Errorf("got %v", err)
		}
	})
}

// A server that can only send whole objects is not asked for them behind the user's back.
func TestAServerThatCannotLeaveOutTheRestIsRefused(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.On(watchtest.Lists(), watchtest.Fail(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable, "only application/json"))
		r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.Payload = watch.PayloadMetadata })
		if err := <-r.done; !errors.As(err, new(*watch.UsageError)) || !strings.Contains(err.Error(), "--payload full") {
			t.Errorf("got %v", err)
		}
	})
}

// A resource whose versions have no order is refused by name.
func TestAResourceWithoutComparableVersionsIsRefused(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.On(watchtest.Lists(), watchtest.Rewrite(func(b []byte) []byte {
			return []byte(strings.ReplaceAll(string(b), `"resourceVersion":"1`, `"resourceVersion":"v1`))
		}))
		r := start(t, srv, newMemory(), []string{"pods"})
		if err := <-r.done; !errors.As(err, new(*watch.UsageError)) || !strings.Contains(err.Error(), "pods") {
			t.Errorf("got %v", err)
		}
	})
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

// While the API server cannot be reached at the start, watcher waits for it.
func TestAnAPIServerThatComesLateIsWaitedFor(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Down()
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(10 * time.Minute)
		if n := r.logged("cannot be reached"); n != 1 {
			t.Errorf("said %d times", n)
		}
		srv.Up()
		pass(time.Minute)
		r.stop(t)
		check(t, r.said("pods"), "started at 100", "synced 0 at 100", "stopped at 100")
	})
}

// With --once what exists is listed and the program ends; whatever cannot be listed is an error, and the rest is listed
// all the same.
func TestOnceListsAndEnds(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*watchtest.Server)
		says  string
	}{
		"all is well": {func(*watchtest.Server) {}, ""},
		"forbidden":   {func(s *watchtest.Server) { s.Forbid(watchtest.Nodes, "list") }, "permission is missing"},
		"broken": {func(s *watchtest.Server) {
			s.On(watchtest.Lists(watchtest.Nodes), watchtest.Fail(500, metav1.StatusReasonInternalError, "etcd is on fire"))
		}, "etcd is on fire"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, served, func(t *testing.T, srv *watchtest.Server) {
				srv.Create(watchtest.Pods, "shop/p")
				srv.Create(watchtest.Nodes, "n1")
				c.spoil(srv)
				r := start(t, srv, newMemory(), []string{"nodes", "pods"}, func(c *watch.Config) { c.Once = true })
				err := <-r.done
				check(t, r.said("pods"), "started at 102", "present shop/p@101", "synced 1 at 102", "stopped at 102")
				if (err != nil) != (c.says != "") || c.says != "" && !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, want %q", err, c.says)
				}
				if n := srv.Count(watchtest.Watches()); n > 0 {
					t.Errorf("%d watches", n)
				}
			})
		})
	}
}

// --initial none begins at the present.
func TestInitialNoneBeginsAtThePresent(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/old")
		r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.Initial = watch.InitialNone })
		pass(time.Second)
		srv.Delete(watchtest.Pods, "shop/old")
		pass(time.Second)
		r.stop(t)
		check(t, r.said("pods")[:2], "started at 101", "deleted shop/old@102")
	})
}

// With several namespaces each has a stream of its own, and says which; what has no namespace is read once.
func TestEveryNamespaceHasItsStream(t *testing.T) {
	bubble(t, served, func(t *testing.T, srv *watchtest.Server) {
		for _, key := range []string{"a/p", "b/p", "c/p"} {
			srv.Create(watchtest.Pods, key)
		}
		r := start(t, srv, newMemory(), []string{"pods", "nodes"}, func(c *watch.Config) { c.Namespaces = []string{"a", "b"} })
		pass(time.Second)
		r.stop(t)
		seen := map[string]int{}
		for _, ev := range r.of("") {
			if d, ok := ev.Data.(event.StartedData); ok {
				seen[fmt.Sprint(ev.Stream.Resource, d.Namespaces)]++
			}
			if ev.Type == event.Present && ev.Object.Namespace != ev.Stream.Namespace {
				t.Errorf("%s in the stream of %q", short(ev), ev.Stream.Namespace)
			}
		}
		if fmt.Sprint(seen) != "map[nodes[]:1 pods[a]:1 pods[b]:1]" {
			t.Errorf("streams %v", seen)
		}
	})
}

// A saved position is resumed: nothing is listed, nothing repeated, seq goes on.
func TestASavedPositionIsResumed(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a")
		sink := newMemory()
		r := start(t, srv, sink, []string{"pods"})
		pass(time.Second)
		srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "1"))
		pass(time.Second)
		r.stop(t)
		srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "2"))
		r = start(t, srv, sink, []string{"pods"})
		pass(time.Second)
		r.stop(t)
		check(t, r.said("pods"), "started at 101", "present shop/a@101", "synced 1 at 101", "modified shop/a@102", "stopped at 101",
			"resumed after 101", "modified shop/a@103", "stopped at 102")
		last := r.of("pods")[6]
		if d, ok := r.of("pods")[5].Data.(event.StartedData); !ok || !d.Resumed || last.Seq != 3 {
			t.Errorf("started says %+v, and seq goes on with %d", d, last.Seq)
		}
	})
}

// A sink that takes nothing is given up when it is time to stop, and that is an error.
func TestASinkThatTakesNothingIsGivenUpAtTheEnd(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		sink := newMemory()
		sink.stall = make(chan struct{})
		r := start(t, srv, sink, []string{"pods"})
		pass(time.Second)
		begin := time.Now()
		r.cancel()
		err := <-r.done
		if err == nil || time.Since(begin) != 20*time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

// A sink that is closed ends the program.
func TestAClosedSinkEndsTheProgram(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		sink := newMemory()
		sink.fault = func(event.Batch) (int, error) { return 0, event.ErrClosed }
		r := start(t, srv, sink, []string{"pods"})
		if err := <-r.done; !errors.Is(err, event.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}
