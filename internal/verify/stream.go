package verify

import (
	"fmt"

	"watcher/internal/event"
)

// A phase says what a stream is doing.
type phase uint8

const (
	following phase = iota
	listing         // the first list, or with --initial none nothing yet
	repairing
)

// A stream is what is remembered of one stream: the promises that its next line must keep.
type stream struct {
	log *Log
	sum Stream
	place
	runs map[int64]bool

	// The run.
	run       int64
	n         uint64 // of its last stream event
	open      bool   // started, and not stopped
	startedAt int    // line
	phase     phase
	pos       string // position that the run has stated; "": none
	newest    string // version of its last live event, or of the list before
	filtered  uint64 // as the last progress said
	counts    [event.Left + 1]int
	lost      int   // events that are missing since the first list or the repair began
	latest    state // of a list or a repair, the newest version so far

	epoch   uint64
	covered string // where all runs together have got; "": a first list has not finished yet
	ended   string // where the run before was stopped cleanly; "": it was not
	gap     string // id of the gap that is open
	all     bool   // its repair lists every object that exists
	relists bool   // so does what is written since a rewind, again
	partial bool   // the log begins in the middle of a first list
	listed  bool   // the log names every object that exists
	holes   bool   // lines are missing, so what the log does not name may exist

	seq              uint64 // of the last event, or what the run goes on from
	known            bool   // seq is
	lateFrom, lateTo uint64 // the events that were not there last: those after lateFrom

	objects objects
}

func newStream(l *Log, at place) *stream {
	return &stream{log: l, place: at, runs: map[int64]bool{}, objects: objects{seed: l.seed, byID: map[string]*record{}}}
}

func (s *stream) finding(k Kind, format string, args ...any) {
	s.log.found.add(k, s.log.lines, s.sum.Name(), format, args...)
}

// say takes any other stream event.
func (s *stream) say(l *line, id statementID) {
	if !s.follows(id) {
		return
	}
	var err error
	switch l.is {
	case event.Gap:
		err = say(l, s.gapped)
	case event.Synced:
		err = say(l, s.synced)
	case event.Progress:
		err = say(l, s.progress)
	case event.Stopped:
		err = say(l, s.stopped)
	}
	if err != nil {
		s.finding(Altered, "%v", err)
	}
}

func say[T any](l *line, to func(*line, T) error) error {
	d, err := statement[T](l)
	if err != nil {
		return err
	}
	return to(l, d)
}

// some says how many there are, in words.
func some(n uint64, what string) string {
	if n == 1 {
		return "1 " + what + " is"
	}
	return fmt.Sprintf("%d %ss are", n, what)
}

// position takes a statement that everything up to at has been written.
func (s *stream) position(l *line, at string) {
	if s.pos != "" && compare(at, s.pos) < 0 {
		s.finding(Order, "everything up to %s is said to be written, and it was up to %s before", at, s.pos)
		return
	}
	s.cover(l, at)
	s.objects.reach(at)
}

// cover notes that everything up to at has been written.
func (s *stream) cover(l *line, at string) {
	s.pos = at
	if s.covered == "" || l.is == event.Synced || compare(at, s.covered) > 0 {
		s.covered, s.sum.To = at, at
		if !l.at.IsZero() {
			s.sum.ToTime = l.at
		}
	}
}

// unlisted takes what only comes when no first list is being written: with --initial none there is none at all.
func (s *stream) unlisted(l *line) {
	if s.phase != listing {
		return
	}
	s.phase = following
	if s.counts[event.Present] > 0 {
		s.finding(Missing, "a first list has begun, and its synced is missing")
		return
	}
	s.cover(l, s.newest)
}

func (s *stream) progress(l *line, d event.ProgressData) error {
	if !wellFormed(d.ResourceVersion) {
		return fmt.Errorf("%q is no resourceVersion", d.ResourceVersion)
	}
	s.unlisted(l)
	if s.known && d.Seq < s.seq {
		s.finding(Order, "progress says that seq is %d, and it was %d before", d.Seq, s.seq)
	} else {
		s.reached(d.Seq, d.Seq, "progress says that seq is %d, and the last one was %d")
	}
	if d.Filtered < s.filtered {
		s.finding(Altered, "progress says that %d were filtered out, and it was %d before", d.Filtered, s.filtered)
	}
	s.filtered = d.Filtered
	s.position(l, d.ResourceVersion)
	return nil
}

func (s *stream) stopped(l *line, d event.StoppedData) error {
	s.open, s.sum.Stopped, s.ended = false, true, d.ResourceVersion
	switch {
	case d.ResourceVersion == "" && s.pos != "":
		return fmt.Errorf("stopped without a position, and everything up to %s was written", s.pos)
	case d.ResourceVersion == "":
		return nil
	case !wellFormed(d.ResourceVersion):
		return fmt.Errorf("%q is no resourceVersion", d.ResourceVersion)
	}
	s.unlisted(l)
	s.position(l, d.ResourceVersion)
	return nil
}

// reached takes the seq of the last event. Those up to another one should be in the log by now: why says so of seq and of
// the last one that is.
func (s *stream) reached(seq, upTo uint64, why string) {
	switch {
	case !s.known:
		s.lateFrom, s.lateTo = 0, upTo
	case upTo > s.seq:
		n := upTo - s.seq
		s.sum.Missing += int(n)
		s.lost += int(n)
		s.lateFrom, s.lateTo, s.holes = s.seq, upTo, true
		s.finding(Missing, why+": %s missing", seq, s.seq, some(n, "event"))
	}
	s.seq, s.known = seq, true
}

// unfinished is what is wrong with the end of the log.
func (s *stream) unfinished(all *findings) {
	if g := s.openGap(); g != nil {
		all.add(Unhealed, g.Line, s.sum.Name(), "the repair of the gap after %s (%s) has not finished", g.From, g.Reason)
	} else if s.phase == listing && s.counts[event.Present] > 0 {
		all.add(Unhealed, s.startedAt, s.sum.Name(), "the first list has not finished: nothing is covered")
	}
}
