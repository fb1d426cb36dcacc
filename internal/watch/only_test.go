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

func only(p event.Parts) func(*watch.Config) { return func(c *watch.Config) { c.Only = p } }

// With --only a modification is written if it touched one of the parts, or if nobody can tell which it touched.
func TestOnlyWhatWasAskedForIsWritten(t *testing.T) {
	for _, e := range edits {
		for _, payload := range []watch.Payload{watch.PayloadFull, watch.PayloadMetadata} {
			for _, want := range []event.Parts{event.Spec, event.Metadata, event.Status, event.Spec | event.Status} {
				for _, how := range []string{"live", "in a gap"} {
					name := fmt.Sprintf("%s/payload=%s/only=%s/%s", e.name, payload, strings.Join(want.Names(), ","), how)
					t.Run(name, func(t *testing.T) {
						bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
							srv.Create(watchtest.Pods, "shop/a", whole...)
							r := start(t, srv, newMemory(), []string{"pods"}, only(want), func(c *watch.Config) { c.Payload = payload })
							pass(time.Second)
							change := func() { srv.Update(watchtest.Pods, "shop/a", e.edit...) }
							if how == "live" {
								change()
							} else {
								unseen(srv, change)
							}
							pass(20 * time.Second)
							r.stop(t)
							told := e.full
							if payload != watch.PayloadFull {
								told = e.metadata
							}
							writes := told == "unknown" || payload != watch.PayloadFull && want&event.Status != 0 // then the status is not known
							for _, part := range want.Names() {
								writes = writes || slices.Contains(strings.Split(told, ","), part)
							}
							if got := slices.Contains(r.said("pods"), "modified shop/a@102"); got != writes {
								t.Errorf("a change of %s is written: %v", told, got)
							}
							if d := r.of("pods")[0].Data.(event.StartedData); !slices.Equal(d.Filter, want.Names()) {
								t.Errorf("started names the filter %q", d.Filter)
							}
						})
					})
				}
			}
		}
	}
}

// Everything that is no modification is written whatever the filter; what it leaves out is counted, moves the position and
// the ledger, and takes no number.
func TestWhatIsFilteredIsCounted(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 4) // 101 to 104
		sink := newMemory()
		minutely := func(c *watch.Config) { c.Progress = time.Minute }
		r := start(t, srv, sink, []string{"pods"}, only(event.Spec), minutely)
		pass(time.Second)
		status := func(i int, phase string) {
			srv.Update(watchtest.Pods, pod(i), watchtest.Status(fmt.Sprintf(`{"phase":%q}`, phase)))
		}
		for i := range 3 {
			status(i, "a") // 105 to 107
		}
		srv.Create(watchtest.Pods, pod(4)) // 108
		srv.Delete(watchtest.Pods, pod(3)) // 109
		pass(time.Minute)
		status(0, "b") // 110
		pass(time.Minute)
		unseen(srv, func() {
			status(0, "c")                                                // 111
			status(1, "c")                                                // 112
			srv.Update(watchtest.Pods, pod(2), watchtest.Spec(`{"n":1}`)) // 113
		})
		pass(30 * time.Second)
		r.stop(t)
		said := slices.DeleteFunc(r.said("pods"), func(s string) bool { return strings.HasPrefix(s, "present") })
		progress := func(s string) bool { return strings.HasPrefix(s, "progress") }
		check(t, slices.DeleteFunc(said, progress), "started at 104", "synced 4 at 104", "added "+pod(4)+"@108", "deleted "+pod(3)+"@109",
			"gap expired after 110", "modified "+pod(2)+"@113", "synced ~1 f2 (1 net, 0 inferred) at 113", "stopped at 113")
		seq, filtered := uint64(0), []uint64(nil)
		for _, ev := range r.of("pods") {
			if ev.Type.OfObject() {
				if seq++; ev.Seq != seq {
					t.Errorf("%s has seq %d, want %d", short(ev), ev.Seq, seq)
				}
			}
			if d, ok := ev.Data.(event.ProgressData); ok {
				filtered = append(filtered, d.Filtered)
				if d.Seq != seq {
					t.Errorf("progress says seq %d, want %d", d.Seq, seq)
				}
			}
		}
		if !slices.Equal(filtered, []uint64{3, 4}) {
			t.Errorf("progress counts %d filtered", filtered)
		}
	})
}

// What was filtered is remembered: the next change is told relative to it, also by the next process and behind a gap.
func TestTheNextChangeIsRelativeToWhatWasFiltered(t *testing.T) {
	for _, how := range []string{"live", "after a restart", "in a gap", "behind a gap"} {
		t.Run(how, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				srv.Create(watchtest.Pods, "shop/a", whole...)
				sink := newMemory()
				r := start(t, srv, sink, []string{"pods"}, only(event.Spec))
				pass(time.Second)
				filtered := func() { srv.Update(watchtest.Pods, "shop/a", watchtest.Status(`{"ready":0}`)) }
				if how == "behind a gap" {
					unseen(srv, filtered)
				} else {
					filtered()
				}
				pass(20 * time.Second)
				change := func() { srv.Update(watchtest.Pods, "shop/a", watchtest.Spec(`{"replicas":9}`)) }
				switch how {
				case "after a restart":
					r.stop(t)
					change()
					r = start(t, srv, sink, []string{"pods"}, only(event.Spec))
				case "in a gap":
					unseen(srv, change)
				default:
					change()
				}
				pass(20 * time.Second)
				r.stop(t)
				i := slices.Index(r.said("pods"), "modified shop/a@103")
				if i < 0 || slices.Contains(r.said("pods"), "modified shop/a@102") {
					t.Fatalf("got %q", r.said("pods"))
				}
				if got := parts(r.of("pods")[i]); got != "spec" {
					t.Errorf("the change was told as %q", got)
				}
			})
		})
	}
}

// A sink that kept what it did not acknowledge gets no filtered event behind what came after it: the ledger would go back, and
// tell of the change once more.
func TestALostAcknowledgementTakesTheLedgerNowhere(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 2) // 101, 102
		sink := newMemory()
		r := start(t, srv, sink, []string{"pods"}, only(event.Spec))
		pass(time.Second)
		stall, lost := make(chan struct{}), 0
		sink.mu.Lock()
		sink.stall = stall
		sink.fault = func(b event.Batch) (int, error) {
			if len(b.Events) > 1 && lost == 0 {
				lost = len(b.Events)
				return lost, errSink
			}
			return len(b.Events), nil
		}
		sink.mu.Unlock()
		srv.Create(watchtest.Pods, pod(2)) // 103: makes the sink stall
		pass(time.Second)
		srv.Update(watchtest.Pods, pod(0), watchtest.Status(`{"phase":"a"}`)) // 104
		srv.Update(watchtest.Pods, pod(0), watchtest.Spec(`{"n":1}`))         // 105
		pass(time.Second)
		sink.mu.Lock()
		sink.stall = nil
		sink.mu.Unlock()
		close(stall)
		pass(20 * time.Second)
		if lost != 2 {
			t.Fatalf("%d events lost their acknowledgement", lost)
		}
		r.stop(t)
		unseen(srv, func() { srv.Advance(1) })
		r = start(t, srv, sink, []string{"pods"}, only(event.Spec))
		pass(time.Minute)
		r.stop(t)
		check(t, r.said("pods")[4:], "added "+pod(2)+"@103", "modified "+pod(0)+"@105", "stopped at 104", "resumed after 104", "gap expired after 104",
			"synced (0 net, 0 inferred) at 106", "stopped at 106")
	})
}

// A crash with filtered events under way loses and repeats nothing that is to be written.
func TestT26ACrashAmongFilteredEventsLosesNothing(t *testing.T) {
	crashes(t, nothing, func(srv *watchtest.Server) {
		for i := range 4 {
			srv.Update(watchtest.Pods, pod(i), watchtest.Status(`{"phase":"a"}`))
			srv.Update(watchtest.Pods, pod(i), watchtest.Spec(`{"n":1}`))
		}
	}, nothing, func(t *testing.T, r *running, _ int) {
		var got []string
		for _, ev := range r.of("pods")[10:] {
			if ev.Type.OfObject() {
				got = append(got, short(ev)+" "+parts(ev))
			}
		}
		check(t, got, "modified "+pod(0)+"@110 spec", "modified "+pod(1)+"@112 spec", "modified "+pod(2)+"@114 spec", "modified "+pod(3)+"@116 spec")
	}, only(event.Spec))
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
