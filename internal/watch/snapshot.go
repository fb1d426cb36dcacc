package watch

import (
	"context"
	"time"

	"go.uber.org/zap"

	"watcher/internal/event"
)

// snapshot writes what exists, as present events, and ends at the list's version. A crash in the middle leaves no
// position: the next start lists again. So does a list whose version the API server forgot before its last page; the
// "inconsistent" token that it offers then would go on at a newer version, and hide what was deleted between the two.
func (s *stream) snapshot(ctx context.Context) (state, error) {
	for f, err := range s.list.items(ctx) {
		if err != nil {
			if classify(err) == expired && ctx.Err() == nil {
				s.again(ctx)
			}
			return s.snapshot, err
		}
		s.begin(ctx, s.list.version, false)
		s.count++
		f.Stream, f.Type, f.Time, f.Origin = s.Stream, event.Present, time.Now(), s.origin
		s.put(ctx, s.item(f))
		if ctx.Err() != nil {
			return s.snapshot, nil
		}
	}
	s.begin(ctx, s.list.version, false)
	s.pos, s.asOf, s.cause = event.Position{ResourceVersion: s.list.version}, s.list.asOf, ""
	d := event.SyncedData{ResourceVersion: s.list.version, Present: s.count}
	if s.origin == event.Repair {
		d.Deletions = "unknown" // what was deleted in the gap is not in the list, and nothing remembers that it was there
	}
	s.put(ctx, s.statement(event.Synced, d))
	s.list, s.count = nil, 0
	s.well()
	if s.once {
		return nil, nil
	}
	return s.follow, nil
}

// again begins the list again. Of a snapshot that is a gap: what was listed may be gone when it is listed again. The gap
// of a repair is open already.
func (s *stream) again(ctx context.Context) {
	if s.count > 0 && s.origin == event.Snapshot {
		s.gap(ctx, "expired", s.list.version, s.list.asOf)
		s.origin = event.Repair
	}
	s.list, s.count = s.src.list(), 0
}

func (s *stream) gap(ctx context.Context, reason, from string, at time.Time) {
	s.repairedAt = time.Now()
	s.log.Warn("changes may have gone unseen", zap.String("after", from), zap.String("reason", reason))
	s.put(ctx, s.statement(event.Gap, event.GapData{Reason: reason, From: from, FromTime: at.UTC(), ToTime: time.Now().UTC()}))
}

// repair writes the gap after the position, and then what exists now. The position stays where it is until all of that
// is written: a crash in the middle begins the repair again.
func (s *stream) repair(ctx context.Context) (state, error) {
	reason := "expired"
	switch {
	case s.cause != "":
		reason = s.cause
	case time.Since(s.stalledAt) < time.Minute: // while the sink took nothing the API server gave up on us
		reason = "sink"
	}
	s.gap(ctx, reason, s.pos.ResourceVersion, s.asOf)
	s.cause, s.badAt, s.empty, s.probed, s.forgotten = "", "", 0, time.Time{}, false
	s.list, s.origin = s.src.list(), event.Repair
	return s.snapshot, nil
}
