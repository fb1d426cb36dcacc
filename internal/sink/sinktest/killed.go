package sinktest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"watcher/internal/event"
)

// killed kills the sink again and again. Where it says it is must be where it was at some time, not before it settled
// last, and its ledger that of this time.
func killed(t *testing.T, f Fixture) {
	if f.Reopen == nil {
		t.Skip("nothing outlives this sink")
	}
	const seed = 1
	t.Logf("seed %d", seed)
	h := &history{log: newLog(), rng: rand.New(rand.NewPCG(seed, 0)), present: map[string]map[string]event.Object{}}
	settled := 0
	for range 60 {
		h.deliver(t, f, h.more(1+h.rng.IntN(20)))
		switch h.rng.IntN(4) {
		case 0:
			f.Settle()
			settled = len(h.all)
		case 1:
			f.Sink = f.Reopen()
			n := h.reopened(t, f, settled)
			h.deliver(t, f, h.all[n:])
		}
	}
	f.Settle()
	f.Sink = f.Reopen()
	h.reopened(t, f, len(h.all))
	h.checkFirsts(t, f)
}

// A history is a log of objects that come, change, go, and come again.
type history struct {
	*log
	rng     *rand.Rand
	all     []item
	present map[string]map[string]event.Object
}

// more makes n items of history.
func (h *history) more(n int) []item {
	from := len(h.all)
	for range n {
		h.version++
		s := h.streams[h.rng.IntN(len(h.streams))]
		c := h.state[s.Key()]
		c.Position = event.Position{ResourceVersion: fmt.Sprint(h.version)}
		ev := &event.Event{Stream: s, Time: time.Unix(int64(h.version), 0), Origin: event.Live}
		h.happen(ev)
		switch {
		case ev.Filtered:
		case ev.Type.OfObject():
			c.Seq++
		default:
			c.StreamEvents++
			ev.ID = fmt.Sprintf("%s.%s.1.%d", s.Key(), ev.Type, c.StreamEvents)
		}
		ev.Seq = c.Seq
		if !ev.Filtered {
			h.made = append(h.made, made{string(ev.AppendLine(nil, 0)), s.Key(), ev.Type.OfObject()})
		}
		h.state[s.Key()] = c
		h.all = append(h.all, item{s.Key(), ev, c})
	}
	return h.all[from:]
}

// happen chooses what happens.
func (h *history) happen(ev *event.Event) {
	objects := h.present[ev.Stream.Key()]
	if objects == nil {
		objects = map[string]event.Object{}
		h.present[ev.Stream.Key()] = objects
	}
	what := h.rng.IntN(40)
	if what < 2 { // a stream that begins without a list forgets what it knew; one that begins with a list does not
		ev.Type, ev.Data = event.Started, event.StartedData{Unlisted: what == 0}
		if what == 0 {
			clear(objects)
		}
		return
	}
	name := fmt.Sprint("web-", h.rng.IntN(12))
	o, there := objects[name]
	switch {
	case !there || what < 5: // perhaps under the name of another, of whose deletion nobody knows
		ev.Type = event.Added
		o = event.Object{Namespace: "shop", Name: name, UID: fmt.Sprintf("%08x-0000-4000-8000-000000000000", h.version)}
	case what < 12:
		ev.Type = event.Deleted
		delete(objects, name)
	case what < 17: // one of this name that was there before
		ev.Type = event.Deleted
		o.UID = "another"
	default:
		ev.Type, ev.Filtered = event.Modified, what%3 == 0
	}
	o.ResourceVersion = fmt.Sprint(h.version)
	o.Hashes, o.Attribution = event.Hashes{Spec: h.rng.Uint64(), Metadata: h.rng.Uint64()}, event.Attribution(h.rng.Uint64())
	if ev.Type != event.Deleted {
		objects[name] = o
	}
	ev.Object = o
	ev.Object.Body = []byte(`{}`)
}

// reopened checks what the sink says after a kill, and returns how many items it holds.
func (h *history) reopened(t *testing.T, f Fixture, settled int) int {
	t.Helper()
	held, err := f.Sink.Recover(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatalf("recover: %v", err)
	}
	h.checkNotAhead(t, f, held.Streams)
	n := h.when(held.Streams)
	if n < settled {
		t.Fatalf("the sink is where it was after %d items (-1: never); %d were settled\n%+v", n, settled, held.Streams)
	}
	if held.Ledger != nil {
		h.checkLedgers(t, held, n)
	}
	return n
}

// when is after how many items the streams were at these positions, -1 if never.
func (h *history) when(held map[string]event.Checkpoint) int {
	at := map[string]event.Checkpoint{}
	for n := range len(h.all) + 1 {
		if maps.EqualFunc(held, at, func(a, b event.Checkpoint) bool { return reflect.DeepEqual(a, b) }) {
			return n
		}
		if n < len(h.all) {
			at[h.all[n].key] = h.all[n].after
		}
	}
	return -1
}

// checkLedgers compares with what the first n items make of nothing.
func (h *history) checkLedgers(t *testing.T, held event.State, n int) {
	t.Helper()
	want := map[string]map[string]event.Object{}
	for _, s := range h.streams {
		want[s.Key()] = map[string]event.Object{}
	}
	for _, it := range h.all[:n] {
		o := it.event.Object
		o.Body = nil
		switch old := want[it.key][o.Name]; {
		case it.event.Type == event.Started:
			if it.event.Data.(event.StartedData).Unlisted {
				clear(want[it.key])
			}
		case it.event.Type != event.Deleted:
			want[it.key][o.Name] = o
		case old.UID == o.UID:
			delete(want[it.key], o.Name)
		}
	}
	for key, objects := range want {
		got := map[string]event.Object{}
		for o, err := range held.Ledger(key) {
			if err != nil {
				t.Fatalf("the ledger of %s: %v", key, err)
			}
			got[o.Name] = o
		}
		if !reflect.DeepEqual(got, objects) {
			t.Fatalf("after %d items the ledger of %s is\n  %+v\nwant\n  %+v", n, key, got, objects)
		}
	}
}

// checkFirsts looks at each line where it is for the first time: after a kill they may be there again.
func (h *history) checkFirsts(t *testing.T, f Fixture) {
	t.Helper()
	var firsts []string
	seen := map[string]bool{}
	for _, line := range f.Stored() {
		if !seen[line] {
			firsts = append(firsts, line)
		}
		seen[line] = true
	}
	var want []string
	for _, m := range h.made {
		want = append(want, m.line)
	}
	if !slices.Equal(firsts, want) {
		t.Errorf("%d different lines, want %d, or in another order", len(firsts), len(want))
	}
}
