package watch_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"watcher/internal/event"
	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

// midway lets something happen while a repair reads the states that it has to write, some of which are written already.
func midway(t *testing.T, srv *watchtest.Server, r *running, budget int, happens func()) {
	t.Helper()
	passed := 3 // one by one: some states are read before
	if budget == 0 {
		passed = 0
	}
	var to string
	rule := srv.On(watchtest.Lists().After(passed).When(func(q *watchtest.Request) bool {
		return to != "" && q.Query.Get("resourceVersion") == to && !strings.Contains(q.Header.Get("Accept"), "as=")
	}), watchtest.Delay(20*time.Second))
	unseen(srv, func() { churn(srv); to = fmt.Sprint(srv.Advance(1)) })
	for i := 0; i < 600 && rule.Fired() == 0; i++ {
		pass(100 * time.Millisecond)
	}
	if rule.Fired() == 0 {
		t.Fatalf("no repair was under way: %q", r.said("pods"))
	}
	happens()
	rule.Off()
	pass(5 * time.Minute)
}

// etcd may forget, in the middle of a repair, both versions that it reads: what there is then is compared anew.
func TestACompactionInTheMiddleOfARepairIsNoSecondGap(t *testing.T) {
	for _, budget := range []int{5000, 0} {
		t.Run(fmt.Sprint("budget=", budget), func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				many(srv, 8)
				r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.RepairBudget = budget })
				pass(10 * time.Second)
				midway(t, srv, r, budget, func() {
					srv.Update(watchtest.Pods, pod(0), watchtest.Labels("m", "1"))
					srv.Delete(watchtest.Pods, pod(1))
					srv.Delete(watchtest.Pods, pod(6))
					srv.Create(watchtest.Pods, pod(10))
					srv.Compact(srv.RV())
				})
				r.stop(t)
				if said := r.said("pods"); count(said, "gap ") != 1 || count(said, "synced") != 2 {
					t.Errorf("got %q", said)
				}
				var begun time.Time
				for _, ev := range r.of("pods") {
					if ev.Type == event.Gap {
						begun = ev.Time
					}
					if took := ev.Time.Sub(begun); ev.Type == event.Synced && !begun.IsZero() && took > 22*time.Second { // 20 are the answer's
						t.Errorf("the repair took %v: what is forgotten was asked for again", took)
					}
				}
				audit(t, r, watchtest.Pods)
			})
		})
	}
}

// An etcd that is restored in the middle of a repair, to before the gap or to within it, is a rewind as at any other time.
func TestT22ARewindInTheMiddleOfARepairIsNoticed(t *testing.T) {
	for name, to := range map[string]uint64{"to before the gap": 106, "to within the gap": 110} {
		for _, budget := range []int{5000, 0} {
			t.Run(fmt.Sprintf("%s/budget=%d", name, budget), func(t *testing.T) {
				bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
					many(srv, 8)
					r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.RepairBudget = budget })
					pass(10 * time.Second)
					midway(t, srv, r, budget, func() { srv.Rewind(to) })
					srv.Update(watchtest.Pods, pod(7-map[bool]int{true: 2}[to == 106]), watchtest.Labels("m", "1"))
					pass(10 * time.Second)
					r.stop(t)
					said := r.said("pods")
					if count(said, "gap rewind after 108") != 1 || count(said, "gap ") != 2 {
						t.Errorf("no rewind was noticed: %q", said)
					}
					audit(t, r, watchtest.Pods)
				})
			})
		}
	}
}
