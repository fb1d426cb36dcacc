package watch_test

import (
	"fmt"
	"slices"
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
