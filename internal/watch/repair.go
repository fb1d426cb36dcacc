package watch

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"go.uber.org/zap"

	"watcher/internal/event"
)

const (
	// fineFor is how long a repair may read object by object; what is left then comes from a LIST.
	fineFor = time.Minute
	// aheadTimeout is how long a watch that was opened before a repair may live.
	aheadTimeout = 30 * time.Minute
	// stuckAfter is how often in a row a version may fail to be read until another one is tried.
	stuckAfter = 8
	// readers are how many point reads are under way at once.
	readers = 16
)

// A repair is what is known of a gap while it is healed: only keys and versions are kept.
type repair struct {
	from     string // the position before the gap
	to       string // the version up to which it will be healed
	asOf     time.Time
	finest   time.Time         // until when objects are read one by one
	reads    int               // that may still be spent
	list     *list             // of what exists, while it is read
	listed   int               // objects that exist
	gone     map[key]struct{}  // were there, and are not
	how      map[key]departure // of gone, with selectors
	todo     map[key]struct{}  // are there in a state that has not been written
	attempts int               // to read states at from
	futile   int               // how often in a row to was forgotten before anything of it was read
	ahead    *readahead        // the watch after to
}

// gap says that changes after the position may have gone unseen. From here on everything that is written belongs to it.
func (s *stream) gap(ctx context.Context, reason, from string, asOf time.Time) {
	s.stats.gap(reason)
	s.repairedAt = time.Now()
	s.log.Warn("changes may have gone unseen", zap.String("after", from), zap.String("reason", reason))
	s.put(ctx, s.statement(event.Gap, event.GapData{Reason: reason, From: from, FromTime: asOf.UTC(), ToTime: time.Now().UTC()}))
	s.origin, s.wrote, s.healed = event.Repair, event.SyncedData{}, event.Healed{}
	s.blind = s.incomplete
}

// repair writes the gap after the position, and heals it:
//
//	gap ─▶ compare what exists with the ledger ─▶ open the watch behind that ─▶ heal what differs ─▶ synced ─▶ follow
//
// The position stays where it is until synced. A crash in between begins again with the gap, and with a ledger that knows
// what was written: nothing is written twice.
func (s *stream) repair(ctx context.Context) (state, error) {
	// What is compared with the ledger must be of the same history.
	switch back, err := s.isRewound(ctx, s.witness); {
	case err != nil:
		return s.repair, err
	case back:
		return s.rewind, nil
	}
	reason := "expired"
	switch {
	case s.cause != "":
		reason = s.cause
	case time.Since(s.stalledAt) < time.Minute: // while the sink took nothing the API server gave up on us
		reason = "sink"
	}
	s.gap(ctx, reason, s.pos.ResourceVersion, s.pos.AsOf)
	s.cause, s.badAt, s.empty, s.probed, s.forgotten = "", "", 0, time.Time{}, false
	s.gapOpen.close()
	s.gapOpen = &repair{from: s.pos.ResourceVersion, finest: time.Now().Add(fineFor), reads: s.budget}
	return s.compare, nil
}

// compare finds what differs between what exists and the ledger, and opens the watch that goes on behind it. Where exact
// reads are not to be had one pass over the whole objects does it all: they are of the list's version. A list that breaks
// off is gone on with.
func (s *stream) compare(ctx context.Context) (state, error) {
	r := s.gapOpen
	r.close()
	if r.list == nil {
		if err := s.rebuild(ctx); err != nil {
			return s.compare, err
		}
		if s.inexact {
			s.list = s.src.list()
			return s.snapshot, nil
		}
		r.list, r.todo, r.gone, r.how, r.listed = s.present(), map[key]struct{}{}, map[key]struct{}{}, nil, 0
		s.newest = event.Witness{}
		s.ledger.newRound()
	}
	for f, err := range r.list.items(ctx) {
		if err != nil {
			return s.compareLater(err)
		}
		s.stuck = 0
		if !s.compareOne(r, f) {
			return s.rewind, nil
		}
	}
	l := r.list
	if r.list = nil; ctx.Err() != nil {
		return nil, nil
	}
	for o := range s.ledger.unmarked() {
		r.gone[keyOf(&o)] = struct{}{}
	}
	if back, err := s.isBehind(l.version); back || err != nil || newer(r.to, l.version) {
		return s.rewind, err
	}
	r.to, r.asOf = l.version, l.asOf
	w, err := s.src.watch(ctx, r.to, aheadTimeout)
	if err != nil {
		return s.compare, err
	}
	r.ahead = readAhead(w, s.out.reserve)
	return s.heal, nil
}

// present prepares a LIST of what exists, to compare it.
func (s *stream) present() *list {
	if s.wordy {
		return s.src.sparse().list()
	}
	return s.src.terse().list()
}

// compareLater is what follows on a list that failed.
func (s *stream) compareLater(err error) (state, error) {
	if apierrors.IsNotAcceptable(err) {
		s.inexact, s.gapOpen.list = true, nil
		return s.compare, nil
	}
	if errors.Is(err, errMalformed) {
		s.wordy, s.gapOpen.list = true, nil
		return s.compare, err
	}
	if s.isStuck(err) {
		s.gapOpen.list = nil
	}
	return s.compare, err
}

// compareOne compares one object that exists. It is not ok if the API server's history is another one.
func (s *stream) compareOne(r *repair, f *frame) (ok bool) {
	defer f.free()
	r.listed++
	testify(&s.newest, &f.Object)
	switch s.ledger.relate(&f.Object) {
	case same:
	case forged:
		return false
	default:
		k := keyOf(&f.Object) // whose strings are part of something larger
		r.todo[key{strings.Clone(k.namespace), strings.Clone(k.name)}] = struct{}{}
	}
	return true
}

// close ends the watch that was opened ahead.
func (r *repair) close() {
	if r != nil && r.ahead != nil {
		r.ahead.Stop()
		r.ahead = nil
	}
}

// rebuild completes a ledger that does not know all that existed at the position, as long as etcd remembers. It does so before
// a deletion is written: a ledger that is rebuilt after that would make it come again.
func (s *stream) rebuild(ctx context.Context) error {
	if !s.blind || s.inexact {
		return nil
	}
	for f, err := range s.src.sparse().listAt(s.gapOpen.from).items(ctx) {
		switch {
		case errors.Is(err, errInexact), apierrors.IsNotAcceptable(err):
			s.inexact = true
			return nil
		case classify(err) == expired:
			return nil
		case err != nil:
			return err
		}
		// What was written just ahead of the position is known; a deletion has left no trace.
		if s.ledger.get(keyOf(&f.Object)) == nil && !slices.Contains(s.pos.Ahead, f.Object.Incarnation()) {
			s.remember(ctx, f)
		} else {
			f.free()
		}
	}
	s.blind, s.incomplete = false, false
	s.put(ctx, item{stream: s.Stream, after: s.pos, complete: true})
	return nil
}

// remember takes a state into the ledger, also the sink's, that nobody is told of.
func (s *stream) remember(ctx context.Context, f *frame) {
	if s.src.sel.Payload == PayloadFull {
		f.Object.Hashes.Spec, f.Object.Hashes.Status = 0, 0 // they were not sent
	}
	s.ledger.put(&f.Object)
	f.Stream, f.Type, f.Time, f.Origin, f.Filtered = s.Stream, event.Present, time.Now(), event.Repair, true
	s.put(ctx, s.item(f))
}

// heal writes what compare has found: deletions first, so that an object that was made anew under its name comes after.
// What it has written it does not write again after an error.
func (s *stream) heal(ctx context.Context) (state, error) {
	r := s.gapOpen
	todo := len(r.todo)
	err := s.healGone(ctx, r)
	if err == nil {
		err = s.healTodo(ctx, r)
	}
	switch {
	case errors.Is(err, errInexact), err == nil && len(r.todo) > 0 && ctx.Err() == nil:
		s.inexact = true // it answers, but not for the version that it was asked for
		return s.compare, nil
	case err != nil && s.isStuck(err): // this took longer than etcd remembers, or it was restored
		if r.futile++; len(r.todo) < todo {
			r.futile = 0
		}
		s.inexact = r.futile > 1 // it remembers nothing but the present
		return s.compare, nil
	case err != nil:
		return s.heal, err
	case ctx.Err() != nil:
		return nil, nil
	}
	s.stuck = 0
	s.synced(ctx, r.to, r.asOf)
	return s.resume, nil
}

// healGone writes the deletions, each with the object's state at the gap's beginning if it can still be had.
func (s *stream) healGone(ctx context.Context, r *repair) error {
	if s.tellDepartures(ctx, r); ctx.Err() != nil { // what was not asked is not to be called ambiguous
		return nil
	}
	if s.src.cutter.body && r.attempts < 3 {
		err := s.states(ctx, r, r.from, r.gone, func(f *frame) {
			if !s.ledger.holds(&f.Object) {
				f.free() // something newer of it is written already
				return
			}
			k := keyOf(&f.Object)
			f.Stale = true
			s.depart(ctx, f, r.how[k], r.to)
			delete(r.gone, k)
		})
		if err != nil && classify(err) == retry && !errors.Is(err, errInexact) {
			r.attempts++
			return err
		}
	}
	for k := range r.gone {
		if ctx.Err() != nil {
			return nil
		}
		if o, ok := s.ledger.find(k); ok {
			s.depart(ctx, bare(o), r.how[k], r.to)
		}
		delete(r.gone, k)
	}
	return nil
}

// tellDepartures finds out which of the objects that are gone left the selectors, as far as the budget allows.
func (s *stream) tellDepartures(ctx context.Context, r *repair) {
	if !s.mayLeave || len(r.how) > 0 {
		return
	}
	r.how = make(map[key]departure, len(r.gone))
	var asked []event.Object
	for k := range r.gone {
		r.how[k] = departure{left: true, ambiguous: true}
		if o, ok := s.ledger.find(k); ok && r.reads > 0 {
			r.reads--
			asked = append(asked, o)
		}
	}
	for o, d := range inParallel(asked, func(o event.Object) departure { return s.departure(ctx, &o, r.to) }) {
		r.how[keyOf(&o)] = d
	}
}

// healTodo writes the states at the version up to which the gap is healed.
func (s *stream) healTodo(ctx context.Context, r *repair) error {
	return s.states(ctx, r, r.to, r.todo, func(f *frame) {
		delete(r.todo, keyOf(&f.Object))
		s.found(ctx, f, r.to)
	})
}

// states hands over the wanted objects as they were at a version: read one by one while they are few, else picked from
// one LIST.
func (s *stream) states(ctx context.Context, r *repair, version string, wanted map[key]struct{}, take func(*frame)) error {
	if len(wanted) == 0 {
		return nil
	}
	if few := max(64, r.listed/20); len(wanted) <= few && len(wanted) <= r.reads && time.Now().Before(r.finest) {
		return s.statesOneByOne(ctx, r, version, wanted, take)
	}
	for f, err := range s.src.listAt(version).items(ctx) {
		if err != nil {
			return err
		}
		if _, ok := wanted[keyOf(&f.Object)]; ok {
			take(f)
		} else {
			f.free()
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	return nil
}

func (s *stream) statesOneByOne(ctx context.Context, r *repair, version string, wanted map[key]struct{}, take func(*frame)) error {
	type read struct {
		f   *frame
		err error
	}
	for _, got := range inParallel(slices.Collect(maps.Keys(wanted)), func(k key) (got read) {
		got.f, got.err = s.src.selected(k).at(ctx, version)
		return got
	}) {
		r.reads--
		switch {
		case got.err != nil:
			return got.err
		case ctx.Err() != nil:
			return nil
		case got.f != nil:
			take(got.f)
		}
	}
	return nil
}

// inParallel yields each key with what read returns for it, in their order, a few at a time. It returns when all that were
// begun are done.
func inParallel[K, T any](keys []K, read func(K) T) iter.Seq2[K, T] {
	return func(yield func(K, T) bool) {
		for some := range slices.Chunk(keys, readers) {
			results := make([]T, len(some))
			var wg sync.WaitGroup
			for i, k := range some {
				wg.Go(func() { results[i] = read(k) })
			}
			wg.Wait()
			for i, k := range some {
				if !yield(k, results[i]) {
					return
				}
			}
		}
	}
}
