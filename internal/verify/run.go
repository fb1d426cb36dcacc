package verify

import "watcher/internal/event"

// started begins a run.
func (s *stream) started(l *line, id statementID, d event.StartedData) {
	if !s.begins(id) {
		return
	}
	if !wellFormed(d.ResourceVersion) {
		s.finding(Altered, "%q is no resourceVersion", d.ResourceVersion)
		return
	}
	s.sum.Runs++
	switch {
	case s.sum.Runs == 1:
		s.sum.From, s.sum.FromTime, s.partial = d.ResourceVersion, l.at, d.Seq > 0
	case d.Resumed:
		s.resumed(d.ResourceVersion)
	default:
		s.anew(d)
	}
	if s.known && d.Seq < s.seq && (d.Resumed || d.Seq > 0) {
		s.sum.Repeated += int(s.seq - d.Seq)
	}
	s.reached(d.Seq, d.Seq, "started says that seq is %d, and the last one was %d")
	s.objects.newRun(d.Seq)
	if s.relists = !d.Resumed && s.epoch > 0; s.relists { // it has no position since a rewind
		s.objects.newRun(0)
	}
	if d.Payload != s.sum.Payload {
		s.objects.forgetParts()
	}
	s.sum.Filter, s.sum.Payload, s.sum.Stopped = d.Filter, d.Payload, false
	s.open, s.startedAt, s.ended, s.gap, s.filtered = true, l.n, "", "", 0
	s.lists(l.n)
	s.phase, s.all, s.pos, s.newest = listing, true, "", d.ResourceVersion
	if d.Resumed {
		s.phase = following
		s.cover(l, d.ResourceVersion)
	} else {
		s.listed = false
	}
}

// begins checks that a started is one of a run that was not there yet.
func (s *stream) begins(id statementID) bool {
	switch {
	case id.run == s.run:
		s.finding(Repeated, "started, and the run %d has started before", id.run)
		return false
	case s.runs[id.run]:
		s.finding(Order, "started, and the run %d was over", id.run)
		return false
	case id.n != 1:
		s.finding(Missing, "started is stream event %d of its run: the ones before are missing", id.n)
	case id.epoch > s.epoch && s.sum.Runs > 0:
		s.finding(Missing, "the ids are of epoch %d, after %d: the gap of a rewind is missing", id.epoch, s.epoch)
	}
	s.runs[id.run] = true
	s.run, s.n, s.epoch = id.run, id.n, id.epoch
	return true
}

// resumed is a run that goes on from a saved position.
func (s *stream) resumed(at string) {
	switch {
	case s.covered == "" && s.sum.From != "":
		s.finding(Missing, "resumed at %s, but no list or position comes before it: synced is missing", at)
	case s.sum.Stopped && (s.ended == "" || compare(at, s.ended) > 0):
		s.finding(Missing, "resumed at %s, but the run before was stopped at %q: what changed between the two is missing", at, s.ended)
	}
	if g := s.openGap(); g != nil && (g.Reason == event.Rewind || compare(at, g.From) <= 0) {
		g.Superseded = s.log.lines
	} else if g != nil {
		s.finding(Unhealed, "resumed at %s, behind the gap after %s (line %d), whose repair did not finish", at, g.From, g.Line)
	}
}

// anew is a run that goes on from no position. With a seq it goes on with a list that did not finish.
func (s *stream) anew(d event.StartedData) {
	if g := s.openGap(); g != nil {
		g.Superseded = s.log.lines
	}
	// The end of a first list that was written and not saved claims nothing.
	if s.covered != "" && !s.relists && d.Reason != event.Unfinished {
		s.finding(Restart, "began anew at %s (%s): what changed after %s is not known", d.ResourceVersion, d.Reason, s.covered)
	}
	s.partial, s.covered = s.partial && d.Seq > 0, ""
}

// follows checks that a stream event is the next of the run.
func (s *stream) follows(id statementID) bool {
	switch {
	case id.run != s.run && s.runs[id.run]:
		s.finding(Order, "an event of the run %d, which was over", id.run)
		return false
	case id.run != s.run:
		s.finding(Missing, "an event of the run %d, of which the log has no started", id.run)
		s.runs[id.run] = true
		s.run, s.n, s.known, s.holes = id.run, id.n, false, true
		s.objects.newRun(0)
	case id.n == s.n:
		s.finding(Repeated, "stream event %d of the run comes again", id.n)
		return false
	case id.n < s.n:
		s.finding(Order, "stream event %d of the run comes after %d", id.n, s.n)
		return false
	case id.n > s.n+1:
		s.finding(Missing, "stream event %d of the run comes after %d: %s missing", id.n, s.n, some(id.n-s.n-1, "stream event"))
		s.holes = true
	}
	s.n = id.n
	if !s.open {
		s.finding(Order, "the stream was stopped before")
	}
	if id.epoch != s.epoch {
		s.finding(Missing, "the ids are of epoch %d, after %d: the gap of a rewind is missing", id.epoch, s.epoch)
		s.rewound(id.epoch)
	}
	return true
}
