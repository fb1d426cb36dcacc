package verify

import "watcher/internal/event"

// change takes an object's event.
func (s *stream) change(l *line) {
	s.sum.Events++
	if !s.open {
		s.finding(Order, "the stream was stopped before")
	}
	sound, live := s.identified(l), l.Data.Origin == event.Live.String()
	if !s.counted(l.Data.Seq) {
		s.sum.Misplaced++
		return
	}
	s.counts[l.is]++
	if !sound {
		s.holes = true
		return
	}
	expected := s.expects(l, live)
	ordered := !live || s.ordered(l.Data.ResourceVersion)
	if ordered {
		expected = s.remember(l, live) && expected
	}
	if !expected || !ordered {
		s.sum.Misplaced++
	}
}

// identified holds the id against the data.
func (s *stream) identified(l *line) bool {
	d := &l.Data
	if l.wrong != nil {
		s.finding(Altered, "%v", l.wrong)
		return false
	}
	if d.Kind != s.sum.Kind {
		s.finding(Altered, "kind %q, in a stream of %q", d.Kind, s.sum.Kind)
		return false
	}
	var buf [128]byte
	ev := event.Event{Type: l.is, Epoch: s.epoch, Object: d.object()}
	id := ev.AppendID(buf[:0])
	if l.ID == string(id) {
		return true
	}
	bare := string(id[len(ev.Prefix()):])
	if n := len(l.ID) - len(bare); n >= 0 && l.ID[n:] == bare {
		if epoch, err := parseEpoch(l.ID[:n]); err == nil {
			s.finding(Missing, "the id %s is of epoch %d, after %d: the gap of a rewind is missing", l.ID, epoch, s.epoch)
			s.rewound(epoch)
			return true
		}
	}
	s.finding(Altered, "the id is %s, and by the data it is %s", l.ID, id)
	return false
}

// counted reports whether an event with this seq can come now: the next one, if none is missing.
func (s *stream) counted(seq uint64) bool {
	switch {
	case !s.known || seq > s.seq:
		s.reached(seq, seq-1, "seq %d comes after %d")
		return true
	case seq > s.lateFrom && seq <= s.lateTo:
		s.finding(Order, "seq %d comes after %d", seq, s.seq)
	default:
		s.finding(Repeated, "seq %d comes after %d, and it was there before", seq, s.seq)
	}
	return false
}

// expects reports whether an event of this origin can come now.
func (s *stream) expects(l *line, live bool) bool {
	switch {
	case live && s.phase == repairing:
		s.finding(Order, "a live event in the middle of a repair: its synced is missing, or comes later")
		s.phase = following
	case live:
		s.unlisted(l)
		return true
	case l.Data.Origin == event.Snapshot.String() && s.phase != listing:
		s.finding(Order, "an event of the first list, which is over")
	case l.Data.Gap != "" && (s.phase != repairing || l.Data.Gap != s.gap):
		s.finding(Order, "an event of the repair of %s, which is not open", l.Data.Gap)
		s.phase, s.gap, s.all = repairing, l.Data.Gap, false
		s.lists(l.n)
		s.counts[l.is] = 1
	default:
		return s.bounded(l)
	}
	return false
}

// bounded holds the version of what a list or a repair showed against where it began: what a repair found happened in
// the gap. Where it ends, synced will say.
func (s *stream) bounded(l *line) bool {
	version := l.Data.ResourceVersion
	if s.latest.version == "" || compare(version, s.latest.version) > 0 {
		s.latest = state{version: version, line: l.n}
	}
	g := s.openGap()
	if g == nil || s.all || l.is == event.Present || compare(version, g.From) > 0 {
		return true
	}
	s.finding(Order, "version %s, in the repair of the gap after %s", version, g.From)
	return false
}

// ordered holds the version of a live event against those before.
func (s *stream) ordered(version string) bool {
	switch {
	case s.newest != "" && compare(version, s.newest) < 0:
		s.finding(Order, "version %s comes after %s", version, s.newest)
		return false
	case s.pos != "" && compare(version, s.pos) <= 0:
		s.finding(Order, "version %s comes after everything up to %s was written", version, s.pos)
		return false
	}
	s.newest = version
	return true
}

// remember takes news into what is known of the objects.
func (s *stream) remember(l *line, live bool) bool {
	d := &l.Data
	o := d.object()
	c := change{
		id: o.Incarnation(), key: l.Subject, gone: l.is == event.Deleted || l.is == event.Left,
		state: state{version: d.ResourceVersion, line: l.n, seq: d.Seq, parts: s.parts(d)},
	}
	all := s.listed && !s.holes && !s.relists
	if kind, problem := s.objects.check(l.is, d.Origin, &c, all); problem != "" {
		s.finding(kind, "%s %s: %s", l.is, l.Subject, problem)
		if kind != Missing {
			return false
		}
	}
	s.objects.put(c, live)
	if c.gone {
		s.objects.bury(&c, l.is == event.Deleted && d.UID != "")
	}
	return true
}
