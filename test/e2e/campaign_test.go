package e2e

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"watcher/test/cluster"
)

// A round of a campaign: watcher runs for a while, is killed, and is started again after something has happened.
type round int

const (
	brief     round = iota // one second
	restarted              // the API server was restarted while watcher ran
	emptied                // the API server was restarted meanwhile: its watch cache remembers nothing, etcd does
	long                   // 90 seconds, more than the watch cache promises
	forgotten              // etcd was compacted, too
)

var roundNames = [...]string{"brief", "restarted", "emptied", "long", "forgotten"}

// A campaign kills two watchers again and again, one that writes into a file and one into a pipe whose reader dies, too,
// while a load goes on through a second API server, where a recorder sees all of it.
type campaign struct {
	seed      uint64
	rand      *rand.Rand
	cluster   *cluster.Cluster
	recorders map[string]*recorder
	load      *load
	victims   []*victim
	rounds    []round
}

// TestT26KilledAtAnyMomentWatcherLosesNothing: 34 kills in about six minutes, or for SOAK_MINUTES.
func TestT26KilledAtAnyMomentWatcherLosesNothing(t *testing.T) {
	t.Parallel()
	c := newCampaign(t)
	soak := time.Duration(0)
	if minutes, err := strconv.Atoi(os.Getenv("SOAK_MINUTES")); err == nil {
		soak = time.Duration(minutes) * time.Minute
	}
	stop := background(t, c.load.run)
	c.start(t)
	for begin := time.Now(); len(c.rounds) == 0 || time.Since(begin) < soak; {
		plan := append(slices.Repeat([]round{brief}, 10), restarted, emptied, long, long, forgotten, forgotten, forgotten)
		c.rand.Shuffle(len(plan), func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
		for _, r := range plan {
			c.play(t, r)
		}
	}
	stop()
	c.load.end(t)
	for _, r := range c.recorders {
		eventually(t, patience, "the last change is recorded", func() bool {
			return slices.ContainsFunc(r.soFar(), func(rec record) bool { return rec.key == "load/end" })
		})
	}
	for _, v := range c.victims {
		v.wrote(t, 2*aMinute, c.ends()...)
		v.stop(t)
	}
	t.Logf("%d rounds, %d changes of the load", len(c.rounds), c.load.changes.Load())
	for _, v := range c.victims {
		name := "ofAFile"
		if v.piped {
			name = "ofAPipe"
		}
		t.Run(name, func(t *testing.T) {
			pasts := map[string]*past{}
			for resource, r := range c.recorders {
				pasts[resource] = r.past()
			}
			c.judge(t, v, judgeLog(t, v.log(), pasts, "expired"))
			verify(t, c.cluster.Kubeconfig(), v.log())
		})
	}
}

func newCampaign(t *testing.T) *campaign {
	t.Helper()
	c := &campaign{seed: *seed, cluster: ownCluster(t, cluster.Options{}), recorders: map[string]*recorder{}}
	for c.seed == 0 {
		c.seed = rand.Uint64()
	}
	t.Logf("seed %d: go test ./e2e -run %s -seed %d", c.seed, t.Name(), c.seed)
	c.rand = rand.New(rand.NewPCG(c.seed, 0))
	a := replica(t, c.cluster)
	a.namespace(t, "load")
	c.load = &load{api: a, seed: c.seed}
	names, paths := resources()
	for resource, path := range paths {
		c.recorders[resource] = newRecorder(t, a, path)
	}
	// Coarse enough that a repair ends before its run is killed, now and then; fine enough that all levels occur.
	args := append(names, "--kube-api-qps", "1000", "--kube-api-burst", "1000", "--repair-budget", "800")
	c.victims = []*victim{newVictim(t, c.cluster.Kubeconfig(), false, args...), newVictim(t, c.cluster.Kubeconfig(), true, args...)}
	return c
}

func (c *campaign) start(t *testing.T) {
	t.Helper()
	for _, v := range c.victims {
		if err := v.start(); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.rounds) > 0 {
		return
	}
	for _, v := range c.victims { // the initial snapshots are another test's
		v.wrote(t, patience, `"id":"configmaps.synced.`, `"id":"pods.synced.`, `"id":"deployments.synced.`, `"id":"services.synced.`, `"id":"events.synced.`)
		v.wrote(t, patience, `"seq":200,`)
	}
}

// play lets both run and kills each at its own moment, then does what the round is about, and starts both again.
func (c *campaign) play(t *testing.T, r round) {
	t.Helper()
	c.rounds = append(c.rounds, r)
	if r == restarted {
		restart(t, c.cluster)
	}
	errs := make([]error, len(c.victims))
	var wg sync.WaitGroup
	for i, v := range c.victims {
		after, how := time.Duration(500+c.rand.IntN(6000))*time.Millisecond, rand.New(rand.NewPCG(c.rand.Uint64(), 0))
		wg.Go(func() {
			_ = pause(t.Context(), after)
			errs[i] = v.kill(how)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("round %d, %s: %v", len(c.rounds), roundNames[r], err)
	}
	switch r {
	case long:
		_ = pause(t.Context(), 90*time.Second)
	case forgotten:
		c.change(t, 300)
		if _, err := c.cluster.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.change(t, 100)
		restart(t, c.cluster)
	case emptied:
		c.change(t, 300)
		restart(t, c.cluster)
	default:
		_ = pause(t.Context(), time.Second)
	}
	c.start(t)
}

// change waits until so many changes have happened.
func (c *campaign) change(t *testing.T, n int64) {
	t.Helper()
	from := c.load.changes.Load()
	eventually(t, patience, "changes happen", func() bool { return c.load.changes.Load() >= from+n })
}

// ends are the ids of what the load made last.
func (c *campaign) ends() (ids []string) {
	for _, r := range c.recorders {
		for _, rec := range r.soFar() {
			if rec.key == "load/end" {
				ids = append(ids, `"id":"`+rec.id+`"`)
			}
		}
	}
	return ids
}

// judge demands that the log is right and that the campaign was hard enough to tell.
func (c *campaign) judge(t *testing.T, v *victim, verdict *verdict) {
	t.Helper()
	for _, p := range verdict.problems {
		t.Error(p)
	}
	if n := len(verdict.runs); n != len(c.rounds)+1 {
		t.Fatalf("%d runs left a started, want %d", n, len(c.rounds)+1)
	}
	total, unacknowledged := runOf{}, 0
	for i, run := range verdict.runs[1:] { // run i+1 follows round i
		if !v.piped && run.unsaved > 0 || v.lost(i) > 0 {
			unacknowledged++
		}
		total.add(run)
		t.Logf("round %2d %-9s: %4d events unsaved, the oldest for %5.2f s; %5d bytes unread; then %4d repeats, %d gaps, %d of them healed",
			i+1, roundNames[c.rounds[i]], run.unsaved, run.age.Seconds(), v.lost(i), run.repeats, run.gaps, run.heals)
		c.gaps(t, verdict.runs, i)
	}
	t.Logf("%d kills (%d by a dead reader), %d torn lines; %d with unacknowledged bytes; %d events repeated; %d gaps, of which %d were healed: %d objects by their net change, %d by identity; %d void",
		len(c.rounds), v.brokenPipe, verdict.torn, unacknowledged, total.repeats, total.gaps, total.heals, total.net, total.inferred, total.void)
	if unacknowledged*3 < len(c.rounds) {
		t.Errorf("%d of %d kills had unacknowledged bytes: fewer than a third", unacknowledged, len(c.rounds))
	}
	if len(c.rounds) < 15 {
		t.Errorf("%d kills, want 15 of each watcher", len(c.rounds))
	}
}

// owes is whether the run behind a round in which etcd forgot was killed before it had come to anything: then the gap is for
// the next one to tell.
func (c *campaign) owes(runs []runOf, i int) bool {
	return c.rounds[i] == forgotten && i+1 < len(c.rounds) && runs[i+1].gaps+runs[i+1].repeats == 0
}

// gaps demands that there are gaps where etcd has forgotten, and none where nothing was forgotten: not after the last gap
// was healed for good.
func (c *campaign) gaps(t *testing.T, runs []runOf, i int) {
	t.Helper()
	before, run := c.rounds[i], runs[i+1]
	if i > 0 && c.owes(runs, i-1) {
		before = forgotten
	}
	during := before
	if i+1 < len(c.rounds) {
		during = c.rounds[i+1]
	}
	calm := before <= brief && during != restarted && runs[i].gaps == 0
	if calm && run.gaps > 0 {
		t.Errorf("round %d was brief, and the run after it had %d gaps", i+1, run.gaps)
	}
	if before == forgotten && run.gaps == 0 && !c.owes(runs, i) {
		t.Errorf("etcd had forgotten the positions before run %d, and it had no gap", i+2)
	}
	if run.age > 10*time.Second {
		t.Errorf("run %d found positions that were saved %s before the end", i+2, run.age)
	}
}

func (r *runOf) add(o runOf) {
	r.repeats, r.void = r.repeats+o.repeats, r.void+o.void
	r.gaps, r.heals = r.gaps+o.gaps, r.heals+o.heals
	r.net, r.inferred = r.net+o.net, r.inferred+o.inferred
}
