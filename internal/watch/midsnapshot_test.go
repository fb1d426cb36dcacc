package watch_test

import (
	"testing"
	"time"

	"watcher/internal/watch/watchtest"
)

// The restore takes ten minutes, as they do.
func TestT22ARestoreThatTakesLongInTheMiddleOfASnapshotIsNoticed(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 700)                                                    // 101..800
		srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", "lost")) // 801
		second := srv.On(watchtest.Lists().After(1).When(func(q *watchtest.Request) bool { return q.Query.Get("continue") != "" }), watchtest.Delay(20*time.Second))
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(5 * time.Second)
		if second.Fired() == 0 {
			t.Fatal("no second page")
		}
		srv.Down()
		srv.Rewind(750)
		second.Off()
		pass(20 * time.Minute)
		srv.Up()
		pass(10 * time.Minute)
		r.stop(t)
		said := r.said("pods")
		if count(said, "gap rewind") != 1 {
			for _, ev := range r.of("pods") {
				if !ev.Type.OfObject() {
					t.Log(short(ev), ev.Epoch)
				}
			}
			t.Error("the rewind went unnoticed")
		}
	})
}

// Nothing is left.
func TestT22ARestoreToNothingInTheMiddleOfASnapshotIsNoticed(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 700)
		second := srv.On(watchtest.Lists().After(1).When(func(q *watchtest.Request) bool { return q.Query.Get("continue") != "" }), watchtest.Delay(20*time.Second))
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(5 * time.Second)
		srv.Rewind(100)
		second.Off()
		pass(10 * time.Minute)
		srv.Create(watchtest.Pods, pod(0))
		pass(time.Minute)
		r.stop(t)
		if said := r.said("pods"); count(said, "gap rewind") != 1 {
			for _, ev := range r.of("pods") {
				if !ev.Type.OfObject() {
					t.Log(short(ev), ev.Epoch)
				}
			}
			t.Error("the rewind went unnoticed")
		}
	})
}
