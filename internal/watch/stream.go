package watch

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"watcher/internal/event"
)

// A stream reads one resource × scope × selector: one goroutine, one watch, one position.
//
//	start ──▶ resume ──▶ follow ──closed──▶ back off ──▶ resume
//	  │no position │ rewound │ expired · decoding error
//	  ▼            ▼         ▼
//	snapshot    rewind    repair ──▶ compare ──▶ heal ──▶ follow
type stream struct {
	*event.Stream
	src     *source
	out     *writer
	log     *zap.Logger
	initial Initial
	once    bool
	only    event.Parts // modified events are written only if they touched one of these; 0: all
	budget  int         // point reads that one repair may cost
	held    string      // why there is no position: "" if there is one
	stats   tallier
	late    bool   // found after the start: nothing that is wrong with it may end the others
	version string // watcher's own

	pos     event.Position
	started bool
	resumed bool     // it went on from a position that was saved
	batch   []item   // handed over together
	dropped int      // of those that came together: were written already
	ids     []string // see alone

	ledger     *ledger // nil with once
	incomplete bool    // the ledger does not know all that exists
	mayLeave   bool    // an object may stop matching the selectors
	witness    event.Witness
	deaf       atomic.Int64 // when the API server last did not say how an object departed, Unix nanoseconds
	unheard    int          // how often in a row it could not be asked
	lateUntil  time.Time    // until when bookmarks may come late: they lay about while we did not read

	// snapshot and repair
	list     *list
	newest   event.Witness // of what is listed
	listedAt string        // the version of a list that could not be finished
	origin   event.Origin
	wrote    event.SyncedData // since the snapshot began, or the gap
	healed   event.Healed     // likewise
	healing  string           // reason of a gap that a crash left open
	gapOpen  *repair
	blind    bool // what existed at the gap's beginning is not known
	stuck    int  // reads of one version that failed in a row
	inexact  bool // the API server does not answer for exact versions
	wordy    bool // its protobuf cannot be read

	// follow
	bookmarks bool      // the resource has shown one, so that their absence means something
	empty     int       // watches in a row that ended without a frame
	emptyFrom time.Time // the first of them
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
	defer func() { s.gapOpen.close() }()
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
		c := s.stats.read()
		s.log.Debug("stopped", zap.Any("resumes", c.Resumes), zap.Any("gaps", c.Gaps), zap.Any("healed", c.Healed), zap.Int("duplicates", c.Duplicates))
		s.out.append(s.statement(event.Stopped, event.StoppedData{ResourceVersion: s.pos.ResourceVersion}))
	}
}

// start goes on from the position, if there is one.
func (s *stream) start(ctx context.Context) (state, error) {
	if !s.covered() {
		s.healing = "" // whatever it was, a list of everything is to come
	}
	switch {
	case s.covered():
		s.resumed = true
		s.begin(ctx, s.pos.ResourceVersion, false)
		return s.resume, nil
	case !s.once && s.ledger.size > 0:
		return s.begun, nil
	case s.initial == InitialNone && !s.once:
		return s.now(ctx)
	default:
		s.list = s.src.list()
		return s.snapshot, nil
	}
}

// now starts at the present without listing it.
func (s *stream) now(ctx context.Context) (state, error) {
	l := s.src.list()
	if _, err := l.first(ctx); err != nil {
		return s.start, err
	}
	s.pos, s.cause, s.incomplete = event.Position{ResourceVersion: l.version, AsOf: l.asOf}, "", true
	s.begin(ctx, l.version, true)
	return s.resume, nil
}

// begin writes started, once: where it goes on, or else begins, and whether what exists is left unlisted.
func (s *stream) begin(ctx context.Context, rv string, unlisted bool) {
	if s.started {
		return
	}
	s.started = true
	d := event.StartedData{
		Namespaces: []string{}, LabelSelector: s.LabelSelector, FieldSelector: s.FieldSelector, Filter: s.only.Names(),
		Payload: string(s.src.sel.Payload), ResourceVersion: rv, Resumed: s.resumed, WatcherVersion: s.version, Unlisted: unlisted,
	}
	if s.Namespace != "" {
		d.Namespaces = append(d.Namespaces, s.Namespace)
	}
	if !d.Resumed {
		d.Reason = s.held
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
	return item{stream: s.Stream, event: ev, after: s.pos}
}

// item is an object event, which leads to the position.
func (s *stream) item(f *frame) item {
	return item{stream: s.Stream, event: &f.Event, frame: f, after: s.pos}
}

// put hands events over. While the buffer is full it waits, and with it the reading.
func (s *stream) put(ctx context.Context, items ...item) {
	begin := time.Now()
	s.out.put(ctx, items)
	if now := time.Now(); now.Sub(begin) >= time.Second { // so long that an API server may give us up
		s.stalledAt, s.lateUntil = now, now.Add(time.Minute)
	}
}
