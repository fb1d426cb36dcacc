package watch_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"watcher/internal/event"
	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

// An identified sink says which cluster it is about, as it was told by the last batch.
type identified struct {
	*memory
	mu  sync.Mutex
	uid string
}

func (s *identified) Recover(ctx context.Context) (event.State, error) {
	held, err := s.memory.Recover(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	held.ClusterUID = s.uid
	return held, err
}

func (s *identified) Commit(ctx context.Context, b event.Batch) error {
	err := s.memory.Commit(ctx, b)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.uid = b.ClusterUID
	}
	return err
}

func into(s watch.Sink) func(*watch.Config) { return func(c *watch.Config) { c.Sink = s } }

var podsAndNamespaces = []watchtest.Resource{watchtest.Namespaces, watchtest.Pods}

// A restart goes on where the last process stopped: nothing is listed, and nothing is a gap.
func TestT16ARestartGoesOnWhereItStopped(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 4) // 101 to 104
		sink := newMemory()
		r := start(t, srv, sink, []string{"pods"})
		pass(time.Second)
		srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", "1")) // 105
		pass(time.Second)
		r.stop(t)
		srv.Delete(watchtest.Pods, pod(1)) // 106
		srv.Delete(watchtest.Pods, pod(2))
		srv.Create(watchtest.Pods, pod(2)) // 108
		srv.Update(watchtest.Pods, pod(3), watchtest.Labels("n", "1"))
		r = start(t, srv, sink, []string{"pods"})
		pass(time.Second)
		r.stop(t)
		check(t, r.said("pods")[6:], "modified "+pod(0)+"@105", "stopped at 104", "resumed after 104", "deleted "+pod(1)+"@106", "deleted "+pod(2)+"@107",
			"added "+pod(2)+"@108", "modified "+pod(3)+"@109", "stopped at 108")
		audit(t, r, watchtest.Pods)
	})
}

// A restart for which the API server's memory is too short is a gap, and what was deleted meanwhile is known by the ledger.
func TestT16ARestartAfterTheExpiryKnowsTheDeletions(t *testing.T) {
	for name, c := range map[string]struct {
		compact bool
		how     string
	}{"in time": {false, "stale"}, "compacted": {true, "inferred"}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				many(srv, 4) // 101 to 104
				sink := newMemory()
				r := start(t, srv, sink, []string{"pods"})
				pass(time.Second)
				r.stop(t)
				begun := time.Now()
				pass(time.Minute)
				srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", "1")) // 105
				srv.Delete(watchtest.Pods, pod(1))
				srv.Create(watchtest.Pods, pod(4)) // 107
				srv.Forget(srv.RV())
				if c.compact {
					srv.Compact(srv.RV())
				}
				r = start(t, srv, sink, []string{"pods"})
				pass(time.Minute)
				r.stop(t)
				counts := map[bool]string{false: "(3 net, 0 inferred)", true: "(2 net, 1 inferred)"}[c.compact]
				check(t, orderless(r.said("pods"))[6:], "stopped at 104", "resumed after 104", "gap expired after 104", "added "+pod(4)+"@107", "deleted "+pod(1)+"@107 "+c.how,
					"modified "+pod(0)+"@105", "synced +1 ~1 -1 "+counts+" at 107", "stopped at 107")
				if d := r.of("pods")[8].Data.(event.GapData); d.FromTime.After(begun) || begun.Sub(d.FromTime) > 10*time.Minute || d.ToTime.Before(begun.Add(time.Minute)) {
					t.Errorf("the gap is from %v to %v; watching ended at %v", d.FromTime, d.ToTime, begun)
				}
				audit(t, r, watchtest.Pods)
			})
		})
	}
}

// Positions of another cluster are refused before anything is written, with what to do.
func TestAnotherClusterIsRefused(t *testing.T) {
	bubble(t, podsAndNamespaces, func(t *testing.T, srv *watchtest.Server) {
		sink := &identified{memory: newMemory()}
		r := start(t, srv, sink.memory, []string{"pods"}, into(sink))
		pass(time.Second)
		r.stop(t)
		was := sink.uid
		if was == "" {
			t.Fatal("the sink was not told which cluster it is about")
		}
		written := len(r.of(""))
		r = start(t, srv, sink.memory, []string{"pods"}, into(sink))
		pass(time.Second)
		r.stop(t)
		if n := len(r.of("")); n <= written {
			t.Error("the same cluster was refused")
		}
		written = len(r.of(""))
		srv.Update(watchtest.Namespaces, "kube-system", watchtest.Meta("uid", `"another"`))
		r = start(t, srv, sink.memory, []string{"pods"}, into(sink))
		err := ended(t, r)
		if usage := (*watch.UsageError)(nil); !errors.As(err, &usage) || !strings.Contains(err.Error(), "--state-dir") || !strings.Contains(err.Error(), was) || !strings.Contains(err.Error(), "another") {
			t.Errorf("got %v", err)
		}
		if len(r.of("")) != written || sink.uid != was {
			t.Errorf("written: %q", r.said("")[written:])
		}
	})
}

// Who may not ask which cluster it is is warned and goes on, and the sink keeps what it knew.
func TestAClusterThatDoesNotSayWhichItIsIsBelieved(t *testing.T) {
	for name, spoil := range map[string]func(*watchtest.Server){
		"forbidden": func(s *watchtest.Server) { s.Forbid(watchtest.Namespaces, "get") },
		"missing":   func(s *watchtest.Server) { s.Delete(watchtest.Namespaces, "kube-system") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, podsAndNamespaces, func(t *testing.T, srv *watchtest.Server) {
				sink := &identified{memory: newMemory(), uid: "a"}
				spoil(srv)
				r := start(t, srv, sink.memory, []string{"pods"}, into(sink))
				pass(time.Second)
				r.stop(t)
				if got := r.said("pods"); len(got) != 3 || !strings.HasPrefix(got[1], "synced 0") {
					t.Errorf("got %q", got)
				}
				if n := r.logged("whether this is the cluster of the saved positions cannot be checked"); n != 1 || sink.uid != "a" {
					t.Errorf("said %d times; the sink knows %q", n, sink.uid)
				}
			})
		})
	}
}

// A cluster that cannot be asked for a while is asked again: no position is used before it is known whose it is.
func TestWhichClusterItIsIsAskedUntilItIsKnown(t *testing.T) {
	bubble(t, podsAndNamespaces, func(t *testing.T, srv *watchtest.Server) {
		rule := srv.On(watchtest.Gets(), watchtest.Fail(500, "InternalError", "etcd is on fire"))
		sink := &identified{memory: newMemory()}
		r := start(t, srv, sink.memory, []string{"pods"}, into(sink))
		pass(time.Minute)
		if n := srv.Count(watchtest.Gets()); len(r.of("")) > 0 || n < 4 || n > 9 {
			t.Errorf("asked %d times in a minute; wrote %q", n, r.said(""))
		}
		rule.Off()
		pass(time.Minute)
		r.stop(t)
		if len(r.of("")) != 3 || sink.uid == "" {
			t.Errorf("wrote %q of the cluster %q", r.said(""), sink.uid)
		}
	})
}

// T14: another selection is another stream: it begins anew, and says why. The first one's position is kept.
func TestT14AnotherSelectionIsAnotherStream(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a", web)
		srv.Create(watchtest.Pods, "shop/b")
		sink := newMemory()
		for _, c := range []struct {
			edit   func(*watch.Config)
			reason string
			want   []string
		}{
			{func(*watch.Config) {}, "no position was saved", []string{"started at 102", "present shop/a@101", "present shop/b@102", "synced 2 at 102"}},
			{selecting, "the namespaces or selectors are others", []string{"started at 102", "present shop/a@101", "synced 1 at 102"}},
			{func(c *watch.Config) { c.Namespaces = []string{"shop"} }, "the namespaces or selectors are others", []string{"started at 102", "present shop/a@101", "present shop/b@102", "synced 2 at 102"}},
			{func(c *watch.Config) { c.FieldSelector = "metadata.name=b" }, "the namespaces or selectors are others", []string{"started at 102", "present shop/b@102", "synced 1 at 102"}},
			{func(*watch.Config) {}, "", []string{"resumed after 102"}},
			{selecting, "", []string{"resumed after 102"}},
		} {
			before := len(sink.of("pods"))
			r := start(t, srv, sink, []string{"pods"}, c.edit)
			pass(time.Second)
			r.stop(t)
			check(t, r.said("pods")[before:], append(c.want, "stopped at 102")...)
			if d := r.of("pods")[before].Data.(event.StartedData); d.Reason != c.reason {
				t.Errorf("%+v, want the reason %q", d, c.reason)
			}
		}
	})
}

// Another payload is the same stream. What it hashes is not what was hashed before: no change is made up of it, and no rewind.
func TestAnotherPayloadMakesUpNoChange(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		spec := watchtest.Spec(`{"node":"n1"}`)
		srv.Create(watchtest.Pods, "shop/a", spec, watchtest.Status(`{"phase":"Running"}`))
		srv.Create(watchtest.Pods, "shop/b", spec, watchtest.Status(`{"phase":"Running"}`))
		sink := newMemory()
		for i, payload := range []watch.Payload{watch.PayloadFull, watch.PayloadMetadata, watch.PayloadNone, watch.PayloadFull} {
			before := len(sink.of("pods"))
			r := start(t, srv, sink, []string{"pods"}, func(c *watch.Config) { c.Payload = payload })
			pass(time.Second)
			first := srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", fmt.Sprint(2*i)))
			second := srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", fmt.Sprint(2*i+1)))
			pass(time.Second)
			r.stop(t)
			got := r.of("pods")[before:]
			if i == 0 {
				got = got[3:]
			}
			if len(got) != 4 {
				t.Fatalf("payload %s: got %q", payload, r.said("pods")[before:])
			}
			check(t, []string{short(got[1]), short(got[2])}, fmt.Sprintf("modified shop/a@%d", first), fmt.Sprintf("modified shop/a@%d", second))
			// none sends the same metadata as metadata does, so what was hashed can be compared; else the state before is not known.
			if known := i == 0; (got[1].Changed&event.Told != 0) != known && payload != watch.PayloadNone {
				t.Errorf("payload %s after another: changed %v", payload, got[1].Changed.Names())
			}
			if c := got[1].Changed; c&event.Told != 0 && c != event.Metadata|event.Told {
				t.Errorf("payload %s: made up %v", payload, c.Names())
			}
			if c := got[2].Changed; c != event.Metadata|event.Told {
				t.Errorf("payload %s: the second change is %v (told: %v)", payload, c.Names(), c&event.Told != 0)
			}
		}
	})
}

// A start without a list is a position like any other: what happens between it and a crash is written by the next process.
func TestInitialNoneIsResumed(t *testing.T) {
	for name, happened := range map[string]bool{"before the first change": false, "after it": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				srv.Create(watchtest.Pods, "shop/a") // 101
				sink := newMemory()
				none := func(c *watch.Config) { c.Initial = watch.InitialNone }
				r := start(t, srv, sink, []string{"pods"}, none)
				pass(time.Second)
				if happened {
					srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "1"))
					pass(time.Second)
				}
				dies(sink, 0)
				rv := srv.Create(watchtest.Pods, "shop/b")
				_ = ended(t, r) // by the sink
				revive(sink)
				r = start(t, srv, sink, []string{"pods"}, none)
				pass(time.Second)
				r.stop(t)
				want := []string{"started at 101", "resumed after 101", fmt.Sprintf("added shop/b@%d", rv)}
				if happened {
					want = []string{"started at 101", "modified shop/a@102", "resumed after 101", fmt.Sprintf("added shop/b@%d", rv)}
				}
				check(t, r.said("pods")[:len(want)], want...)
			})
		})
	}
}
