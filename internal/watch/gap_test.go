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

// A rewind that is noticed by a snapshot that is begun again.
func TestAGapDoesNotSayATimeThatIsNotKnown(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 700)
		hang := srv.On(watchtest.Lists().After(1).When(func(q *watchtest.Request) bool { return q.Query.Get("continue") != "" }), watchtest.Hang())
		sink := newMemory()
		r := start(t, srv, sink, []string{"pods"})
		pass(5 * time.Second)
		r.stop(t)
		hang.Off()
		srv.Rewind(150)
		r = start(t, srv, sink, []string{"pods"})
		pass(10 * time.Second)
		r.stop(t)
		for _, ev := range r.of("pods") {
			if d, ok := ev.Data.(event.GapData); ok && strings.Contains(string(ev.AppendLine(nil, 0)), "0001-01-01") && d.Reason != "" {
				t.Errorf("%s: %s", short(ev), ev.AppendLine(nil, 0))
			}
		}
	})
}

// A bookmark that lay about while the sink took nothing.
func TestAGapBeginsBeforeWhatWasMissedAlsoBehindALateBookmark(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 1)
		sink := newMemory()
		r := start(t, srv, sink, []string{"pods"}, func(c *watch.Config) { c.BufferBytes = 1 })
		pass(time.Second)
		stall := make(chan struct{})
		sink.mu.Lock()
		sink.stall = stall
		sink.mu.Unlock()
		for i := range 3 {
			srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", fmt.Sprint(i)))
			pass(time.Second)
		}
		srv.Bookmark() // 104
		pass(time.Second)
		srv.StallWatches() // the server gave it up
		pass(time.Minute)
		missed := time.Now()
		srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", "missed")) // 105
		pass(time.Minute)
		srv.Forget(srv.RV())
		sink.mu.Lock()
		sink.stall = nil
		sink.mu.Unlock()
		close(stall)
		pass(time.Second)
		srv.CloseWatches()
		pass(time.Minute)
		r.stop(t)
		t.Logf("%q", r.said("pods"))
		for _, ev := range r.of("pods") {
			if d, ok := ev.Data.(event.GapData); ok && d.FromTime.After(missed) {
				t.Errorf("the change of %v was missed, and the gap begins at %v", missed, d.FromTime)
			}
		}
	})
}

// A frame that cannot be decoded is a gap at the second time also if good frames came before it.
func TestGarbageBehindALiveFrameIsAGap(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a")
		srv.On(watchtest.Watches().Times(2), watchtest.LineAfter(1, "<html>502</html>"))
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Second)
		srv.Create(watchtest.Pods, "shop/b")
		pass(2 * time.Second)
		srv.Create(watchtest.Pods, "shop/c")
		pass(5 * time.Minute)
		r.stop(t)
		check(t, r.said("pods")[:7], "started at 101", "present shop/a@101", "synced 1 at 101", "added shop/b@102",
			"gap decode after 101", "added shop/c@103", "synced +1 (1 net, 0 inferred) at 103")
	})
}

// etcd may have forgotten what the watch cache still knows: no gap until a watch has failed.
func TestALISTAloneDecidesNoGap(t *testing.T) {
	for seed := range 20 {
		bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
			srv.Create(watchtest.Pods, "shop/a")
			r := start(t, srv, newMemory(), []string{"pods"})
			pass(time.Second)
			rule := srv.On(watchtest.Any(), watchtest.Reset())
			srv.CutWatches()
			pass(10*time.Minute + time.Duration(seed)*5*time.Second)
			srv.Create(watchtest.Pods, "shop/b")
			srv.Create(watchtest.Pods, "shop/c")
			srv.CompactStore(srv.RV())
			rule.Off()
			pass(time.Minute)
			r.stop(t)
			check(t, r.said("pods")[3:5], "added shop/b@102", "added shop/c@103")
		})
	}
}

// A gap begins before the changes that it encloses, also if the API server told an old one of them late.
func TestAGapBeginsBeforeWhatItEncloses(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a")
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Second)
		srv.Down()
		pass(10 * time.Minute)
		changed := time.Now()
		for i := range 5 {
			srv.Create(watchtest.Pods, fmt.Sprintf("shop/n%d", i))
		}
		srv.On(watchtest.Watches().Times(1), watchtest.CutAfter(1))
		pass(5 * time.Minute)
		srv.Up()
		for r.srv.Count(watchtest.Watches()) < 2 {
			pass(100 * time.Millisecond)
		}
		srv.Forget(srv.RV())
		pass(2 * time.Minute)
		r.stop(t)
		i := slices.IndexFunc(r.of("pods"), func(ev *event.Event) bool { return ev.Type == event.Gap })
		if i < 0 {
			t.Fatalf("no gap: %q", r.said("pods"))
		}
		if d := r.of("pods")[i].Data.(event.GapData); d.FromTime.After(changed) {
			t.Errorf("the gap begins %v after the first change in it", d.FromTime.Sub(changed))
		}
	})
}
