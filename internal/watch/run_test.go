package watch_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"watcher/internal/event"
	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

// A field selector that the API server refuses is the user's mistake, not an outage.
func TestARefusedSelectorEndsTheProgram(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.FieldSelector = "spec.bogus=1" })
		if err := <-r.done; !errors.As(err, new(*watch.UsageError)) || !strings.Contains(err.Error(), "--field-selector") {
			t.Errorf("got %v", err)
		}
	})
}

// A server that can only send whole objects is not asked for them behind the user's back.
func TestAServerThatCannotLeaveOutTheRestIsRefused(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.On(watchtest.Lists(), watchtest.Fail(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable, "only application/json"))
		r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.Payload = watch.PayloadMetadata })
		if err := <-r.done; !errors.As(err, new(*watch.UsageError)) || !strings.Contains(err.Error(), "--payload full") {
			t.Errorf("got %v", err)
		}
	})
}

// A resource whose versions have no order is refused by name.
func TestAResourceWithoutComparableVersionsIsRefused(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.On(watchtest.Lists(), watchtest.Rewrite(func(b []byte) []byte {
			return []byte(strings.ReplaceAll(string(b), `"resourceVersion":"1`, `"resourceVersion":"v1`))
		}))
		r := start(t, srv, newMemory(), []string{"pods"})
		if err := <-r.done; !errors.As(err, new(*watch.UsageError)) || !strings.Contains(err.Error(), "pods") {
			t.Errorf("got %v", err)
		}
	})
}

// While the API server cannot be reached at the start, watcher waits for it.
func TestAnAPIServerThatComesLateIsWaitedFor(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Down()
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(10 * time.Minute)
		if n := r.logged("cannot be reached"); n != 1 {
			t.Errorf("said %d times", n)
		}
		srv.Up()
		pass(time.Minute)
		r.stop(t)
		check(t, r.said("pods"), "started at 100", "synced 0 at 100", "stopped at 100")
	})
}

// With --once what exists is listed and the program ends; whatever cannot be listed is an error, and the rest is listed
// all the same.
func TestOnceListsAndEnds(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*watchtest.Server)
		says  string
	}{
		"all is well": {func(*watchtest.Server) {}, ""},
		"forbidden":   {func(s *watchtest.Server) { s.Forbid(watchtest.Nodes, "list") }, "permission is missing"},
		"broken": {func(s *watchtest.Server) {
			s.On(watchtest.Lists(watchtest.Nodes), watchtest.Fail(500, metav1.StatusReasonInternalError, "etcd is on fire"))
		}, "etcd is on fire"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, served, func(t *testing.T, srv *watchtest.Server) {
				srv.Create(watchtest.Pods, "shop/p")
				srv.Create(watchtest.Nodes, "n1")
				c.spoil(srv)
				r := start(t, srv, newMemory(), []string{"nodes", "pods"}, func(c *watch.Config) { c.Once = true })
				err := <-r.done
				check(t, r.said("pods"), "started at 102", "present shop/p@101", "synced 1 at 102", "stopped at 102")
				if (err != nil) != (c.says != "") || c.says != "" && !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, want %q", err, c.says)
				}
				if n := srv.Count(watchtest.Watches()); n > 0 {
					t.Errorf("%d watches", n)
				}
			})
		})
	}
}

// --once that is interrupted has not listed what exists.
func TestOnceInterruptedIsAnError(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		for i := range 1200 {
			srv.Create(watchtest.Pods, fmt.Sprintf("shop/p%04d", i))
		}
		srv.On(watchtest.Lists().After(2).Times(1), watchtest.Delay(10*time.Second))
		r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.Once = true })
		pass(time.Second)
		r.cancel()
		if err := <-r.done; err == nil {
			t.Errorf("no error, and %d events", len(r.events))
		}
	})
}

// --initial none begins at the present.
func TestInitialNoneBeginsAtThePresent(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/old")
		r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.Initial = watch.InitialNone })
		pass(time.Second)
		srv.Delete(watchtest.Pods, "shop/old")
		pass(time.Second)
		r.stop(t)
		check(t, r.said("pods")[:2], "started at 101", "deleted shop/old@102")
	})
}

// With several namespaces each has a stream of its own, and says which; what has no namespace is read once.
func TestEveryNamespaceHasItsStream(t *testing.T) {
	bubble(t, served, func(t *testing.T, srv *watchtest.Server) {
		for _, key := range []string{"a/p", "b/p", "c/p"} {
			srv.Create(watchtest.Pods, key)
		}
		r := start(t, srv, newMemory(), []string{"pods", "nodes"}, func(c *watch.Config) { c.Namespaces = []string{"a", "b"} })
		pass(time.Second)
		r.stop(t)
		seen := map[string]int{}
		for _, ev := range r.of("") {
			if d, ok := ev.Data.(event.StartedData); ok {
				seen[fmt.Sprint(ev.Stream.Resource, d.Namespaces)]++
			}
			if ev.Type == event.Present && ev.Object.Namespace != ev.Stream.Namespace {
				t.Errorf("%s in the stream of %q", short(ev), ev.Stream.Namespace)
			}
		}
		if fmt.Sprint(seen) != "map[nodes[]:1 pods[a]:1 pods[b]:1]" {
			t.Errorf("streams %v", seen)
		}
	})
}

// A saved position is resumed: nothing is listed, nothing repeated, seq goes on.
func TestASavedPositionIsResumed(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a")
		sink := newMemory()
		r := start(t, srv, sink, []string{"pods"})
		pass(time.Second)
		srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "1"))
		pass(time.Second)
		r.stop(t)
		srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "2"))
		r = start(t, srv, sink, []string{"pods"})
		pass(time.Second)
		r.stop(t)
		check(t, r.said("pods"), "started at 101", "present shop/a@101", "synced 1 at 101", "modified shop/a@102", "stopped at 101",
			"resumed after 101", "modified shop/a@103", "stopped at 102")
		last := r.of("pods")[6]
		if d, ok := r.of("pods")[5].Data.(event.StartedData); !ok || !d.Resumed || last.Seq != 3 {
			t.Errorf("started says %+v, and seq goes on with %d", d, last.Seq)
		}
	})
}

// A sink that takes nothing is given up when it is time to stop, and that is an error.
func TestASinkThatTakesNothingIsGivenUpAtTheEnd(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		sink := newMemory()
		sink.stall = make(chan struct{})
		r := start(t, srv, sink, []string{"pods"})
		pass(time.Second)
		begin := time.Now()
		r.cancel()
		err := <-r.done
		if err == nil || time.Since(begin) != 20*time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

// A sink that is closed ends the program.
func TestAClosedSinkEndsTheProgram(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		sink := newMemory()
		sink.fault = func(event.Batch) (int, error) { return 0, event.ErrClosed }
		r := start(t, srv, sink, []string{"pods"})
		if err := <-r.done; !errors.Is(err, event.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}
