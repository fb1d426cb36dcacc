package watchtest

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A liveWatch is an open watch. All of it but wake is guarded by the server's lock.
type liveWatch struct {
	table    *table
	o        *options
	start    uint64   // it is told what is above; bookmarks at it or below are not sent
	initial  []*state // still to be sent as synthetic ADDED
	next     int      // the next change in the table's log
	bookmark bool     // one is due
	ending   bool     // a command has ended it
	q        *Request
	acts     []act // what is to happen to it, the commands first
	rule     *Rule
	stalled  bool
	control  *http.ResponseController
	wake     chan struct{}
}

func (c *call) watch() {
	o, status := c.options()
	if status != nil {
		c.fail(status)
		return
	}
	lw, ok := c.open(o)
	if !ok {
		c.expire()
		return
	}
	defer c.close(lw)
	c.begin()
	c.follow(lw)
}

// open registers a watch, or tells that it has expired.
func (c *call) open(o *options) (*liveWatch, bool) {
	s, t := c.s, c.table
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.rv != 0 && s.expired(t, o.rv) {
		return nil, false
	}
	lw := &liveWatch{table: t, o: o, start: o.rv, next: after(t.log, o.rv), acts: slices.Clone(c.sc.acts), rule: c.sc.rule, q: c.q,
		control: http.NewResponseController(c.w), wake: make(chan struct{}, 1)}
	if o.rv == 0 { // what is there now, in the order of the keys and not of the versions
		lw.start, lw.next = s.rv, len(t.log)
		for _, key := range t.keys {
			if st := t.at(key, s.rv); o.matches(st) {
				lw.initial = append(lw.initial, st)
			}
		}
	}
	s.watches = append(s.watches, lw)
	if t.removed { // since it was looked up
		s.order(lw, act{name: "removed", end: endClean})
	}
	s.moved()
	return lw, true
}

func (c *call) close(lw *liveWatch) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.watches = without(c.s.watches, lw)
	c.s.moved()
}

func (c *call) begin() {
	c.code(http.StatusOK)
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Cache-Control", "no-cache, private")
	c.w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(c.w).Flush() // a client that is gone is noticed at the first frame
}

// expire tells the client that its resourceVersion is too old.
func (c *call) expire() {
	c.s.mu.Lock()
	face, horizon := c.table.face, c.table.horizon
	c.s.mu.Unlock()
	if face == FaceUsual && c.table.res.Uncached {
		face = FaceClose
	}
	status := expiredStatus(fmt.Sprintf("too old resource version: %s (%d)", c.q.Query.Get("resourceVersion"), horizon))
	switch face {
	case FaceStatus:
		c.s.happened("expired status", c.q, nil)
		c.fail(status)
	case FaceClose:
		c.s.happened("expired close", c.q, nil)
		c.begin()
	case FaceGone:
		c.s.happened("expired gone", c.q, nil)
		c.begin()
		status.Reason = metav1.StatusReasonGone
		c.send(frame("ERROR", statusJSON(status)))
	default:
		c.s.happened("expired frame", c.q, nil)
		c.begin()
		c.send(frame("ERROR", statusJSON(status)))
	}
}

// follow sends frames until something ends the watch.
func (c *call) follow(lw *liveWatch) {
	end := time.Now().Add(lw.o.timeout)
	timeout := time.NewTimer(lw.o.timeout)
	defer timeout.Stop()
	next := time.NewTimer(c.s.untilBookmark(end))
	defer next.Stop()
	for sent := 0; ; {
		line, a := c.s.step(lw, sent)
		switch {
		case a != nil:
			if c.act(lw, a, line) {
				return
			}
			if a.line != nil {
				sent++
			}
			if a.end == endStall {
				timeout.Stop()
			}
			continue
		case line != nil && time.Now().Before(end):
			c.send(line)
			sent++
			continue
		}
		select {
		case <-lw.wake:
		case <-next.C:
			c.s.mu.Lock()
			bookmark(lw)
			c.s.mu.Unlock()
			next.Reset(c.s.untilBookmark(end))
		case <-timeout.C:
			c.s.happened("timeout", c.q, nil)
			return
		case <-c.r.Context().Done():
			return
		}
	}
}

// untilBookmark is the time to the watch's next bookmark: at the interval, and two seconds before its end.
func (s *Server) untilBookmark(end time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	const never = 1 << 62
	left := time.Until(end) - 2*time.Second
	if s.bookmarks == 0 || left <= 0 {
		return never
	}
	return min(s.bookmarks, left)
}

// step finds what comes next: a line to send, or something that is to happen, with the line that is to be broken.
func (s *Server) step(lw *liveWatch, sent int) ([]byte, *act) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, a := range lw.acts {
		if a.after > sent {
			break
		}
		var line []byte
		if a.bytes > 0 {
			if line = s.line(lw); line == nil {
				continue // it comes with the next frame
			}
		}
		lw.acts = slices.Delete(lw.acts, i, i+1)
		lw.stalled = lw.stalled || a.end == endStall
		return line, &a
	}
	return s.line(lw), nil
}

// line is the next frame, if there is one to send.
func (s *Server) line(lw *liveWatch) []byte {
	if lw.stalled {
		return nil
	}
	o, t := lw.o, lw.table
	if len(lw.initial) > 0 {
		st := lw.initial[0]
		lw.initial = lw.initial[1:]
		return frame("ADDED", o.object(st, st.rv))
	}
	for lw.next < len(t.log) {
		c := t.log[lw.next]
		lw.next++
		if c.rv <= lw.start { // a watch from the future waits for it
			continue
		}
		// With selectors, what enters the selection is added and what leaves it is deleted, with the content before
		// and the resourceVersion of the change.
		switch was, is := o.matches(c.prev), o.matches(c.cur); {
		case is && was:
			return frame("MODIFIED", o.object(c.cur, c.rv))
		case is:
			return frame("ADDED", o.object(c.cur, c.rv))
		case was:
			return frame("DELETED", o.object(c.prev, c.rv))
		}
	}
	if lw.bookmark && s.rv > lw.start {
		lw.bookmark = false
		kind, version := o.res.Kind, o.res.APIVersion()
		if o.partial {
			kind, version = "PartialObjectMetadata", "meta.k8s.io/v1"
		}
		return frame("BOOKMARK", fmt.Appendf(nil, `{"kind":%q,"apiVersion":%q,"metadata":{"resourceVersion":"%d"}}`, kind, version, s.rv))
	}
	lw.bookmark = false
	return nil
}

// send writes one frame. When that fails the connection must not look as if it had been written: it breaks.
func (c *call) send(line []byte) {
	if c.sc.rewrite != nil {
		line = c.sc.rewrite(line)
		c.s.happened("rewrite", c.q, c.sc.rule)
	}
	_, err := c.w.Write(line)
	if err == nil {
		err = http.NewResponseController(c.w).Flush()
	}
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.q.Frames++
	c.s.moved()
}

// act makes something happen to the watch, and tells whether it has ended it. The line, if any, is the one to break.
func (c *call) act(lw *liveWatch, a *act, line []byte) bool {
	if a.line != nil {
		c.send(a.line)
	}
	if a.bytes > 0 {
		_, _ = c.w.Write(line[:min(a.bytes, len(line)-1)]) // the connection breaks anyway
	}
	if !a.counted {
		c.s.happened(a.name, c.q, lw.rule)
	}
	if a.end == endCut {
		c.cut()
	}
	return a.end == endClean
}
