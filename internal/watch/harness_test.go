package watch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
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

// A memory is a sink that keeps events, and fails as told: keeping and failing are independent.
type memory struct {
	mu     sync.Mutex
	events []*event.Event
	lines  []string
	state  event.State
	// fault is asked before each Commit: how many of the batch's events are kept all the same, and the error.
	fault func(b event.Batch) (kept int, err error)
	stall chan struct{} // while it is open and not nil, Commit does not return
}

func newMemory() *memory { return &memory{state: event.State{}} }

func (m *memory) Recover(context.Context) (event.State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.state), nil
}

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
	kept, err := len(b.Events), error(nil)
	if m.fault != nil {
		kept, err = m.fault(b)
	}
	for _, ev := range b.Events[:kept] {
		kept := *ev
		kept.Object.Body = bytes.Clone(ev.Object.Body)
		m.events = append(m.events, &kept)
		m.lines = append(m.lines, string(ev.AppendLine(nil, 0)))
	}
	if err == nil {
		maps.Copy(m.state, b.State)
		return nil
	}
	// The state says what was kept, as a sink whose truth is its log would find out.
	for _, ev := range b.Events[:kept] {
		c := m.state[ev.Stream.Key()]
		if run := b.State[ev.Stream.Key()].Run; c.Run != run {
			c.Run, c.StreamEvents = run, 0
		}
		if ev.Type.OfObject() {
			c.Seq = ev.Seq
		} else {
			c.StreamEvents++
		}
		m.state[ev.Stream.Key()] = c
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
		return fmt.Sprintf("synced %d at %s", d.Present, d.ResourceVersion)
	case event.StartedData:
		return "started at " + d.ResourceVersion
	case event.ProgressData:
		return "progress at " + d.ResourceVersion
	case event.StoppedData:
		return "stopped at " + d.ResourceVersion
	default:
		return fmt.Sprintf("%s %s@%s", ev.Type, ev.Object.Key(), ev.Object.ResourceVersion)
	}
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
		Initial: watch.InitialSnapshot, BufferBytes: 16 << 20, Version: "test",
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
