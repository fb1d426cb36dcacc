package watch_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"watcher/internal/event"
	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

var (
	worlds    = flag.Int("worlds", 100, "how many seeded worlds to simulate")
	befalls   = flag.Int("befalls", 20, "what befalls each of them")
	firstSeed = flag.Uint64("seed", 1, "the seed of the first world")
)

// TestWhateverHappensNothingIsLostOutsideAGapAndNothingRepeated simulates seeded worlds in which everything goes wrong
// that facts.md names, and holds what was written against the server's true history.
func TestWhateverHappensNothingIsLostOutsideAGapAndNothingRepeated(t *testing.T) {
	var mu sync.Mutex
	fired := map[string]int{}
	t.Run("worlds", func(t *testing.T) {
		for i := range *worlds {
			seed := *firstSeed + uint64(i)
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, seed)
					w.run()
					mu.Lock()
					defer mu.Unlock()
					for what, n := range w.fired {
						fired[what] += n
					}
				})
			})
		}
	})
	for _, what := range slices.Sorted(maps.Keys(fired)) {
		t.Logf("%-24s %6d", what, fired[what])
	}
	for _, what := range []string{
		"expired close", "expired frame", "expired gone", "expired status", "expired list",
		"close", "cut", "cut within", "stall", "error 500", "line", "respond 429", "status 500", "status 403", "cut body",
		"sink kept none", "sink kept some", "sink kept all", "sink stalled", "crash", "restart", "down", "gap", "resumed", "deleted together", "empty watch",
		"rewind", "gap of a rewind", "repeated", "filtered", "filtered in a repair", "left", "ambiguous", "stale", "crash in a repair", "rewind told again",
	} {
		if fired[what] < *worlds/20 {
			t.Errorf("%q happened %d times in %d worlds: it is not tested", what, fired[what], *worlds)
		}
	}
}

// A world is one server, one watcher and what befalls them.
type world struct {
	*running
	t    *testing.T
	seed uint64
	rand *rand.Rand
	srv  *watchtest.Server
	n    int // objects created

	selects bool        // watcher has a label selector
	only    event.Parts // its filter

	counting sync.Mutex
	fired    map[string]int
	rules    []*watchtest.Rule
	down     bool
	runs     []run
	rewinds  []rewind
	history  map[string][]watchtest.Change // by resource; all of it, in the end
}

// A run is one life of watcher.
type run struct {
	at      time.Time
	from    map[string]event.Checkpoint // that were durable
	rewinds int                         // that came before
}

// A rewind is an etcd restored from a backup.
type rewind struct {
	at time.Time
	rv uint64
}

var worldResources = []watchtest.Resource{watchtest.Pods, watchtest.Events, watchtest.Widgets}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 0)), srv: watchtest.New(t, worldResources...), fired: map[string]int{}}
	w.selects = w.rand.IntN(3) == 0
	w.only = []event.Parts{0, 0, event.Spec, event.Metadata | event.Status}[w.rand.IntN(4)]
	objects := 60
	if w.rand.IntN(20) == 0 {
		objects = 1500 // several pages
	}
	for range w.rand.IntN(objects) {
		w.change()
	}
	sink := newMemory()
	sink.every = []time.Duration{0, 0, 3 * time.Second, 2 * time.Minute}[w.rand.IntN(4)]
	w.start(sink)
	return w
}

func (w *world) start(sink *memory) {
	pass(time.Millisecond) // no process starts sooner after another: ids rest on it
	w.runs = append(w.runs, run{time.Now(), sink.saved.clone().held, len(w.rewinds)})
	w.running = start(w.t, w.srv, sink, []string{"pods", "events", "widgets"}, func(c *watch.Config) {
		c.Progress, c.BufferBytes, c.RepairBudget, c.Only = time.Minute, 64<<10, w.rand.IntN(100), w.only
		if w.selects {
			c.LabelSelector = "keep=yes"
		}
	})
}

// life is the run that wrote a stream event.
func (w *world) life(ev *event.Event) run {
	words := strings.Split(ev.ID, ".")
	id, _ := strconv.ParseInt(words[len(words)-2], 10, 64)
	for _, r := range slices.Backward(w.runs) {
		if r.at.UnixMilli() <= id {
			return r
		}
	}
	return run{}
}

func (w *world) run() {
	for range *befalls {
		w.befall()
		w.wait()
	}
	w.heal()
	pass(25 * time.Minute) // until the last silent connection was given up
	for _, res := range worldResources {
		w.srv.Create(res, "shop/last", w.by())
	}
	pass(10 * time.Minute)
	w.stop(w.t)
	w.history = map[string][]watchtest.Change{}
	for _, res := range worldResources {
		w.history[res.Name] = w.srv.History(res)
	}
	expiries := 0
	for what, n := range w.srv.Fired() {
		w.fired[what] += n
		if strings.HasPrefix(what, "expired") {
			expiries += n
		}
	}
	for _, q := range w.srv.Requests(watchtest.Watches()) {
		if q.Code == 200 && q.Frames == 0 && q.Done {
			w.count("empty watch")
		}
	}
	for _, res := range worldResources {
		w.judge(res)
	}
	w.verified()
	if gaps, lines := w.fired["gap"], w.fired["line"]; gaps > expiries+lines/2+w.fired["crash in a repair"]+3*len(w.rewinds)+w.fired["rewind told again"] {
		w.t.Errorf("%d gaps, but the server forgot something only %d times, and sent %d lines of garbage", gaps, expiries, lines)
	}
	if w.t.Failed() {
		w.t.Logf("seed %d", w.seed)
	}
}

// count is called from the sink as well.
func (w *world) count(what string) {
	w.counting.Lock()
	defer w.counting.Unlock()
	w.fired[what]++
}

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

// rewind restores etcd while watcher runs.
func (w *world) rewind() {
	w.heal()
	pass(4 * time.Minute)
	if !w.restore() {
		return
	}
	for range w.rand.IntN(80) {
		w.change()
	}
	w.noticed()
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
