package watch

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"watcher/internal/event"
)

// resume makes sure that the position is still one of the API server's before a watch is opened there: after an etcd
// restore a watch in the future is accepted, and says nothing for hours (kubernetes/kubernetes#107457).
func (s *stream) resume(ctx context.Context) (state, error) {
	back, err := s.isRewound(ctx, s.witness)
	switch {
	case err != nil:
		return s.failed(err)
	case back:
		return s.rewind, nil
	case s.healing != "": // by a crash: what is written of the repair is in the ledger, which the position is behind
		s.cause, s.healing = s.healing, ""
		return s.repair, nil
	}
	return s.follow, nil
}

// begun goes on with a snapshot that a crash left unfinished: what it has listed is skipped.
func (s *stream) begun(ctx context.Context) (state, error) {
	newest := s.ledger.newest()
	back, err := s.isRewound(ctx, newest)
	switch {
	case err != nil:
		return s.begun, err
	case back:
		s.begin(ctx, newest.ResourceVersion, false)
		return s.rewind, nil
	}
	s.list = s.src.list()
	return s.snapshot, nil
}

// isRewound asks for the present version by a consistent read; bookmarks and cached lists prove nothing. Once the new
// history has passed the position that says nothing any more: then the witness does.
func (s *stream) isRewound(ctx context.Context, w event.Witness) (bool, error) {
	l := s.src.list()
	if _, err := l.first(ctx); err != nil {
		return false, err
	}
	if back, err := s.isBehind(l.version); back || err != nil {
		return back, err
	}
	if w.ResourceVersion == "" {
		return false, nil
	}
	if c, err := compare(l.version, w.ResourceVersion); err != nil || c < 0 {
		return c < 0, err
	}
	f, err := s.src.named(key{w.Namespace, w.Name}).at(ctx, w.ResourceVersion)
	if s.unheard++; err == nil {
		s.unheard = 0
	}
	switch {
	case errors.Is(err, errInexact), classify(err) == expired, s.unheard > stuckAfter:
		s.unheard = 0
		return false, nil // nobody can tell any more
	case err != nil:
		return false, fmt.Errorf("look for a state that was seen before: %w", err)
	case f == nil:
		return true, nil
	}
	return witness(&f.Object) != w, nil
}

// isBehind is whether a version that was just given out lies before the position.
func (s *stream) isBehind(version string) (bool, error) {
	if !s.covered() {
		return false, nil
	}
	c, err := compare(version, s.last())
	return c < 0, err
}

// rewind begins the next epoch. Everything is listed again, also what has the version that it had: the same number may
// stand for another state. A crash from here on leaves no position, but who existed: the next start lists again.
func (s *stream) rewind(ctx context.Context) (state, error) {
	s.gapOpen.close()
	from, asOf := s.pos.ResourceVersion, s.pos.AsOf
	if !s.covered() {
		from = s.ledger.newest().ResourceVersion
	}
	s.pos, s.witness = event.Position{}, event.Witness{}
	s.ledger.forgetVersions()
	s.log.Error("the API server has been restored from a backup: everything is listed again", zap.String("position", from))
	s.gap(ctx, event.Rewind, from, asOf)
	s.list, s.listedAt, s.gapOpen, s.healing = s.src.list(), "", nil, ""
	return s.snapshot, nil
}
