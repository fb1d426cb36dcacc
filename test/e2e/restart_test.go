package e2e

import (
	"encoding/json"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"watcher/test/cluster"
)

func TestRestartOfTheAPIServerCostsNoChangeThatIsNotInAGap(t *testing.T) {
	t.Parallel()
	c := ownCluster(t, cluster.Options{})
	evs := restartUnderChanges(t, c, 2)
	for _, gap := range pick(evs, only("gap")) {
		if gap.Data.Reason != "expired" {
			t.Errorf("%s has the reason %s", gap.ID, gap.Data.Reason)
		}
	}
	// The watch cache of a restarted API server remembers nothing: if no restart cost anything, this test tests nothing.
	if count(evs, only("gap")) == 0 {
		t.Error("no gap")
	}
}

func TestRestartOfTheAPIServerCostsNothingIfThePositionCanBeResumed(t *testing.T) {
	t.Parallel()
	c := ownCluster(t, cluster.Options{NoWatchCache: true}) // etcd remembers
	if n := count(restartUnderChanges(t, c, 2), only("gap")); n > 0 {
		t.Errorf("%d gaps, want none", n)
	}
}

// restartUnderChanges kills the API server and starts it again under a stream of changes, as often, and returns what
// watcher made of it.
func restartUnderChanges(t *testing.T, c *cluster.Cluster, times int) []event {
	t.Helper()
	a := connect(t, c.Config())
	a.namespace(t, "changes")
	w := watch(t, c.Kubeconfig(), "-n", "changes", "configmaps")
	w.synced(t, 1)
	h := newHistory(a, "changes")
	stop := background(t, h.run)
	for range times {
		from := len(h.soFar())
		more := func() bool { return len(h.soFar()) >= from+100 }
		eventually(t, patience, "changes happen", more)
		w.wait(t, patience, "watcher has caught up", func(evs []event) bool { return count(evs, (*event).live) > 0 && written(evs, h.soFar()[from:]) })
		if err := c.KillAPIServer(); err != nil {
			t.Fatal(err)
		}
		if err := c.StartAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	from := len(h.soFar())
	eventually(t, patience, "changes happen", func() bool { return len(h.soFar()) >= from+100 })
	w.wait(t, patience, "watcher reads again", func(evs []event) bool { return written(evs, h.soFar()[from:]) })
	stop()
	w.wait(t, patience, "the last change", h.wrote)
	evs := w.stop(t)
	h.account(t, evs)
	return evs
}

// written reports whether any of the changes is written.
func written(evs []event, changes []change) bool {
	ids := map[string]bool{}
	for _, c := range changes {
		ids[c.id] = true
	}
	return count(evs, func(ev *event) bool { return ids[ev.ID] }) > 0
}

func TestAWatchThatIsCutCostsNothingWhereverItIsCut(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	a := connect(t, c.Config())
	a.namespace(t, "cuts")
	var mu sync.Mutex
	cuts, frames := 0, 0
	where := rand.New(rand.NewPCG(1, 1))
	p := newProxy(t, "", c.Config(), func(_ string, frame []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		if frames++; frames%40 != 0 || cuts == 5 {
			return 0, nil
		}
		cuts++
		return where.IntN(len(frame)), []error{io.EOF, io.ErrUnexpectedEOF}[cuts%2]
	})
	w := watch(t, p.kubeconfig(t), "-n", "cuts", "configmaps")
	w.synced(t, 1)
	h := newHistory(a, "cuts")
	stop := background(t, h.run)
	eventually(t, aMinute, "all cuts", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return cuts == 5
	})
	stop()
	w.wait(t, aMinute, "the last change", h.wrote)
	evs := w.stop(t)
	h.account(t, evs)
	if n := count(evs, only("gap")); n > 0 {
		t.Errorf("%d gaps, want none: the API server remembers", n)
	}
}

// An outage is what watcher makes of more than a minute without an API server, in which etcd has forgotten the position.
type outage struct {
	proxy     *proxy
	from, to  time.Time
	forgotten uint64 // etcd knows nothing older
	said      []string
	history   *history
	events    []event
}

// outagePaths are what watcher reads meanwhile.
var outagePaths = map[string]string{"configmaps": "/api/v1/namespaces/outage/configmaps", "services": "/api/v1/namespaces/outage/services"}

func TestOutage(t *testing.T) {
	t.Parallel()
	o := suffer(t)
	t.Run("IsNoReasonForMoreThanTwelveRequestsAMinute", o.waits)
	t.Run("IsSaidOnce", o.isSaidOnce)
	t.Run("IsAGapIfEtcdForgotThePosition", o.isAGap)
	t.Run("IsRepairedAtOnce", o.isRepairedAtOnce)
}

func suffer(t *testing.T) *outage {
	t.Helper()
	c := ownCluster(t, cluster.Options{})
	a := connect(t, c.Config())
	a.namespace(t, "outage")
	o := &outage{proxy: newProxy(t, "", c.Config(), nil), history: newHistory(a, "outage")}
	w := watch(t, o.proxy.kubeconfig(t), "-n", "outage", "configmaps", "services")
	w.synced(t, len(outagePaths))
	o.change(t, w, 50)
	o.proxy.goDown()
	o.from = time.Now()
	o.change(t, nil, 50) // unseen
	if err := c.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	forgotten, err := c.Compact(t.Context())
	o.forgotten = uint64(must(t, forgotten, err))
	w.stays(t, time.Until(o.from.Add(time.Minute+time.Second)))
	if err := c.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.said = w.said()
	o.to = time.Now()
	o.proxy.comeUp()
	w.wait(t, aMinute, "both repaired", func(evs []event) bool { return count(evs, only("synced")) == 2*len(outagePaths) })
	o.change(t, w, 50)
	o.events = w.stop(t)
	return o
}

// change makes n changes, and if w is given waits until they are written.
func (o *outage) change(t *testing.T, w *process, n int) {
	t.Helper()
	for range n {
		if err := o.history.next(); err != nil {
			t.Fatal(err)
		}
	}
	if w != nil {
		w.wait(t, patience, "the changes", o.history.wrote)
	}
}

func (o *outage) waits(t *testing.T) {
	for _, path := range outagePaths {
		tries := slices.DeleteFunc(o.proxy.asked(path), func(at time.Time) bool { return at.Before(o.from) || at.After(o.from.Add(time.Minute)) })
		t.Logf("%d requests for %s in the first minute", len(tries), path)
		if n := len(tries); n > 12 || n < 4 { // few are no way to find the end of it
			t.Errorf("%d requests for %s in the first minute, want 4 to 12", n, path)
		}
	}
}

// isSaidOnce: client-go takes an API server that hangs up for a watch that ends at once, which is neither the clear line
// that an outage deserves nor one to say beside it.
func (o *outage) isSaidOnce(t *testing.T) {
	said := map[string][]string{}
	for _, line := range o.said {
		var l struct{ Message, Resource string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		said[l.Resource] = append(said[l.Resource], l.Message)
	}
	for resource := range outagePaths {
		if all := said[resource]; len(all) != 1 || !strings.Contains(all[0], "cannot be reached") {
			t.Errorf("of one outage it says for %s %q, want one clear line", resource, all)
		}
	}
}

func (o *outage) isAGap(t *testing.T) {
	o.history.account(t, pick(o.events, func(ev *event) bool { return ev.Data.Resource == "configmaps" }))
	gaps := pick(o.events, only("gap"))
	for _, gap := range gaps {
		if from := number(gap.Data.From); gap.Data.Reason != "expired" || from == 0 || from >= o.forgotten {
			t.Errorf("%s: %s from %s; etcd has forgotten everything before %d", gap.ID, gap.Data.Reason, gap.Data.From, o.forgotten)
		}
	}
	if len(gaps) != len(outagePaths) {
		t.Errorf("%d gaps, want one of each stream", len(gaps))
	}
}

// isRepairedAtOnce: each second that a repair is put off is one more that nobody has seen.
func (o *outage) isRepairedAtOnce(t *testing.T) {
	for _, gap := range pick(o.events, only("gap")) {
		tries := slices.DeleteFunc(o.proxy.asked(outagePaths[gap.Data.Resource]), func(at time.Time) bool { return at.Before(o.to) })
		if late := gap.Time.Sub(tries[0]); late > 3*time.Second {
			t.Errorf("%s was written %s after the API server had answered that the position is expired", gap.ID, late.Round(time.Second))
		}
	}
}
