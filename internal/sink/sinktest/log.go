package sinktest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"watcher/internal/event"
)

// A log makes events and positions as the writer of internal/watch does, and knows what a sink must hold of them.
type log struct {
	streams []*event.Stream
	state   map[string]event.Checkpoint
	made    []made
	version int
}

// What was made: a line, and which count of which stream it is of.
type made struct {
	line, key string
	ofObject  bool
}

// An item is an event and the checkpoint it leads to, or a checkpoint alone.
type item struct {
	key   string
	event *event.Event
	after event.Checkpoint
}

func newLog() *log {
	l := &log{state: map[string]event.Checkpoint{}, version: 100}
	for _, n := range []event.StreamName{
		{Cluster: "test", Version: "v1", Resource: "pods", Kind: "Pod"},
		{Cluster: "test", Group: "apps", Version: "v1", Resource: "deployments", Kind: "Deployment", Namespace: "shop"},
		{Cluster: "test", Version: "v1", Resource: "pods", Kind: "Pod", LabelSelector: "a=b"},
	} {
		l.streams = append(l.streams, event.NewStream(n))
	}
	return l
}

// batch makes n events: of all streams in turn, of objects mostly, small ones, large ones and ones without a body.
func (l *log) batch(n int) []item {
	var items []item
	for i := range n {
		l.version++
		s := l.streams[l.version%len(l.streams)]
		c := l.state[s.Key()]
		c.Position = event.Position{ResourceVersion: fmt.Sprint(l.version - 1), AheadAt: fmt.Sprint(l.version), Ahead: []string{fmt.Sprint("uid-", l.version)}}
		ev := &event.Event{Stream: s, Time: time.Unix(int64(l.version), 0)}
		if i%6 == 0 {
			c.StreamEvents++
			ev.Type, ev.Data = event.Progress, event.ProgressData{ResourceVersion: c.ResourceVersion, Seq: c.Seq}
			ev.ID = fmt.Sprintf("%s.progress.1.%d", s.Resource, c.StreamEvents)
		} else {
			c.Seq++
			ev.Type, ev.Origin, ev.Object = event.Modified, event.Live, l.object(i)
		}
		ev.Seq = c.Seq
		l.state[s.Key()] = c
		l.made = append(l.made, made{string(ev.AppendLine(nil, 0)), s.Key(), ev.Type.OfObject()})
		items = append(items, item{s.Key(), ev, c})
	}
	return items
}

func (l *log) object(i int) event.Object {
	o := event.Object{Namespace: "shop", Name: fmt.Sprint("web-", l.version), UID: fmt.Sprint("uid-", l.version), ResourceVersion: fmt.Sprint(l.version)}
	switch i % 4 {
	case 0: // none
	case 1:
		o.Body = []byte(`{"a":"\n\" ü 漢 \u2028"}`)
	case 2:
		o.Body = fmt.Appendf(nil, `{"a":%q}`, strings.Repeat("x", 1000))
	default:
		o.Body = fmt.Appendf(nil, `{"a":%q}`, strings.Repeat("y", 100_000))
	}
	return o
}

// move makes a position without an event, as a bookmark does.
func (l *log) move() item {
	l.version++
	key := l.streams[l.version%len(l.streams)].Key()
	c := l.state[key]
	c.Position = event.Position{ResourceVersion: fmt.Sprint(l.version)}
	l.state[key] = c
	return item{key: key, after: c}
}

func batchOf(items []item) event.Batch {
	b := event.Batch{Streams: map[string]event.Checkpoint{}}
	for _, it := range items {
		b.Streams[it.key] = it.after
		if it.event != nil {
			b.Events = append(b.Events, it.event)
		}
	}
	return b
}

// deliver commits what must not fail.
func (l *log) deliver(t *testing.T, f Fixture, items []item) {
	t.Helper()
	if err := f.Sink.Commit(t.Context(), batchOf(items)); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

// deliverRest does what the writer of internal/watch does after a failed Commit, allowing for so many failures.
func (l *log) deliverRest(t *testing.T, f Fixture, items []item, failures int) {
	t.Helper()
	for try := 0; ; try++ {
		held, err := f.Sink.Recover(t.Context())
		if err == nil {
			l.checkNotAhead(t, f, held.Streams)
			items = missing(items, held.Streams)
			err = f.Sink.Commit(t.Context(), batchOf(items))
		}
		switch {
		case err == nil:
			return
		case errors.Is(err, event.ErrClosed):
			t.Fatalf("an error that may pass closes the sink: %v", err)
		case try > failures:
			t.Fatalf("the medium is well again and the sink is not: %v", err)
		}
	}
}

// missing is the writer's own rule: the counts tell what the sink holds, and positions alone are always sent again.
func missing(items []item, held map[string]event.Checkpoint) []item {
	return slices.DeleteFunc(slices.Clone(items), func(it item) bool {
		h := held[it.key]
		switch {
		case it.event == nil, it.event.Filtered:
			return false
		case it.event.Type.OfObject():
			return it.after.Seq <= h.Seq
		default:
			return it.after.StreamEvents <= h.StreamEvents
		}
	})
}

func (l *log) recover(t *testing.T, f Fixture) map[string]event.Checkpoint {
	t.Helper()
	held, err := f.Sink.Recover(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatalf("recover: %v", err)
	}
	l.checkNotAhead(t, f, held.Streams)
	return held.Streams
}

// checkNotAhead compares the counts in a state with what is stored.
func (l *log) checkNotAhead(t *testing.T, f Fixture, held map[string]event.Checkpoint) {
	t.Helper()
	stored := map[string]bool{}
	for _, line := range f.Stored() {
		stored[line] = true
	}
	written := map[string]*event.Checkpoint{}
	for _, s := range l.streams {
		written[s.Key()] = &event.Checkpoint{}
	}
	for _, m := range l.made {
		switch {
		case !stored[m.line]:
		case m.ofObject:
			written[m.key].Seq++
		default:
			written[m.key].StreamEvents++
		}
	}
	for key, h := range held {
		if w := written[key]; w == nil || h.Seq > w.Seq || h.StreamEvents > w.StreamEvents {
			t.Errorf("the sink says %s is at %+v, of which is stored %+v", key, h, w)
		}
	}
}

func (l *log) checkHeld(t *testing.T, held map[string]event.Checkpoint) {
	t.Helper()
	if !maps.EqualFunc(held, l.state, func(a, b event.Checkpoint) bool { return reflect.DeepEqual(a, b) }) {
		t.Errorf("the sink holds\n  %+v\nwant\n  %+v", held, l.state)
	}
}

func (l *log) checkStored(t *testing.T, f Fixture) {
	t.Helper()
	got := f.Stored()
	for i := range max(len(got), len(l.made)) {
		switch {
		case i >= len(got):
			t.Fatalf("lost: %d events, the first is %.200s", len(l.made)-i, l.made[i].line)
		case i >= len(l.made):
			t.Fatalf("too many: %d lines, the first is %.200q", len(got)-i, got[i])
		case got[i] != l.made[i].line:
			t.Fatalf("line %d is\n  %.200q\nwant\n  %.200q", i, got[i], l.made[i].line)
		}
	}
}
