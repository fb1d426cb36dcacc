package verify

import (
	"fmt"

	"watcher/internal/event"
)

// openGap is the gap whose repair has not finished.
func (s *stream) openGap() *Gap {
	if i := len(s.sum.Gaps) - 1; i >= 0 && s.sum.Gaps[i].Synced == 0 && s.sum.Gaps[i].Superseded == 0 {
		return &s.sum.Gaps[i]
	}
	return nil
}

// rewound begins another epoch: nothing is known to be complete in it.
func (s *stream) rewound(epoch uint64) {
	s.epoch, s.pos, s.newest, s.relists, s.partial = epoch, "", "", true, false
	s.objects.rewind()
}

func (s *stream) gapped(l *line, d event.GapData) error {
	if !wellFormed(d.From) {
		return fmt.Errorf("%q is no resourceVersion", d.From)
	}
	if g := s.openGap(); g != nil {
		if g.From != d.From && d.Reason != event.Rewind {
			s.finding(Unhealed, "a gap after %s, while the repair of the one after %s (line %d) has not finished", d.From, g.From, g.Line)
		}
		g.Superseded = l.n
	}
	// The first list begins again, or what is left of it is of another history.
	first := s.phase == listing && (s.counts[event.Present] > 0 || d.Reason == event.Rewind)
	if !first {
		s.unlisted(l)
	}
	if s.pos != "" && compare(d.From, s.pos) < 0 {
		s.finding(Order, "a gap after %s, but everything up to %s was written", d.From, s.pos)
	}
	s.sum.Gaps = append(s.sum.Gaps, Gap{Line: l.n, Reason: d.Reason, From: d.From, FromTime: d.FromTime, ToTime: d.ToTime})
	s.gap, s.phase, s.all = l.ID, repairing, first || d.Reason == event.Rewind
	s.lists(l.n)
	if d.Reason == event.Rewind {
		s.rewound(s.epoch + 1)
	}
	return nil
}

func (s *stream) synced(l *line, d event.SyncedData) error {
	if !wellFormed(d.ResourceVersion) {
		return fmt.Errorf("%q is no resourceVersion", d.ResourceVersion)
	}
	switch {
	case s.phase == following:
		s.finding(Missing, "synced, but neither a first list nor a gap comes before it")
	case (d.Healed != nil) != (s.phase == repairing):
		s.finding(Altered, "synced of a repair says how it was healed, and of a first list it does not")
	}
	s.tally(&d)
	if g := s.openGap(); g != nil && s.phase == repairing {
		if g.Reason != event.Rewind && compare(d.ResourceVersion, g.From) < 0 {
			s.finding(Order, "synced at %s, before the gap after %s", d.ResourceVersion, g.From)
		}
		g.Synced, g.Repair = l.n, &d
		if d.Healed == nil || d.Deletions != "known" {
			s.finding(Deletions, "what was deleted in the gap after %s (line %d) is not known", g.From, g.Line)
		}
	}
	s.ends(d)
	s.position(l, d.ResourceVersion)
	return nil
}

// lists begins a list or a repair.
func (s *stream) lists(line int) {
	clear(s.counts[:])
	s.lost, s.latest, s.objects.since = 0, state{}, line
}

// ends ends the first list or the repair.
func (s *stream) ends(d event.SyncedData) {
	s.listed = s.listed || s.all && !s.partial
	s.objects.synced(d.ResourceVersion, s.phase == listing || d.Healed != nil && d.Deletions == "known", !s.all && len(s.sum.Filter) > 0)
	s.relists = false
	s.phase, s.gap, s.newest = following, "", d.ResourceVersion
	clear(s.counts[:])
	if s.latest.version != "" && compare(s.latest.version, d.ResourceVersion) > 0 {
		s.log.found.add(Order, s.latest.line, s.sum.Name(), "version %s, in what was complete at %s (line %d)", s.latest.version, d.ResourceVersion, s.log.lines)
	}
}

// tally holds what synced says that was written against what was.
func (s *stream) tally(d *event.SyncedData) {
	for i, said := range []int{d.Present, d.Added, d.Modified, d.Deleted, d.Left} {
		t := event.Present + event.Type(i)
		switch fewer := said - s.counts[t]; {
		case fewer < 0:
			s.finding(Order, "synced counts %d %s, and the log has %d", said, t, s.counts[t])
		case fewer > s.lost:
			s.finding(Missing, "synced counts %d %s, and the log has %d", said, t, s.counts[t])
		default: // seq has told already
			s.lost -= fewer
		}
	}
}
