package watch_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"watcher/internal/event"
	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

func unlisted(c *watch.Config) { c.Initial = watch.InitialNone }

// What was never listed is looked up at the gap's beginning while etcd remembers it: then the gap is told as any other. Else
// what is unknown is present, and what was deleted is not known.
func TestALedgerThatDoesNotKnowAllIsCompletedInAGap(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*watchtest.Server)
		want  []string
	}{
		"in time": {nothing, []string{"added shop/new@108", "deleted shop/again@111 stale", "deleted shop/gone@111 stale", "added shop/again@111",
			"modified shop/changed@106", "modified shop/seen@109", "synced +2 ~2 -2 (6 net, 0 inferred) at 111"}},
		"compacted": {func(s *watchtest.Server) { s.Compact(s.RV()) }, []string{"present shop/again@111", "present shop/changed@106", "present shop/kept@104", "present shop/new@108",
			"modified shop/seen@109", "synced 4 ~1 (1 net, 0 inferred) deletions unknown at 111"}},
		"inexact": {func(s *watchtest.Server) { s.On(watchtest.Lists(), watchtest.IgnoreExact()) }, []string{"present shop/again@111", "present shop/changed@106",
			"present shop/kept@104", "present shop/new@108", "modified shop/seen@109", "synced 4 ~1 (1 net, 0 inferred) deletions unknown at 111"}},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/restart=%v", name, restart), func(t *testing.T) {
				bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
					for _, name := range []string{"again", "changed", "gone", "kept"} { // 101 to 104
						srv.Create(watchtest.Pods, "shop/"+name)
					}
					sink := newMemory()
					r := start(t, srv, sink, []string{"pods"}, unlisted)
					pass(time.Second)
					srv.Create(watchtest.Pods, "shop/seen") // 105
					pass(time.Second)
					if restart {
						r.stop(t)
					}
					unseen(srv, func() {
						srv.Update(watchtest.Pods, "shop/changed", watchtest.Labels("n", "1")) // 106
						srv.Delete(watchtest.Pods, "shop/gone")
						srv.Create(watchtest.Pods, "shop/new")                              // 108
						srv.Update(watchtest.Pods, "shop/seen", watchtest.Labels("n", "1")) // 109
						srv.Delete(watchtest.Pods, "shop/again")
						srv.Create(watchtest.Pods, "shop/again") // 111
						c.spoil(srv)
					})
					from := 2
					if restart {
						r = start(t, srv, sink, []string{"pods"}, unlisted)
						from = 4
					}
					pass(20 * time.Second)
					r.stop(t)
					check(t, orderless(r.said("pods"))[from:], orderless(append(append([]string{"gap expired after 104"}, c.want...), "stopped at 111"))...)
					for _, ev := range r.of("pods") {
						if ev.Type == event.Modified && ev.Object.Name == "changed" && ev.Changed&event.Told != 0 {
							t.Errorf("what changed is told as %v; the state before was not seen", ev.Changed.Names())
						}
					}
				})
			})
		}
	}
}

// Where deletions are unknown the ledger is complete behind the gap: the next one is told as any other.
func TestALedgerIsCompleteBehindAGap(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 3) // 101 to 103
		sink := newMemory()
		r := start(t, srv, sink, []string{"pods"}, unlisted)
		pass(time.Second)
		unseen(srv, func() { srv.Compact(srv.Advance(1)) })
		pass(20 * time.Second)
		r.stop(t)
		unseen(srv, func() { srv.Delete(watchtest.Pods, pod(0)); srv.Compact(srv.RV()) })
		r = start(t, srv, sink, []string{"pods"}, unlisted)
		pass(20 * time.Second)
		r.stop(t)
		check(t, orderless(r.said("pods")), "started at 103", "gap expired after 103", "present "+pod(0)+"@101", "present "+pod(1)+"@102", "present "+pod(2)+"@103",
			"synced 3 (0 net, 0 inferred) deletions unknown at 104", "stopped at 104", "resumed after 104",
			"gap expired after 104", "deleted "+pod(0)+"@105 inferred", "synced -1 (0 net, 1 inferred) at 105", "stopped at 105")
	})
}

// What is read of the time before a gap may have been followed by a change that was written: that is not told again.
func TestWhatWasWrittenIsNotToldAgainOfACompletedLedger(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 4)
		r := start(t, srv, newMemory(), []string{"pods"}, unlisted)
		pass(time.Second)
		srv.Delete(watchtest.Pods, pod(0)) // 105: seen, and the position is still before it
		pass(time.Second)
		unseen(srv, func() { srv.Delete(watchtest.Pods, pod(1)) })
		pass(20 * time.Second)
		r.stop(t)
		check(t, orderless(r.said("pods")), "started at 104", "deleted "+pod(0)+"@105", "gap expired after 104", "deleted "+pod(1)+"@106 stale", "synced -1 (1 net, 0 inferred) at 106", "stopped at 106")
	})
}

// A crash at any step of a repair that had to complete its ledger repeats nothing either.
func TestT26ACrashAtAnyStepOfARepairThatCompletesItsLedgerIsHealed(t *testing.T) {
	for name, compact := range map[string]bool{"in time": false, "compacted": true} {
		t.Run(name, func(t *testing.T) {
			bookmark := func(srv *watchtest.Server) { srv.Advance(1); srv.Bookmark() } // so that there is a position
			crashes(t, bookmark, func(srv *watchtest.Server) {
				unseen(srv, func() {
					churn(srv)
					if compact {
						srv.Compact(srv.RV())
					}
				})
			}, nothing, func(t *testing.T, r *running, n int) {
				written := map[string]bool{}
				last := ""
				for _, ev := range r.of("pods") {
					if id := string(ev.AppendID(nil)); ev.Type.OfObject() && written[id] {
						t.Errorf("%s is written twice", short(ev))
					} else {
						written[id] = true
					}
					if ev.Type == event.Synced {
						last = short(ev)
					}
				}
				for _, o := range r.srv.StateAt(watchtest.Pods, r.srv.RV()) {
					if id := fmt.Sprintf("%s.%d", o.UID, o.RV); !written[id] && (compact || o.RV > 109) {
						t.Errorf("%s@%d is not written", o.Name, o.RV)
					}
				}
				for _, c := range r.srv.History(watchtest.Pods) {
					if c.Type == "DELETED" && !compact && !written[c.UID+".deleted"] {
						t.Errorf("the deletion of %s is not written", c.Name)
					}
				}
				if strings.Contains(last, "deletions unknown") != (compact && n < 10) && n > 0 && n < 10 {
					t.Errorf("%s", last)
				}
			}, unlisted)
		})
	}
}

// A ledger that is completed in the middle of the comparison.
func TestALedgerIsNotCompletedInTheMiddleOfTheComparison(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 4)
		r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.Initial = watch.InitialNone })
		pass(10 * time.Second)
		at := fmt.Sprint(srv.RV())
		// one of two API servers has forgotten the version, the other has not
		forgot := srv.On(watchtest.Lists().Times(1).When(func(q *watchtest.Request) bool {
			return exactOf(q) && q.Query.Get("resourceVersion") == at
		}), watchtest.Fail(410, "Expired", "too old"))
		sparse := func(q *watchtest.Request) bool {
			return strings.Contains(q.Header.Get("Accept"), "as=") && q.Query.Get("continue") != ""
		}
		cut := srv.On(watchtest.Lists().Times(1).When(sparse), watchtest.Reset())
		unseen(srv, func() { srv.Delete(watchtest.Pods, pod(1)) })
		pass(10 * time.Minute)
		r.stop(t)
		t.Log(forgot.Fired(), cut.Fired(), r.said("pods"))
		said := r.said("pods")
		for _, ev := range r.of("pods") {
			if d, ok := ev.Data.(event.SyncedData); ok && d.Healed != nil && d.Healed.Deletions == "known" && count(said, "deleted "+pod(1)) == 0 {
				t.Errorf("deletions are known, and one is not written: %q", said)
			}
		}
	})
}
