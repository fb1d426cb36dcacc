package watchtest

import (
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Bookmark sends a bookmark to the live watches of the resources, or of all when none is named. As with a real
// server only those get one that asked for bookmarks, whose resource has a watch cache, and that began below the
// bookmark's resourceVersion.
func (s *Server) Bookmark(rs ...Resource) {
	s.tb.Helper()
	s.live(rs, bookmark)
}

// bookmark makes one due. The lock is held.
func bookmark(lw *liveWatch) {
	lw.bookmark = lw.o.bookmarks && !lw.table.res.Uncached
	lw.rouse()
}

// BookmarkEvery sets the interval of bookmarks, a minute to begin with, and of the one two seconds before a watch's
// end. With 0 none comes but by Bookmark. Live watches follow after their next one.
func (s *Server) BookmarkEvery(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bookmarks = d
}

// LimitBacklog makes the server close a watch that is more than n changes behind, as it does with clients that do
// not read. 0, the beginning, is no limit.
func (s *Server) LimitBacklog(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backlog = n
}

// CloseWatches ends the live watches of the resources, or all when none is named, as they should end, and tells how
// many. What they have not yet been told they are not told.
func (s *Server) CloseWatches(rs ...Resource) int {
	s.tb.Helper()
	return s.command(rs, act{name: "close", end: endClean})
}

// CutWatches breaks the connections of live watches, and tells how many.
func (s *Server) CutWatches(rs ...Resource) int {
	s.tb.Helper()
	return s.command(rs, act{name: "cut", end: endCut})
}

// CutWatchesWithin breaks the connections of live watches after k bytes of the next frame that each has to send, and
// tells of how many.
func (s *Server) CutWatchesWithin(k int, rs ...Resource) int {
	s.tb.Helper()
	return s.command(rs, act{name: "cut within", bytes: max(k, 1), end: endCut})
}

// StallWatches makes live watches fall silent for ever with their connections open, not even ended by their
// timeoutSeconds, and tells how many. CloseWatches and CutWatches still end them.
func (s *Server) StallWatches(rs ...Resource) int {
	s.tb.Helper()
	return s.command(rs, act{name: "stall", end: endStall})
}

// SendError sends an ERROR frame to the live watches of a resource and ends them, and tells how many.
func (s *Server) SendError(r Resource, status *metav1.Status) int {
	s.tb.Helper()
	return s.command([]Resource{r}, act{name: "error " + strconv.Itoa(int(status.Code)), line: frame("ERROR", statusJSON(status)), end: endClean})
}

// SendLine sends a line of any kind to the live watches of a resource, and tells how many.
func (s *Server) SendLine(r Resource, line string) int {
	s.tb.Helper()
	return s.command([]Resource{r}, act{name: "line", line: []byte(line + "\n")})
}

// Watching is how many watches of the resources, or of all when none is named, are open.
func (s *Server) Watching(rs ...Resource) int {
	s.tb.Helper()
	return s.live(rs, func(*liveWatch) {})
}

// Unsent is how many changes the live watch of the resources that is furthest behind has not been sent yet.
func (s *Server) Unsent(rs ...Resource) int {
	s.tb.Helper()
	n := 0
	s.live(rs, func(lw *liveWatch) { n = max(n, len(lw.table.log)-lw.next) })
	return n
}

func (s *Server) command(rs []Resource, a act) int {
	s.tb.Helper()
	n := 0
	s.live(rs, func(lw *liveWatch) {
		if s.order(lw, a) {
			n++
		}
	})
	return n
}

// live does f to the live watches of the resources, or to all, and tells how many there are.
func (s *Server) live(rs []Resource, f func(*liveWatch)) int {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := map[*table]bool{}
	for _, r := range rs {
		wanted[s.table(r)] = true
	}
	n := 0
	for _, lw := range s.watches {
		if len(rs) == 0 || wanted[lw.table] {
			f(lw)
			n++
		}
	}
	return n
}

// order tells a watch what is to happen to it next. One that was told to end is not told anything more.
func (s *Server) order(lw *liveWatch, a act) bool {
	if lw.ending || lw.stalled && a.end == endStall {
		return false
	}
	if a.bytes == 0 { // else it happens with the next frame, if there is one
		lw.ending = a.end == endClean || a.end == endCut
		a.counted = true
		s.fired[a.name]++
		lw.q.Outcome = a.name
		if a.end == endCut {
			_ = lw.control.SetWriteDeadline(time.Unix(1, 0)) // a write that waits for the client ends, too
		}
	}
	i := 0
	for i < len(lw.acts) && lw.acts[i].after == 0 {
		i++
	}
	lw.acts = append(lw.acts[:i:i], append([]act{a}, lw.acts[i:]...)...)
	lw.rouse()
	s.moved()
	return true
}

func (lw *liveWatch) rouse() {
	select {
	case lw.wake <- struct{}{}:
	default:
	}
}
