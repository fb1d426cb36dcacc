package watch_test

import (
	"bytes"
	"encoding/json"
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
	worlds    = flag.Int("worlds", 150, "how many seeded worlds to simulate")
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
	} {
		if fired[what] < *worlds/6 {
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

	counting sync.Mutex
	fired    map[string]int
	rules    []*watchtest.Rule
	down     bool
}

var worldResources = []watchtest.Resource{watchtest.Pods, watchtest.Events, watchtest.Widgets}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 0)), srv: watchtest.New(t, worldResources...), fired: map[string]int{}}
	for range w.rand.IntN(1200) {
		w.change()
	}
	w.start(newMemory())
	return w
}

func (w *world) start(sink *memory) {
	w.running = start(w.t, w.srv, sink, []string{"pods", "events", "widgets"}, func(c *watch.Config) {
		c.Progress, c.BufferBytes = time.Minute, 64<<10
	})
}

func (w *world) run() {
	for range 60 {
		w.befall()
		w.wait()
	}
	w.heal()
	pass(25 * time.Minute) // until the last silent connection was given up
	for _, res := range worldResources {
		w.srv.Create(res, "shop/last")
	}
	pass(10 * time.Minute)
	w.stop(w.t)
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
	if gaps, lines := w.fired["gap"], w.fired["line"]; gaps > expiries+lines/2 {
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
		w.srv.Create(res, fmt.Sprintf("ns%d/o%d", w.rand.IntN(3), w.n), watchtest.Labels("n", strconv.Itoa(w.n)))
		return
	}
	o := live[w.rand.IntN(len(live))]
	key := o.Namespace + "/" + o.Name
	switch w.rand.IntN(8) {
	case 0:
		w.srv.Delete(res, key)
	case 1:
		w.srv.Delete(res, key)
		w.srv.Create(res, key, watchtest.Labels("again", "yes"))
	case 2:
		var keys []string
		for _, o := range live[:min(len(live), 1+w.rand.IntN(12))] {
			keys = append(keys, o.Namespace+"/"+o.Name)
		}
		w.srv.DeleteTogether(res, keys...)
		w.count("deleted together")
	default:
		w.n++
		w.srv.Update(res, key, watchtest.Labels("n", strconv.Itoa(w.n)), watchtest.Raw("status", fmt.Sprintf(`{"pad":%q}`, strings.Repeat("x", w.rand.IntN(2000)))))
	}
}

// befall lets something happen, most often a burst of changes.
func (w *world) befall() {
	res := w.resource()
	switch w.rand.IntN(24) {
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
	case 15:
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

// crash ends watcher as a kill does, between two commits, and starts it again on what the sink holds.
func (w *world) crash() {
	pass(2 * time.Minute) // let the sink recover from what it was told to fail: a state is what this crash leaves
	var dead atomic.Bool
	w.mu.Lock()
	w.fault = func(event.Batch) (int, error) { dead.Store(true); return 0, event.ErrClosed }
	w.mu.Unlock()
	for i := 0; !dead.Load() && i < 5; i++ {
		w.change()
		pass(20 * time.Second)
	}
	w.cancel()
	if err := <-w.done; err != nil && !errors.Is(err, event.ErrClosed) {
		w.t.Errorf("run: %v", err)
	}
	synctest.Wait()
	sink := w.memory
	sink.fault = nil
	if w.rand.IntN(2) == 0 {
		pass(time.Duration(w.rand.IntN(int(10 * time.Minute))))
	}
	for range w.rand.IntN(20) {
		w.change()
	}
	w.count("crash")
	w.start(sink)
}

func (w *world) heal() {
	w.srv.Up()
	for _, r := range w.rules {
		r.Off()
	}
	w.mu.Lock()
	w.fault = nil
	w.mu.Unlock()
}

// judge holds what was written of a resource against what happened to it.
func (w *world) judge(res watchtest.Resource) {
	j := &judge{world: w, res: res, history: w.srv.History(res)}
	for _, ev := range w.of(res.Name) {
		j.read(ev)
		if w.t.Failed() {
			all := w.said(res.Name)
			i := slices.Index(w.of(res.Name), ev)
			w.t.Logf("%s", strings.Join(all[max(0, i-40):i+1], "\n"))
			return
		}
	}
	if j.next < len(j.history) {
		w.t.Errorf("%s: never written: %s@%d", res.Name, j.history[j.next].Name, j.history[j.next].RV)
	}
}

// A judge reads the events of one stream in order.
type judge struct {
	*world
	res     watchtest.Resource
	history []watchtest.Change
	next    int    // the first change that is neither written nor enclosed by a gap
	seq     uint64 // of the last object event
	from    uint64 // while a snapshot or repair is under way: what it covers begins here
	listing bool
	listed  map[string]uint64 // uid → version, since listing began
	gap     string
}

func (j *judge) fail(ev *event.Event, format string, args ...any) {
	j.t.Helper()
	j.t.Errorf("%s: %s: %s", j.res.Name, short(ev), fmt.Sprintf(format, args...))
}

func version(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64) // "" is 0: no position yet
	return n
}

// covered is whether everything up to rv is written.
func (j *judge) covered(rv uint64) bool {
	return j.next >= len(j.history) || j.history[j.next].RV > rv
}

func (j *judge) read(ev *event.Event) {
	j.t.Helper()
	if ev.Type.OfObject() {
		if j.seq++; ev.Seq != j.seq {
			j.fail(ev, "seq is %d, want %d", ev.Seq, j.seq)
		}
	}
	switch d := ev.Data.(type) {
	case event.StartedData:
		j.started(ev, d)
	case event.GapData:
		j.count("gap")
		// A snapshot that has to begin again says so; else a gap comes out of the middle of what is covered.
		if again := j.listing && j.gap == ""; !again && (j.listing || !j.covered(version(d.From))) {
			j.fail(ev, "what came up to there is not written")
		}
		j.listing, j.listed, j.gap, j.from = true, map[string]uint64{}, ev.ID, version(d.From)
	case event.SyncedData:
		j.synced(ev, d)
	case event.ProgressData:
		if !j.listing && !j.covered(version(d.ResourceVersion)) {
			j.fail(ev, "%d is not written", j.history[j.next].RV)
		}
		if d.Seq != j.seq {
			j.fail(ev, "seq is %d, want %d", d.Seq, j.seq)
		}
	case event.StoppedData:
		if !j.listing && !j.covered(version(d.ResourceVersion)) {
			j.fail(ev, "%d is not written", j.history[j.next].RV)
		}
	default:
		if ev.Origin == event.Live {
			j.live(ev)
		} else {
			j.present(ev)
		}
	}
}

// started begins anew, or goes on without a gap; a repair that a crash cut short is begun again.
func (j *judge) started(ev *event.Event, d event.StartedData) {
	if d.Resumed {
		j.count("resumed")
		if !j.covered(version(d.ResourceVersion)) && !j.listing {
			j.fail(ev, "resumed past what is written")
		}
		j.listing = false
		return
	}
	j.listing, j.listed, j.gap, j.from = true, map[string]uint64{}, "", 0
}

// present is a state that existed at some time since the listing's beginning.
func (j *judge) present(ev *event.Event) {
	if !j.listing || ev.Gap != j.gap || (j.gap != "") != (ev.Origin == event.Repair) {
		j.fail(ev, "origin %s, gap %q, want gap %q (listing: %v)", ev.Origin, ev.Gap, j.gap, j.listing)
	}
	j.listed[ev.Object.UID] = version(ev.Object.ResourceVersion)
	for _, c := range j.history {
		if c.UID == ev.Object.UID && c.RV == version(ev.Object.ResourceVersion) && c.Type != "DELETED" {
			j.same(ev, c)
			return
		}
	}
	j.fail(ev, "there was no such state")
}

// synced is complete: every object that existed at its version was listed in that state, or in an earlier pass.
func (j *judge) synced(ev *event.Event, d event.SyncedData) {
	rv := version(d.ResourceVersion)
	for _, o := range j.srv.StateAt(j.res, rv) {
		if j.listed[o.UID] != o.RV {
			j.fail(ev, "%s@%d existed and was not listed (%d)", o.Name, o.RV, j.listed[o.UID])
		}
	}
	if (d.Deletions == "unknown") != (j.gap != "") {
		j.fail(ev, "deletions are %q", d.Deletions)
	}
	for !j.covered(rv) {
		j.next++
	}
	j.listing = false
}

// live is the very next change.
func (j *judge) live(ev *event.Event) {
	if j.listing {
		j.fail(ev, "live in the middle of a listing")
	}
	rv := version(ev.Object.ResourceVersion)
	// Changes of one version have no order among them.
	i := slices.IndexFunc(j.history[j.next:], func(c watchtest.Change) bool { return c.RV == rv && c.UID == ev.Object.UID })
	if i < 0 {
		j.fail(ev, "it was written before, or never happened")
		return
	}
	c := j.history[j.next+i]
	if j.history[j.next].RV != rv {
		j.fail(ev, "before it %s@%d is missing", j.history[j.next].Name, j.history[j.next].RV)
	}
	want := map[string]event.Type{"ADDED": event.Added, "MODIFIED": event.Modified, "DELETED": event.Deleted}[c.Type]
	if ev.Type != want {
		j.fail(ev, "it was %s", c.Type)
	}
	j.same(ev, c)
	j.history = slices.Insert(slices.Delete(j.history, j.next+i, j.next+i+1), j.next, c)
	j.next++
}

// same says whether an event carries the object's own bytes, but for managedFields and, in lists, order.
func (j *judge) same(ev *event.Event, c watchtest.Change) {
	var got, want map[string]any
	for dst, src := range map[*map[string]any][]byte{&got: ev.Object.Body, &want: c.JSON} {
		dec := json.NewDecoder(bytes.NewReader(src))
		dec.UseNumber()
		if err := dec.Decode(dst); err != nil {
			j.fail(ev, "%v: %s", err, src)
			return
		}
	}
	if m, ok := want["metadata"].(map[string]any); ok {
		delete(m, "managedFields")
	}
	a, _ := json.Marshal(got) // decoded a moment ago
	b, _ := json.Marshal(want)
	if !bytes.Equal(a, b) {
		j.fail(ev, "got %s, want %s", a, b)
	}
}
