package sink

import (
	"maps"
	"slices"
	"strings"

	"watcher/internal/event"
)

// A step is what batches that were written lead to, until it is saved: positions, and what changes in the ledgers.
// Nothing of it is in memory of the batches, but for what the checkpoints hold.
type step struct {
	upTo    int64 // bytes written: when the medium has acknowledged so many, it may be saved
	cluster string
	streams map[string]event.Checkpoint
	ledgers map[string]*delta
	events  int // that were folded

	key []byte // reused
}

// A delta is what changes in one ledger.
type delta struct {
	dropped bool // before all changes, what was stored is dropped
	changes map[string]*change
}

// A change is what is to become of one object's record.
type change struct {
	record []byte   // it is replaced by this one, if not nil; else
	gone   []string // it is removed if its uid is one of these, or either is not known
}

func newStep() *step {
	return &step{streams: map[string]event.Checkpoint{}, ledgers: map[string]*delta{}}
}

// clear makes a step of nothing.
func (s *step) clear() {
	s.upTo, s.cluster, s.events = 0, "", 0
	clear(s.streams)
	for _, d := range s.ledgers {
		d.dropped = false
		clear(d.changes)
	}
}

// fold adds a batch.
func (s *step) fold(b event.Batch) {
	if b.ClusterUID != "" {
		s.cluster = b.ClusterUID
	}
	maps.Copy(s.streams, b.Streams)
	s.events += len(b.Events)
	for _, ev := range b.Events {
		switch ev.Type {
		case event.Present, event.Added, event.Modified:
			c := s.change(ev)
			c.record, c.gone = appendRecord(c.record[:0], &ev.Object), nil
		case event.Deleted, event.Left:
			s.change(ev).delete(s.key, ev.Object.UID)
		case event.Started:
			if d, ok := ev.Data.(event.StartedData); ok && d.Unlisted {
				// What was known is of another time. A stream that is listed anew keeps it: what is listed takes its
				// place, and a listing that a crash cuts short needs what is there.
				l := s.ledger(ev.Stream)
				l.dropped = true
				clear(l.changes)
			}
		case event.Synced, event.Gap, event.Progress, event.Stopped:
		}
	}
}

func (s *step) ledger(stream *event.Stream) *delta {
	d := s.ledgers[stream.Key()]
	if d == nil {
		d = &delta{changes: map[string]*change{}}
		s.ledgers[stream.Key()] = d
	}
	return d
}

// change returns the change of the event's object, to be made or added to.
func (s *step) change(ev *event.Event) *change {
	d := s.ledger(ev.Stream)
	s.key = appendObjectKey(s.key[:0], &ev.Object)
	c := d.changes[string(s.key)]
	if c == nil {
		c = &change{}
		d.changes[string(s.key)] = c
	}
	return c
}

// delete adds that the incarnation uid is gone. One that came after it, under the same name, stays.
func (c *change) delete(key []byte, uid string) {
	if c.record == nil {
		if !slices.Contains(c.gone, uid) {
			c.gone = append(c.gone, strings.Clone(uid))
		}
		return
	}
	o, err := readRecord(key, c.record)
	if err == nil && o.UID != uid && o.UID != "" && uid != "" {
		return
	}
	c.record, c.gone = nil, []string{""} // whatever was there before the record
}

// deletes reports whether a record of that uid is removed.
func (c *change) deletes(uid string) bool {
	return slices.ContainsFunc(c.gone, func(g string) bool { return g == uid || g == "" || uid == "" })
}
