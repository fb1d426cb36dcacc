package watchtest

// A Face is how a watch learns that its resourceVersion is too old.
type Face int

// The faces of expiry.
const (
	FaceUsual  Face = iota // FaceFrame, or FaceClose for a resource without a watch cache
	FaceFrame              // HTTP 200 and an ERROR frame: 410, reason Expired
	FaceGone               // HTTP 200 and an ERROR frame: 410, reason Gone, as old servers say
	FaceStatus             // HTTP 410
	FaceClose              // HTTP 200 and an immediate clean close
)

// ExpireAs sets how watches of the resources, or of all when none is named, learn that they have expired.
func (s *Server) ExpireAs(face Face, rs ...Resource) {
	s.tb.Helper()
	s.each(rs, func(t *table) { t.face = face })
}

// Compact makes etcd and the watch caches forget what is below rv: exact LISTs, continue tokens and watches from
// there expire. Live watches go on.
func (s *Server) Compact(rv uint64) {
	s.CompactStore(rv)
	s.Forget(rv)
}

// CompactStore makes etcd alone forget: exact LISTs and continue tokens below rv expire, watches only where there is
// no watch cache.
func (s *Server) CompactStore(rv uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compacted = max(s.compacted, min(rv, s.rv))
}

// Forget makes the watch caches of the resources, or of all when none is named, forget what is below rv: new watches
// from there expire while exact LISTs still answer.
func (s *Server) Forget(rv uint64, rs ...Resource) {
	s.tb.Helper()
	s.each(rs, func(t *table) { t.horizon = max(t.horizon, min(rv, s.rv)) })
}

// Restart is what the restart of an API server does to its clients: connections break, and the watch caches begin
// anew with what is there now.
func (s *Server) Restart() {
	s.Forget(s.RV())
	s.dropConns(false)
}

// Rewind takes the server back to rv, as an etcd that is restored from a backup: later changes are lost, history
// goes on from there, the watch caches begin anew, and connections break.
func (s *Server) Rewind(rv uint64) {
	s.mu.Lock()
	s.rv = min(rv, s.rv)
	s.compacted = min(s.compacted, s.rv)
	s.epoch++
	for _, t := range s.tables {
		kept := t.log[:after(t.log, s.rv)]
		for _, c := range t.log[len(kept):] {
			c.lost = true
		}
		t.log, t.byKey, t.keys, t.horizon = nil, map[string][]*change{}, nil, s.rv
		for _, c := range kept {
			t.append(c)
		}
	}
	for _, lw := range s.watches {
		lw.next = after(lw.table.log, max(lw.start, s.rv))
		s.order(lw, act{name: "rewind", end: endCut})
	}
	s.moved()
	s.mu.Unlock()
	s.dropConns(false)
}

// expired tells whether a watch from rv can no longer be served.
func (s *Server) expired(t *table, rv uint64) bool {
	if t.res.Uncached {
		return rv+1 < s.compacted // etcd still has the revisions from the compaction's own on
	}
	return rv < t.horizon
}

// each does f to the tables of the resources, or to all.
func (s *Server) each(rs []Resource, f func(*table)) {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rs {
		f(s.table(r))
	}
	if len(rs) == 0 {
		for _, t := range s.tables {
			f(t)
		}
	}
}
