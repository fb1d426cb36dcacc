package watch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"watcher/internal/event"
)

const (
	// A watch is to live for watchTimeout and up to as much again, drawn anew each time so that streams do not return
	// together.
	watchTimeout = 5 * time.Minute
	// overdue is how much longer than that we wait for the API server to end it.
	overdue = 30 * time.Second
	// idleTimeout is how long a resource that sends bookmarks, about one a minute, may be silent.
	idleTimeout = 150 * time.Second
	// probeInterval is how often watches that end without a frame make us ask whether the position has expired.
	probeInterval = time.Minute
	// doubtAfter is how long watches may end without a frame where nobody can say whether the position has expired.
	doubtAfter = 5 * time.Minute
)

// follow writes what the watch delivers after the position until it ends. The next one is opened at the position, unless
// the API server has forgotten it.
func (s *stream) follow(ctx context.Context) (state, error) {
	w, timeout, err := s.open(ctx)
	if err != nil {
		return s.failed(err)
	}
	defer w.Stop()
	opened, frames := time.Now(), 0
	defer func() {
		if time.Since(opened) >= healthyAfter {
			s.backoff.reset()
		}
	}()
	late, idle := time.NewTimer(timeout+overdue), time.NewTimer(idleTimeout)
	defer late.Stop()
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, nil
		case <-late.C:
			return s.ended(errOverdue)
		case <-idle.C:
			if s.bookmarks {
				return s.ended(errIdle)
			}
		case e, open := <-w.ResultChan():
			if !open {
				if a, ok := w.(*readahead); ok && a.full {
					s.stalledAt = time.Now()
				}
				return s.closed(time.Since(opened), frames)
			}
			if err := s.take(ctx, e); err != nil {
				return s.failed(err)
			}
			if frames == 0 {
				s.delivers()
			}
			frames++
			idle.Reset(idleTimeout)
		}
	}
}

// open opens the watch at the position, unless a repair has done so before it healed.
func (s *stream) open(ctx context.Context) (watch.Interface, time.Duration, error) {
	if r := s.gapOpen; r != nil && r.ahead != nil {
		s.gapOpen, s.lateUntil = nil, time.Now().Add(time.Minute)
		return r.ahead, aheadTimeout, nil
	}
	timeout := watchTimeout + rand.N(watchTimeout)
	w, err := s.src.watch(ctx, s.pos.ResourceVersion, timeout)
	return w, timeout, err
}

// ended goes on after a watch that ended with err.
func (s *stream) ended(err error) (state, error) {
	s.stats.resume(resumeReason(err))
	return s.resume, err
}

// delivers notes that a watch has delivered: whatever kept us away has not cost a change.
func (s *stream) delivers() {
	s.cause, s.empty, s.forgotten = "", 0, false
	s.well()
}

// closed is what follows on a watch that was closed without an error.
func (s *stream) closed(lived time.Duration, frames int) (state, error) {
	switch {
	case lived >= healthyAfter:
		s.badAt, s.cause, s.forgotten = "", "", false
		s.well()
		s.stats.resume("timeout")
		return s.resume, nil
	case frames > 0:
		return s.ended(errClosed)
	}
	if s.forgotten {
		return s.repair, nil
	}
	if s.empty++; s.empty == 1 {
		s.emptyFrom = time.Now()
	}
	if s.empty > 1 && time.Since(s.probed) >= probeInterval {
		return s.probe, errEmpty
	}
	return s.ended(errEmpty)
}

// failed is what follows on a watch that ended with an error.
func (s *stream) failed(err error) (state, error) {
	switch classify(err) {
	case expired:
		if time.Since(s.repairedAt) < backoffMax { // it forgets faster than we list
			return s.repair, err
		}
		return s.repair, nil // at once: what comes while we wait falls into the gap as well
	case undecodable:
		if s.badAt == s.last() {
			s.cause = "decode"
			return s.repair, err
		}
		s.badAt = s.last()
	}
	return s.ended(err)
}

// probe tells an expired position from a network that drops watches: resources without a watch cache answer a watch
// that they cannot serve by closing it (kubernetes/kubernetes#104171), but a LIST at the position says the truth.
func (s *stream) probe(ctx context.Context) (state, error) {
	s.probed = time.Now()
	_, err := s.src.at(ctx, s.pos.ResourceVersion)
	if errors.Is(err, errInexact) { // nobody knows: a gap that was none is better than silence for ever
		s.forgotten = time.Since(s.emptyFrom) >= doubtAfter
		return s.resume, nil
	}
	if s.forgotten = classify(err) == expired; err != nil && !s.forgotten {
		return s.failed(err)
	}
	return s.resume, nil // the watch has the last word: a watch cache may remember what etcd has forgotten
}

// last is the newest version that was seen.
func (s *stream) last() string { return cmp.Or(s.pos.AheadAt, s.pos.ResourceVersion) }

// take writes what the watch delivered, and moves the position.
func (s *stream) take(ctx context.Context, e watch.Event) error {
	switch obj := e.Object.(type) {
	case *frames:
		return s.changes(ctx, obj)
	case *metav1.Status:
		return fmt.Errorf("watch %s at %s: %w", s.src.res.Name(), s.pos.ResourceVersion, apierrors.FromObject(obj))
	default:
		return fmt.Errorf("watch %s: a frame of type %s with %T", s.src.res.Name(), e.Type, e.Object)
	}
}

// changes hands over what arrived together at once. An error does not take back what came before it.
func (s *stream) changes(ctx context.Context, fs *frames) (err error) {
	if s.tellLeft(ctx, *fs); ctx.Err() != nil && s.mayLeave { // the next run reads them again, and can tell
		return nil
	}
	now := time.Now()
	s.batch = s.batch[:0]
	bookmarks := 0
	s.dropped = 0
	for _, f := range *fs {
		if f.verb == watch.Bookmark {
			bookmarks++
			err = s.bookmark(f.Object.ResourceVersion, now)
		} else {
			err = s.change(f, now)
		}
		if err != nil {
			break
		}
	}
	s.stats.took(now, len(*fs)-bookmarks, bookmarks, s.dropped, s.pos.AsOf)
	s.src.cutter.pool.passed(fs)
	s.put(ctx, s.batch...)
	clear(s.batch)
	return err
}

// bookmark moves the position without an event.
func (s *stream) bookmark(rv string, now time.Time) error {
	s.bookmarks = true
	if c, err := compare(rv, s.last()); err != nil || c < 0 {
		return err
	}
	if now.Before(s.lateUntil) {
		now = s.pos.AsOf
	}
	s.pos = event.Position{ResourceVersion: rv, AsOf: now}
	s.batch = append(s.batch, item{stream: s.Stream, after: s.pos})
	return nil
}

// change makes an event of a frame, unless it was written before the watch was opened again.
func (s *stream) change(f *frame, now time.Time) error {
	f.Stream, f.Time, f.Origin = s.Stream, now, event.Live
	switch f.verb {
	case watch.Added:
		f.Type = event.Added
	case watch.Modified:
		f.Type = event.Modified
	case watch.Deleted:
		if f.Type == 0 { // see tellLeft
			f.Type = event.Deleted
		}
	}
	fresh, err := s.advance(f)
	switch {
	case err != nil:
		return err
	case !fresh:
		s.dropped++
		return nil
	case f.verb == watch.Deleted:
		s.ledger.remove(&f.Object)
	default:
		s.note(f)
	}
	s.batch = append(s.batch, s.item(f))
	return nil
}

// tellLeft finds out which of the deletions are objects that only left the selectors: the API server sends the same for
// both.
func (s *stream) tellLeft(ctx context.Context, fs frames) {
	if !s.mayLeave {
		return
	}
	gone := slices.DeleteFunc(slices.Clone(fs), func(f *frame) bool { return f.verb != watch.Deleted })
	for f, d := range inParallel(gone, func(f *frame) departure { return s.departure(ctx, &f.Object, f.Object.ResourceVersion) }) {
		f.Type, f.Ambiguous = d.as(), d.ambiguous
	}
}

// advance moves the position to just before f's version, the newest that may still be incomplete, and says whether f is
// new. A frame out of order is written and moves nothing.
func (s *stream) advance(f *frame) (fresh bool, err error) {
	id, rv := f.Object.Incarnation(), f.Object.ResourceVersion
	if rv == s.pos.AheadAt {
		if slices.Contains(s.pos.Ahead, id) {
			return false, nil
		}
		// Positions that were handed over share the array, each up to its own length.
		s.pos.Ahead = append(s.pos.Ahead, id)
		return true, nil
	}
	last := s.last()
	if c, err := compare(rv, last); err != nil || c <= 0 {
		return true, err
	}
	s.pos = event.Position{ResourceVersion: last, AheadAt: rv, Ahead: s.alone(id), AsOf: s.pos.AsOf}
	return true, nil
}

// alone is []string{id}. Every change needs one, so many come from one piece of memory.
func (s *stream) alone(id string) []string {
	if len(s.ids) == cap(s.ids) {
		s.ids = make([]string, 0, 256)
	}
	s.ids = append(s.ids, id)
	return s.ids[len(s.ids)-1 : len(s.ids) : len(s.ids)]
}
