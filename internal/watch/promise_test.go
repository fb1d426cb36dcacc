package watch_test

import (
	"fmt"
	"net/http"
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

// outage bounds the requests of one stream in the first minute of trouble, LISTs and watches together.
const outage = 12

func requests(srv *watchtest.Server) int {
	return srv.Count(watchtest.Lists()) + srv.Count(watchtest.Watches())
}

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
				check(t, r.said("pods")[:9], "started at 102", "present shop/kept@101", "present shop/lost@102", "synced 2 at 102",
					"gap expired after 102", "present shop/kept@103", "present shop/new@105", "synced 2 at 105", "added shop/live@106")
				for _, ev := range r.of("pods") {
					if d, ok := ev.Data.(event.SyncedData); ok && d.ResourceVersion == "105" && d.Deletions != "unknown" {
						t.Errorf("the repair's synced says %+v", d)
					}
					if ev.Type == event.Present && ev.Object.ResourceVersion == "105" && (ev.Origin != event.Repair || !strings.HasPrefix(ev.Gap, "pods.gap.")) {
						t.Errorf("a repaired event has origin %v and gap %q", ev.Origin, ev.Gap)
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
		rule := srv.On(watchtest.Lists().Times(5), watchtest.Fail(500, metav1.StatusReasonInternalError, "etcd is on fire"))
		srv.Restart()
		srv.Advance(10)
		srv.Compact(srv.RV())
		pass(3 * time.Minute)
		r.stop(t)
		check(t, r.said("pods"), "started at 101", "present shop/a@101", "synced 1 at 101", "modified shop/a@102",
			"gap expired after 101", "present shop/a@102", "synced 1 at 112", "stopped at 112")
		if rule.Fired() != 5 {
			t.Errorf("%d LISTs failed, want 5", rule.Fired())
		}
	})
}

// T4: a position is never moved by the items of a list. A LIST that is cut goes on where it was.
func TestT4ACutListSkipsAndRepeatsNothing(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		const n = 1200 // three pages
		var want []string
		for i := range n {
			rv := srv.Create(watchtest.Pods, fmt.Sprintf("shop/p%04d", i))
			want = append(want, fmt.Sprintf("present shop/p%04d@%d", i, rv))
		}
		rule := srv.On(watchtest.Lists().After(2).Times(3), watchtest.CutBody(20_000))
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(30 * time.Second)
		r.stop(t)
		got := r.said("pods")
		check(t, got[1:n+1], want...)
		check(t, got[n+1:], fmt.Sprintf("synced %d at %d", n, srv.RV()), fmt.Sprintf("stopped at %d", srv.RV()))
		if rule.Fired() != 3 {
			t.Errorf("%d LISTs were cut, want 3", rule.Fired())
		}
		for _, q := range srv.Requests(watchtest.Watches()) {
			if rv := q.Query.Get("resourceVersion"); rv != fmt.Sprint(srv.RV()) {
				t.Errorf("a watch was opened at %s, want the list's version %d", rv, srv.RV())
			}
		}
	})
}

// The first page of a LIST, wherever it is cut, is begun again, with the version of the second try.
func TestAListThatIsCutInItsFirstPageBeginsAgain(t *testing.T) {
	for _, res := range []watchtest.Resource{watchtest.Pods, watchtest.Widgets} {
		for k := 0; k < 700; k += 11 {
			bubble(t, []watchtest.Resource{res}, func(t *testing.T, srv *watchtest.Server) {
				srv.Create(res, "shop/a")
				srv.Create(res, "shop/b")
				srv.On(watchtest.Lists().Times(1), watchtest.CutBody(k))
				r := start(t, srv, newMemory(), []string{res.Name})
				pass(100 * time.Millisecond)
				cut := len(r.said(res.Name)) == 0
				srv.Update(res, "shop/b", watchtest.Labels("n", "1"))
				pass(10 * time.Second)
				r.stop(t)
				if cut {
					check(t, r.said(res.Name), "started at 103", "present shop/a@101", "present shop/b@103", "synced 2 at 103", "stopped at 103")
				} else {
					check(t, r.said(res.Name)[:4], "started at 102", "present shop/a@101", "present shop/b@102", "synced 2 at 102")
				}
			})
		}
	}
}

// What a server that ignores limit has listed before it is cut cannot be gone on with: it is listed again, behind a gap.
func TestAListWithoutPagesThatIsCutBeginsAgain(t *testing.T) {
	gaps := 0
	for k := 600; k < 2000; k += 11 {
		bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
			for _, name := range []string{"a", "b", "c", "d"} {
				srv.Create(watchtest.Pods, "shop/"+name)
			}
			srv.On(watchtest.Lists().Times(1), watchtest.IgnoreLimit(), watchtest.CutBody(k))
			srv.On(watchtest.Lists(), watchtest.IgnoreLimit())
			r := start(t, srv, newMemory(), []string{"pods"})
			pass(100 * time.Millisecond)
			before := r.said("pods")
			srv.Delete(watchtest.Pods, "shop/b")
			pass(10 * time.Second)
			r.stop(t)
			want := []string{"present shop/a@101", "present shop/c@103", "present shop/d@104", "synced 3 at 105", "stopped at 105"}
			switch {
			case len(before) == 0:
				want = append([]string{"started at 105"}, want...)
			case before[len(before)-1] == "gap expired after 104":
				gaps++
				want = append(before, want...)
			default: // it was not cut
				want = append(before, "deleted shop/b@105", "stopped at 104")
			}
			check(t, r.said("pods"), want...)
		})
	}
	if gaps == 0 {
		t.Error("no list was cut behind its first object")
	}
}

// A LIST whose version is forgotten before its last page begins again; the token that the API server offers instead
// would hide what was deleted between the two versions.
func TestAListThatExpiresBetweenPagesBeginsAgain(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		for i := range 1200 {
			srv.Create(watchtest.Pods, fmt.Sprintf("shop/p%04d", i))
		}
		srv.On(watchtest.Lists().After(2).Times(1), watchtest.Delay(10*time.Second))
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Second)
		srv.Delete(watchtest.Pods, "shop/p0000")
		srv.Delete(watchtest.Pods, "shop/p1199")
		srv.Compact(srv.RV())
		pass(time.Minute)
		r.stop(t)
		got := r.said("pods")
		if last := got[len(got)-2]; last != "synced 1198 at 1302" {
			t.Errorf("the end is %q", last)
		}
		// What was listed before is listed again or gone: that is not known.
		if again := got[len(got)-2-1198-1]; again != "gap expired after 1300" {
			t.Errorf("%q stands before the second pass", again)
		}
		if n := srv.Count(watchtest.Lists()); n != 7 {
			t.Errorf("%d LISTs, want 3 of the first pass and 4 of the second", n)
		}
	})
}

// T6: an ERROR frame that is not 410 is no reason to hurry.
func TestT6AnErrorFrameIsNoHotLoop(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Second)
		before := requests(srv)
		rule := srv.On(watchtest.Watches(), watchtest.ErrorAfter(0, &metav1.Status{Status: "Failure", Code: 500, Reason: metav1.StatusReasonInternalError, Message: "the cache is broken"}))
		srv.CloseWatches()
		pass(time.Minute)
		if n := requests(srv) - before; n > outage || rule.Fired() < 4 {
			t.Errorf("%d requests in a minute of ERROR frames, of which %d fired", n, rule.Fired())
		}
		rule.Off()
		srv.Create(watchtest.Pods, "shop/a")
		pass(time.Minute)
		r.stop(t)
		check(t, r.said("pods")[:3], "started at 100", "synced 0 at 100", "added shop/a@101")
	})
}

// T7: HTTP 200 and an immediate close is not progress.
func TestT7AnEmptyWatchIsNoHotLoop(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Second)
		before := requests(srv)
		rule := srv.On(watchtest.Watches(), watchtest.CloseAfter(0))
		srv.CloseWatches()
		pass(time.Minute)
		if n := requests(srv) - before; n > outage || rule.Fired() < 4 {
			t.Errorf("%d requests in a minute of empty watches, of which %d fired", n, rule.Fired())
		}
		rule.Off()
		srv.Create(watchtest.Pods, "shop/a")
		pass(time.Minute)
		r.stop(t)
		check(t, r.said("pods")[:3], "started at 100", "synced 0 at 100", "added shop/a@101")
	})
}

// An API server that is away is asked a few times a minute, is back without a gap, and is complained about once.
func TestAnOutageIsNeitherAHotLoopNorAGap(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Second)
		before := r.tries.Load()
		srv.Down()
		pass(time.Minute)
		if n := r.tries.Load() - before; n > outage || n < 4 {
			t.Errorf("%d requests were tried in the first minute of an outage", n)
		}
		srv.Create(watchtest.Pods, "shop/a")
		srv.Up()
		pass(time.Minute)
		r.stop(t)
		check(t, r.said("pods")[:3], "started at 100", "synced 0 at 100", "added shop/a@101")
		if n := r.logged(""); n > 2 {
			t.Errorf("%d warnings about one outage: %v", n, r.logs.All())
		}
	})
}

// A connection that breaks again and again, in the middle of a frame too, is no gap.
func TestABrokenConnectionIsNoGap(t *testing.T) {
	for _, fault := range []watchtest.Fault{watchtest.CutAfter(0), watchtest.CutWithin(0, 30), watchtest.CutWithin(0, 300), watchtest.Reset()} {
		bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
			r := start(t, srv, newMemory(), []string{"pods"})
			pass(time.Second)
			rule := srv.On(watchtest.Watches().Times(6), fault)
			srv.CutWatches()
			srv.Create(watchtest.Pods, "shop/a")
			pass(5 * time.Minute)
			r.stop(t)
			check(t, r.said("pods")[:3], "started at 100", "synced 0 at 100", "added shop/a@101")
			if rule.Fired() != 6 {
				t.Errorf("%d watches were cut", rule.Fired())
			}
		})
	}
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

// A sink that takes nothing for so long that the API server gives up on us is a gap with its own reason.
func TestASinkThatStallsForTooLongIsAGapOfItsOwn(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		sink := newMemory()
		sink.stall = make(chan struct{})
		r := start(t, srv, sink, []string{"pods"}, func(c *watch.Config) { c.BufferBytes = 4 << 10 })
		pass(time.Second)
		for i := range 1000 {
			srv.Create(watchtest.Pods, fmt.Sprintf("shop/p%d", i))
			if i == 20 {
				pass(time.Second) // the buffer is full now
				srv.LimitBacklog(100)
			}
		}
		srv.Compact(srv.RV())
		pass(2 * time.Minute)
		close(sink.stall)
		pass(time.Minute)
		r.stop(t)
		gaps := 0
		for _, s := range r.said("pods") {
			if strings.HasPrefix(s, "gap ") {
				gaps++
				if !strings.HasPrefix(s, "gap sink ") {
					t.Errorf("%s, want the reason sink", s)
				}
			}
		}
		if gaps != 1 {
			t.Errorf("%d gaps, want 1", gaps)
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

// T25: a resource that goes away, or whose permission does, disturbs no other, and is resumed when it is back.
func TestT25RemovedAndForbiddenResourcesDisturbNoOther(t *testing.T) {
	for name, c := range map[string]struct {
		takeAway, giveBack func(*watchtest.Server)
		says               string
		reason             string
	}{
		"definition deleted": {func(s *watchtest.Server) { s.Remove(watchtest.Widgets) }, func(s *watchtest.Server) { s.Add(watchtest.Widgets) }, "not served", "removed"},
		"permission revoked": {
			func(s *watchtest.Server) { s.Forbid(watchtest.Widgets, "watch"); s.CloseWatches(watchtest.Widgets) },
			func(s *watchtest.Server) { s.Allow(watchtest.Widgets, "watch") }, "permission is missing", "forbidden",
		},
	} {
		for _, expires := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/expires=%v", name, expires), func(t *testing.T) {
				bubble(t, []watchtest.Resource{watchtest.Widgets, watchtest.Pods}, func(t *testing.T, srv *watchtest.Server) {
					srv.Create(watchtest.Widgets, "shop/w")
					r := start(t, srv, newMemory(), []string{"widgets", "pods"})
					pass(time.Second)
					c.takeAway(srv)
					pass(10 * time.Minute)
					srv.Create(watchtest.Pods, "shop/p")
					pass(time.Second)
					check(t, r.said("pods"), "started at 101", "synced 0 at 101", "added shop/p@102")
					if n := r.logged(c.says); n != 1 {
						t.Errorf("%q was said %d times", c.says, n)
					}
					if n := srv.Count(watchtest.Watches(watchtest.Widgets)); n > 14 {
						t.Errorf("%d watches were tried in ten minutes", n)
					}
					if expires {
						srv.Compact(srv.RV())
					} else if name == "definition deleted" {
						return // its watch cache begins anew: always expired
					}
					c.giveBack(srv)
					pass(2 * time.Minute)
					srv.Update(watchtest.Widgets, "shop/w", watchtest.Labels("x", "1"))
					pass(time.Second)
					want := []string{"started at 101", "present shop/w@101", "synced 1 at 101"}
					if expires {
						want = append(want, fmt.Sprintf("gap %s after 101", c.reason), "present shop/w@101", "synced 1 at 102")
					}
					check(t, r.said("widgets"), append(want, "modified shop/w@103")...)
					r.stop(t)
				})
			})
		}
	}
}

// T27: a connection that is half open says nothing for ever; the missing bookmarks give it away.
func TestT27AHalfOpenConnectionIsNoticed(t *testing.T) {
	for name, c := range map[string]struct {
		hang   func(*watchtest.Server)
		within time.Duration
	}{
		"with bookmarks before": {func(s *watchtest.Server) { s.Advance(10); pass(70 * time.Second); s.StallWatches() }, 160 * time.Second},
		"from the first frame": {func(s *watchtest.Server) {
			s.On(watchtest.Watches().Times(1), watchtest.StallAfter(0))
			s.CloseWatches()
		}, 11 * time.Minute},
		"without an answer": {func(s *watchtest.Server) { s.On(watchtest.Watches().Times(1), watchtest.Hang()); s.CloseWatches() }, 40 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				r := start(t, srv, newMemory(), []string{"pods"})
				pass(time.Second)
				c.hang(srv)
				pass(time.Second)
				srv.Create(watchtest.Pods, "shop/a")
				pass(c.within)
				if got := r.said("pods"); len(got) != 3 || !strings.HasPrefix(got[2], "added shop/a@") {
					t.Errorf("got %q", got)
				}
				r.stop(t)
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

// A quiet resource moves on with bookmarks, and does not expire for nothing.
func TestBookmarksMoveThePosition(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a")
		r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.Progress = time.Minute })
		pass(time.Second)
		srv.Advance(100)
		pass(70 * time.Second)
		srv.Compact(srv.RV())
		srv.CloseWatches()
		pass(30 * time.Second)
		srv.Delete(watchtest.Pods, "shop/a")
		pass(time.Second)
		r.stop(t)
		got := slices.DeleteFunc(r.said("pods"), func(s string) bool { return strings.HasPrefix(s, "progress") })
		check(t, got, "started at 101", "present shop/a@101", "synced 1 at 101", "deleted shop/a@202", "stopped at 201")
	})
}

// Silence never means death: progress repeats through an outage.
func TestProgressIsWrittenThroughAnOutage(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.Progress = time.Minute })
		pass(time.Second)
		srv.Down()
		pass(5 * time.Minute)
		r.stop(t)
		check(t, r.said("pods"), "started at 100", "synced 0 at 100", "progress at 100", "progress at 100", "progress at 100", "progress at 100", "progress at 100", "stopped at 100")
	})
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

// Retry-After is honoured.
func TestRetryAfterIsHonoured(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.On(watchtest.Lists(), watchtest.Respond(http.StatusTooManyRequests, "text/plain", "Too many requests"), watchtest.RetryAfter(50*time.Second))
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(49 * time.Second)
		if n := srv.Count(watchtest.Lists()); n != 1 {
			t.Errorf("%d LISTs within Retry-After", n)
		}
		r.stop(t)
	})
}

// With a selector a DELETED frame may mean that the object left it; without, or by name, it cannot.
func TestLeavingASelectorIsNotCalledADeletion(t *testing.T) {
	for name, c := range map[string]struct {
		label, field string
		leaves       string
	}{
		"label":     {"app=web", "", "left"},
		"status":    {"", "status.phase=Running", "left"},
		"name":      {"", "metadata.name=a", ""},
		"namespace": {"", "metadata.namespace!=kube-system", ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				srv.Create(watchtest.Pods, "shop/a", watchtest.Labels("app", "web"), watchtest.Status(`{"phase":"Running"}`))
				r := start(t, srv, newMemory(), []string{"pods"}, func(conf *watch.Config) { conf.LabelSelector, conf.FieldSelector = c.label, c.field })
				pass(time.Second)
				if c.leaves != "" {
					srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("app", "db"), watchtest.Status(`{"phase":"Failed"}`))
					pass(time.Second)
					check(t, r.said("pods")[3:], "left shop/a@102")
				} else {
					srv.Delete(watchtest.Pods, "shop/a")
					pass(time.Second)
					check(t, r.said("pods")[3:], "deleted shop/a@102")
				}
				if last := r.of("pods")[3]; last.Ambiguous != (c.leaves != "") {
					t.Errorf("ambiguous is %v", last.Ambiguous)
				}
				r.stop(t)
			})
		})
	}
}
