package watch_test

import (
	"strings"
	"testing"
	"time"

	"watcher/internal/watch/watchtest"
)

// Where versions cannot be named, or metadata not be had alone, one pass over the whole objects heals all the same.
func TestAServerWithoutExactReadsIsRepairedInOnePass(t *testing.T) {
	sparse := func(q *watchtest.Request) bool { return strings.Contains(q.Header.Get("Accept"), "as=") }
	for name, spoil := range map[string]func(srv *watchtest.Server) *watchtest.Rule{
		"inexact": func(srv *watchtest.Server) *watchtest.Rule { return srv.On(watchtest.Lists(), watchtest.IgnoreExact()) },
		"406": func(srv *watchtest.Server) *watchtest.Rule {
			return srv.On(watchtest.Lists().When(sparse), watchtest.Fail(406, "NotAcceptable", "only application/json"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				for _, name := range []string{"again", "changed", "gone", "kept"} { // 101 to 104
					srv.Create(watchtest.Pods, "shop/"+name)
				}
				spoil(srv)
				r := start(t, srv, newMemory(), []string{"pods"})
				pass(10 * time.Second)
				srv.Create(watchtest.Pods, "shop/live") // 105
				pass(10 * time.Second)
				unseen(srv, func() {
					srv.Update(watchtest.Pods, "shop/changed", watchtest.Labels("n", "1")) // 106
					srv.Delete(watchtest.Pods, "shop/gone")
					srv.Create(watchtest.Pods, "shop/new") // 108
					srv.Delete(watchtest.Pods, "shop/again")
					srv.Create(watchtest.Pods, "shop/again") // 110
				})
				for i := 0; i < 100 && srv.Count(watchtest.Watches()) < 3; i++ {
					pass(100 * time.Millisecond)
				}
				srv.Create(watchtest.Pods, "shop/later") // 111: the version at which the list was taken is past
				pass(10 * time.Second)
				unseen(srv, func() { srv.Update(watchtest.Pods, "shop/later", watchtest.Labels("n", "1")); srv.Advance(1) }) // 112
				pass(10 * time.Second)
				r.stop(t)
				got := orderless(r.said("pods"))
				if len(got) < 7 {
					t.Fatalf("got %q", got)
				}
				check(t, got[:7], "started at 104", "present shop/again@101", "present shop/changed@102", "present shop/gone@103", "present shop/kept@104", "synced 4 at 104", "added shop/live@105")
				check(t, got[7:], "gap expired after 104", "added shop/again@110", "added shop/new@108", "deleted shop/again@110 inferred", "deleted shop/gone@110 inferred",
					"modified shop/changed@106", "synced +2 ~1 -2 (3 net, 2 inferred) at 110", "added shop/later@111",
					"gap expired after 110", "modified shop/later@112", "synced ~1 (1 net, 0 inferred) at 113", "stopped at 113")
				audit(t, r, watchtest.Pods)
			})
		})
	}
}

// An answer that is of another version than was asked for is not taken, and not asked for again and again.
func TestAnAnswerOfAnotherVersionIsNotTaken(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		many(srv, 4) // 101 to 104
		ofVersion := func(q *watchtest.Request) bool { return q.Query.Get("resourceVersionMatch") != "" }
		srv.On(watchtest.Lists().When(ofVersion), watchtest.IgnoreExact(), watchtest.Delay(time.Second))
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(10 * time.Second)
		unseen(srv, func() {
			srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", "1"))
			srv.Delete(watchtest.Pods, pod(1))
		})
		for i := 0; i < 100 && srv.Count(watchtest.Watches()) < 3; i++ {
			pass(100 * time.Millisecond)
		}
		srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", "2")) // while the answer is on its way
		pass(10 * time.Second)
		check(t, orderless(r.said("pods"))[6:], "gap expired after 104", "deleted "+pod(1)+"@106 inferred", "modified "+pod(0)+"@107", "synced ~1 -1 (1 net, 1 inferred) at 107")
		r.stop(t)
		audit(t, r, watchtest.Pods)
	})
}
