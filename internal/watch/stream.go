package watch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"watcher/internal/event"
)

// A stream reads one resource × scope × selector: one goroutine, one watch, one position.
//
//	start ──▶ follow ──closed──▶ back off ──▶ follow
//	  │no position  │ expired · decoding error
//	  ▼             ▼
//	snapshot ──▶ follow    repair ──▶ snapshot ──▶ follow
type stream struct {
	*event.Stream
	src     *source
	out     *writer
	log     *zap.Logger
	initial Initial
	once    bool
	late    bool   // found after the start: nothing that is wrong with it may end the others
	version string // watcher's own

	pos     event.Position
	asOf    time.Time // when pos was the present, as far as we know
	started bool
	batch   []item   // handed over together
	ids     []string // see alone

	// snapshot and repair
	list   *list
	origin event.Origin
	count  int // present events since the list began, or began again

	// follow
	bookmarks bool // the resource has shown one, so that their absence means something
	empty     int  // watches in a row that ended without a frame
	probed    time.Time
	forgotten bool      // a LIST at the position said so
	badAt     string    // position at which a frame could not be decoded
	cause     string    // what the next gap's reason will be, unless it is plain expiry
	stalledAt time.Time // when the buffer had last been full for long

	repairedAt time.Time // when the last repair began

	backoff backoff
	trouble string // what was last said to be wrong
}

// A state is one of the stream's. It returns the next one, nil at the end, and the error that led there: the stream
// waits before it goes on.
type state func(context.Context) (state, error)

// run reads until ctx ends, and then writes stopped. Only a request that can never work, or with once any error, ends
// it earlier.
func (s *stream) run(ctx context.Context) error {
	next := state(s.start)
	for next != nil && ctx.Err() == nil {
		after, err := next(ctx)
		if err != nil && ctx.Err() == nil {
			if err := s.settle(ctx, err); err != nil {
				s.stop()
				return err
			}
		}
		next = after
	}
	s.stop()
	if s.once && next != nil {
		return fmt.Errorf("stopped before everything was listed: %w", context.Cause(ctx))
	}
	return nil
}

func (s *stream) stop() {
	if s.started {
		s.out.append(s.statement(event.Stopped, event.StoppedData{ResourceVersion: s.pos.ResourceVersion}))
	}
}

// start goes on from the position, if there is one.
func (s *stream) start(ctx context.Context) (state, error) {
	switch {
	case s.pos.ResourceVersion != "":
		s.begin(ctx, s.pos.ResourceVersion, true)
		return s.follow, nil
	case s.initial == InitialNone && !s.once:
		return s.now(ctx)
	default:
		s.list, s.origin = s.src.list(), event.Snapshot
		return s.snapshot, nil
	}
}

// now starts at the present without listing it.
func (s *stream) now(ctx context.Context) (state, error) {
	l := s.src.list()
	if _, err := l.first(ctx); err != nil {
		return s.start, err
	}
	s.pos, s.asOf, s.cause = event.Position{ResourceVersion: l.version}, l.asOf, ""
	s.begin(ctx, l.version, false)
	return s.follow, nil
}

// begin writes started, once.
func (s *stream) begin(ctx context.Context, rv string, resumed bool) {
	if s.started {
		return
	}
	s.started = true
	d := event.StartedData{
		Namespaces: []string{}, LabelSelector: s.LabelSelector, FieldSelector: s.FieldSelector,
		Payload: string(s.src.sel.Payload), ResourceVersion: rv, Resumed: resumed, WatcherVersion: s.version,
	}
	if s.Namespace != "" {
		d.Namespaces = append(d.Namespaces, s.Namespace)
	}
	if !resumed {
		d.Reason = "no position was saved"
	}
	s.put(ctx, s.statement(event.Started, d))
}

// settle decides whether to go on after err, says so once per change, and waits.
func (s *stream) settle(ctx context.Context, err error) error {
	v := classify(err)
	switch {
	case v == refused && !s.started && !s.late:
		return &UsageError{s.complaint(err).Error()}
	case s.once:
		return s.complaint(err)
	}
	wait := max(s.backoff.next(), retryAfter(err))
	switch v {
	case forbidden:
		wait, s.cause = denialInterval, "forbidden"
	case removed:
		wait, s.cause = denialInterval, "removed"
	case refused:
		wait = denialInterval
	}
	s.say(err, wait)
	sleep(ctx, wait)
	return nil
}

// say logs a change for the worse, once.
func (s *stream) say(err error, wait time.Duration) {
	what, do := s.src.diagnose(err)
	fields := advised(do, zap.Error(err), zap.Stringer("next", wait.Round(time.Millisecond)))
	switch {
	case errors.Is(err, errClosed), s.trouble == what:
		s.log.Debug(what, fields...)
	case errors.Is(err, errEmpty) && (s.empty < 3 || s.trouble != ""):
		// A restart, or an outage in the form that client-go gives it: the next try will tell, or has told.
		s.log.Debug(what, fields...)
	default:
		s.trouble = what
		s.log.Warn(what, fields...)
	}
}

// well logs a change for the better, once.
func (s *stream) well() {
	if s.trouble != "" {
		s.trouble = ""
		s.log.Info("reading again")
	}
}

func (s *stream) complaint(err error) error {
	what, do := s.src.diagnose(err)
	return complaint(what, do, err)
}

// statement is a stream event.
func (s *stream) statement(t event.Type, data any) item {
	ev := &event.Event{Stream: s.Stream, Type: t, Time: time.Now(), Data: data}
	return item{stream: s.Stream, event: ev, after: event.Checkpoint{Position: s.pos}}
}

// item is an object event, which leads to the position.
func (s *stream) item(f *frame) item {
	return item{s.Stream, &f.Event, f, event.Checkpoint{Position: s.pos}}
}

// put hands events over. While the buffer is full it waits, and with it the reading.
func (s *stream) put(ctx context.Context, items ...item) {
	begin := time.Now()
	s.out.put(ctx, items)
	if now := time.Now(); now.Sub(begin) >= time.Second { // so long that an API server may give us up
		s.stalledAt = now
	}
}
