package watch

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

// A Report is what Preflight found out.
type Report struct {
	OK        bool      `json:"ok"` // Run would work: there is no error among the problems
	Server    Server    `json:"server"`
	Resources []Reading `json:"resources"`
	Problems  []Problem `json:"problems"`
}

// Server is who answers, and for whom it takes us. What it does not tell is empty.
type Server struct {
	Address string `json:"address"`
	Version string `json:"version,omitempty"`
	User    string `json:"user,omitempty"`
	Cluster string `json:"clusterUID,omitempty"` // of the namespace kube-system
	// ClockAhead is by how many seconds this machine's clock is ahead of the server's, or behind it if negative.
	ClockAhead *float64 `json:"clockAheadSeconds,omitempty"`
}

// A Reading is what became of reading one resource in one namespace, or in all.
type Reading struct {
	Resource   string   `json:"resource"`
	Served     bool     `json:"served"`
	Namespaced bool     `json:"namespaced"`
	Namespace  string   `json:"namespace,omitempty"`
	List       Answer   `json:"list,omitempty"`
	Watch      Answer   `json:"watch,omitempty"`
	Exact      Answer   `json:"exact,omitempty"` // a LIST at a version of the past shows that version
	Objects    int      `json:"objects"`
	Bytes      int      `json:"bytes"` // of the objects, as events carry them
	Largest    *Largest `json:"largest,omitempty"`
}

// Largest is the object with the most bytes.
type Largest struct {
	Object string `json:"object"` // namespace/name
	Bytes  int    `json:"bytes"`
}

// An Answer is Yes, No, or empty for what was not asked, or could not be.
type Answer string

// What the API server answers.
const (
	Yes Answer = "yes"
	No  Answer = "no"
)

// A Severity says what a problem does to Run.
type Severity string

// With an Error Run would not do all that it was asked for; with a Warning it would do it less well. In this order.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// A Problem is something to mend.
type Problem struct {
	Severity  Severity `json:"severity"`
	Resource  string   `json:"resource,omitempty"`
	Namespace string   `json:"namespace,omitempty"`
	Problem   string   `json:"problem"`
	Mend      string   `json:"mend,omitempty"` // a command where there is one, else advice
}

// Preflight finds out whether Run with the same configuration would work, by doing to the API server all that Run does,
// once. The sink does not matter. grant returns the command that gives a user the permissions, those of all resources
// at once; the user "" is not known. The error is a *UsageError, or the context's.
func Preflight(ctx context.Context, c Config, grant func(user string) string) (*Report, error) {
	p := &preflight{
		runner: &runner{Config: c}, grant: grant,
		report: &Report{Resources: []Reading{}, Problems: []Problem{}},
	}
	if err := p.run(ctx); err != nil {
		return nil, err
	}
	slices.SortStableFunc(p.report.Problems, func(a, b Problem) int { return cmp.Compare(a.Severity, b.Severity) })
	p.report.OK = len(p.report.Problems) == 0 || p.report.Problems[0].Severity != Error
	return p.report, context.Cause(ctx)
}

type preflight struct {
	*runner
	report *Report
	grant  func(user string) string
}

func (p *preflight) run(ctx context.Context) error {
	if err := p.server(ctx); err != nil {
		p.unanswered(err)
		return nil
	}
	cat, err := p.Client.discover(ctx)
	if err != nil {
		p.unanswered(err)
		return nil
	}
	found, err := cat.findAll(p.Resources)
	if err != nil {
		return err
	}
	p.identity(ctx)
	return p.read(ctx, found)
}

// unanswered reports what keeps the API server from answering anything.
func (p *preflight) unanswered(err error) {
	what, do := diagnoseNetwork(err)
	p.problem(Error, what+": "+err.Error(), do)
}

func (p *preflight) problem(s Severity, problem, mend string) {
	p.report.Problems = append(p.report.Problems, Problem{Severity: s, Problem: problem, Mend: mend})
}

// server asks who answers, for whom it takes us, and what time it is there. The error says that nothing else would be
// answered either.
func (p *preflight) server(ctx context.Context) error {
	if u, _, err := rest.DefaultServerUrlFor(&p.Client.config); err == nil {
		p.report.Server.Address = u.Redacted()
	}
	clock := &clock{}
	api, err := clock.client(p.Client)
	if err != nil {
		return err
	}
	var version struct{ GitVersion string }
	if err := ask(ctx, api.Get().AbsPath("/version"), &version); shut(err) {
		return err
	} else if err != nil {
		p.problem(Warning, fmt.Sprintf("the version cannot be read: %v", err), ifForbidden(err, "grant the cluster role system:public-info-viewer"))
	}
	p.report.Server.Version = version.GitVersion
	// Old servers do not know this question, and who is anonymous may not ask it. The time they tell all the same.
	var self struct {
		Status struct{ UserInfo struct{ Username string } }
	}
	if err := ask(ctx, review(api, "authentication", "SelfSubjectReview", nil), &self); shut(err) {
		return err
	}
	p.report.Server.User = self.Status.UserInfo.Username
	p.clock(clock)
	return nil
}

// shut reports whether err comes from no API server, or from one that does not let us in.
func shut(err error) bool {
	status := apierrors.APIStatus(nil)
	return err != nil && !errors.As(err, &status) || apierrors.IsUnauthorized(err)
}

// maxSkew is how far the clock may be off before it is a problem.
const maxSkew = 2 * time.Second

func (p *preflight) clock(c *clock) {
	if !c.told {
		return
	}
	seconds := c.ahead.Seconds()
	p.report.Server.ClockAhead = &seconds
	which := "ahead of"
	if seconds < 0 {
		which = "behind"
	}
	if off := c.ahead.Abs(); off > maxSkew {
		p.problem(Warning, fmt.Sprintf("this machine's clock, which gives events their times, is %v %s the API server's", off.Round(time.Second), which),
			"timedatectl set-ntp true")
	}
}

// A clock is a transport that looks at the API server's clock with every answer, and remembers the last.
type clock struct {
	http.RoundTripper
	told  bool
	ahead time.Duration
}

// RoundTrip implements http.RoundTripper.
func (c *clock) RoundTrip(q *http.Request) (*http.Response, error) {
	sent := time.Now()
	resp, err := c.RoundTripper.RoundTrip(q)
	if err != nil {
		return nil, err
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		c.told, c.ahead = true, ahead(date, sent, time.Now())
	}
	return resp, nil
}

// client makes a client of single requests whose answers pass the clock.
func (c *clock) client(of *Client) (rest.Interface, error) {
	h := *of.http
	c.RoundTripper = cmp.Or(h.Transport, http.DefaultTransport)
	h.Transport = c
	return plain(of.config, &h)
}

// ahead is by how much our clock is at least ahead of one that showed date, which is cut to the second, at some time
// between sent and received.
func ahead(date, sent, received time.Time) time.Duration {
	switch {
	case received.Before(date):
		return received.Sub(date)
	case sent.After(date.Add(time.Second)):
		return sent.Sub(date.Add(time.Second))
	default:
		return 0
	}
}

// identity reads what tells this cluster from others.
func (p *preflight) identity(ctx context.Context) {
	uid, err := p.Client.clusterUID(ctx)
	p.report.Server.Cluster = uid
	if err == nil || p.Once {
		return
	}
	p.report.Problems = append(p.report.Problems, Problem{Warning, "namespaces", "kube-system",
		fmt.Sprintf("the uid of kube-system cannot be read, so a saved position could not be told from another cluster's: %v", err),
		ifForbidden(err, p.permit())})
}

// ifForbidden is mend if err is a missing permission: it mends nothing else.
func ifForbidden(err error, mend string) string {
	if apierrors.IsForbidden(err) {
		return mend
	}
	return ""
}

// permit is the command that gives us all permissions.
func (p *preflight) permit() string {
	if p.report.Server.User == "system:anonymous" { // everybody
		return p.grant("")
	}
	return p.grant(p.report.Server.User)
}

// review prepares a question about ourselves.
func review(api rest.Interface, group, kind string, spec any) *rest.Request {
	group += ".k8s.io"
	body, _ := json.Marshal(map[string]any{"apiVersion": group + "/v1", "kind": kind, "spec": spec}) // maps of text always marshal
	return api.Post().AbsPath("/apis/" + group + "/v1/" + strings.ToLower(kind) + "s").Body(body)
}

// read tries all resources at the same time, as Run does.
func (p *preflight) read(ctx context.Context, found []Found) error {
	var trials []*trial
	for _, f := range found {
		f.Namespaced = f.Namespaced && f.Unserved == nil // of what is not served that is not known
		for _, ns := range p.scopes(f.Resource) {
			src, err := p.source(f.Resource, ns)
			if err != nil {
				return err
			}
			trials = append(trials, &trial{preflight: p, src: src, found: f,
				Reading: Reading{Resource: f.Name(), Served: f.Unserved == nil, Namespaced: f.Namespaced, Namespace: ns}})
		}
	}
	var trying sync.WaitGroup
	for _, t := range trials {
		trying.Go(func() { t.try(ctx) })
	}
	trying.Wait()
	return p.collect(trials)
}

// collect reports what the trials found out, in their order.
func (p *preflight) collect(trials []*trial) error {
	var unasked error
	for _, t := range trials {
		if t.usage != nil {
			return t.usage
		}
		p.report.Resources = append(p.report.Resources, t.Reading)
		p.report.Problems = append(p.report.Problems, t.problems...)
		unasked = cmp.Or(unasked, t.unasked)
	}
	if unasked != nil {
		p.problem(Warning, fmt.Sprintf("permissions cannot be asked for, this is what requests were answered: %v", unasked),
			ifForbidden(unasked, "grant the cluster role system:basic-user"))
	}
	return nil
}
