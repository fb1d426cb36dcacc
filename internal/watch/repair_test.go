package watch_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"watcher/internal/event"
	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

// unseen lets changes happen that no watch will tell of any more; etcd remembers them.
func unseen(srv *watchtest.Server, changes func()) {
	srv.Down()
	changes()
	srv.Forget(srv.RV())
	srv.Up()
}

// orderless sorts what a gap or a snapshot encloses: objects are healed in any order.
func orderless(said []string) []string {
	out := slices.Clone(said)
	from := 0
	for i, s := range out {
		out[i] = strings.Replace(s, " stale ambiguous", " ambiguous stale", 1)
		switch word, _, _ := strings.Cut(s, " "); word {
		case "gap", "started":
			from = i + 1
		case "synced", "stopped", "resumed":
			slices.Sort(out[from:i])
			from = i + 1
		}
	}
	return out
}

// audit holds what was written against itself and against the server: no id comes twice, each synced counts what came since
// its gap, a repaired event names the gap that is open, and what the events add up to is what exists.
func audit(t *testing.T, r *running, res watchtest.Resource) {
	t.Helper()
	written, exists := map[string]string{}, map[string]string{}
	var since event.SyncedData
	gap, selector := "", ""
	for _, ev := range r.of(res.Name) {
		selector = ev.Stream.LabelSelector
		switch d := ev.Data.(type) {
		case event.StartedData:
			since, gap = event.SyncedData{}, ""
			if !d.Resumed && ev.Epoch > 0 { // what was listed of a new epoch is listed again
				clear(written)
			}
			continue
		case event.GapData:
			since, gap = event.SyncedData{}, ev.ID
			continue
		case event.SyncedData:
			counts := d
			counts.ResourceVersion, counts.Healed, counts.Filtered, counts.Newest = "", nil, 0, event.Witness{}
			if counts != since {
				t.Errorf("%s, but it was %+v", short(ev), since)
			}
			if h := d.Healed; h != nil && h.History+h.Net+h.Inferred != d.Added+d.Modified+d.Deleted+d.Left {
				t.Errorf("%s, which does not add up", short(ev))
			}
			since, gap = event.SyncedData{}, ""
			continue
		case nil:
		default:
			continue
		}
		id := string(ev.AppendID(nil))
		if before, twice := written[id]; twice {
			t.Errorf("%s has the id of %s: %s", short(ev), before, id)
		}
		written[id] = short(ev)
		if (ev.Origin == event.Repair) != (gap != "") || ev.Gap != gap {
			t.Errorf("%s has origin %s and gap %q, want %q", short(ev), ev.Origin, ev.Gap, gap)
		}
		switch ev.Type {
		case event.Present:
			since.Present++
		case event.Added:
			since.Added++
		case event.Modified:
			since.Modified++
		case event.Deleted:
			since.Deleted++
		default:
			since.Left++
		}
		if ev.Origin == event.Live {
			since = event.SyncedData{}
		}
		if ev.Type == event.Deleted || ev.Type == event.Left {
			delete(exists, ev.Object.Key())
		} else {
			exists[ev.Object.Key()] = ev.Object.UID + "@" + ev.Object.ResourceVersion
		}
	}
	want := map[string]string{}
	for _, o := range r.srv.StateAt(res, r.srv.RV()) {
		if selector == "" || strings.Contains(string(o.JSON), `"app":"web"`) {
			want[o.Namespace+"/"+o.Name] = fmt.Sprint(o.UID, "@", o.RV)
		}
	}
	for key := range want {
		if want[key] != exists[key] {
			t.Errorf("%s is %s, but what was written adds up to %q", key, want[key], exists[key])
		}
		delete(exists, key)
	}
	for key, state := range exists {
		t.Errorf("%s %s does not exist, and nothing says so", key, state)
	}
}

// wholeReads counts the LISTs of whole objects at a version that is none of an object's, so that it is a repair that asks: of
// one object, and of all.
func wholeReads(srv *watchtest.Server, versions ...uint64) (points, all int) {
	for _, q := range srv.Requests(watchtest.Lists()) {
		at, _ := strconv.ParseUint(q.Query.Get("resourceVersion"), 10, 64)
		switch {
		case strings.Contains(q.Header.Get("Accept"), "as=") || !slices.Contains(versions, at):
		case strings.Contains(q.Query.Get("fieldSelector"), "metadata.name="):
			points++
		default:
			all++
		}
	}
	return points, all
}

// Whatever happened to an object in a gap, its net change is written, and nothing of those that did not change. A deletion
// carries the state at the gap's beginning while etcd remembers it, and else none.
func TestARepairWritesTheNetChange(t *testing.T) {
	for name, c := range map[string]struct {
		compact bool
		how     string
		synced  string
	}{
		"in time": {false, "stale", "synced +2 ~2 -3 (7 net, 0 inferred) at 116"}, "compacted": {true, "inferred", "synced +2 ~2 -3 (4 net, 3 inferred) at 116"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				for _, name := range []string{"again", "changed", "gone", "kept", "often", "worn"} { // 101 to 106
					srv.Create(watchtest.Pods, "shop/"+name, watchtest.Spec(fmt.Sprintf(`{"node":%q}`, name)))
				}
				r := start(t, srv, newMemory(), []string{"pods"})
				pass(time.Second)
				unseen(srv, func() {
					srv.Update(watchtest.Pods, "shop/changed", watchtest.Labels("n", "1"))     // 107
					srv.Delete(watchtest.Pods, "shop/gone")                                    // 108
					srv.Create(watchtest.Pods, "shop/new")                                     // 109
					srv.Delete(watchtest.Pods, "shop/again")                                   // 110
					srv.Create(watchtest.Pods, "shop/again", watchtest.Spec(`{"node":"new"}`)) // 111
					srv.Update(watchtest.Pods, "shop/often", watchtest.Labels("n", "1"))       // 112
					srv.Update(watchtest.Pods, "shop/often", watchtest.Labels("n", "2"))       // 113
					srv.Update(watchtest.Pods, "shop/worn", watchtest.Spec(`{"node":"x"}`))    // 114
					srv.Delete(watchtest.Pods, "shop/worn")                                    // 115
					srv.Create(watchtest.Pods, "shop/brief")
					srv.Delete(watchtest.Pods, "shop/brief") // 116, 117
					if c.compact {
						srv.Compact(srv.RV())
					}
				})
				pass(time.Minute)
				r.stop(t)
				said := r.said("pods")
				check(t, orderless(said)[8:], "gap expired after 106", "added shop/again@111", "added shop/new@109", "deleted shop/again@117 "+c.how,
					"deleted shop/gone@117 "+c.how, "deleted shop/worn@117 "+c.how, "modified shop/changed@107", "modified shop/often@113",
					strings.Replace(c.synced, "116", "117", 1), "stopped at 117")
				if slices.Index(said, "added shop/again@111") < slices.Index(said, "deleted shop/again@117 "+c.how) {
					t.Error("an object was made anew before it was deleted")
				}
				for _, ev := range r.of("pods")[9:16] {
					node := map[string]string{"again": "again", "gone": "gone", "worn": "worn"}[ev.Object.Name]
					if ev.Type == event.Deleted && !c.compact && !strings.Contains(string(ev.Object.Body), fmt.Sprintf(`"node":%q`, node)) {
						t.Errorf("%s does not carry the state at the gap's beginning: %s", short(ev), ev.Object.Body)
					}
					if ev.Type == event.Deleted && (!ev.Inferred || ev.Stale == c.compact || (ev.Object.Body == nil) != c.compact) {
						t.Errorf("%s: inferred %v, stale %v, body %s", short(ev), ev.Inferred, ev.Stale, ev.Object.Body)
					}
					if ev.Type != event.Deleted && (ev.Inferred || ev.Stale || ev.Object.Body == nil) {
						t.Errorf("%s: inferred %v, stale %v, body %s", short(ev), ev.Inferred, ev.Stale, ev.Object.Body)
					}
				}
				audit(t, r, watchtest.Pods)
			})
		})
	}
}

// many makes n pods p0000, p0001, …
func many(srv *watchtest.Server, n int) {
	for i := range n {
		srv.Create(watchtest.Pods, pod(i))
	}
}

func pod(i int) string { return fmt.Sprintf("shop/p%04d", i) }

// Of many objects exactly those that changed are written, exactly those that are gone are deleted.
func TestExactlyWhatChangedIsWritten(t *testing.T) {
	const n = 1000
	for name, change := range map[string]func(srv *watchtest.Server) []string{
		"37 changed": func(srv *watchtest.Server) (want []string) {
			for i := range 37 {
				want = append(want, fmt.Sprintf("modified %s@%d", pod(i*27), srv.Update(watchtest.Pods, pod(i*27), watchtest.Labels("n", "1"))))
			}
			return append(want, fmt.Sprintf("synced ~37 (37 net, 0 inferred) at %d", srv.RV()))
		},
		"a tenth deleted": func(srv *watchtest.Server) (want []string) {
			for i := range n / 10 {
				srv.Delete(watchtest.Pods, pod(i*10))
			}
			for i := range n / 10 {
				want = append(want, fmt.Sprintf("deleted %s@%d stale", pod(i*10), srv.RV()))
			}
			return append(want, fmt.Sprintf("synced -100 (100 net, 0 inferred) at %d", srv.RV()))
		},
		"nothing": func(srv *watchtest.Server) []string {
			return []string{fmt.Sprintf("synced (0 net, 0 inferred) at %d", srv.Advance(7))}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				many(srv, n)
				r := start(t, srv, newMemory(), []string{"pods"})
				pass(10 * time.Second)
				var want []string
				unseen(srv, func() { want = change(srv) })
				pass(time.Minute)
				r.stop(t)
				check(t, orderless(r.said("pods"))[n+2:], slices.Concat([]string{"gap expired after 1100"}, want, []string{fmt.Sprintf("stopped at %d", srv.RV())})...)
				audit(t, r, watchtest.Pods)
			})
		})
	}
}

// What exists is compared in protobuf, where the API server knows it, with the same outcome.
func TestARepairComparesInProtobufOrElseInJSON(t *testing.T) {
	for _, onlyJSON := range []bool{false, true} {
		bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
			if onlyJSON {
				srv.OnlyJSON()
			}
			many(srv, 1000)
			r := start(t, srv, newMemory(), []string{"pods"})
			pass(10 * time.Second)
			pages := 0
			srv.On(watchtest.Lists(), watchtest.Rewrite(func(b []byte) []byte {
				if strings.HasPrefix(string(b), "k8s\x00") {
					pages++
				}
				return b
			}))
			unseen(srv, func() {
				srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", "1"))
				srv.Delete(watchtest.Pods, pod(999))
				srv.Create(watchtest.Pods, "shop/new")
			})
			pass(time.Minute)
			r.stop(t)
			check(t, orderless(r.said("pods"))[1002:], "gap expired after 1100", "added shop/new@1103", "deleted shop/p0999@1103 stale",
				"modified shop/p0000@1101", "synced +1 ~1 -1 (3 net, 0 inferred) at 1103", "stopped at 1103")
			if want := map[bool]int{false: 3, true: 0}[onlyJSON]; pages != want { // of 1, 500 and 499
				t.Errorf("only JSON %t: %d pages came in protobuf, want %d", onlyJSON, pages, want)
			}
			audit(t, r, watchtest.Pods)
		})
	}
}

// Protobuf that cannot be read is given up for JSON.
func TestARepairComparesInJSONWhereProtobufCannotBeRead(t *testing.T) {
	for name, spoil := range map[string]func(b []byte) []byte{
		"no message":   func(b []byte) []byte { return []byte("k8s\x00\x12\x02\x07\x07") },
		"a wrong item": func(b []byte) []byte { return []byte("k8s\x00\x12\x05\x12\x03\x0a\x7f\x00") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				many(srv, 4)
				r := start(t, srv, newMemory(), []string{"pods"})
				pass(time.Second)
				spoilt := 0
				srv.On(watchtest.Lists(), watchtest.Rewrite(func(b []byte) []byte {
					if !strings.HasPrefix(string(b), "k8s\x00") {
						return b
					}
					spoilt++
					return spoil(b)
				}))
				for n := range 2 {
					unseen(srv, func() { srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", strconv.Itoa(n))) })
					pass(time.Minute)
				}
				r.stop(t)
				check(t, r.said("pods")[6:], "gap expired after 104", "modified shop/p0000@105", "synced ~1 (1 net, 0 inferred) at 105",
					"gap expired after 105", "modified shop/p0000@106", "synced ~1 (1 net, 0 inferred) at 106", "stopped at 106")
				if spoilt != 1 {
					t.Errorf("it was asked for %d times, want once", spoilt)
				}
			})
		})
	}
}

// A few objects are read one by one, many from one LIST, and never more one by one than the budget allows.
func TestARepairReadsNoMoreThanItMust(t *testing.T) {
	const n = 2000
	for _, c := range []struct {
		changed, deleted, budget int
		points, all              int // LISTs: of one object, and of all
	}{
		{100, 0, 5000, 100, 0},
		{101, 0, 5000, 0, 1},
		{0, 100, 5000, 100, 0},
		{0, 101, 5000, 0, 1},
		{3, 0, 3, 3, 0},
		{4, 0, 3, 0, 1},
		{2, 1, 3, 3, 0},
		{2, 2, 3, 2, 1}, // the deletions come first
		{1, 0, 0, 0, 1},
		{1, 1, 0, 0, 2},
		{0, 0, 0, 0, 0},
	} {
		t.Run(fmt.Sprintf("%d changed, %d deleted, budget %d", c.changed, c.deleted, c.budget), func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				many(srv, n+c.deleted)
				from := srv.Advance(1)
				r := start(t, srv, newMemory(), []string{"pods"}, func(conf *watch.Config) { conf.RepairBudget = c.budget })
				pass(10 * time.Second)
				var to uint64
				unseen(srv, func() {
					for i := range c.changed {
						srv.Update(watchtest.Pods, pod(i), watchtest.Labels("n", "1"))
					}
					for i := range c.deleted {
						srv.Delete(watchtest.Pods, pod(n+i))
					}
					to = srv.Advance(1)
				})
				pass(2 * time.Minute)
				r.stop(t)
				if points, all := wholeReads(srv, from, to); points != c.points || all != c.all {
					t.Errorf("%d objects were read one by one, and all %d times; want %d and %d", points, all, c.points, c.all)
				}
				if n := r.srv.Count(watchtest.Lists().When(func(q *watchtest.Request) bool { return q.Query.Get("limit") == "" })); n > 0 {
					t.Errorf("%d LISTs had no limit", n)
				}
				audit(t, r, watchtest.Pods)
			})
		})
	}
}

// A deletion's last state is asked for again when the API server has a bad moment, and given up when that does not pass.
func TestTheStateOfADeletionIsAskedForAgain(t *testing.T) {
	for name, c := range map[string]struct {
		times int
		how   string
	}{"a bad moment": {2, "stale"}, "for good": {1000, "inferred"}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				many(srv, 4) // 101 to 104
				from := fmt.Sprint(srv.Advance(1))
				r := start(t, srv, newMemory(), []string{"pods"})
				pass(10 * time.Second)
				ofBefore := func(q *watchtest.Request) bool { return q.Query.Get("resourceVersion") == from }
				rule := srv.On(watchtest.Lists().When(ofBefore).Times(c.times), watchtest.Fail(500, "InternalError", "etcd is on fire"))
				unseen(srv, func() { srv.Delete(watchtest.Pods, pod(1)) })
				pass(2 * time.Minute)
				r.stop(t)
				counts := map[string]string{"stale": "(1 net, 0 inferred)", "inferred": "(0 net, 1 inferred)"}[c.how]
				check(t, r.said("pods")[6:9], "gap expired after 105", "deleted "+pod(1)+"@106 "+c.how, "synced -1 "+counts+" at 106")
				if n := rule.Fired(); n < 2 || n > 3 {
					t.Errorf("it was refused %d times", n)
				}
			})
		})
	}
}

// A repair that does not get its answers at once gets them later: whichever request fails, and how, nothing is lost and
// nothing repeated, and no second gap comes of it.
func TestARepairSurvivesTheFailureOfAnyRequest(t *testing.T) {
	for name, fault := range map[string][]watchtest.Fault{
		"500": {watchtest.Fail(500, "InternalError", "etcd is on fire")}, "429": {watchtest.Fail(429, "TooManyRequests", "later"), watchtest.RetryAfter(3 * time.Second)},
		"cut": {watchtest.CutBody(150)}, "reset": {watchtest.Reset()}, "unanswered": {watchtest.Hang()}, "410": {watchtest.Fail(410, "Expired", "compacted")},
	} {
		for _, budget := range []int{5000, 0} {
			t.Run(fmt.Sprintf("%s/budget=%d", name, budget), func(t *testing.T) {
				fired := 1
				for k := 0; fired > 0; k++ {
					bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
						many(srv, 8)
						r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.RepairBudget = budget })
						pass(10 * time.Second)
						rule := srv.On(watchtest.Any().After(k).Times(2), fault...)
						unseen(srv, func() { churn(srv) })
						pass(5 * time.Minute)
						r.stop(t)
						audit(t, r, watchtest.Pods)
						if fired = rule.Fired(); t.Failed() {
							t.Fatalf("request %d: %q", k, r.said("pods"))
						}
						gaps := 0
						for _, s := range r.said("pods") {
							if strings.HasPrefix(s, "gap ") {
								gaps++
							}
						}
						if gaps != 1 && name != "410" { // which may mean the watch behind the gap, too
							t.Errorf("request %d: %d gaps: %q", k, gaps, r.said("pods"))
						}
					})
				}
			})
		}
	}
}

// churn changes, deletes, makes anew and adds two of each among eight pods.
func churn(srv *watchtest.Server) {
	for i := range 2 {
		srv.Update(watchtest.Pods, pod(i), watchtest.Labels("n", fmt.Sprint("x", i)))
		srv.Delete(watchtest.Pods, pod(i+2))
		srv.Delete(watchtest.Pods, pod(i+4))
		srv.Create(watchtest.Pods, pod(i+4))
		srv.Create(watchtest.Pods, pod(i+8))
	}
}
