package watch_test

import (
	"testing"
	"time"

	"watcher/internal/watch/watchtest"
)

// midSnapshot runs watcher until the second page of its first list, of 700 objects, is under way, lets etcd be restored then,
// and goes on. It must be noticed, once.
func midSnapshot(t *testing.T, srv *watchtest.Server, restore, after func()) *running {
	t.Helper()
	many(srv, 700)                                                    // 101..800
	srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", "lost")) // 801
	second := srv.On(watchtest.Lists().After(1).When(func(q *watchtest.Request) bool { return q.Query.Get("continue") != "" }), watchtest.Delay(20*time.Second))
	r := start(t, srv, newMemory(), []string{"pods"})
	pass(5 * time.Second)
	if second.Fired() == 0 {
		t.Fatal("no second page")
	}
	restore()
	second.Off()
	after()
	pass(10 * time.Minute)
	r.stop(t)
	if said := r.said("pods"); count(said, "gap rewind") != 1 {
		t.Errorf("got %q", said)
	}
	return r
}

// The restore takes ten minutes, as they do.
func TestT22ARestoreThatTakesLongInTheMiddleOfASnapshotIsNoticed(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		midSnapshot(t, srv, func() { srv.Down(); srv.Rewind(750) }, func() {
			pass(20 * time.Minute)
			srv.Up()
		})
	})
}

// Nothing is left.
func TestT22ARestoreToNothingInTheMiddleOfASnapshotIsNoticed(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		midSnapshot(t, srv, func() { srv.Rewind(100) }, func() {
			pass(10 * time.Minute)
			srv.Create(watchtest.Pods, pod(0))
		})
	})
}

// The same version is given to another state, which has another id.
func TestT22ARewindInTheMiddleOfASnapshotIsNoticed(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		r := midSnapshot(t, srv, func() { srv.Rewind(750) }, func() {
			pass(10 * time.Minute)
			for srv.RV() < 800 {
				srv.Advance(1)
			}
			srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", "other")) // 801 again
		})
		seen := map[string]string{}
		for _, ev := range r.of("pods") {
			if !ev.Type.OfObject() {
				continue
			}
			id, body := string(ev.AppendID(nil)), string(ev.Object.Body)
			if was, ok := seen[id]; ok && was != body {
				t.Errorf("%s is the id of\n%s\nand of\n%s", id, was, body)
			}
			seen[id] = body
		}
	})
}
