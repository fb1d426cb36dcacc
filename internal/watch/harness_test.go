package watch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"watcher/internal/event"
	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A memory is a sink that keeps events, and fails as told: keeping, failing and making durable are independent.
type memory struct {
	mu      sync.Mutex
	events  []*event.Event
	lines   []string
	written kept // what is written, as the process knows
	saved   kept // what a process finds that starts now
	// fault is asked before each Commit: how many of the batch's events are kept all the same, and the error.
	fault func(b event.Batch) (kept int, err error)
	every time.Duration // at least so long between two times that what is written becomes durable; 0: each Commit
	last  time.Time     // when it did
	stall chan struct{} // while it is open and not nil, Commit does not return
}

// What is kept beside the events: positions, and the ledgers that they belong to.
type kept struct {
	held   map[string]event.Checkpoint
	ledger map[string]map[string]event.Object // by stream and object
}

func newMemory() *memory {
	return &memory{written: kept{map[string]event.Checkpoint{}, map[string]map[string]event.Object{}}}
}

// crash forgets what was not durable.
func (m *memory) crash() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.written = m.saved.clone()
}

func (k kept) clone() kept {
	c := kept{maps.Clone(k.held), map[string]map[string]event.Object{}}
	if c.held == nil {
		c.held = map[string]event.Checkpoint{}
	}
	for stream, objects := range k.ledger {
		c.ledger[stream] = maps.Clone(objects)
	}
	return c
}

// fold takes an event into the ledger.
func (k kept) fold(ev *event.Event) {
	if !ev.Type.OfObject() {
		return
	}
	objects := k.ledger[ev.Stream.Key()]
	if objects == nil {
		objects = map[string]event.Object{}
		k.ledger[ev.Stream.Key()] = objects
	}
	o := ev.Object
	o.Body = nil
	switch ev.Type {
	case event.Deleted, event.Left:
		if objects[o.Key()].UID == o.UID {
			delete(objects, o.Key())
		}
	default:
		objects[o.Key()] = o
	}
}

func (m *memory) Recover(context.Context) (event.State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.written.clone()
	ledger := func(stream string) iter.Seq2[event.Object, error] {
		return func(yield func(event.Object, error) bool) {
			for _, o := range now.ledger[stream] {
				if !yield(o, nil) {
					return
				}
			}
		}
	}
	return event.State{Streams: now.held, Ledger: ledger}, nil
}

func (m *memory) Close(context.Context) error { return nil }

func (m *memory) Commit(ctx context.Context, b event.Batch) error {
	m.mu.Lock()
	stall := m.stall
	m.mu.Unlock()
	if stall != nil {
		select {
		case <-stall:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := len(b.Events), error(nil)
	if m.fault != nil {
		n, err = m.fault(b)
	}
	for i, ev := range b.Events {
		if i >= n {
			break
		}
		m.written.fold(ev)
		if ev.Filtered {
			continue
		}
		kept := *ev
		kept.Object.Body = bytes.Clone(ev.Object.Body)
		m.events = append(m.events, &kept)
		m.lines = append(m.lines, string(ev.AppendLine(nil, 0)))
	}
	if err == nil {
		maps.Copy(m.written.held, b.Streams)
		if now := time.Now(); now.Sub(m.last) >= m.every {
			m.saved, m.last = m.written.clone(), now
		}
		return nil
	}
	// The state says what was kept, as a sink whose truth is its log would find out.
	rest := map[string]bool{}
	for _, ev := range b.Events[n:] {
		rest[ev.Stream.Key()] = true
	}
	for _, ev := range b.Events[:n] {
		key := ev.Stream.Key()
		c := m.written.held[key]
		if run := b.Streams[key].Run; c.Run != run {
			c.Run, c.StreamEvents = run, 0
		}
		switch {
		case !rest[key]:
			c = b.Streams[key]
		case ev.Filtered:
		case ev.Type.OfObject():
			c.Seq = ev.Seq
		default:
			c.StreamEvents++
		}
		m.written.held[key] = c
	}
	return err
}

// of returns the events of one resource, or of all.
func (m *memory) of(resource string) []*event.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*event.Event
	for _, ev := range m.events {
		if resource == "" || ev.Stream.Resource == resource {
			out = append(out, ev)
		}
	}
	return out
}

// said is the events of one resource in short: "added shop/web-1@7", "gap expired", "synced 3".
func (m *memory) said(resource string) []string {
	var out []string
	for _, ev := range m.of(resource) {
		out = append(out, short(ev))
	}
	return out
}

func short(ev *event.Event) string {
	switch d := ev.Data.(type) {
	case event.GapData:
		return fmt.Sprintf("gap %s after %s", d.Reason, d.From)
	case event.SyncedData:
		return strings.Join(append([]string{"synced"}, counted(d)...), " ") + " at " + d.ResourceVersion
	case event.StartedData:
		if d.Resumed {
			return "resumed after " + d.ResourceVersion
		}
		return "started at " + d.ResourceVersion
	case event.ProgressData:
		return "progress at " + d.ResourceVersion
	case event.StoppedData:
		return "stopped at " + d.ResourceVersion
	default:
		how := ""
		for _, w := range []struct {
			is   bool
			word string
		}{{ev.Ambiguous, " ambiguous"}, {ev.Inferred && !ev.Stale, " inferred"}, {ev.Stale, " stale"}} {
			if w.is {
				how += w.word
			}
		}
		return fmt.Sprintf("%s %s@%s%s", ev.Type, ev.Object.Key(), ev.Object.ResourceVersion, how)
	}
}

// counted is "3" of a snapshot, and of a repair what it wrote, and how finely: "+1 ~2 -3 (2 net, 1 inferred)".
func counted(d event.SyncedData) []string {
	var out []string
	if d.Present > 0 || d.Healed == nil {
		out = append(out, fmt.Sprint(d.Present))
	}
	for _, c := range []struct {
		sign string
		n    int
	}{{"+", d.Added}, {"~", d.Modified}, {"-", d.Deleted}, {"<", d.Left}, {"f", d.Filtered}} {
		if c.n > 0 {
			out = append(out, c.sign+fmt.Sprint(c.n))
		}
	}
	if h := d.Healed; h != nil {
		out = append(out, fmt.Sprintf("(%d net, %d inferred)", h.Net, h.Inferred))
		if h.Deletions == "unknown" {
			out = append(out, "deletions unknown")
		}
	}
	return out
}

// A running is one Run under test.
type running struct {
	*memory
	srv    *watchtest.Server
	logs   *observer.ObservedLogs
	cancel context.CancelFunc
	done   chan error
	tries  atomic.Int64 // requests, also those that reached nobody
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(q *http.Request) (*http.Response, error) { return f(q) }

// An http2Body breaks as one of HTTP/2 does, which real API servers speak: with an error that net/http does not name.
type http2Body struct{ io.ReadCloser }

func (b http2Body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = errors.New("stream error: stream ID 3; INTERNAL_ERROR; received from peer")
	}
	return n, err
}

// start runs watcher on the server until stop.
func start(t testing.TB, srv *watchtest.Server, sink *memory, resources []string, edits ...func(*watch.Config)) *running {
	t.Helper()
	kube := srv.Config()
	r := &running{memory: sink, srv: srv, done: make(chan error, 1)}
	kube.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return roundTripper(func(q *http.Request) (*http.Response, error) {
			r.tries.Add(1)
			resp, err := rt.RoundTrip(q)
			if err == nil {
				resp.Body = http2Body{resp.Body}
			}
			return resp, err
		})
	})
	client, err := watch.NewClient(kube, 100, 200)
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zapcore.DebugLevel)
	conf := watch.Config{
		Client: client, Sink: sink, Log: zap.New(core), Cluster: "test", Resources: resources,
		Initial: watch.InitialSnapshot, BufferBytes: 16 << 20, RepairBudget: 5000, Version: "test",
	}
	for _, edit := range edits {
		edit(&conf)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.logs, r.cancel = logs, cancel
	go func() { r.done <- watch.Run(ctx, conf) }()
	return r
}

func (r *running) stop(t testing.TB) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Errorf("run: %v", err)
	}
}

// logged counts the diagnostics of at least warning level that hold the message.
func (r *running) logged(message string) int {
	n := 0
	for _, e := range r.logs.All() {
		if e.Level >= zapcore.WarnLevel && bytes.Contains([]byte(e.Message), []byte(message)) {
			n++
		}
	}
	return n
}

// bubble runs a test in a bubble of fake time, on a server of the resources.
func bubble(t *testing.T, rs []watchtest.Resource, f func(t *testing.T, srv *watchtest.Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, watchtest.New(t, rs...)) })
}

// pass lets time go by, and everything that has to happen in it.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func check(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %q\nwant\n  %q", got, want)
	}
}

var errSink = errors.New("the disk is full")
