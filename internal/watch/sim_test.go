package watch_test

import (
	"flag"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
	if w.rand.IntN(4) == 0 {
		w.srv.OnlyJSON()
	}
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
