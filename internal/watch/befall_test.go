package watch_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"watcher/internal/event"
	"watcher/internal/watch/watchtest"
)

func (w *world) wait() {
	switch w.rand.IntN(6) {
	case 0:
	case 1:
		pass(time.Duration(w.rand.IntN(int(5 * time.Minute))))
	default:
		pass(time.Duration(w.rand.IntN(int(3 * time.Second))))
	}
}

func (w *world) resource() watchtest.Resource {
	return worldResources[w.rand.IntN(len(worldResources))]
}

// change does one of the things that happen to objects.
func (w *world) change() {
	res := w.resource()
	live := w.srv.StateAt(res, w.srv.RV())
	if len(live) == 0 || w.rand.IntN(3) == 0 {
		w.n++
		w.srv.Create(res, fmt.Sprintf("ns%d/o%d", w.rand.IntN(3), w.n), watchtest.Labels("n", strconv.Itoa(w.n), "keep", w.keep()), w.by())
		return
	}
	o := live[w.rand.IntN(len(live))]
	key := o.Namespace + "/" + o.Name
	switch w.rand.IntN(8) {
	case 0:
		w.srv.Delete(res, key)
	case 1:
		w.srv.Delete(res, key)
		w.srv.Create(res, key, watchtest.Labels("again", "yes", "keep", w.keep(), "n", strconv.Itoa(w.n)), w.by())
	case 2:
		var keys []string
		for _, o := range live[:min(len(live), 1+w.rand.IntN(12))] {
			keys = append(keys, o.Namespace+"/"+o.Name)
		}
		w.srv.DeleteTogether(res, keys...)
		w.count("deleted together")
	case 3:
		w.n++ // so that no two epochs have the same state at the same version: nobody could tell them apart
		w.srv.Update(res, key, watchtest.Labels("keep", w.keep(), "n", strconv.Itoa(w.n)), w.by())
	case 4:
		w.n++
		w.srv.Update(res, key, watchtest.Spec(fmt.Sprintf(`{"n":%d}`, w.n)), w.by())
	default:
		w.n++
		w.srv.Update(res, key, watchtest.Labels("n", strconv.Itoa(w.n)), watchtest.Raw("status", fmt.Sprintf(`{"pad":%q}`, strings.Repeat("x", w.rand.IntN(2000)))), w.by())
	}
}

func (w *world) keep() string { return []string{"yes", "yes", "no"}[w.rand.IntN(3)] }

// by says who writes, which tells two states of one version apart in two epochs.
func (w *world) by() watchtest.Edit {
	w.n++
	return watchtest.Meta("managedFields", fmt.Sprintf(`[{"manager":"m%d","operation":"Update","time":%q}]`, w.n, time.Now().UTC().Format(time.RFC3339)))
}

// befall lets something happen, most often a burst of changes.
func (w *world) befall() {
	res := w.resource()
	switch w.rand.IntN(28) {
	case 0:
		w.srv.CloseWatches(res)
	case 1:
		w.srv.CutWatches(res)
	case 2:
		w.srv.CutWatchesWithin(1+w.rand.IntN(200), res)
	case 3:
		w.srv.StallWatches(res)
	case 4:
		w.srv.SendError(res, &metav1.Status{Status: "Failure", Code: 500, Reason: metav1.StatusReasonInternalError, Message: "the cache is broken"})
	case 5:
		w.srv.SendLine(res, []string{"<html>502 Bad Gateway</html>", `{"type":"ADDED","object":{"metadata":{`, `{"type":"WEIRD","object":{}}`, "\x00\xff"}[w.rand.IntN(4)])
	case 6:
		w.srv.Compact(w.srv.RV())
	case 7:
		w.srv.Forget(w.srv.RV(), res)
	case 8:
		w.srv.Restart()
		w.count("restart")
	case 9:
		if w.down = !w.down; w.down {
			w.srv.Down()
			w.count("down")
		} else {
			w.srv.Up()
		}
	case 10:
		w.rule(watchtest.Lists().Times(1+w.rand.IntN(4)), watchtest.Fail(500, metav1.StatusReasonInternalError, "etcd is on fire"))
	case 11:
		w.rule(watchtest.Any().Times(1+w.rand.IntN(4)), watchtest.Respond(429, "text/plain", "slow down"), watchtest.RetryAfter(time.Duration(w.rand.IntN(20))*time.Second))
	case 12:
		w.rule(watchtest.Lists().Times(1+w.rand.IntN(3)), watchtest.CutBody(w.rand.IntN(20_000)))
	case 13:
		w.rule(watchtest.Watches().Times(1+w.rand.IntN(4)), watchtest.CloseAfter(w.rand.IntN(3)))
	case 14:
		w.rule(watchtest.Watches(res).Times(1+w.rand.IntN(3)), watchtest.Forbidden())
	case 15, 22:
		if !res.Uncached { // it closes its watches, always
			w.srv.ExpireAs([]watchtest.Face{watchtest.FaceFrame, watchtest.FaceGone, watchtest.FaceStatus}[w.rand.IntN(3)], res)
		}
	case 16:
		w.failSink()
	case 17:
		w.stallSink()
	case 18:
		w.crash()
	case 19:
		w.srv.Advance(uint64(w.rand.IntN(50)))
		w.srv.Bookmark(res)
	case 20:
		w.rewind()
	case 21: // somebody restarts the API server when nothing is remembered of what is still to be read
		w.srv.Compact(w.srv.RV())
		w.srv.Restart()
	default:
		for range 1 + w.rand.IntN(40) {
			w.change()
		}
	}
}

func (w *world) rule(m watchtest.Match, faults ...watchtest.Fault) {
	w.rules = append(w.rules, w.srv.On(m, faults...))
}

// failSink lets the sink fail a few times, whatever it keeps.
func (w *world) failSink() {
	left, keeps := 1+w.rand.IntN(3), w.rand.IntN(3)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = func(b event.Batch) (int, error) {
		if left--; left < 0 {
			return len(b.Events), nil
		}
		switch keeps {
		case 0:
			w.count("sink kept none")
			return 0, errSink
		case 1:
			w.count("sink kept some")
			return len(b.Events) / 2, errSink
		default:
			w.count("sink kept all")
			return len(b.Events), errSink
		}
	}
}

func (w *world) stallSink() {
	stall := make(chan struct{})
	w.mu.Lock()
	w.stall = stall
	w.mu.Unlock()
	w.count("sink stalled")
	for range w.rand.IntN(200) {
		w.change()
	}
	pass(time.Duration(w.rand.IntN(int(4 * time.Minute))))
	w.mu.Lock()
	w.stall = nil
	w.mu.Unlock()
	close(stall)
}

// crash kills watcher at some event, and starts it again on what was durable.
func (w *world) crash() {
	var dead atomic.Bool
	left, midRepair := w.rand.IntN(40), w.rand.IntN(2) == 0
	if midRepair {
		left = w.rand.IntN(12)
	}
	w.mu.Lock()
	old := w.fault
	w.fault = func(b event.Batch) (int, error) {
		if left < len(b.Events) {
			dead.Store(true)
			n := left
			left = 0
			return n, event.ErrClosed
		}
		if old != nil {
			return old(b)
		}
		left -= len(b.Events)
		return len(b.Events), nil
	}
	w.mu.Unlock()
	if midRepair {
		for range w.rand.IntN(40) {
			w.change()
		}
		w.srv.Compact(w.srv.RV())
		w.srv.Restart()
	}
	for i := 0; !dead.Load() && i < 4; i++ {
		for range w.rand.IntN(20) {
			w.change()
		}
		pass(time.Duration(w.rand.IntN(int(40 * time.Second))))
	}
	sink := w.kill()
	for _, c := range sink.saved.held {
		if c.Healing != "" {
			w.count("crash in a repair")
		}
	}
	if w.rand.IntN(2) == 0 {
		pass(time.Duration(w.rand.IntN(int(10 * time.Minute))))
	}
	for range w.rand.IntN(20) {
		w.change()
	}
	restored := w.rand.IntN(8) == 0 && w.restore()
	if restored {
		w.heal()
	}
	w.count("crash")
	w.start(sink)
	if restored {
		w.noticed()
	}
}

// kill ends watcher at once, and returns its sink with what was durable.
func (w *world) kill() *memory {
	w.cancel()
	w.mu.Lock()
	w.fault = func(event.Batch) (int, error) { return 0, event.ErrClosed }
	w.mu.Unlock()
	if err := <-w.done; err != nil && !errors.Is(err, event.ErrClosed) {
		w.t.Errorf("run: %v", err)
	}
	synctest.Wait()
	w.memory.fault = nil
	w.memory.crash()
	return w.memory
}

// noticed gives watcher time to notice that etcd was restored, and its sink to save that: once etcd has forgotten the
// witness, nobody could. It may die before it has saved it.
func (w *world) noticed() {
	if w.rand.IntN(2) == 0 {
		pass(time.Duration(w.rand.IntN(int(5 * time.Second))))
		w.start(w.kill())
	}
	pass(6 * time.Minute)
}

// restore takes the server back to before what every stream has seen of it: of less nobody could tell.
func (w *world) restore() bool {
	synctest.Wait()
	w.mu.Lock()
	low := w.srv.RV()
	for _, k := range []kept{w.written, w.saved} {
		for range len(worldResources) - len(k.held) {
			low = 0
		}
		for _, c := range k.held {
			if c.Healing != "" {
				low = 0
			}
			low = min(low, version(c.Witness.ResourceVersion))
		}
	}
	w.mu.Unlock()
	low -= min(low, 1+uint64(w.rand.IntN(30)))
	if low <= 100 {
		return false
	}
	if w.down {
		w.srv.Up()
		w.down = false
	}
	w.srv.Rewind(low)
	w.rewinds = append(w.rewinds, rewind{time.Now(), low})
	w.count("rewind")
	for range w.rand.IntN(80) {
		w.change()
	}
	return true
}

func (w *world) heal() {
	w.srv.Up()
	w.down = false
	for _, r := range w.rules {
		r.Off()
	}
	w.mu.Lock()
	w.fault = nil
	w.mu.Unlock()
}
