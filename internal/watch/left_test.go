package watch_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"watcher/internal/event"
	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

// T15: with selectors the API server says DELETED of an object that only stopped matching (K8).

var (
	web = watchtest.Labels("app", "web")
	db  = watchtest.Labels("app", "db")
)

// selecting watches pods with the label app=web.
func selecting(c *watch.Config) { c.LabelSelector = "app=web" }

// T15: an object that leaves the selection has left, one that is deleted is deleted; by name or namespace none can leave.
func TestT15LeavingASelectorIsNotCalledADeletion(t *testing.T) {
	for name, c := range map[string]struct {
		label, field string
		leaves       bool
	}{
		"label":     {"app=web", "", true},
		"status":    {"", "status.phase=Running", true},
		"name":      {"", "metadata.name=a", false},
		"namespace": {"", "metadata.namespace!=kube-system", false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				matching := []watchtest.Edit{web, watchtest.Status(`{"phase":"Running"}`)}
				srv.Create(watchtest.Pods, "shop/a", matching...)
				r := start(t, srv, newMemory(), []string{"pods"}, func(conf *watch.Config) { conf.LabelSelector, conf.FieldSelector = c.label, c.field })
				pass(time.Second)
				lists := srv.Count(watchtest.Lists())
				srv.Update(watchtest.Pods, "shop/a", db, watchtest.Status(`{"phase":"Failed"}`))
				pass(time.Second)
				srv.Update(watchtest.Pods, "shop/a", matching...)
				srv.Delete(watchtest.Pods, "shop/a")
				pass(time.Second)
				r.stop(t)
				if c.leaves {
					check(t, r.said("pods")[3:6], "left shop/a@102", "added shop/a@103", "deleted shop/a@104")
				} else {
					check(t, r.said("pods")[3:6], "modified shop/a@102", "modified shop/a@103", "deleted shop/a@104")
				}
				if n := srv.Count(watchtest.Lists()) - lists; n != map[bool]int{true: 2}[c.leaves] {
					t.Errorf("%d LISTs were asked what became of it", n)
				}
			})
		})
	}
}

// What is asked is what was at the version of the frame: a read of the present would call a departure a deletion, or a
// deletion a departure, when more has happened since.
func TestT15WhatHappenedSinceDoesNotMatter(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a", web)
		srv.Create(watchtest.Pods, "shop/b", web)
		srv.Create(watchtest.Pods, "shop/c", web)
		r := start(t, srv, newMemory(), []string{"pods"}, selecting)
		pass(time.Second)
		srv.Update(watchtest.Pods, "shop/a", db)  // 104: it leaves,
		srv.Update(watchtest.Pods, "shop/a", web) // 105: comes back,
		srv.Delete(watchtest.Pods, "shop/a")      // 106: and goes.
		srv.Delete(watchtest.Pods, "shop/b")      // 107: it goes,
		srv.Create(watchtest.Pods, "shop/b", db)  // 108: and another takes its name.
		srv.Update(watchtest.Pods, "shop/c", db)  // 109: it leaves,
		srv.Delete(watchtest.Pods, "shop/c")      // 110: and goes, which is no longer ours to tell.
		pass(time.Second)
		r.stop(t)
		check(t, r.said("pods")[5:10], "left shop/a@104", "added shop/a@105", "deleted shop/a@106", "deleted shop/b@107", "left shop/c@109")
		if body := string(r.of("pods")[5].Object.Body); !strings.Contains(body, `"app":"web"`) {
			t.Errorf("the departure does not carry the last state that matched, but %s", body)
		}
	})
}

// Many that go at once are told apart one by one.
func TestT15ManyDeparturesAtOnceAreToldApart(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		const n = 100
		for i := range n {
			srv.Create(watchtest.Pods, fmt.Sprintf("shop/p%d", i), web)
		}
		r := start(t, srv, newMemory(), []string{"pods"}, selecting)
		pass(time.Second)
		var want []string
		for i := range n {
			key := fmt.Sprintf("shop/p%d", i)
			if i%3 == 0 {
				want = append(want, fmt.Sprintf("deleted %s@%d", key, srv.Delete(watchtest.Pods, key)))
			} else {
				want = append(want, fmt.Sprintf("left %s@%d", key, srv.Update(watchtest.Pods, key, db)))
			}
		}
		pass(10 * time.Second)
		r.stop(t)
		check(t, r.said("pods")[2+n:2+2*n], want...)
		audit(t, r, watchtest.Pods)
	})
}

// What etcd has forgotten nobody can tell, and the event says so; where it ignores the version, likewise.
func TestT15WhatCannotBeToldIsAmbiguous(t *testing.T) {
	for name, spoil := range map[string]func(*watchtest.Server){
		"compacted": func(s *watchtest.Server) {
			s.On(watchtest.Lists(), watchtest.Fail(410, metav1.StatusReasonExpired, "compacted"))
		},
		"inexact": func(s *watchtest.Server) { // it answers when there is a later version
			s.On(watchtest.Lists(), watchtest.Delay(time.Millisecond), watchtest.IgnoreExact())
		},
		"forbidden": func(s *watchtest.Server) { s.Forbid(watchtest.Pods, "list") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				srv.Create(watchtest.Pods, "shop/a", web)
				srv.Create(watchtest.Pods, "shop/b", web)
				r := start(t, srv, newMemory(), []string{"pods"}, selecting)
				pass(time.Second)
				spoil(srv)
				srv.Update(watchtest.Pods, "shop/a", db)
				srv.Delete(watchtest.Pods, "shop/b")
				srv.Advance(1) // so that the answer of a server that ignores the version is of another
				pass(time.Second)
				check(t, r.said("pods")[4:], "left shop/a@103 ambiguous", "left shop/b@104 ambiguous")
				r.stop(t)
			})
		})
	}
}

// An API server that cannot answer for a while is asked again, and what waits for the answer keeps its order.
func TestT15TheQuestionIsAskedAgain(t *testing.T) {
	for name, fault := range map[string]watchtest.Fault{
		"500": watchtest.Fail(500, metav1.StatusReasonInternalError, "etcd is on fire"), "429": watchtest.Fail(429, metav1.StatusReasonTooManyRequests, "later"),
		"cut": watchtest.CutBody(20), "reset": watchtest.Reset(),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				srv.Create(watchtest.Pods, "shop/a", web)
				srv.Create(watchtest.Pods, "shop/b", web)
				r := start(t, srv, newMemory(), []string{"pods"}, selecting)
				pass(time.Second)
				rule := srv.On(watchtest.Lists().Times(4), fault)
				srv.Update(watchtest.Pods, "shop/a", db)
				srv.Update(watchtest.Pods, "shop/b", db)
				srv.Create(watchtest.Pods, "shop/c", web)
				pass(3 * time.Minute)
				r.stop(t)
				check(t, r.said("pods")[4:7], "left shop/a@103", "left shop/b@104", "added shop/c@105")
				if rule.Fired() != 4 {
					t.Errorf("%d requests failed", rule.Fired())
				}
			})
		})
	}
}

// Whoever is stopped before the answer has come writes nothing of it: the next run can tell.
func TestT15AQuestionThatIsInterruptedIsLeftToTheNextRun(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a", web)
		srv.Create(watchtest.Pods, "shop/b", web)
		sink := newMemory()
		r := start(t, srv, sink, []string{"pods"}, selecting)
		pass(time.Second)
		rule := srv.On(watchtest.Lists(), watchtest.Fail(500, "InternalError", "etcd is on fire"))
		srv.Delete(watchtest.Pods, "shop/a")
		srv.Update(watchtest.Pods, "shop/b", db)
		pass(time.Second)
		r.stop(t)
		rule.Off()
		r = start(t, srv, sink, []string{"pods"}, selecting)
		pass(time.Second)
		r.stop(t)
		check(t, r.said("pods")[4:], "stopped at 102", "resumed after 102", "deleted shop/a@103", "left shop/b@104", "stopped at 103")
		audit(t, r, watchtest.Pods)
	})
}

// In a gap an object may leave, too; and what etcd has forgotten is ambiguous there. The budget bounds how many are asked.
func TestT15DeparturesInAGapAreToldApart(t *testing.T) {
	for name, c := range map[string]struct {
		budget  int
		compact bool
		want    []string
	}{
		"in time": {5000, false, []string{"added shop/in@109", "deleted shop/gone@110 stale", "deleted shop/other@110 stale",
			"left shop/out@110 stale", "modified shop/kept@106", "synced +1 ~1 -2 <1 (5 net, 0 inferred) at 110"}},
		"no budget": {0, false, []string{"added shop/in@109", "left shop/gone@110 ambiguous stale", "left shop/other@110 ambiguous stale",
			"left shop/out@110 ambiguous stale", "modified shop/kept@106", "synced +1 ~1 <3 (5 net, 0 inferred) at 110"}},
		"compacted": {5000, true, []string{"added shop/in@109", "deleted shop/gone@110 inferred", "deleted shop/other@110 inferred",
			"left shop/out@110 inferred", "modified shop/kept@106", "synced +1 ~1 -2 <1 (2 net, 3 inferred) at 110"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				for _, name := range []string{"gone", "kept", "other", "out"} { // 101 to 104
					srv.Create(watchtest.Pods, "shop/"+name, web)
				}
				r := start(t, srv, newMemory(), []string{"pods"}, selecting, func(conf *watch.Config) { conf.RepairBudget = c.budget })
				pass(time.Second)
				unseen(srv, func() {
					srv.Delete(watchtest.Pods, "shop/gone")
					srv.Update(watchtest.Pods, "shop/kept", watchtest.Labels("n", "1"))
					srv.Delete(watchtest.Pods, "shop/other")
					srv.Create(watchtest.Pods, "shop/other", db)
					srv.Create(watchtest.Pods, "shop/in", web)
					srv.Update(watchtest.Pods, "shop/out", db)
					if c.compact {
						srv.Compact(srv.RV())
					}
				})
				pass(time.Minute)
				r.stop(t)
				check(t, orderless(r.said("pods"))[6:6+len(c.want)+1], append([]string{"gap expired after 104"}, c.want...)...)
				for _, ev := range r.of("pods")[7:12] {
					if gone := ev.Type == event.Deleted || ev.Type == event.Left; ev.Inferred != gone || gone && (ev.Object.Body != nil) == c.compact {
						t.Errorf("%s: inferred %v, body %s", short(ev), ev.Inferred, ev.Object.Body)
					}
				}
				audit(t, r, watchtest.Pods)
			})
		})
	}
}

// What asking for departures costs is of the same budget as all else.
func TestT15DeparturesAreOfTheBudget(t *testing.T) {
	for budget, want := range map[int]struct {
		points, all int // LISTs of one object, and of all
		ambiguous   int
	}{6: {6, 0, 0}, 5: {3, 1, 0}, 3: {3, 1, 0}, 2: {2, 1, 1}, 0: {0, 1, 3}} {
		t.Run(fmt.Sprint("budget=", budget), func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				for i := range 5 {
					srv.Create(watchtest.Pods, pod(i), web)
				}
				from, to := srv.Advance(1), uint64(0)
				r := start(t, srv, newMemory(), []string{"pods"}, selecting, func(c *watch.Config) { c.RepairBudget = budget })
				pass(10 * time.Second)
				unseen(srv, func() {
					for i := range 3 {
						srv.Delete(watchtest.Pods, pod(i))
					}
					to = srv.Advance(1)
				})
				pass(time.Minute)
				r.stop(t)
				ambiguous := 0
				for _, ev := range r.of("pods") {
					if ev.Ambiguous {
						ambiguous++
					}
				}
				if points, all := wholeReads(srv, from, to); points != want.points || all != want.all || ambiguous != want.ambiguous {
					t.Errorf("%d objects were read one by one, all %d times, %d are ambiguous; want %+v", points, all, ambiguous, want)
				}
			})
		})
	}
}

// At the start, too, what is there no more is told apart: of a snapshot that a crash cut short.
func TestT15DeparturesFromAnUnfinishedSnapshotAreToldApart(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/gone", web)
		srv.Create(watchtest.Pods, "shop/kept", web)
		srv.Create(watchtest.Pods, "shop/out", web)
		sink := newMemory()
		dies(sink, 4)
		r := start(t, srv, sink, []string{"pods"}, selecting, oneByOne)
		_ = ended(t, r) // by the sink
		srv.Delete(watchtest.Pods, "shop/gone")
		srv.Update(watchtest.Pods, "shop/out", db)
		revive(sink)
		r = start(t, srv, sink, []string{"pods"}, selecting)
		pass(time.Minute)
		r.stop(t)
		got := r.said("pods")[5:7]
		slices.Sort(got)
		check(t, r.said("pods")[:5], "started at 103", "present shop/gone@101", "present shop/kept@102", "present shop/out@103", "started at 105")
		check(t, got, "deleted shop/gone@105 inferred", "left shop/out@105 inferred")
		check(t, r.said("pods")[7:], "synced 0 -1 <1 at 105", "stopped at 105")
	})
}
