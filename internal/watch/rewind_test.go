package watch_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"watcher/internal/event"
	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

// T22, K11: etcd is restored from a backup, its versions go back, and a watch in the future is accepted and silent.

// prepared makes a@101, b@102, a@103 and then what a restore to 103 undoes: a@104, c@105.
func prepared(srv *watchtest.Server) {
	srv.Create(watchtest.Pods, "shop/a")
	srv.Create(watchtest.Pods, "shop/b")
	srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "1"))
	srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "2"))
	srv.Create(watchtest.Pods, "shop/c")
}

// ids are the ids of the object events behind the i-th event.
func ids(r *running, i int) []string {
	var out []string
	for _, ev := range r.of("pods")[i:] {
		if ev.Type.OfObject() {
			out = append(out, string(ev.AppendID(nil)))
		}
	}
	return out
}

// checkRewound holds what is written from the gap on against want: the gap is of the old epoch, the rest of the new.
func checkRewound(t *testing.T, r *running, from int, want ...string) {
	t.Helper()
	check(t, orderless(r.said("pods"))[from:from+len(want)], want...)
	for i, ev := range r.of("pods")[from:] {
		if ev.Type == event.Gap && ev.Epoch != 0 && i == 0 || ev.Type != event.Gap && ev.Epoch != 1 {
			t.Errorf("%s is of epoch %d", short(ev), ev.Epoch)
		}
		if id := string(ev.AppendID(nil)); strings.HasPrefix(id, "e1.") != (i > 0) {
			t.Errorf("%s has the id %s", short(ev), id)
		}
	}
}

// A position in the future is noticed when the next watch is to be opened: by the process that had it, and by the next.
func TestT22APositionInTheFutureIsARewind(t *testing.T) {
	for name, restart := range map[string]bool{"at re-open": false, "at start": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				prepared(srv)
				sink := newMemory()
				r := start(t, srv, sink, []string{"pods"})
				pass(time.Second)
				from := 5
				if restart {
					r.stop(t)
				}
				srv.Rewind(103)
				if restart {
					r = start(t, srv, sink, []string{"pods"})
					from = 7
				}
				pass(10 * time.Second)
				srv.Update(watchtest.Pods, "shop/b", watchtest.Labels("n", "1"))
				pass(time.Second)
				r.stop(t)
				if restart {
					check(t, r.said("pods")[5:7], "stopped at 105", "resumed after 105")
				}
				checkRewound(t, r, from, "gap rewind after 105", "deleted shop/c@103 inferred", "present shop/a@103", "present shop/b@102",
					"synced 2 -1 (0 net, 1 inferred) at 103", "modified shop/b@104", "stopped at 103")
				audit(t, r, watchtest.Pods)
			})
		})
	}
}

// A connection that survives the restore (a proxy's) is silent for ever; the missing bookmarks give it away.
func TestT22ASilentWatchInTheFutureIsARewind(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		prepared(srv)
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Second)
		srv.Advance(10)
		pass(70 * time.Second) // a bookmark
		opened := srv.Count(watchtest.Watches())
		srv.StallWatches()
		srv.Rewind(103)
		srv.StallWatches()
		pass(160 * time.Second)
		if n := srv.Count(watchtest.Watches()); n == opened {
			t.Error("no watch was opened again")
		}
		r.stop(t)
		checkRewound(t, r, 5, "gap rewind after 115", "deleted shop/c@103 inferred", "present shop/a@103", "present shop/b@102", "synced 2 -1 (0 net, 1 inferred) at 103")
		audit(t, r, watchtest.Pods)
	})
}

// Once the new history has passed the position comparing versions says nothing: the newest state that was seen is not there.
// The same version number stands for another state then.
func TestT22ANewHistoryThatPassedThePositionIsARewind(t *testing.T) {
	for name, restart := range map[string]bool{"at re-open": false, "at start": true} {
		for state, again := range map[string]func(*watchtest.Server){
			"another object at the version": func(s *watchtest.Server) { s.Create(watchtest.Pods, "shop/d"); s.Create(watchtest.Pods, "shop/e") },
			"another object of the name":    func(s *watchtest.Server) { s.Advance(1); s.Create(watchtest.Pods, "shop/c") },
			"the object at another version": func(s *watchtest.Server) { s.Create(watchtest.Pods, "shop/c"); s.Advance(1) },
			"another state of a, and no other object": func(s *watchtest.Server) {
				s.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "9"))
				s.Advance(1)
			},
		} {
			t.Run(name+"/"+state, func(t *testing.T) {
				bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
					prepared(srv)
					sink := newMemory()
					r := start(t, srv, sink, []string{"pods"})
					pass(time.Second)
					if restart {
						r.stop(t)
					} else {
						srv.Down()
					}
					srv.Rewind(103)
					again(srv)
					at := srv.Advance(10)
					if restart {
						r = start(t, srv, sink, []string{"pods"})
					} else {
						srv.Up()
					}
					pass(2 * time.Minute)
					r.stop(t)
					said := r.said("pods")
					i := slices.Index(said, "gap rewind after 105")
					if i < 0 {
						t.Fatalf("no rewind was noticed: %q", said)
					}
					for j, ev := range r.of("pods")[i+1:] {
						if ev.Epoch != 1 || ev.Type.OfObject() && ev.Type != event.Present && ev.Type != event.Deleted {
							t.Errorf("%d: %s of epoch %d", j, short(ev), ev.Epoch)
						}
					}
					present := 0
					for _, o := range srv.StateAt(watchtest.Pods, srv.RV()) {
						if want := fmt.Sprintf("present %s/%s@%d", o.Namespace, o.Name, o.RV); !slices.Contains(said[i:], want) {
							t.Errorf("%s is missing behind the rewind: %q", want, said[i:])
						}
						present++
					}
					if want := fmt.Sprintf("deleted shop/c@%d inferred", at); !slices.Contains(said[i:], want) {
						t.Errorf("%s is missing behind the rewind: %q", want, said[i:])
					}
					audit(t, r, watchtest.Pods)
				})
			})
		}
	}
}

// Where things happen at a steady pace the same object may get the same version again: only who wrote it, and when, tells.
func TestT22TheSameVersionWithOtherContentIsARewind(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a")
		srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "1"), fields("kubelet Update 01:00")) // 102
		sink := newMemory()
		r := start(t, srv, sink, []string{"pods"})
		pass(time.Second)
		r.stop(t)
		srv.Rewind(101)
		srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "2"), fields("kubelet Update 02:00")) // 102 again
		r = start(t, srv, sink, []string{"pods"})
		pass(10 * time.Second)
		r.stop(t)
		check(t, r.said("pods")[4:], "resumed after 102", "gap rewind after 102", "present shop/a@102", "synced 1 (0 net, 0 inferred) at 102", "stopped at 102")
		if id := ids(r, 5); len(id) != 1 || !strings.HasPrefix(id[0], "e1.") {
			t.Errorf("the ids are %q", id)
		}
	})
}

// The position may lie in the future although all that was seen is still there: what comes up to it would go unseen.
func TestT22APositionOfABookmarkInTheFutureIsARewind(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		prepared(srv)
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Second)
		srv.Advance(10)
		srv.Bookmark()
		pass(time.Second)
		srv.Rewind(107)
		pass(10 * time.Second)
		srv.Create(watchtest.Pods, "shop/d") // 108
		pass(time.Second)
		r.stop(t)
		check(t, orderless(r.said("pods"))[5:], "gap rewind after 115", "present shop/a@104", "present shop/b@102", "present shop/c@105", "synced 3 (0 net, 0 inferred) at 107",
			"added shop/d@108", "stopped at 107")
		audit(t, r, watchtest.Pods)
	})
}

// What was seen last may be of the same content as the state before it: its version tells.
func TestT22ALostChangeOfNothingIsARewind(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a", fields("kubectl Update 01:00"))
		srv.Update(watchtest.Pods, "shop/a", fields("kubectl Update 02:00")) // 102
		sink := newMemory()
		r := start(t, srv, sink, []string{"pods"})
		pass(time.Second)
		r.stop(t)
		srv.Rewind(101)
		srv.Advance(10)
		r = start(t, srv, sink, []string{"pods"})
		pass(10 * time.Second)
		r.stop(t)
		check(t, r.said("pods")[4:], "resumed after 102", "gap rewind after 102", "present shop/a@101", "synced 1 (0 net, 0 inferred) at 111", "stopped at 111")
	})
}

// Another object may have its name and version: its uid tells, also where hashes cannot be compared.
func TestT22AnotherObjectAtTheSameVersionIsARewind(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a") // 101
		srv.Create(watchtest.Pods, "shop/b") // 102
		sink := newMemory()
		r := start(t, srv, sink, []string{"pods"})
		pass(time.Second)
		r.stop(t)
		srv.Rewind(101)
		srv.Create(watchtest.Pods, "shop/b") // 102 again
		r = start(t, srv, sink, []string{"pods"}, func(c *watch.Config) { c.Payload = watch.PayloadMetadata })
		pass(10 * time.Second)
		r.stop(t)
		check(t, orderless(r.said("pods"))[5:], "resumed after 102", "gap rewind after 102", "deleted shop/b@102 inferred", "present shop/a@101", "present shop/b@102",
			"synced 2 -1 (0 net, 1 inferred) at 102", "stopped at 102")
		audit(t, r, watchtest.Pods)
	})
}

// That etcd has forgotten the newest state that was seen, or that the server does not answer for versions, is no rewind.
func TestT22AWitnessThatNobodyRemembersIsNoRewind(t *testing.T) {
	for name, spoil := range map[string]func(*watchtest.Server){
		"compacted": func(s *watchtest.Server) { s.Advance(100); s.CompactStore(s.RV()) },
		"inexact":   func(s *watchtest.Server) { s.On(watchtest.Lists(), watchtest.IgnoreExact()); s.Advance(100) },
		"deleted":   func(s *watchtest.Server) { s.Delete(watchtest.Pods, "shop/c") },
		"changed":   func(s *watchtest.Server) { s.Update(watchtest.Pods, "shop/c", watchtest.Labels("n", "1")) },
		"made anew": func(s *watchtest.Server) { s.Delete(watchtest.Pods, "shop/c"); s.Create(watchtest.Pods, "shop/c") },
		"a 500": func(s *watchtest.Server) {
			s.On(watchtest.Lists().After(1).Times(3), watchtest.Fail(500, "InternalError", "etcd is on fire"))
		},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/restart=%v", name, restart), func(t *testing.T) {
				bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
					prepared(srv)
					sink := newMemory()
					r := start(t, srv, sink, []string{"pods"})
					pass(time.Second)
					if restart {
						r.stop(t)
						spoil(srv)
						r = start(t, srv, sink, []string{"pods"})
					} else {
						srv.Down()
						spoil(srv)
						srv.Up()
					}
					pass(time.Minute)
					srv.Create(watchtest.Pods, "shop/d")
					pass(time.Second)
					r.stop(t)
					for _, ev := range r.of("pods") {
						if ev.Type == event.Gap || ev.Epoch > 0 {
							t.Fatalf("got %q", r.said("pods"))
						}
					}
					audit(t, r, watchtest.Pods)
				})
			})
		}
	}
}

// A crash at any step of what follows a rewind leaves no position: the next process lists everything again, in the new epoch,
// and knows still who existed.
func TestT22T26ACrashAtAnyStepOfARewindIsMadeGood(t *testing.T) {
	crashes(t, nothing, func(srv *watchtest.Server) {
		srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", "1"))
		srv.Delete(watchtest.Pods, pod(1))
		srv.Create(watchtest.Pods, pod(8))
		pass(time.Second) // 111, three events
		srv.Rewind(106)   // without 6, 7 and 8; with 1
	}, nothing, func(t *testing.T, r *running, n int) {
		audit(t, r, watchtest.Pods)
		gaps := 0
		for i, ev := range r.of("pods") {
			if d, ok := ev.Data.(event.StartedData); ok && i > 0 {
				want := "not everything was listed again after the API server had been restored"
				// The gap is the fourth event; behind it come 3 deletions, 6 states and synced.
				if unfinished := n >= 4 && n < 14; d.Resumed == unfinished || unfinished && (d.Reason != want || ev.Epoch != 1) {
					t.Errorf("%s of epoch %d, resumed %v: %q", short(ev), ev.Epoch, d.Resumed, d.Reason)
				}
			}
			if ev.Type == event.Gap {
				gaps++
			}
			if ev.Epoch > 1 {
				t.Errorf("%s is of epoch %d", short(ev), ev.Epoch)
			}
			if ev.Epoch == 1 && ev.Type.OfObject() && ev.Type != event.Present && ev.Type != event.Deleted {
				t.Errorf("%s", short(ev))
			}
		}
		if gaps != 1 {
			t.Errorf("%d gaps", gaps)
		}
	})
}

// A second rewind begins a third epoch.
func TestT22ASecondRewindBeginsAThirdEpoch(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		prepared(srv)
		sink := newMemory()
		r := start(t, srv, sink, []string{"pods"})
		pass(time.Second)
		srv.Rewind(103)
		pass(10 * time.Second)
		srv.Create(watchtest.Pods, "shop/d") // 104
		srv.Advance(10)
		pass(10 * time.Second)
		r.stop(t)
		srv.Rewind(103)
		r = start(t, srv, sink, []string{"pods"})
		pass(10 * time.Second)
		srv.Delete(watchtest.Pods, "shop/a")
		pass(time.Second)
		r.stop(t)
		check(t, orderless(r.said("pods"))[12:], "resumed after 103", "gap rewind after 103", "deleted shop/d@103 inferred", "present shop/a@103", "present shop/b@102",
			"synced 2 -1 (0 net, 1 inferred) at 103", "deleted shop/a@104", "stopped at 103")
		if got := ids(r, 13); len(got) != 4 || slices.ContainsFunc(got, func(id string) bool { return !strings.HasPrefix(id, "e2.") }) {
			t.Errorf("the ids are %q", got)
		}
		audit(t, r, watchtest.Pods)
	})
}

// HR7: --initial none, nothing in the ledger, a rewind that a crash cuts short.
func TestT22ARewindWithNothingInTheLedgerIsToldOnce(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 3)
		none := func(c *watch.Config) { c.Initial = watch.InitialNone }
		sink := newMemory()
		r := start(t, srv, sink, []string{"pods"}, none)
		pass(10 * time.Second)
		r.stop(t)
		srv.Rewind(102)
		hang := srv.On(watchtest.Lists().After(1), watchtest.Hang())
		r = start(t, srv, sink, []string{"pods"}, none)
		pass(10 * time.Second)
		r.stop(t)
		t.Logf("%q", r.said("pods"))
		hang.Off()
		r = start(t, srv, sink, []string{"pods"}, none)
		pass(10 * time.Second)
		r.stop(t)
		if said := r.said("pods"); count(said, "gap rewind") != 1 {
			t.Errorf("a second, false rewind: %q", said)
		}
		ev := r.of("pods")
		if e := ev[len(ev)-1]; e.Epoch != 1 {
			t.Errorf("epoch %d after one rewind", e.Epoch)
		}
	})
}
