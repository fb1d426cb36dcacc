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

// A slow repair is one whose sink takes nothing from the gap on until it is let go.
type slowRepair struct {
	*running
	release func()
}

// slowly begins a repair of n changed pods whose sink does not take the gap yet.
func slowly(t *testing.T, srv *watchtest.Server, n, buffer int) slowRepair {
	t.Helper()
	many(srv, n)
	sink := newMemory()
	r := start(t, srv, sink, []string{"pods"}, func(c *watch.Config) { c.BufferBytes = buffer })
	pass(10 * time.Second)
	stall := make(chan struct{})
	sink.mu.Lock()
	sink.stall = stall
	sink.mu.Unlock()
	unseen(srv, func() {
		for i := range n {
			srv.Update(watchtest.Pods, pod(i), watchtest.Labels("n", "1"))
		}
	})
	for i := 0; i < 600 && srv.Count(watchtest.Watches()) < 3; i++ { // the first, the one that expired, and the one opened ahead
		pass(100 * time.Millisecond)
	}
	return slowRepair{r, func() {
		sink.mu.Lock()
		sink.stall = nil
		sink.mu.Unlock()
		close(stall)
	}}
}

func count(said []string, prefix string) int {
	n := 0
	for _, s := range said {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

// What happens while a repair takes its time is kept, and comes after it: no second gap, even if the API server has forgotten
// it by then.
func TestWhatHappensDuringARepairComesAfterIt(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		const n = 100
		r := slowly(t, srv, n, 64<<10)
		to := srv.RV()
		var want []string
		for i := range 20 {
			want = append(want, fmt.Sprintf("modified %s@%d", pod(i), srv.Update(watchtest.Pods, pod(i), watchtest.Labels("n", "2"))))
		}
		want = append(want, fmt.Sprintf("deleted %s@%d", pod(0), srv.Delete(watchtest.Pods, pod(0))))
		pass(10 * time.Minute) // behind the gap the buffer is full, and the repair waits
		srv.Compact(srv.RV())
		if got := r.said("pods"); got[len(got)-1] != fmt.Sprintf("synced %d at %d", n, 100+n) {
			t.Fatalf("the sink has taken something: %q", got[n:])
		}
		r.release()
		pass(time.Second)
		got := r.said("pods")[n+2:]
		i := slices.IndexFunc(got, func(s string) bool { return strings.HasPrefix(s, "synced") })
		if got[0] != fmt.Sprintf("gap expired after %d", 100+n) || i != n+1 || got[i] != fmt.Sprintf("synced ~%d (%d net, 0 inferred) at %d", n, n, to) {
			t.Fatalf("got %q … %q", got[0], got[i])
		}
		check(t, got[i+1:], want...)
		if w := srv.Count(watchtest.Watches()); w != 3 {
			t.Errorf("%d watches were opened", w)
		}
		r.stop(t)
		audit(t, r.running, watchtest.Pods)
	})
}

// When more happens than there is room for, the rest is one more gap, with the sink for its reason; without a need for it (the
// API server remembers) there is none. Nothing is lost or written twice.
func TestWhatFindsNoRoomDuringARepairIsOneMoreGap(t *testing.T) {
	for name, forgets := range map[string]bool{"forgotten": true, "remembered": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				const n = 100
				r := slowly(t, srv, n, 32<<10)
				to := srv.RV()
				for i := range 300 {
					srv.Update(watchtest.Pods, pod(i%n), watchtest.Labels("n", fmt.Sprint(i)))
				}
				srv.Delete(watchtest.Pods, pod(1))
				pass(10 * time.Minute)
				if forgets {
					srv.Forget(srv.RV())
				}
				r.release()
				pass(2 * time.Minute)
				srv.Create(watchtest.Pods, "shop/last")
				pass(time.Second)
				r.stop(t)
				said := r.said("pods")[n+2:]
				if got, want := count(said, "gap "), map[bool]int{true: 2, false: 1}[forgets]; got != want {
					t.Errorf("%d gaps, want %d", got, want)
				}
				i := slices.IndexFunc(said, func(s string) bool { return strings.HasPrefix(s, "synced") })
				j := slices.IndexFunc(said, func(s string) bool { return strings.HasPrefix(s, "gap sink after ") })
				live := 0
				for _, ev := range r.of("pods")[n+2+i+1:] {
					if ev.Origin != event.Live {
						break
					}
					live++ // what had found room
				}
				if forgets && (j != i+1+live || live < 5 || live > 100) || !strings.HasSuffix(said[i], fmt.Sprintf(" at %d", to)) {
					t.Errorf("%d changes behind the first repair (%s), the second gap is %d behind", live, said[i], j-i)
				}
				if j >= 0 {
					if want := fmt.Sprintf("gap sink after %d", int(to)+live-1); said[j] != want && live > 0 { // one version may carry more
						t.Errorf("%s, want %s", said[j], want)
					}
				}
				audit(t, r.running, watchtest.Pods)
			})
		})
	}
}

// It need not be the sink that makes a repair slow for the buffer to be full.
func TestWhatFindsNoRoomDuringASlowReadIsAGapOfTheSink(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 8)
		r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.BufferBytes = 16 << 10 })
		pass(10 * time.Second)
		midway(t, srv, r, 5000, func() {
			for i := range 100 {
				srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", fmt.Sprint(i)))
			}
			pass(time.Second)
			srv.Forget(srv.RV())
		})
		r.stop(t)
		if said := r.said("pods"); count(said, "gap expired after 108") != 1 || count(said, "gap sink after ") != 1 || count(said, "gap ") != 2 {
			t.Errorf("got %q", said)
		}
		audit(t, r, watchtest.Pods)
	})
}

// The watch that is opened ahead takes no more of the buffer than half, so that the repair itself finds room; and gives it back.
func TestARepairFindsRoomBesideWhatIsKept(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		const n = 100
		r := slowly(t, srv, n, 32<<10)
		for range 3 { // were the room not given back, later repairs would have none
			for i := range 300 {
				srv.Update(watchtest.Pods, pod(i%n), watchtest.Labels("n", fmt.Sprint(i, srv.RV())))
			}
			pass(time.Minute)
			srv.Forget(srv.RV())
			r.release()
			pass(2 * time.Minute)
			stall := make(chan struct{})
			r.mu.Lock()
			r.stall = stall
			r.mu.Unlock()
			r.release = func() {
				r.mu.Lock()
				r.stall = nil
				r.mu.Unlock()
				close(stall)
			}
			unseen(srv, func() { srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", fmt.Sprint(srv.RV()))) })
			pass(10 * time.Second)
		}
		r.release()
		pass(2 * time.Minute)
		r.stop(t)
		audit(t, r.running, watchtest.Pods)
	})
}

// T23: a consumer that stalls for minutes costs nothing while the API server remembers, and else one honest gap.
func TestT23AStalledConsumerIsAGapOrNothing(t *testing.T) {
	for name, forgets := range map[string]bool{"forgotten": true, "remembered": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				sink := newMemory()
				sink.stall = make(chan struct{})
				r := start(t, srv, sink, []string{"pods"}, func(c *watch.Config) { c.BufferBytes = 4 << 10 })
				pass(time.Second)
				srv.LimitBacklog(100)
				for i := range 1000 {
					srv.Create(watchtest.Pods, pod(i))
					if i == 20 {
						pass(time.Second) // the buffer is full now
					}
				}
				srv.Delete(watchtest.Pods, pod(0))
				if forgets {
					srv.Compact(srv.RV())
				}
				pass(2 * time.Minute)
				close(sink.stall)
				pass(2 * time.Minute)
				r.stop(t)
				if got, want := count(r.said("pods"), "gap sink after "), map[bool]int{true: 1, false: 0}[forgets]; got != want || count(r.said("pods"), "gap ") != want {
					t.Errorf("%d gaps, want %d with the reason sink", count(r.said("pods"), "gap "), want)
				}
				audit(t, r, watchtest.Pods)
			})
		})
	}
}
