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
