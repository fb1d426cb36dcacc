package watchtest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// transports are the ways to reach a server.
var transports = map[string]func(*Server) *rest.Config{
	"memory": (*Server).Config,
	"http2":  (*Server).TLSConfig,
	"http1": func(s *Server) *rest.Config {
		cfg := s.TLSConfig()
		cfg.NextProtos = []string{"http/1.1"}
		return cfg
	},
}

func TestAllTransportsServeAlike(t *testing.T) {
	for name, config := range transports {
		t.Run(name, func(t *testing.T) {
			s := New(t, Pods)
			c := client{t, config(s)}
			s.Create(Pods, "a/x", Annotations("size", strings.Repeat("x", 100_000)))
			w := c.mustWatch(Pods, "resourceVersion=100")
			want(t, next(t, w, 1), "ADDED a/x 101")
			s.Delete(Pods, "a/x")
			s.Create(Pods, "a/y")
			want(t, next(t, w, 2), "DELETED a/x 102", "ADDED a/y 103")
			if list, err := c.list(Pods, ""); err != nil || names(list) != "a/y" {
				t.Errorf("list: %v", err)
			}
			resp, _, err := c.get("/version", "")
			if err != nil || (resp.Proto == "HTTP/2.0") != (name == "http2") {
				t.Errorf("%s: %v", resp.Proto, err)
			}

			s.CloseWatches(Pods)
			want(t, next(t, w, 1), "end")
			broken := c.mustWatch(Pods, "resourceVersion=103")
			s.CutWatches(Pods)
			want(t, next(t, broken, 1), endOf[name]...)
			s.Compact(s.RV())
			want(t, next(t, c.mustWatch(Pods, "resourceVersion=101"), 2), "ERROR 410 Expired", "end")

			s.On(Lists(), Reset())
			if _, err := c.list(Pods, ""); err == nil {
				t.Error("a reset passed")
			}
			s.Down()
			if _, err := c.list(Pods, ""); err == nil {
				t.Error("a server that is down answers")
			}
		})
	}
}

// endOf is how client-go tells of a watch that was cut: an unexpected EOF is none of its errors, a stream reset is.
var endOf = map[string][]string{
	"memory": {"end"},
	"http1":  {"end"},
	"http2":  {"ERROR 500 InternalError"},
}

func TestTheKubeconfigLeadsToTheServer(t *testing.T) {
	s := New(t, Pods)
	s.Create(Pods, "a/x")
	cfg, err := clientcmd.BuildConfigFromFlags("", s.WriteKubeconfig(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	c := client{t, cfg}
	if list, err := c.list(Pods, ""); err != nil || names(list) != "a/x" {
		t.Errorf("list: %v", err)
	}
	if q := s.Requests(Any()); len(q) != 1 || q[0].Header.Get("Authorization") != "Bearer watchtest" {
		t.Errorf("the record: %+v", q)
	}
}

func TestAwaitSeesRequestsAndFrames(t *testing.T) {
	s := New(t, Pods)
	c := client{t, s.TLSConfig()}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		w := c.mustWatch(Pods, "resourceVersion=100")
		next(t, w, 1)
		w.Stop()
	})
	for _, cond := range []func() bool{
		func() bool { return s.Watching(Pods) == 1 },
		func() bool { s.Apply(Pods, "a/x"); return s.Unsent(Pods) == 0 },
		func() bool { q := s.Requests(Watches(Pods)); return q[0].Frames == 1 && q[0].Done },
	} {
		if err := s.Await(ctx, cond); err != nil {
			t.Fatal(err)
		}
	}
}

// TestManyAtOnce is for the race detector: everything is done at the same time, and what the watches are told
// must still be the history.
func TestManyAtOnce(t *testing.T) {
	for name, config := range transports {
		t.Run(name, func(t *testing.T) {
			s := New(t, Pods, Services)
			c := client{t, config(s)}
			const writers, writes, watchers = 4, 50, 4
			var wg sync.WaitGroup
			for i := range writers {
				wg.Go(func() {
					for j := range writes {
						key := fmt.Sprintf("n%d/%d", i, j%7)
						if j%7 == 6 {
							s.Delete(Pods, fmt.Sprintf("n%d/%d", i, 0))
						}
						s.Apply(Pods, key, Spec(fmt.Sprint(j)))
						s.Advance(1)
						s.Bookmark()
					}
				})
			}
			told := make([][]string, watchers)
			for i := range watchers {
				wg.Go(func() {
					told[i] = next(t, c.mustWatch(Pods, "resourceVersion=100"), writers*(writes+writes/7))
				})
				wg.Go(func() {
					for range 20 {
						if _, err := c.list(Pods, "limit=3"); err != nil {
							t.Error(err)
						}
						s.CutWatches(Services)
						s.Requests(Any())
						s.Fired()
						s.StateAt(Pods, s.RV())
						w, err := c.watch(t.Context(), Services, "resourceVersion=100")
						if err == nil { // else it was cut before it was open
							w.Stop()
						}
					}
				})
			}
			wg.Wait()
			var happened []string
			for _, ch := range s.History(Pods) {
				happened = append(happened, fmt.Sprintf("%s %s/%s %d", ch.Type, ch.Namespace, ch.Name, ch.RV))
			}
			for _, got := range told {
				want(t, got, happened...)
			}
		})
	}
}

// TestAFrozenHTTP2ConnectionAnswersNoPing shows that it is told from a slow one, as HTTP/2 pings do.
func TestAFrozenHTTP2ConnectionAnswersNoPing(t *testing.T) {
	s := New(t, Pods)
	cfg := s.TLSConfig()
	base, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{ForceAttemptHTTP2: true, HTTP2: &http.HTTP2Config{SendPingTimeout: 50 * time.Millisecond, PingTimeout: 50 * time.Millisecond}}
	defer tr.CloseIdleConnections()
	if tr.TLSClientConfig, err = rest.TLSConfigFor(cfg); err != nil {
		t.Fatal(err)
	}
	defer base.CloseIdleConnections()
	w, err := client{t, &rest.Config{Host: cfg.Host, Transport: tr}}.watch(t.Context(), Pods, "resourceVersion=100")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	s.Freeze()
	s.Create(Pods, "a/x")
	if ev, ok := <-w.ResultChan(); ok && ev.Type != watch.Error {
		t.Errorf("it was told %s", show(ev))
	}
}
