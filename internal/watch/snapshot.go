package watch

import (
	"cmp"
	"context"
	"time"

	"watcher/internal/event"
)

// snapshot writes what exists and is not written yet, and ends at the list's version: at the start everything, as present
// events; behind a gap what differs from the ledger. A crash in the middle leaves no position, but the ledger: the next
// start lists again, and skips what it holds. So does a list whose version the API server forgot before its last page; the
// "inconsistent" token that it offers then would go on at a newer version, and hide what was deleted between the two.
func (s *stream) snapshot(ctx context.Context) (state, error) {
	if s.list.version == "" {
		s.newest = event.Witness{}
		s.ledger.newRound()
	}
	for f, err := range s.list.items(ctx) {
		if err != nil {
			if s.isStuck(err) && ctx.Err() == nil {
				s.again(ctx)
			}
			return s.snapshot, err
		}
		if back, err := s.isElsewhere(s.list.version); back || err != nil {
			return s.rewind, err
		}
		s.stuck = 0
		s.begin(ctx, s.list.version, false)
		testify(&s.newest, &f.Object)
		if !s.found(ctx, f, s.list.version) {
			return s.rewind, nil
		}
		if ctx.Err() != nil {
			return s.snapshot, nil
		}
	}
	if back, err := s.isElsewhere(s.list.version); back || err != nil { // there may be no items
		return s.rewind, err
	}
	s.begin(ctx, s.list.version, false)
	for o := range s.ledger.unmarked() {
		d := s.departure(ctx, &o, s.list.version)
		if ctx.Err() != nil {
			return s.snapshot, nil
		}
		s.depart(ctx, bare(o), d, s.list.version)
	}
	s.synced(ctx, s.list.version, s.list.asOf)
	s.list = nil
	if s.once {
		return nil, nil
	}
	return s.resume, nil
}

// again begins the list again. Of a snapshot that is a gap: what was listed may have changed until it is listed again. The
// gap of a repair is open already.
func (s *stream) again(ctx context.Context) {
	if s.origin == event.Snapshot && s.wrote != (event.SyncedData{}) {
		s.gap(ctx, "expired", s.list.version, s.list.asOf)
	}
	s.list, s.listedAt = s.src.list(), cmp.Or(s.list.version, s.listedAt)
}

// isStuck is whether to give up a version of which something could not be read: it is forgotten, or has failed so often
// that it may never answer: after an etcd restore it lies in the future.
func (s *stream) isStuck(err error) bool {
	s.stuck++
	if classify(err) != expired && s.stuck <= stuckAfter {
		return false
	}
	s.stuck = 0
	return true
}

// isElsewhere is whether a list that was just begun lies before the position, or before one that could not be finished.
func (s *stream) isElsewhere(version string) (bool, error) {
	back, err := s.isBehind(version)
	return back || newer(s.listedAt, version), err
}

// found writes a state that exists at a version, unless it is written already. It is not ok if the state is of another
// history than the position.
func (s *stream) found(ctx context.Context, f *frame, version string) (ok bool) {
	rel := s.ledger.relate(&f.Object)
	switch {
	case rel == same:
		f.free()
		return true
	case rel == forged && s.covered():
		f.free()
		return false
	case rel == recreated:
		old, _ := s.ledger.find(keyOf(&f.Object))
		s.depart(ctx, bare(old), departure{}, version)
	}
	healed := s.origin == event.Repair && s.covered()
	switch {
	case healed && rel != unknown && rel != recreated:
		f.Type = event.Modified
	case healed && !s.blind:
		f.Type = event.Added
	default:
		f.Type = event.Present
	}
	f.Stream, f.Time, f.Origin = s.Stream, time.Now(), s.origin
	s.note(f)
	s.count(&f.Event)
	s.put(ctx, s.item(f))
	return true
}

// covered is whether there is a position, so that what is new has come since.
func (s *stream) covered() bool { return s.pos.ResourceVersion != "" }

// bare is the frame of an object of which nothing is known but what a ledger remembers.
func bare(o event.Object) *frame { return &frame{Event: event.Event{Object: o}} }

// depart writes that the object in f is gone by a version. What else is in f is its last known state.
func (s *stream) depart(ctx context.Context, f *frame, d departure, version string) {
	f.Stream, f.Type, f.Time, f.Origin, f.Ambiguous, f.Inferred = s.Stream, d.as(), time.Now(), s.origin, d.ambiguous, true
	f.Object.ResourceVersion = version
	s.ledger.remove(&f.Object)
	s.count(&f.Event)
	s.put(ctx, s.item(f))
}

// count counts what synced will tell.
func (s *stream) count(ev *event.Event) {
	w := &s.wrote
	switch ev.Type {
	case event.Present:
		w.Present++
	case event.Added:
		w.Added++
	case event.Modified:
		if ev.Filtered {
			w.Filtered++
			return
		}
		w.Modified++
	case event.Left:
		w.Left++
	default:
		w.Deleted++
	}
	switch {
	case ev.Inferred && !ev.Stale:
		s.healed.Inferred++
	case ev.Type != event.Present:
		s.healed.Net++
	}
}

// synced says that everything up to a version is written.
func (s *stream) synced(ctx context.Context, version string, asOf time.Time) {
	s.pos, s.cause = event.Position{ResourceVersion: version, AsOf: asOf}, ""
	s.stats.position(asOf)
	d := s.wrote
	d.ResourceVersion, d.Newest = version, s.newest
	if newer(s.newest.ResourceVersion, s.witness.ResourceVersion) {
		s.witness = s.newest
	}
	if s.origin == event.Repair {
		h := s.healed
		if h.Deletions = "known"; s.blind || s.ledger == nil {
			h.Deletions = "unknown" // what was deleted in the gap is not in any list, and nothing remembers that it was there
		}
		d.Healed = &h
		s.stats.healed(h)
	}
	s.incomplete, s.blind, s.listedAt = false, false, ""
	s.put(ctx, s.statement(event.Synced, d))
	s.wrote, s.healed = event.SyncedData{}, event.Healed{}
	s.well()
}
