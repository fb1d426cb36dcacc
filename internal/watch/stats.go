package watch

import (
	"errors"
	"maps"
	"sync"
	"time"

	"watcher/internal/event"
)

// Stats counts what befell the streams of one or more Runs. The zero value is ready. Any number of goroutines may use it.
type Stats struct {
	mu      sync.Mutex
	streams map[string]*Counts
}

// Counts are of one stream, since the process started.
type Counts struct {
	Resumes      map[string]int // watches opened where the last one had stopped, by what had ended it
	Gaps         map[string]int // by reason
	Healed       map[string]int // objects, by level: history, net, inferred
	Duplicates   int            // changes that came again and were dropped
	PositionAsOf time.Time      // the position is of that moment or later
	LastFrame    time.Time      // of a change
	LastBookmark time.Time
}

// Of returns the counts of one stream, by event.Stream.Key.
func (s *Stats) Of(stream string) Counts {
	s.mu.Lock()
	c := s.streams[stream]
	s.mu.Unlock()
	if c == nil {
		return Counts{}
	}
	return tallier{s, c}.read()
}

// resumeReason is a word for what ended a watch.
func resumeReason(err error) string {
	switch {
	case errors.Is(err, errClosed):
		return "closed"
	case errors.Is(err, errEmpty):
		return "empty"
	case errors.Is(err, errIdle):
		return "idle"
	case errors.Is(err, errOverdue):
		return "overdue"
	case classify(err) == undecodable:
		return "decode"
	case classify(err) == forbidden:
		return "forbidden"
	case classify(err) == removed:
		return "removed"
	default:
		return "error"
	}
}

// A tallier counts for one stream.
type tallier struct {
	stats *Stats
	*Counts
}

func (s *Stats) tallier(stream string) tallier {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams == nil {
		s.streams = map[string]*Counts{}
	}
	c := s.streams[stream]
	if c == nil {
		c = &Counts{Resumes: map[string]int{}, Gaps: map[string]int{}, Healed: map[string]int{}}
		s.streams[stream] = c
	}
	return tallier{s, c}
}

func (t tallier) read() Counts {
	t.stats.mu.Lock()
	defer t.stats.mu.Unlock()
	out := *t.Counts
	out.Resumes, out.Gaps, out.Healed = maps.Clone(out.Resumes), maps.Clone(out.Gaps), maps.Clone(out.Healed)
	return out
}

func (t tallier) do(f func(*Counts)) {
	t.stats.mu.Lock()
	defer t.stats.mu.Unlock()
	f(t.Counts)
}

func (t tallier) resume(reason string) { t.do(func(c *Counts) { c.Resumes[reason]++ }) }
func (t tallier) gap(reason string)    { t.do(func(c *Counts) { c.Gaps[reason]++ }) }

func (t tallier) healed(h event.Healed) {
	t.do(func(c *Counts) {
		for level, n := range map[string]int{"history": h.History, "net": h.Net, "inferred": h.Inferred} {
			if n > 0 {
				c.Healed[level] += n
			}
		}
	})
}

func (t tallier) position(asOf time.Time) { t.do(func(c *Counts) { c.PositionAsOf = asOf }) }

// took notes what came together.
func (t tallier) took(now time.Time, changes, bookmarks, duplicates int, asOf time.Time) {
	t.do(func(c *Counts) {
		if changes > 0 {
			c.LastFrame = now
		}
		if bookmarks > 0 {
			c.LastBookmark = now
		}
		c.Duplicates += duplicates
		c.PositionAsOf = asOf
	})
}
