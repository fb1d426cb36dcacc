package watchtest

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TB is what a Server needs of a testing.TB. Misuse, such as the update of an object that is not there, is told
// with Fatalf.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// A Server is a scripted API server with a true history. It may be used from many goroutines at once.
type Server struct {
	tb TB

	mu        sync.Mutex
	rv        uint64
	compacted uint64 // etcd knows nothing below
	epoch     int
	uids      uint64
	tables    map[string]*table
	watches   []*liveWatch
	bookmarks time.Duration
	backlog   int
	rules     []*Rule
	requests  []*Request
	fired     map[string]int
	denied    map[string]bool // verb + resource
	down      map[string]bool // group versions
	old       bool            // see DiscoverByGroup
	onlyJSON  bool            // see OnlyJSON
	asked     []string        // see Asked
	skew      time.Duration
	progress  chan struct{} // closed when something has happened; nil while nobody waits

	serving
}

// New returns a server of the resources, which is closed when the test ends. With Namespaces among them it begins
// with kube-system, as clusters do. Inside a synctest bubble, make it there.
func New(tb TB, rs ...Resource) *Server {
	tb.Helper()
	s := &Server{
		tb:        tb,
		rv:        100,
		tables:    map[string]*table{},
		bookmarks: time.Minute,
		fired:     map[string]int{},
		denied:    map[string]bool{},
		down:      map[string]bool{},
	}
	s.serving.init()
	for _, r := range rs {
		s.Add(r)
	}
	if _, ok := s.tables[Namespaces.Path("")]; ok {
		s.Create(Namespaces, "kube-system", Status(`{"phase":"Active"}`))
	}
	tb.Cleanup(s.Close)
	return s
}

// Add serves a resource from now on: a new one, or one that was removed, with a new watch cache.
func (s *Server) Add(r Resource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tables[r.Path("")]
	if t == nil {
		t = newTable(r)
		s.tables[r.Path("")] = t
		return
	}
	t.removed, t.horizon = false, s.rv
}

// Remove serves a resource no longer, as when its definition is deleted: 404, and its watches end. Its objects stay
// in the history: delete them first if they are to be seen to go.
func (s *Server) Remove(r Resource) {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table(r)
	t.removed = true
	for _, lw := range s.watches {
		if lw.table == t {
			s.order(lw, act{name: "removed", end: endClean})
		}
	}
}

// Forbid refuses the verbs ("list", "watch", "get") on a resource from now on. Live watches go on: a watch is
// authorized when it is opened.
func (s *Server) Forbid(r Resource, verbs ...string) { s.permit(r, verbs, true) }

// Allow takes Forbid back.
func (s *Server) Allow(r Resource, verbs ...string) { s.permit(r, verbs, false) }

func (s *Server) permit(r Resource, verbs []string, denied bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, verb := range verbs {
		s.denied[verb+" "+r.String()] = denied
	}
}

// GroupDown makes a group version ("metrics.k8s.io/v1beta1") answer 503 to everything, discovery included, as an
// aggregated API whose server is away; GroupUp ends it.
func (s *Server) GroupDown(groupVersion string) { s.setDown(groupVersion, true) }

// GroupUp takes GroupDown back.
func (s *Server) GroupUp(groupVersion string) { s.setDown(groupVersion, false) }

// DiscoverByGroup makes it a server from before 1.26, which tells all that it serves one group version at a time.
func (s *Server) DiscoverByGroup() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.old = true
}

// OnlyJSON makes it a server without protobuf, as some aggregated ones are.
func (s *Server) OnlyJSON() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onlyJSON = true
}

func (s *Server) knowsOnlyJSON() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.onlyJSON
}

func (s *Server) setDown(groupVersion string, down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down[groupVersion] = down
}

func (s *Server) table(r Resource) *table {
	s.tb.Helper()
	t := s.tables[r.Path("")]
	if t == nil {
		s.tb.Fatalf("find %s: the server was not made with it", r)
	}
	return t
}

// A Request is the record of one request.
type Request struct {
	At              time.Time
	Verb            string // list, watch, get, review or discovery
	Path            string
	Resource        string // Resource.String(), or "" for discovery
	Namespace, Name string
	Query           url.Values
	Header          http.Header

	Code    int    // answered; 0 as long as there is no answer
	Outcome string // the fault, "expired", "timeout", "client left"; "" when nothing is to be said
	Frames  int    // sent on a watch, bookmarks and errors among them
	Done    bool
}

// A call is a request that is being answered.
type call struct {
	s *Server
	w http.ResponseWriter
	r *http.Request
	q *Request

	path, groupVersion string   // of the resource
	table              *table   // nil for discovery, and where nothing is served
	res                Resource // of the table, also when it was removed
	sc                 *script
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{s: s, w: w, r: r}
	c.enter()
	defer c.leave()
	if c.sc.delay > 0 {
		s.happened("delay", nil, c.sc.rule)
		select {
		case <-time.After(c.sc.delay):
		case <-r.Context().Done():
			return
		}
	}
	for key, values := range c.sc.header {
		w.Header()[key] = values
	}
	denied, down := c.look()
	switch {
	case c.sc.instead != nil:
		s.happened(c.sc.name, c.q, c.sc.rule)
		c.sc.instead(c)
	case c.q.Verb == "review":
		c.review()
	case r.Method != http.MethodGet:
		c.fail(NewStatus(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed,
			"the server does not allow this method on the requested resource"))
	case down:
		c.answer(http.StatusServiceUnavailable, "text/plain; charset=utf-8", []byte("service unavailable\n"))
	case c.q.Verb == "discovery":
		c.discovery()
	case c.table == nil:
		c.answer(http.StatusNotFound, "text/plain; charset=utf-8", []byte("404 page not found\n"))
	case denied:
		c.fail(forbidden(c.q, c.res))
	case c.q.Verb == "get":
		c.get()
	case c.q.Verb == "list":
		c.list()
	default:
		c.watch()
	}
}

// enter records the request and finds its script.
func (c *call) enter() {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	c.q, c.path, c.groupVersion = parse(c.r)
	if t := s.tables[c.path]; t != nil {
		c.res = t.res
		c.q.Resource = t.res.String()
	}
	s.requests = append(s.requests, c.q)
	c.sc = s.scripted(c.q)
	c.w.Header().Set("Date", time.Now().Add(s.skew).UTC().Format(http.TimeFormat))
	s.moved()
}

// look finds the resource, and whether it may be read.
func (c *call) look() (denied, down bool) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tables[c.path]; t != nil && !t.removed {
		c.table = t
	}
	return s.denied[c.q.Verb+" "+c.q.Resource], s.down[c.groupVersion]
}

// parse reads a path such as /api/v1/pods or /apis/apps/v1/namespaces/shop/deployments/web. What is neither a resource
// nor one of its objects counts as discovery.
func parse(r *http.Request) (q *Request, resource, groupVersion string) {
	q = &Request{At: time.Now(), Verb: "discovery", Path: r.URL.Path, Query: r.URL.Query(), Header: r.Header.Clone()}
	if reviews[q.Path] != nil {
		q.Verb = "review"
		return q, "", ""
	}
	segments := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	head := map[string]int{"api": 2, "apis": 3}[segments[0]]
	if head == 0 || len(segments) < head {
		return q, "", ""
	}
	groupVersion = strings.Join(segments[1:head], "/")
	rest := segments[head:]
	if len(rest) == 0 {
		return q, "", groupVersion
	}
	if len(rest) > 2 && rest[0] == "namespaces" {
		q.Namespace, rest = rest[1], rest[2:]
	}
	q.Verb = "list"
	if w := q.Query.Get("watch"); w == "1" || w == "true" {
		q.Verb = "watch"
	}
	if len(rest) > 1 {
		q.Verb, q.Name = "get", rest[1]
	}
	if len(rest) > 2 {
		return q, "", groupVersion // a subresource: none is served
	}
	return q, "/" + strings.Join(segments[:head], "/") + "/" + rest[0], groupVersion
}

func (c *call) leave() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.q.Done = true
	if c.r.Context().Err() != nil && c.q.Outcome == "" {
		c.q.Outcome = "client left"
	}
	c.s.moved()
}

// fail answers with a failure.
func (c *call) fail(status *metav1.Status) {
	c.code(int(status.Code))
	writeStatus(c.w, status)
}

func (c *call) answer(code int, contentType string, body []byte) {
	c.code(code)
	writeBody(c.w, code, contentType, body)
}

func (c *call) code(code int) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.q.Code = code
	c.s.moved()
}

// Requests is the record of all requests so far that match; the match's Times and After do not count.
func (s *Server) Requests(m Match) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Request
	for _, q := range s.requests {
		if m.matches(q) {
			out = append(out, *q)
		}
	}
	return out
}

// Count is how many requests so far match.
func (s *Server) Count(m Match) int { return len(s.Requests(m)) }

// Await returns when cond is true. It is asked again whenever something has happened: a write, a request, an
// answer, a frame.
func (s *Server) Await(ctx context.Context, cond func() bool) error {
	for {
		s.mu.Lock()
		if s.progress == nil {
			s.progress = make(chan struct{})
		}
		progress := s.progress
		s.mu.Unlock()
		if cond() {
			return nil
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return fmt.Errorf("await the server: %w", context.Cause(ctx))
		}
	}
}

// moved wakes those who wait in Await. The lock is held.
func (s *Server) moved() {
	if s.progress != nil {
		close(s.progress)
		s.progress = nil
	}
}

func without[T comparable](list []T, x T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(y T) bool { return x == y })
}
