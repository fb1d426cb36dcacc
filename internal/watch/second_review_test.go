package watch_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"watcher/internal/event"
	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

func payload(p watch.Payload) func(*watch.Config) { return func(c *watch.Config) { c.Payload = p } }

// Hashes of another payload are of no use, also two runs later.
func TestHashesOfAnotherPayloadAreNotComparedTwoRunsLater(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a", whole...)
		sink := newMemory()
		for _, p := range []watch.Payload{watch.PayloadFull, watch.PayloadMetadata} {
			r := start(t, srv, sink, []string{"pods"}, payload(p))
			pass(time.Second)
			r.stop(t)
		}
		r := start(t, srv, sink, []string{"pods"}, payload(watch.PayloadMetadata))
		pass(time.Second)
		srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "1"))
		pass(time.Second)
		r.stop(t)
		for _, ev := range r.of("pods") {
			if ev.Type == event.Modified && (ev.Changed&event.Spec != 0 || ev.Changed&event.Status != 0) {
				t.Errorf("a label moved, and changed says %q", ev.Changed.Names())
			}
		}
	})
}

// Kubectl apply on a secret: data and the annotation move together.
func TestOnlySpecWritesWhatHasNoGeneration(t *testing.T) {
	rs := []watchtest.Resource{watchtest.Secrets}
	bubble(t, rs, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Secrets, "shop/a", watchtest.Meta("generation", "0"), watchtest.Raw("data", `{"k":"MQ=="}`), watchtest.Annotations("x/last-applied", "1"))
		r := start(t, srv, newMemory(), []string{"secrets"}, only(event.Spec))
		pass(time.Second)
		srv.Update(watchtest.Secrets, "shop/a", watchtest.Raw("data", `{"k":"Mg=="}`), watchtest.Annotations("x/last-applied", "2"))
		pass(time.Second)
		r.stop(t)
		if said := r.said("secrets"); !slices.Contains(said, "modified shop/a@102") {
			t.Errorf("the data of a secret changed, --only spec, and it is not written: %q", said)
		}
	})
}

func exactOf(q *watchtest.Request) bool { return q.Query.Get("resourceVersionMatch") != "" }

// A server that answers each exact read with 410.
func TestAServerThatForgetsAllButThePresentIsRepairedInOnePass(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 4)
		srv.On(watchtest.Lists().When(exactOf), watchtest.Fail(410, "Expired", "too old"))
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(10 * time.Second)
		unseen(srv, func() { srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", "1")) })
		before := r.tries.Load()
		pass(10 * time.Second)
		t.Logf("requests in 10 s: %d", r.tries.Load()-before)
		if said := r.said("pods"); count(said, "synced") != 2 {
			t.Errorf("the repair does not end: %q", said)
		}
		if n := r.tries.Load() - before; n > 100 {
			t.Errorf("hot loop: %d requests", n)
		}
		r.stop(t)
	})
}

// A server that refuses exact reads.
func TestAServerThatRefusesExactReadsIsWatchedAndRepaired(t *testing.T) {
	for code, reason := range map[int]string{400: "BadRequest", 405: "MethodNotAllowed", 500: "InternalError", 501: "NotImplemented"} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				many(srv, 4)
				srv.On(watchtest.Lists().When(exactOf), watchtest.Respond(code, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"`+reason+`","code":`+fmt.Sprint(code)+`}`))
				r := start(t, srv, newMemory(), []string{"pods"})
				pass(10 * time.Minute)
				srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", "1"))
				pass(10 * time.Minute)
				if said := r.said("pods"); !slices.Contains(said, "modified "+pod(0)+"@105") {
					t.Errorf("nothing is watched: %q", said)
				}
				r.stop(t)
			})
		})
	}
}

// Etcd restored in the middle of the first snapshot.
func TestT22ARewindInTheMiddleOfASnapshotIsNoticed(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 700)                                                    // 101..800
		srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", "lost")) // 801
		second := srv.On(watchtest.Lists().After(1).When(func(q *watchtest.Request) bool { return q.Query.Get("continue") != "" }), watchtest.Delay(20*time.Second))
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(5 * time.Second)
		if second.Fired() == 0 {
			t.Fatal("no second page")
		}
		srv.Rewind(750)
		second.Off()
		pass(10 * time.Minute)
		for srv.RV() < 800 {
			srv.Advance(1)
		}
		srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", "other")) // 801 again
		pass(10 * time.Minute)
		r.stop(t)
		if said := r.said("pods"); count(said, "gap rewind") != 1 {
			t.Errorf("got %q", said)
		}
		seen := map[string]string{}
		for _, ev := range r.of("pods") {
			if !ev.Type.OfObject() {
				continue
			}
			id, body := string(ev.AppendID(nil)), string(ev.Object.Body)
			if was, ok := seen[id]; ok && was != body {
				t.Errorf("%s is the id of\n%s\nand of\n%s", id, was, body)
			}
			seen[id] = body
		}
	})
}

// A restore on a server without exact reads, to a version behind the position.
func TestT22AnOlderStateIsARewindAlsoWithoutExactReads(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		prepared(srv) // a@104, c@105
		srv.On(watchtest.Lists().When(func(q *watchtest.Request) bool { return strings.Contains(q.Header.Get("Accept"), "as=") }), watchtest.Fail(406, "NotAcceptable", "only application/json"))
		srv.On(watchtest.Lists(), watchtest.IgnoreExact())
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(10 * time.Second)
		pass(10 * time.Second)
		srv.Down()
		srv.Rewind(103)
		srv.Advance(20)
		srv.Forget(srv.RV())
		srv.Up()
		pass(10 * time.Minute)
		r.stop(t)
		t.Logf("%q", r.said("pods"))
		if said := r.said("pods"); count(said, "gap rewind") != 1 {
			t.Errorf("older states of objects are told as modifications: %q", said)
		}
	})
}

// HR7: --initial none, nothing in the ledger, a rewind that a crash cuts short.
func TestT22ARewindWithNothingInTheLedgerIsToldOnce(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 3)
		none := func(c *watch.Config) { c.Initial = watch.InitialNone }
		sink := newMemory()
		r := start(t, srv, sink, []string{"pods"}, none)
		pass(10 * time.Second)
		r.stop(t)
		srv.Rewind(102)
		hang := srv.On(watchtest.Lists().After(1), watchtest.Hang())
		r = start(t, srv, sink, []string{"pods"}, none)
		pass(10 * time.Second)
		r.stop(t)
		t.Logf("%q", r.said("pods"))
		hang.Off()
		r = start(t, srv, sink, []string{"pods"}, none)
		pass(10 * time.Second)
		r.stop(t)
		if said := r.said("pods"); count(said, "gap rewind") != 1 {
			t.Errorf("a second, false rewind: %q", said)
		}
		ev := r.of("pods")
		if e := ev[len(ev)-1]; e.Epoch != 1 {
			t.Errorf("epoch %d after one rewind", e.Epoch)
		}
	})
}

// A rewind that is noticed by a snapshot that is begun again.
func TestAGapDoesNotSayATimeThatIsNotKnown(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 700)
		hang := srv.On(watchtest.Lists().After(1).When(func(q *watchtest.Request) bool { return q.Query.Get("continue") != "" }), watchtest.Hang())
		sink := newMemory()
		r := start(t, srv, sink, []string{"pods"})
		pass(5 * time.Second)
		r.stop(t)
		hang.Off()
		srv.Rewind(150)
		r = start(t, srv, sink, []string{"pods"})
		pass(10 * time.Second)
		r.stop(t)
		for _, ev := range r.of("pods") {
			if d, ok := ev.Data.(event.GapData); ok && strings.Contains(string(ev.AppendLine(nil, 0)), "0001-01-01") && d.Reason != "" {
				t.Errorf("%s: %s", short(ev), ev.AppendLine(nil, 0))
			}
		}
	})
}

// A bookmark that lay about while the sink took nothing.
func TestAGapBeginsBeforeWhatWasMissedAlsoBehindALateBookmark(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 1)
		sink := newMemory()
		r := start(t, srv, sink, []string{"pods"}, func(c *watch.Config) { c.BufferBytes = 1 })
		pass(time.Second)
		stall := make(chan struct{})
		sink.mu.Lock()
		sink.stall = stall
		sink.mu.Unlock()
		for i := range 3 {
			srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", fmt.Sprint(i)))
			pass(time.Second)
		}
		srv.Bookmark() // 104
		pass(time.Second)
		srv.StallWatches() // the server gave it up
		pass(time.Minute)
		missed := time.Now()
		srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", "missed")) // 105
		pass(time.Minute)
		srv.Forget(srv.RV())
		sink.mu.Lock()
		sink.stall = nil
		sink.mu.Unlock()
		close(stall)
		pass(time.Second)
		srv.CloseWatches()
		pass(time.Minute)
		r.stop(t)
		t.Logf("%q", r.said("pods"))
		for _, ev := range r.of("pods") {
			if d, ok := ev.Data.(event.GapData); ok && d.FromTime.After(missed) {
				t.Errorf("the change of %v was missed, and the gap begins at %v", missed, d.FromTime)
			}
		}
	})
}

// A ledger that is completed in the middle of the comparison.
func TestALedgerIsNotCompletedInTheMiddleOfTheComparison(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 4)
		r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.Initial = watch.InitialNone })
		pass(10 * time.Second)
		at := fmt.Sprint(srv.RV())
		// one of two API servers has forgotten the version, the other has not
		forgot := srv.On(watchtest.Lists().Times(1).When(func(q *watchtest.Request) bool {
			return exactOf(q) && q.Query.Get("resourceVersion") == at
		}), watchtest.Fail(410, "Expired", "too old"))
		sparse := func(q *watchtest.Request) bool {
			return strings.Contains(q.Header.Get("Accept"), "as=") && q.Query.Get("continue") != ""
		}
		cut := srv.On(watchtest.Lists().Times(1).When(sparse), watchtest.Reset())
		unseen(srv, func() { srv.Delete(watchtest.Pods, pod(1)) })
		pass(10 * time.Minute)
		r.stop(t)
		t.Log(forgot.Fired(), cut.Fired(), r.said("pods"))
		said := r.said("pods")
		for _, ev := range r.of("pods") {
			if d, ok := ev.Data.(event.SyncedData); ok && d.Healed != nil && d.Healed.Deletions == "known" && count(said, "deleted "+pod(1)) == 0 {
				t.Errorf("deletions are known, and one is not written: %q", said)
			}
		}
	})
}

// Permission is lost in a repair, for ten minutes, at each of its requests.
func TestAPermissionThatIsLostInARepairDelaysIt(t *testing.T) {
	for after := range 6 {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				many(srv, 6)
				r := start(t, srv, newMemory(), []string{"pods"})
				pass(10 * time.Second)
				denied := srv.On(watchtest.Any().After(after), watchtest.Forbidden())
				unseen(srv, func() {
					srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", "1"))
					srv.Delete(watchtest.Pods, pod(1))
					srv.Delete(watchtest.Pods, pod(2))
					srv.Create(watchtest.Pods, pod(2))
				})
				pass(10 * time.Minute)
				before := r.tries.Load()
				pass(10 * time.Minute)
				n := r.tries.Load() - before
				denied.Off()
				pass(2 * time.Minute)
				srv.Update(watchtest.Pods, pod(3), watchtest.Labels("n", "1"))
				pass(2 * time.Minute)
				t.Log(n, r.logged("permission"), r.said("pods")[8:])
				r.stop(t)
				audit(t, r, watchtest.Pods)
			})
		})
	}
}

// A definition goes with its objects, and comes back; watcher runs, or is away.
func TestADefinitionThatGoesAndComesBackTakesItsObjectsAlong(t *testing.T) {
	for _, away := range []bool{false, true} {
		t.Run(fmt.Sprint(away), func(t *testing.T) {
			bubble(t, []watchtest.Resource{watchtest.Widgets}, func(t *testing.T, srv *watchtest.Server) {
				for i := range 3 {
					srv.Create(watchtest.Widgets, fmt.Sprintf("shop/w%d", i))
				}
				sink := newMemory()
				r := start(t, srv, sink, []string{"widgets.v1.example.com"})
				pass(10 * time.Second)
				if away {
					r.stop(t)
				}
				for i := range 3 {
					srv.Delete(watchtest.Widgets, fmt.Sprintf("shop/w%d", i))
				}
				srv.Remove(watchtest.Widgets)
				pass(time.Minute)
				if away {
					r = start(t, srv, sink, []string{"widgets.v1.example.com"})
				}
				pass(10 * time.Minute)
				srv.Compact(srv.RV())
				srv.Add(watchtest.Widgets)
				srv.Create(watchtest.Widgets, "shop/w1")
				pass(3 * time.Minute)
				srv.Create(watchtest.Widgets, "shop/w7")
				pass(10 * time.Second)
				r.stop(t)
				t.Log(r.said("widgets"))
			})
		})
	}
}

// Stopped in a repair, and gone on with.
func TestARepairThatWasStoppedIsBegunAgain(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 6)
		sink := newMemory()
		r := start(t, srv, sink, []string{"pods"})
		pass(10 * time.Second)
		hang := srv.On(watchtest.Lists().When(func(q *watchtest.Request) bool { return strings.Contains(q.Header.Get("Accept"), "as=") }), watchtest.Hang())
		unseen(srv, func() { srv.Delete(watchtest.Pods, pod(1)) })
		pass(10 * time.Second)
		r.stop(t)
		hang.Off()
		pass(time.Hour)
		r = start(t, srv, sink, []string{"pods"})
		pass(10 * time.Second)
		r.stop(t)
		t.Log(r.said("pods")[8:])
		for _, ev := range r.of("pods") {
			if ev.Type == event.Gap {
				t.Logf("%s", ev.AppendLine(nil, 0))
			}
		}
		audit(t, r, watchtest.Pods)
	})
}
