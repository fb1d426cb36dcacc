package watch_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"watcher/internal/event"
	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

// dies lets the sink take n more events, and then nothing ever: the process ends.
func dies(m *memory, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = func(b event.Batch) (int, error) {
		if n -= len(b.Events); n < 0 {
			return 0, event.ErrClosed
		}
		return len(b.Events), nil
	}
}

// revive is the sink as the next process finds it.
func revive(m *memory) {
	m.crash()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = nil
}

// ended is how watcher ended, by itself.
func ended(t *testing.T, r *running) error {
	t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(time.Hour):
		t.Error("it goes on")
		r.cancel()
		return <-r.done
	}
}

// oneByOne hands events to the sink one by one, so that it may die between any two.
func oneByOne(c *watch.Config) { c.BufferBytes = 1 }

// crashes lets watcher die, once instead of each event that it writes after settle, and start again on what the sink
// holds. Prepare is what it writes about; between the two more may happen. check is told how many events had been written by then.
func crashes(t *testing.T, settle, prepare, meanwhile func(*watchtest.Server), check func(t *testing.T, r *running, n int), edits ...func(*watch.Config)) {
	t.Helper()
	died := true
	for n := 0; died && n < 40; n++ {
		died = false
		bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
			many(srv, 8)
			sink := newMemory()
			r := start(t, srv, sink, []string{"pods"}, append(edits, oneByOne)...)
			pass(10 * time.Second)
			settle(srv)
			pass(time.Second)
			dies(sink, n)
			prepare(srv)
			pass(2 * time.Minute)
			select {
			case err := <-r.done:
				if died = true; !errors.Is(err, event.ErrClosed) {
					t.Errorf("died of %v", err)
				}
				revive(sink)
				meanwhile(srv)
				r = start(t, srv, sink, []string{"pods"}, edits...)
				pass(2 * time.Minute)
			default:
				revive(sink) // for the last word
			}
			r.stop(t)
			check(t, r, n)
			if t.Failed() {
				t.Fatalf("died after %d events: %q", n, r.said("pods"))
			}
		})
	}
}

func nothing(*watchtest.Server) {}

// A crash at any step of a repair loses nothing, repeats nothing, and leaves no gap without its end: it is begun again from
// where the first try began.
func TestT26ACrashAtAnyStepOfARepairIsHealed(t *testing.T) {
	for name, c := range map[string]struct {
		budget             int
		expired, meanwhile func(*watchtest.Server)
	}{
		"one by one":        {5000, nothing, nothing},
		"from a list":       {0, nothing, nothing},
		"compacted":         {5000, func(s *watchtest.Server) { s.Compact(s.RV()) }, nothing},
		"compacted between": {5000, nothing, func(s *watchtest.Server) { s.Compact(s.RV()) }},
		"more happens": {5000, nothing, func(s *watchtest.Server) {
			s.Update(watchtest.Pods, pod(0), watchtest.Labels("m", "1"))
			s.Delete(watchtest.Pods, pod(8))
			s.Delete(watchtest.Pods, pod(4))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			crashes(t, nothing, func(srv *watchtest.Server) { unseen(srv, func() { churn(srv); c.expired(srv) }) }, c.meanwhile, func(t *testing.T, r *running, n int) {
				audit(t, r, watchtest.Pods)
				resumed, gaps, healed := 0, 0, false
				for _, s := range r.said("pods") {
					switch {
					case strings.HasPrefix(s, "resumed after "):
						if resumed++; s != "resumed after 108" && !healed {
							t.Errorf("%s", s)
						}
					case strings.HasPrefix(s, "gap "):
						if gaps++; s != "gap expired after 108" || healed {
							t.Errorf("%s (healed: %v)", s, healed)
						}
					case strings.HasPrefix(s, "synced"):
						healed = gaps > 0
					}
				}
				// gap, 4 deletions, 6 states, synced: after synced there is nothing left to heal.
				if want := map[bool]int{true: 1, false: 2}[n == 0 || n >= 12]; gaps != want || !healed {
					t.Errorf("%d gaps, want %d; healed: %v", gaps, want, healed)
				}
			}, func(conf *watch.Config) { conf.RepairBudget = c.budget })
		})
	}
}

// A snapshot that a crash cut short is begun anew, and says so; what is held at the same version is not written again, and
// what is there no more is an inferred deletion.
func TestT16T26ACrashAtAnyStepOfASnapshotIsMadeGood(t *testing.T) {
	for n := range 10 {
		bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
			many(srv, 8) // 101 to 108
			sink := newMemory()
			dies(sink, n)
			r := start(t, srv, sink, []string{"pods"}, oneByOne)
			_ = ended(t, r) // by the sink
			revive(sink)
			srv.Delete(watchtest.Pods, pod(0))                             // 109
			srv.Update(watchtest.Pods, pod(1), watchtest.Labels("n", "1")) // 110
			srv.Delete(watchtest.Pods, pod(2))                             // 111
			srv.Create(watchtest.Pods, pod(2))                             // 112
			srv.Create(watchtest.Pods, pod(8))                             // 113
			r = start(t, srv, sink, []string{"pods"})
			pass(time.Minute)
			r.stop(t)
			var first, then []string
			if n > 0 {
				first = append(first, "started at 108")
			}
			for i := range min(max(n-1, 0), 8) {
				first = append(first, fmt.Sprintf("present %s@%d", pod(i), 101+i))
			}
			gone, again := 0, 0
			if n > 1 {
				gone = 1
				then = append(then, "deleted "+pod(0)+"@113 inferred")
			}
			if n > 3 {
				again = 1
				then = append(then, "deleted "+pod(2)+"@113 inferred")
			}
			then = append(then, "present "+pod(1)+"@110", "present "+pod(2)+"@112")
			present := 2
			for i := max(n-1, 3); i < 8; i++ {
				then = append(then, fmt.Sprintf("present %s@%d", pod(i), 101+i))
				present++
			}
			then = append(then, "present "+pod(8)+"@113")
			present++
			synced := fmt.Sprintf("synced %d", present)
			if gone+again > 0 {
				synced += fmt.Sprintf(" -%d", gone+again)
			}
			check(t, orderless(r.said("pods")), append(append(append(first, "started at 113"), then...), synced+" at 113", "stopped at 113")...)
			for _, ev := range r.of("pods") {
				if d, ok := ev.Data.(event.StartedData); ok && ev.Data.(event.StartedData).ResourceVersion == "113" {
					if want := map[bool]string{true: "no position was saved", false: "the snapshot was not finished"}[n == 0]; d.Resumed || d.Reason != want {
						t.Errorf("after %d events: started says %+v, want the reason %q", n, d, want)
					}
				}
				if ev.Type.OfObject() && ev.Origin != event.Snapshot {
					t.Errorf("%s has origin %s", short(ev), ev.Origin)
				}
			}
			audit(t, r, watchtest.Pods)
			if t.Failed() {
				t.Fatalf("died after %d events: %q", n, r.said("pods"))
			}
		})
	}
}

// A gap that a crash cut short is begun again also where the API server would serve the position: what was healed already
// would come once more.
func TestT26AGapThatACrashCutShortIsBegunAgain(t *testing.T) {
	crashes(t, nothing, func(srv *watchtest.Server) {
		srv.Down()
		churn(srv)
		srv.On(watchtest.Watches().Times(2), watchtest.LineAfter(0, "<html>502</html>"))
		srv.Up()
	}, nothing, func(t *testing.T, r *running, n int) {
		audit(t, r, watchtest.Pods)
		gaps := 0
		for _, s := range r.said("pods") {
			if strings.HasPrefix(s, "gap ") {
				if gaps++; s != "gap decode after 108" {
					t.Error(s)
				}
			}
		}
		want := 2
		if n == 0 { // nobody was told of a gap, and there is none
			want = 0
		} else if n >= 12 {
			want = 1
		}
		if gaps != want {
			t.Errorf("%d gaps, want %d", gaps, want)
		}
	})
}

// A snapshot that expired in the middle, and then crashed, is finished by the next process without a gap of its own.
func TestT26ACrashInASnapshotThatExpiredLeavesNoGapBehind(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 1200)
		srv.On(watchtest.Lists().After(2).Times(1), watchtest.Delay(10*time.Second))
		sink := newMemory()
		r := start(t, srv, sink, []string{"pods"}, oneByOne)
		pass(time.Second)
		srv.Delete(watchtest.Pods, pod(0))
		srv.Compact(srv.RV())
		dies(sink, 1) // right behind the gap
		pass(time.Minute)
		if err := ended(t, r); err == nil {
			t.Fatal("it did not die")
		}
		revive(sink)
		if got := r.said("pods"); got[len(got)-1] != "gap expired after 1300" {
			t.Fatalf("it died elsewhere: %q", got[len(got)-2:])
		}
		r = start(t, srv, sink, []string{"pods"})
		pass(time.Minute)
		srv.Create(watchtest.Pods, pod(1200))
		pass(time.Second)
		r.stop(t)
		check(t, r.said("pods")[503:504], "started at 1301")
		check(t, r.said("pods")[503+1+699:], "deleted "+pod(0)+"@1301 inferred", "synced 699 -1 at 1301", "added "+pod(1200)+"@1302", "stopped at 1301")
		audit(t, r, watchtest.Pods)
	})
}

// A change that the sink had not acknowledged when watcher died is written after the restart: the position never passes the
// sink (T5). One that it had is not repeated, whether or not the position was saved with it (T26).
func TestT5T26ThePositionNeverPassesTheSink(t *testing.T) {
	crashes(t, nothing, func(srv *watchtest.Server) { churn(srv) }, nothing, func(t *testing.T, r *running, n int) {
		audit(t, r, watchtest.Pods)
		var live []string
		for _, ev := range r.of("pods") {
			if ev.Type == event.Gap {
				t.Errorf("died after %d events: %s", n, short(ev))
			}
			if ev.Origin == event.Live {
				live = append(live, short(ev))
			}
		}
		var want []string
		for _, c := range r.srv.History(watchtest.Pods)[8:] {
			verb := map[string]string{"ADDED": "added", "MODIFIED": "modified", "DELETED": "deleted"}[c.Type]
			want = append(want, fmt.Sprintf("%s %s/%s@%d", verb, c.Namespace, c.Name, c.RV))
		}
		check(t, live, want...)
	})
}

// Stopped in a repair, and gone on with.
func TestARepairThatWasStoppedIsBegunAgain(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 6)
		sink := newMemory()
		r := start(t, srv, sink, []string{"pods"})
		pass(10 * time.Second)
		hang := srv.On(watchtest.Lists().When(func(q *watchtest.Request) bool { return strings.Contains(q.Header.Get("Accept"), "as=") }), watchtest.Hang())
		unseen(srv, func() { srv.Delete(watchtest.Pods, pod(1)) })
		pass(10 * time.Second)
		r.stop(t)
		hang.Off()
		pass(time.Hour)
		r = start(t, srv, sink, []string{"pods"})
		pass(10 * time.Second)
		r.stop(t)
		t.Log(r.said("pods")[8:])
		for _, ev := range r.of("pods") {
			if ev.Type == event.Gap {
				t.Logf("%s", ev.AppendLine(nil, 0))
			}
		}
		audit(t, r, watchtest.Pods)
	})
}
