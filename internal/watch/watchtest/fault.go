package watchtest

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A Match says which requests a rule is for.
type Match struct {
	verb        string
	resources   []string
	when        func(*Request) bool
	skip, times int
}

// Lists matches LISTs of the resources, or of all when none is named.
func Lists(rs ...Resource) Match { return matching("list", rs) }

// Watches matches WATCHes of the resources, or of all when none is named.
func Watches(rs ...Resource) Match { return matching("watch", rs) }

// Gets matches GETs of one object.
func Gets(rs ...Resource) Match { return matching("get", rs) }

// Discovery matches the discovery documents, /version and the health checks.
func Discovery() Match { return Match{verb: "discovery"} }

// Any matches every request.
func Any() Match { return Match{} }

func matching(verb string, rs []Resource) Match {
	m := Match{verb: verb}
	for _, r := range rs {
		m.resources = append(m.resources, r.String())
	}
	return m
}

// Times ends the rule after n requests.
func (m Match) Times(n int) Match { m.times = n; return m }

// After lets n matching requests pass first.
func (m Match) After(n int) Match { m.skip = n; return m }

// When narrows the match by a predicate, which is called under the server's lock.
func (m Match) When(f func(*Request) bool) Match { m.when = f; return m }

func (m Match) matches(q *Request) bool {
	return (m.verb == "" || m.verb == q.Verb) &&
		(len(m.resources) == 0 || slices.Contains(m.resources, q.Resource)) &&
		(m.when == nil || m.when(q))
}

// A Rule makes the requests that match go wrong.
type Rule struct {
	s           *Server
	match       Match
	faults      []Fault
	seen, fired int
	off         bool
}

// On adds a rule. Of several that match a request the oldest that is still in force is used, alone; the faults of
// one rule come together.
func (s *Server) On(m Match, faults ...Fault) *Rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &Rule{s: s, match: m, faults: faults}
	s.rules = append(s.rules, r)
	return r
}

// Off ends the rule.
func (r *Rule) Off() {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.off = true
}

// Fired is how many of its faults have happened: CutAfter(3) has when three frames were sent, not before.
func (r *Rule) Fired() int {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.fired
}

// scripted finds the rule for a request, if any, and what it makes of it.
func (s *Server) scripted(q *Request) *script {
	for _, r := range s.rules {
		if r.off || !r.match.matches(q) {
			continue
		}
		r.seen++
		if r.seen <= r.match.skip {
			continue
		}
		r.off = r.match.times > 0 && r.seen >= r.match.skip+r.match.times
		sc := &script{rule: r, cutBody: -1}
		for _, f := range r.faults {
			f(sc)
		}
		slices.SortStableFunc(sc.acts, func(a, b act) int { return a.after - b.after })
		return sc
	}
	return &script{cutBody: -1}
}

// A script is how one request is to go wrong.
type script struct {
	rule        *Rule
	delay       time.Duration
	name        string // of what happens instead of an answer
	instead     func(c *call)
	header      http.Header
	acts        []act // on a watch, by the number of frames sent before
	rewrite     func([]byte) []byte
	cutBody     int
	ignoreExact bool
	ignoreLimit bool
}

// An act is one thing that happens to a watch.
type act struct {
	name    string
	after   int    // frames sent before
	line    []byte // sent as it is, and counted as a frame
	bytes   int    // of the next frame, sent before the end
	end     ending
	counted bool
}

type ending int

const (
	endNot   ending = iota
	endClean        // the response ends as it should
	endCut          // the connection breaks
	endStall        // nothing more is sent, and the connection stays
)

// A Fault is one way in which the answer to a request goes wrong.
type Fault func(*script)

// Delay lets time pass before anything else.
func Delay(d time.Duration) Fault { return func(sc *script) { sc.delay = d } }

// Hang never answers: not even headers.
func Hang() Fault {
	return instead("hang", func(c *call) { <-c.r.Context().Done() })
}

// Reset breaks the connection before anything is answered.
func Reset() Fault { return instead("reset", func(*call) { panic(http.ErrAbortHandler) }) }

// Fail answers with a failure in the API server's form.
func Fail(code int, reason metav1.StatusReason, message string) Fault {
	return FailStatus(NewStatus(code, reason, message))
}

// FailStatus answers with the failure.
func FailStatus(status *metav1.Status) Fault {
	return instead("status "+strconv.Itoa(int(status.Code)), func(c *call) { c.fail(status) })
}

// Forbidden answers as the authorizer does.
func Forbidden() Fault {
	return instead("status 403", func(c *call) { c.fail(forbidden(c.q, c.res)) })
}

// Respond answers with a body of any kind, such as a proxy's error page.
func Respond(code int, contentType, body string) Fault {
	return instead("respond "+strconv.Itoa(code), func(c *call) { c.answer(code, contentType, []byte(body)) })
}

// HTML answers with an error page, as a load balancer does.
func HTML(code int) Fault {
	return Respond(code, "text/html", "<html><body><h1>"+strconv.Itoa(code)+" "+http.StatusText(code)+"</h1></body></html>\n")
}

// Header adds a header to the answer.
func Header(key, value string) Fault {
	return func(sc *script) {
		if sc.header == nil {
			sc.header = http.Header{}
		}
		sc.header.Add(key, value)
	}
}

// RetryAfter adds the header to the answer, in whole seconds.
func RetryAfter(d time.Duration) Fault {
	return Header("Retry-After", strconv.Itoa(int(d/time.Second)))
}

// CloseAfter ends a watch cleanly after n frames; after none it is the empty watch that looks like a success.
func CloseAfter(n int) Fault { return acting(act{name: "close", after: n, end: endClean}) }

// CutAfter breaks the connection of a watch after n frames.
func CutAfter(n int) Fault { return acting(act{name: "cut", after: n, end: endCut}) }

// CutWithin breaks the connection of a watch after n frames and the first k bytes of the next.
func CutWithin(n, k int) Fault {
	return acting(act{name: "cut within", after: n, bytes: k, end: endCut})
}

// StallAfter makes a watch fall silent for ever after n frames, its connection open.
func StallAfter(n int) Fault { return acting(act{name: "stall", after: n, end: endStall}) }

// LineAfter sends a line of any kind after n frames of a watch.
func LineAfter(n int, line string) Fault {
	return acting(act{name: "line", after: n, line: []byte(line + "\n")})
}

// ErrorAfter sends an ERROR frame after n frames of a watch and ends it cleanly.
func ErrorAfter(n int, status *metav1.Status) Fault {
	return acting(act{name: "error " + strconv.Itoa(int(status.Code)), after: n, line: frame("ERROR", statusJSON(status)), end: endClean})
}

// CutBody breaks the connection of a LIST or GET after the first k bytes of its body.
func CutBody(k int) Fault { return func(sc *script) { sc.cutBody = k } }

// IgnoreExact answers a LIST with what is there now whatever resourceVersion it asks for, as some aggregated APIs do.
func IgnoreExact() Fault { return func(sc *script) { sc.ignoreExact = true } }

// IgnoreLimit answers a LIST with everything on one page, as some aggregated APIs do.
func IgnoreLimit() Fault { return func(sc *script) { sc.ignoreLimit = true } }

// Rewrite passes every frame of a watch, or the body of a LIST or GET, through f.
func Rewrite(f func([]byte) []byte) Fault { return func(sc *script) { sc.rewrite = f } }

func instead(name string, f func(*call)) Fault {
	return func(sc *script) { sc.name, sc.instead = name, f }
}

func acting(a act) Fault { return func(sc *script) { sc.acts = append(sc.acts, a) } }

// happened counts a fault, by its name and for its rule, and tells it in the request's record.
func (s *Server) happened(name string, q *Request, rule *Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fired[name]++
	if rule != nil {
		rule.fired++
	}
	if q != nil {
		q.Outcome = name
	}
	s.moved()
}

// Fired is how often each kind of fault has happened, rules and commands together: "status 429", "cut", "cut within",
// "stall", "close", "hang", "reset", "error 500", "line", "cut body", "expired" and so on.
func (s *Server) Fired() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]int, len(s.fired))
	for name, n := range s.fired {
		out[name] = n
	}
	return out
}
