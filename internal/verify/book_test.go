package verify_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"watcher/internal/event"
	"watcher/internal/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A book is a log that is being written, as watcher would: by event.AppendLine.
type book struct {
	lines []string
	at    time.Time
	run   int64
}

func newBook() *book { return &book{at: time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC)} }

// starts begins another run of all pens.
func (b *book) starts() { b.run += 1000 }

// A pen writes one stream's events.
type pen struct {
	*book
	*event.Stream
	seq, n, epoch uint64
	run           int64
	gapID         string
	filter        []string
	payload       string
	versions      map[string]string // uid of each name
}

func (b *book) pen(n event.StreamName) *pen {
	n.Cluster, n.Version = "eu/1", "v1"
	return &pen{book: b, Stream: event.NewStream(n), payload: "full", versions: map[string]string{}}
}

func (b *book) pods() *pen { return b.pen(event.StreamName{Resource: "pods", Kind: "Pod"}) }

func (p *pen) write(ev *event.Event) {
	p.at = p.at.Add(time.Second)
	ev.Stream, ev.Time, ev.Epoch = p.Stream, p.at, p.epoch
	p.lines = append(p.lines, string(ev.AppendLine(nil, 0)))
}

func (p *pen) say(t event.Type, d any) {
	if p.run != p.book.run {
		p.run, p.n = p.book.run, 0
	}
	p.n++
	scope := p.Resource
	if p.Namespace != "" {
		scope += "." + p.Namespace
	}
	id := (&event.Event{Epoch: p.epoch}).Prefix() + fmt.Sprintf("%s.%s.%d.%d", scope, t, p.run, p.n)
	if t == event.Gap {
		p.gapID = id
	}
	p.write(&event.Event{Type: t, ID: id, Data: d})
}

func (p *pen) started(at string, resumed bool) {
	d := event.StartedData{
		Namespaces: []string{}, LabelSelector: p.LabelSelector, Filter: p.filter, Payload: p.payload,
		ResourceVersion: at, Resumed: resumed, Seq: p.seq, WatcherVersion: "v0",
	}
	if !resumed {
		d.Reason = "no position was saved"
	}
	p.say(event.Started, d)
}

func (p *pen) gap(reason, from string) {
	p.say(event.Gap, event.GapData{Reason: reason, From: from, FromTime: p.at, ToTime: p.at.Add(time.Minute)})
	if reason == "rewind" {
		p.epoch++
	}
}

func (p *pen) synced(at string, counts ...int) {
	c := append(counts, make([]int, 5)...)
	p.say(event.Synced, event.SyncedData{ResourceVersion: at, Present: c[0], Added: c[1], Modified: c[2], Deleted: c[3], Left: c[4]})
}

func (p *pen) repaired(at, deletions string, counts ...int) {
	c := append(counts, make([]int, 5)...)
	p.say(event.Synced, event.SyncedData{
		ResourceVersion: at, Present: c[0], Added: c[1], Modified: c[2], Deleted: c[3], Left: c[4],
		Healed: &event.Healed{History: 1, Net: 1, Inferred: 1, Deletions: deletions},
	})
}

func (p *pen) progress(at string) {
	p.say(event.Progress, event.ProgressData{ResourceVersion: at, Seq: p.seq})
}

func (p *pen) stopped(at string) { p.say(event.Stopped, event.StoppedData{ResourceVersion: at}) }

// object writes an event about NAMESPACE/NAME@VERSION. How it is otherwise, edits say.
func (p *pen) object(t event.Type, o event.Origin, what string, edits ...func(*event.Event)) {
	key, version, _ := strings.Cut(what, "@")
	ns, name, _ := strings.Cut(key, "/")
	p.seq++
	ev := &event.Event{Type: t, Origin: o, Seq: p.seq, Object: event.Object{Namespace: ns, Name: name, UID: "uid-" + name, ResourceVersion: version, Generation: 2}}
	if o == event.Repair {
		ev.Gap = p.gapID
	}
	for _, edit := range edits {
		edit(ev)
	}
	ob := &ev.Object
	if ev.Inferred {
		ob.Body = nil
	} else if ob.Body == nil {
		ob.Body = body(ob, `{"node":"n1"}`)
	}
	p.write(ev)
}

func body(o *event.Object, spec string) []byte {
	return fmt.Appendf(nil, `{"kind":"Pod","apiVersion":"v1","metadata":{"name":%q,"namespace":%q,"uid":%q,"resourceVersion":%q,"generation":%d,"labels":{"app":"web"}},"spec":%s,"status":{"at":%q}}`,
		o.Name, o.Namespace, o.UID, o.ResourceVersion, o.Generation, spec, o.ResourceVersion)
}

func (p *pen) present(what string)  { p.object(event.Present, event.Snapshot, what) }
func (p *pen) added(what string)    { p.object(event.Added, event.Live, what) }
func (p *pen) modified(what string) { p.object(event.Modified, event.Live, what) }
func (p *pen) deleted(what string)  { p.object(event.Deleted, event.Live, what) }

func inferred(ev *event.Event) { ev.Inferred = true }

// torn is a line that a kill cut.
func (b *book) torn() { b.lines = append(b.lines, `{"specversion":"1.0","id":"uid-x.1","sour`) }

// read reads lines.
func read(lines []string) *verify.Report {
	l := verify.New()
	for _, line := range lines {
		l.Line([]byte(line))
	}
	return l.Report()
}

func said(r *verify.Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%d %s %s: %s\n", f.Line, f.Kind, f.Stream, f.Problem)
	}
	return b.String()
}
