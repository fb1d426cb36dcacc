package watch_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

// outage bounds the requests of one stream in the first minute of trouble, LISTs and watches together.
const outage = 12

func requests(srv *watchtest.Server) int {
	return srv.Count(watchtest.Lists()) + srv.Count(watchtest.Watches())
}

// unhurried tells whether watches that fail for a minute were opened at most as often as the back-off allows, with one LIST
// each that looks for a rewind, and one that looks for an expiry.
func unhurried(t *testing.T, srv *watchtest.Server, spoil func() *watchtest.Rule) *watchtest.Rule {
	t.Helper()
	watches, lists := srv.Count(watchtest.Watches()), srv.Count(watchtest.Lists())
	rule := spoil()
	srv.CloseWatches()
	pass(time.Minute)
	watches, lists = srv.Count(watchtest.Watches())-watches, srv.Count(watchtest.Lists())-lists
	if watches > 9 || lists > watches+1 || rule.Fired() < 4 {
		t.Errorf("%d watches and %d LISTs in a minute of watches of which %d failed", watches, lists, rule.Fired())
	}
	return rule
}

// T6: an ERROR frame that is not 410 is no reason to hurry.
func TestT6AnErrorFrameIsNoHotLoop(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Second)
		rule := unhurried(t, srv, func() *watchtest.Rule {
			return srv.On(watchtest.Watches(), watchtest.ErrorAfter(0, &metav1.Status{Status: "Failure", Code: 500, Reason: metav1.StatusReasonInternalError, Message: "the cache is broken"}))
		})
		rule.Off()
		srv.Create(watchtest.Pods, "shop/a")
		pass(time.Minute)
		r.stop(t)
		check(t, r.said("pods")[:3], "started at 100", "synced 0 at 100", "added shop/a@101")
	})
}

// T7: HTTP 200 and an immediate close is not progress.
func TestT7AnEmptyWatchIsNoHotLoop(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Second)
		rule := unhurried(t, srv, func() *watchtest.Rule { return srv.On(watchtest.Watches(), watchtest.CloseAfter(0)) })
		rule.Off()
		srv.Create(watchtest.Pods, "shop/a")
		pass(time.Minute)
		r.stop(t)
		check(t, r.said("pods")[:3], "started at 100", "synced 0 at 100", "added shop/a@101")
	})
}

// An API server that is away is asked a few times a minute, is back without a gap, and is complained about once.
func TestAnOutageIsNeitherAHotLoopNorAGap(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Second)
		before := r.tries.Load()
		srv.Down()
		pass(time.Minute)
		if n := r.tries.Load() - before; n > outage || n < 4 {
			t.Errorf("%d requests were tried in the first minute of an outage", n)
		}
		srv.Create(watchtest.Pods, "shop/a")
		srv.Up()
		pass(time.Minute)
		r.stop(t)
		check(t, r.said("pods")[:3], "started at 100", "synced 0 at 100", "added shop/a@101")
		if n := r.logged(""); n > 2 {
			t.Errorf("%d warnings about one outage: %v", n, r.logs.All())
		}
	})
}

// A connection that breaks again and again, in the middle of a frame too, is no gap.
func TestABrokenConnectionIsNoGap(t *testing.T) {
	for _, fault := range []watchtest.Fault{watchtest.CutAfter(0), watchtest.CutWithin(0, 30), watchtest.CutWithin(0, 300), watchtest.Reset()} {
		bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
			r := start(t, srv, newMemory(), []string{"pods"})
			pass(time.Second)
			rule := srv.On(watchtest.Watches().Times(6), fault)
			srv.CutWatches()
			srv.Create(watchtest.Pods, "shop/a")
			pass(5 * time.Minute)
			r.stop(t)
			check(t, r.said("pods")[:3], "started at 100", "synced 0 at 100", "added shop/a@101")
			if rule.Fired() != 6 {
				t.Errorf("%d watches were cut", rule.Fired())
			}
		})
	}
}

// T25: a resource that goes away, or whose permission does, disturbs no other, and is resumed when it is back.
func TestT25RemovedAndForbiddenResourcesDisturbNoOther(t *testing.T) {
	for name, c := range map[string]struct {
		takeAway, giveBack func(*watchtest.Server)
		says               string
		reason             string
	}{
		"definition deleted": {func(s *watchtest.Server) { s.Remove(watchtest.Widgets) }, func(s *watchtest.Server) { s.Add(watchtest.Widgets) }, "not served", "removed"},
		"permission revoked": {
			func(s *watchtest.Server) { s.Forbid(watchtest.Widgets, "watch"); s.CloseWatches(watchtest.Widgets) },
			func(s *watchtest.Server) { s.Allow(watchtest.Widgets, "watch") }, "permission is missing", "forbidden",
		},
	} {
		for _, expires := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/expires=%v", name, expires), func(t *testing.T) {
				bubble(t, []watchtest.Resource{watchtest.Widgets, watchtest.Pods}, func(t *testing.T, srv *watchtest.Server) {
					srv.Create(watchtest.Widgets, "shop/w")
					r := start(t, srv, newMemory(), []string{"widgets", "pods"})
					pass(time.Second)
					c.takeAway(srv)
					pass(10 * time.Minute)
					srv.Create(watchtest.Pods, "shop/p")
					pass(time.Second)
					check(t, r.said("pods"), "started at 101", "synced 0 at 101", "added shop/p@102")
					if n := r.logged(c.says); n != 1 {
						t.Errorf("%q was said %d times", c.says, n)
					}
					if n := srv.Count(watchtest.Watches(watchtest.Widgets)); n > 14 {
						t.Errorf("%d watches were tried in ten minutes", n)
					}
					if expires {
						srv.Compact(srv.RV())
					} else if name == "definition deleted" {
						return // its watch cache begins anew: always expired
					}
					c.giveBack(srv)
					pass(2 * time.Minute)
					srv.Update(watchtest.Widgets, "shop/w", watchtest.Labels("x", "1"))
					pass(time.Second)
					want := []string{"started at 101", "present shop/w@101", "synced 1 at 101"}
					if expires {
						want = append(want, fmt.Sprintf("gap %s after 101", c.reason), "synced (0 net, 0 inferred) at 102")
					}
					check(t, r.said("widgets"), append(want, "modified shop/w@103")...)
					r.stop(t)
				})
			})
		}
	}
}

// T27: a connection that is half open says nothing for ever; the missing bookmarks give it away.
func TestT27AHalfOpenConnectionIsNoticed(t *testing.T) {
	for name, c := range map[string]struct {
		hang   func(*watchtest.Server)
		within time.Duration
	}{
		"with bookmarks before": {func(s *watchtest.Server) { s.Advance(10); pass(70 * time.Second); s.StallWatches() }, 160 * time.Second},
		"from the first frame": {func(s *watchtest.Server) {
			s.On(watchtest.Watches().Times(1), watchtest.StallAfter(0))
			s.CloseWatches()
		}, 11 * time.Minute},
		"without an answer": {func(s *watchtest.Server) { s.On(watchtest.Watches().Times(1), watchtest.Hang()); s.CloseWatches() }, 40 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				r := start(t, srv, newMemory(), []string{"pods"})
				pass(time.Second)
				c.hang(srv)
				pass(time.Second)
				srv.Create(watchtest.Pods, "shop/a")
				pass(c.within)
				if got := r.said("pods"); len(got) != 3 || !strings.HasPrefix(got[2], "added shop/a@") {
					t.Errorf("got %q", got)
				}
				r.stop(t)
			})
		})
	}
}

// A quiet resource moves on with bookmarks, and does not expire for nothing.
func TestBookmarksMoveThePosition(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a")
		r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.Progress = time.Minute })
		pass(time.Second)
		srv.Advance(100)
		pass(70 * time.Second)
		srv.Compact(srv.RV())
		srv.CloseWatches()
		pass(30 * time.Second)
		srv.Delete(watchtest.Pods, "shop/a")
		pass(time.Second)
		r.stop(t)
		got := slices.DeleteFunc(r.said("pods"), func(s string) bool { return strings.HasPrefix(s, "progress") })
		check(t, got, "started at 101", "present shop/a@101", "synced 1 at 101", "deleted shop/a@202", "stopped at 201")
	})
}

// Silence never means death: progress repeats through an outage.
func TestProgressIsWrittenThroughAnOutage(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.Progress = time.Minute })
		pass(time.Second)
		srv.Down()
		pass(5 * time.Minute)
		r.stop(t)
		check(t, r.said("pods"), "started at 100", "synced 0 at 100", "progress at 100", "progress at 100", "progress at 100", "progress at 100", "progress at 100", "stopped at 100")
	})
}

// Retry-After is honoured.
func TestRetryAfterIsHonoured(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.On(watchtest.Lists(), watchtest.Respond(http.StatusTooManyRequests, "text/plain", "Too many requests"), watchtest.RetryAfter(50*time.Second))
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(49 * time.Second)
		if n := srv.Count(watchtest.Lists()); n != 1 {
			t.Errorf("%d LISTs within Retry-After", n)
		}
		r.stop(t)
	})
}

// Permission is lost in a repair, for ten minutes, at each of its requests.
func TestAPermissionThatIsLostInARepairDelaysIt(t *testing.T) {
	for after := range 6 {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				many(srv, 6)
				r := start(t, srv, newMemory(), []string{"pods"})
				pass(10 * time.Second)
				denied := srv.On(watchtest.Any().After(after), watchtest.Forbidden())
				unseen(srv, func() {
					srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", "1"))
					srv.Delete(watchtest.Pods, pod(1))
					srv.Delete(watchtest.Pods, pod(2))
					srv.Create(watchtest.Pods, pod(2))
				})
				pass(10 * time.Minute)
				before := r.tries.Load()
				pass(10 * time.Minute)
				n := r.tries.Load() - before
				denied.Off()
				pass(2 * time.Minute)
				srv.Update(watchtest.Pods, pod(3), watchtest.Labels("n", "1"))
				pass(2 * time.Minute)
				t.Log(n, r.logged("permission"), r.said("pods")[8:])
				r.stop(t)
				audit(t, r, watchtest.Pods)
			})
		})
	}
}

// A definition goes with its objects, and comes back; watcher runs, or is away.
func TestADefinitionThatGoesAndComesBackTakesItsObjectsAlong(t *testing.T) {
	for _, away := range []bool{false, true} {
		t.Run(fmt.Sprint(away), func(t *testing.T) {
			bubble(t, []watchtest.Resource{watchtest.Widgets}, func(t *testing.T, srv *watchtest.Server) {
				for i := range 3 {
					srv.Create(watchtest.Widgets, fmt.Sprintf("shop/w%d", i))
				}
				sink := newMemory()
				r := start(t, srv, sink, []string{"widgets.v1.example.com"})
				pass(10 * time.Second)
				if away {
					r.stop(t)
				}
				for i := range 3 {
					srv.Delete(watchtest.Widgets, fmt.Sprintf("shop/w%d", i))
				}
				srv.Remove(watchtest.Widgets)
				pass(time.Minute)
				if away {
					r = start(t, srv, sink, []string{"widgets.v1.example.com"})
				}
				pass(10 * time.Minute)
				srv.Compact(srv.RV())
				srv.Add(watchtest.Widgets)
				srv.Create(watchtest.Widgets, "shop/w1")
				pass(3 * time.Minute)
				srv.Create(watchtest.Widgets, "shop/w7")
				pass(10 * time.Second)
				r.stop(t)
				t.Log(r.said("widgets"))
			})
		})
	}
}
