package watch_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"watcher/internal/event"
	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

// The tests here are named after what other programs get wrong (facts.md, T1 to T28), and what watcher promises.

var pods = []watchtest.Resource{watchtest.Pods}

func TestChangesAreWrittenInOrderOnce(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/old")
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Second)
		srv.Create(watchtest.Pods, "shop/a")
		srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("x", "1"))
		srv.Delete(watchtest.Pods, "shop/a")
		pass(time.Second)
		r.stop(t)
		check(t, r.said("pods"), "started at 101", "present shop/old@101", "synced 1 at 101",
			"added shop/a@102", "modified shop/a@103", "deleted shop/a@104", "stopped at 103")
		for i, ev := range slices.DeleteFunc(r.of("pods"), func(ev *event.Event) bool { return !ev.Type.OfObject() }) {
			if ev.Seq != uint64(i+1) {
				t.Errorf("%s has seq %d, want %d", short(ev), ev.Seq, i+1)
			}
		}
	})
}

// T1: an expired position is not tried again. T2: what exists is listed, behind a gap.
func TestT1T2AnExpiredPositionIsAGapAndWhatExistsIsListed(t *testing.T) {
	for _, face := range []watchtest.Face{watchtest.FaceStatus, watchtest.FaceFrame, watchtest.FaceGone, watchtest.FaceClose} {
		t.Run(fmt.Sprint(face), func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				srv.Create(watchtest.Pods, "shop/kept")
				srv.Create(watchtest.Pods, "shop/lost")
				srv.ExpireAs(face)
				r := start(t, srv, newMemory(), []string{"pods"})
				pass(time.Second)
				srv.Down()
				srv.Update(watchtest.Pods, "shop/kept", watchtest.Labels("x", "1"))
				srv.Delete(watchtest.Pods, "shop/lost")
				srv.Create(watchtest.Pods, "shop/new")
				srv.Compact(srv.RV())
				srv.Up()
				pass(2 * time.Minute)
				srv.Create(watchtest.Pods, "shop/live")
				pass(time.Second)
				r.stop(t)
				check(t, orderless(r.said("pods"))[:10], "started at 102", "present shop/kept@101", "present shop/lost@102", "synced 2 at 102",
					"gap expired after 102", "added shop/new@105", "deleted shop/lost@105 inferred", "modified shop/kept@103",
					"synced +1 ~1 -1 (2 net, 1 inferred) at 105", "added shop/live@106")
				gap := ""
				for _, ev := range r.of("pods")[4:8] {
					if ev.Type == event.Gap {
						gap = ev.ID
					} else if ev.Origin != event.Repair || ev.Gap != gap || !strings.HasPrefix(gap, "pods.gap.") {
						t.Errorf("%s has origin %v and gap %q, want %q", short(ev), ev.Origin, ev.Gap, gap)
					}
				}
				old := srv.Count(watchtest.Watches().When(func(q *watchtest.Request) bool { return q.Query.Get("resourceVersion") == "102" }))
				if old > 4 {
					t.Errorf("%d watches were opened at the expired version", old)
				}
			})
		})
	}
}

// T3: a LIST that fails after an expiry is tried again.
func TestT3AListThatFailsAfterAnExpiryIsTriedAgain(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a")
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Second)
		srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("x", "1"))
		pass(time.Second)
		// Two tell that the position is still good; the watch there expires; the next is the repair's.
		rule := srv.On(watchtest.Lists().After(2).Times(5), watchtest.Fail(500, metav1.StatusReasonInternalError, "etcd is on fire"))
		srv.Restart()
		srv.Advance(10)
		srv.Compact(srv.RV())
		pass(3 * time.Minute)
		r.stop(t)
		check(t, r.said("pods"), "started at 101", "present shop/a@101", "synced 1 at 101", "modified shop/a@102",
			"gap expired after 101", "synced (0 net, 0 inferred) at 112", "stopped at 112")
		if rule.Fired() != 5 {
			t.Errorf("%d LISTs failed, want 5", rule.Fired())
		}
	})
}

// T8: two updates in one second are two events.
func TestT8UpdatesInOneSecondAreAllWritten(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a")
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Second)
		for i := range 5 {
			srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", fmt.Sprint(i)))
		}
		pass(time.Millisecond)
		r.stop(t)
		check(t, r.said("pods")[3:8], "modified shop/a@102", "modified shop/a@103", "modified shop/a@104", "modified shop/a@105", "modified shop/a@106")
	})
}

// T9: a sink that is slow reorders nothing and fills no memory: reading stops, and goes on.
func TestT9AStalledSinkStopsTheReadingAndKeepsTheOrder(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		sink := newMemory()
		sink.stall = make(chan struct{})
		r := start(t, srv, sink, []string{"pods"}, func(c *watch.Config) { c.BufferBytes = 64 << 10 })
		pass(time.Second)
		const n = 2000
		pad := watchtest.Raw("spec", fmt.Sprintf(`{"pad":%q}`, strings.Repeat("x", 1000)))
		for i := range n {
			srv.Create(watchtest.Pods, fmt.Sprintf("shop/p%d", i), pad)
		}
		pass(time.Second)
		if srv.Unsent() < n/2 {
			t.Errorf("with a buffer of 64 KiB and a stalled sink all but %d of %d changes were read", srv.Unsent(), n)
		}
		close(sink.stall)
		pass(time.Minute)
		r.stop(t)
		got := r.said("pods")
		if len(got) != n+3 {
			t.Fatalf("%d events, want %d", len(got), n+3)
		}
		for i, s := range got[2 : n+2] {
			if want := fmt.Sprintf("added shop/p%d@%d", i, 101+i); s != want {
				t.Fatalf("event %d is %q, want %q", i, s, want)
			}
		}
	})
}

// T10: the repeats of an Event, count by count, are all written.
func TestT10RepeatsOfAnEventAreWritten(t *testing.T) {
	bubble(t, []watchtest.Resource{watchtest.Events}, func(t *testing.T, srv *watchtest.Server) {
		r := start(t, srv, newMemory(), []string{"events"})
		pass(time.Second)
		for i := range 4 {
			srv.Apply(watchtest.Events, "shop/backoff.1", watchtest.Raw("count", fmt.Sprint(i+1)))
		}
		pass(time.Second)
		r.stop(t)
		check(t, r.said("events")[2:6], "added shop/backoff.1@101", "modified shop/backoff.1@102", "modified shop/backoff.1@103", "modified shop/backoff.1@104")
	})
}

// T11: a deletion is an event, with the last state; so is one without uid or body.
func TestT11ADeletionIsWrittenWithTheLastState(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a", watchtest.Spec(`{"node":"n1"}`))
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Second)
		srv.Delete(watchtest.Pods, "shop/a")
		pass(time.Second)
		srv.SendLine(watchtest.Pods, `{"type":"DELETED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"ghost","namespace":"shop","resourceVersion":"103"}}}`)
		pass(time.Second)
		r.stop(t)
		check(t, r.said("pods")[3:5], "deleted shop/a@102", "deleted shop/ghost@103")
		deleted := r.of("pods")[3]
		if !strings.Contains(string(deleted.Object.Body), `"node":"n1"`) {
			t.Errorf("the deletion carries %s", deleted.Object.Body)
		}
	})
}

// T12: creations are written whatever the kind, custom resources and cluster-scoped ones included.
func TestT12CreationsOfEveryKindAreWritten(t *testing.T) {
	all := []watchtest.Resource{watchtest.Pods, watchtest.Services, watchtest.Deployments, watchtest.ConfigMaps, watchtest.Nodes, watchtest.Widgets, watchtest.Gadgets, watchtest.Leases}
	bubble(t, all, func(t *testing.T, srv *watchtest.Server) {
		var names []string
		for _, res := range all {
			names = append(names, res.Name)
		}
		r := start(t, srv, newMemory(), names)
		pass(time.Second)
		for _, res := range all {
			key := "new"
			if res.Namespaced {
				key = "shop/new"
			}
			rv := srv.Create(res, key, watchtest.Spec(`{"n":1.50}`))
			pass(time.Second)
			check(t, r.said(res.Name)[2:], fmt.Sprintf("added %s@%d", key, rv))
			if body := string(r.of(res.Name)[2].Object.Body); !strings.Contains(body, `"spec":{"n":1.50}`) || !strings.Contains(body, fmt.Sprintf(`"kind":%q`, res.Kind)) {
				t.Errorf("%s: %s", res.Name, body)
			}
		}
		r.stop(t)
	})
}

// T13: a secret gives away no more than its metadata, and that without kubectl's copy of the whole.
func TestT13SecretsDoNotLeak(t *testing.T) {
	const key = "kubectl.kubernetes.io/last-applied-configuration"
	for _, c := range []struct {
		payload watch.Payload
		leaks   bool
	}{{"", false}, {watch.PayloadMetadata, false}, {watch.PayloadNone, false}, {watch.PayloadFull, true}} {
		t.Run("payload="+string(c.payload), func(t *testing.T) {
			bubble(t, []watchtest.Resource{watchtest.Secrets}, func(t *testing.T, srv *watchtest.Server) {
				secret := []watchtest.Edit{watchtest.Raw("data", `{"password":"aHVudGVyMg=="}`), watchtest.Annotations(key, `{"data":{"password":"aHVudGVyMg=="}}`, "team", "a")}
				srv.Create(watchtest.Secrets, "shop/listed", secret...)
				r := start(t, srv, newMemory(), []string{"secrets"}, func(c2 *watch.Config) { c2.Payload = c.payload })
				pass(time.Second)
				srv.Create(watchtest.Secrets, "shop/live", secret...)
				srv.Update(watchtest.Secrets, "shop/live", watchtest.Annotations("team", ""))
				srv.Delete(watchtest.Secrets, "shop/live")
				pass(time.Second)
				r.stop(t)
				if n := len(r.said("secrets")); n != 7 {
					t.Errorf("%d events: %q", n, r.said("secrets"))
				}
				for _, line := range r.lines {
					if leaks := strings.Contains(line, "aHVudGVyMg"); leaks && !c.leaks {
						t.Errorf("the secret is in %s", line)
					}
					if c.payload == watch.PayloadNone && strings.Contains(line, `"object"`) {
						t.Errorf("payload none has an object: %s", line)
					}
				}
				for _, q := range srv.Requests(watchtest.Any()) {
					if (q.Verb == "list" || q.Verb == "watch") && c.payload != watch.PayloadFull && !strings.Contains(q.Header.Get("Accept"), "as=PartialObjectMetadata") {
						t.Errorf("a %s accepted %q", q.Verb, q.Header.Get("Accept"))
					}
				}
			})
		})
	}
}

// Changes that share a version (leases that expire together, K9) are all written once, also if the watch is cut among
// them.
func TestChangesOfOneVersionAreAllWrittenOnce(t *testing.T) {
	for cut := range 13 {
		bubble(t, []watchtest.Resource{watchtest.Events}, func(t *testing.T, srv *watchtest.Server) {
			var keys, want []string
			for i := range 12 {
				keys = append(keys, fmt.Sprintf("shop/e%02d", i))
				srv.Create(watchtest.Events, keys[i])
			}
			srv.On(watchtest.Watches().Times(1), watchtest.CutAfter(cut))
			r := start(t, srv, newMemory(), []string{"events"})
			pass(time.Second)
			rv := srv.DeleteTogether(watchtest.Events, keys...)
			for _, key := range keys {
				want = append(want, fmt.Sprintf("deleted %s@%d", key, rv))
			}
			pass(10 * time.Second)
			r.stop(t)
			got := slices.DeleteFunc(r.said("events"), func(s string) bool { return !strings.HasPrefix(s, "deleted") })
			check(t, got, want...)
		})
	}
}

// Nothing comes behind stopped, and nothing before started.
func TestStoppedIsTheLastWord(t *testing.T) {
	for range 20 { // the order of two things that are ready at once is drawn
		bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
			sink := newMemory()
			r := start(t, srv, sink, []string{"pods"}, func(c *watch.Config) { c.Progress = time.Second })
			pass(10 * time.Second)
			stall := make(chan struct{})
			sink.mu.Lock()
			sink.stall = stall
			sink.mu.Unlock()
			pass(2 * time.Second)
			r.cancel()
			pass(5 * time.Second)
			close(stall)
			if err := <-r.done; err != nil {
				t.Error(err)
			}
			if got := r.said("pods"); !strings.HasPrefix(got[0], "started") || !strings.HasPrefix(got[len(got)-1], "stopped") {
				t.Errorf("got %q", got)
			}
		})
	}
}

// A sink that fails, having kept any beginning of the batch or none, gets the rest, and nothing twice.
func TestAFailingSinkLosesAndRepeatsNothing(t *testing.T) {
	for kept := range 6 {
		bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
			sink := newMemory()
			r := start(t, srv, sink, []string{"pods"})
			pass(time.Second)
			failed := 0
			sink.mu.Lock()
			sink.fault = func(b event.Batch) (int, error) {
				if failed++; failed > 3 {
					return len(b.Events), nil
				}
				return min(kept, len(b.Events)), errSink
			}
			sink.mu.Unlock()
			var want []string
			for i := range 5 {
				rv := srv.Create(watchtest.Pods, fmt.Sprintf("shop/p%d", i))
				want = append(want, fmt.Sprintf("added shop/p%d@%d", i, rv))
			}
			pass(5 * time.Minute)
			before := requests(srv)
			r.stop(t)
			got := r.said("pods")
			check(t, got[2:len(got)-1], want...)
			if before > 6 {
				t.Errorf("%d requests: what the writer holds was read again", before)
			}
		})
	}
}
