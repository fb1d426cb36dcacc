package watch_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

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

// What a server that ignores limit has listed before it is cut cannot be gone on with: behind a gap the rest is listed, and
// what is there no more is told.
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
			want := slices.Clone(before)
			switch {
			case len(before) == 0:
				want = []string{"started at 105", "present shop/a@101", "present shop/c@103", "present shop/d@104", "synced 3 at 105", "stopped at 105"}
			case before[len(before)-1] == "gap expired after 104":
				gaps++
				for _, s := range []string{"present shop/a@101", "present shop/c@103", "present shop/d@104"} {
					if !slices.Contains(before, s) {
						want = append(want, s)
					}
				}
				present := ""
				if n := len(want) - len(before); n > 0 {
					present = fmt.Sprint(n, " ")
				}
				if slices.Contains(before, "present shop/b@102") {
					want = append(want, "deleted shop/b@105 inferred", "synced "+present+"-1 (0 net, 1 inferred) at 105", "stopped at 105")
				} else {
					want = append(want, "synced "+present+"(0 net, 0 inferred) at 105", "stopped at 105")
				}
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
		want := []string{"started at 1300"}
		for i := range 1199 {
			if i == 501 { // two pages
				want = append(want, "gap expired after 1300")
			}
			want = append(want, fmt.Sprintf("present shop/p%04d@%d", i, 101+i))
		}
		check(t, r.said("pods"), append(want, "deleted shop/p0000@1302 inferred", "synced 698 -1 (0 net, 1 inferred) at 1302", "stopped at 1302")...)
		if n := srv.Count(watchtest.Lists()); n != 9 {
			t.Errorf("%d LISTs, want 3 of the first pass, 4 of the second and 2 before the watch", n)
		}
	})
}

// An answer without a version is no list.
func TestAnAnswerWithoutAVersionIsNoList(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a")
		srv.On(watchtest.Lists().Times(1), watchtest.Respond(200, "application/json", `{}`))
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Minute)
		r.stop(t)
		check(t, r.said("pods")[:3], "started at 101", "present shop/a@101", "synced 1 at 101")
	})
}

// later matches the pages of LISTs behind the first.
func later() watchtest.Match {
	return watchtest.Lists().When(func(q *watchtest.Request) bool { return q.Query.Has("continue") })
}

// What is no page, or one of another version, does not pass for the end of a list: that would be deletions that never were.
func TestWhatIsNoPageDoesNotEndAList(t *testing.T) {
	for name, fault := range map[string]watchtest.Fault{
		"nothing":          watchtest.Respond(200, "application/json", `{}`),
		"a failure":        watchtest.Respond(200, "application/json", `{"kind":"Status","status":"Failure","code":500}`),
		"empty protobuf":   watchtest.Respond(200, "application/vnd.kubernetes.protobuf", "k8s\x00\x12\x00"),
		"an older version": watchtest.Respond(200, "application/json", `{"metadata":{"resourceVersion":"103"},"items":[]}`),
		"a newer version":  watchtest.Respond(200, "application/json", `{"metadata":{"resourceVersion":"999"},"items":[]}`),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				many(srv, 4)
				first := srv.On(later().Times(2), fault)
				r := start(t, srv, newMemory(), []string{"pods"})
				pass(time.Minute)
				unseen(srv, func() { srv.Update(watchtest.Pods, pod(0), watchtest.Labels("n", "1")) })
				second := srv.On(later().Times(2), fault)
				pass(2 * time.Minute)
				r.stop(t)
				check(t, orderless(r.said("pods")), "started at 104", "present shop/p0000@101", "present shop/p0001@102", "present shop/p0002@103", "present shop/p0003@104",
					"synced 4 at 104", "gap expired after 104", "modified shop/p0000@105", "synced ~1 (1 net, 0 inferred) at 105", "stopped at 105")
				if first.Fired() != 2 || second.Fired() != 2 {
					t.Errorf("it happened %d and %d times", first.Fired(), second.Fired())
				}
				audit(t, r, watchtest.Pods)
			})
		})
	}
}

// A slowBody is a line that carries rate bytes a second.
type slowBody struct {
	io.ReadCloser
	rate int
}

func (s slowBody) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p[:min(len(p), s.rate)])
	time.Sleep(time.Second * time.Duration(n) / time.Duration(s.rate))
	return n, err
}

// A page that was cut is finished on a slow line too: while bytes come, the API server is not silent.
func TestACutPageIsFinishedOnASlowLine(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		big := watchtest.Spec(fmt.Sprintf(`{"pad":%q}`, strings.Repeat("x", 20_000)))
		for i := range 400 {
			srv.Create(watchtest.Pods, fmt.Sprintf("shop/p%04d", i), big)
		}
		srv.On(watchtest.Lists().After(1).Times(1), watchtest.CutBody(7_000_000))
		kube := srv.Config()
		kube.Wrap(func(rt http.RoundTripper) http.RoundTripper {
			return roundTripper(func(q *http.Request) (*http.Response, error) {
				resp, err := rt.RoundTrip(q)
				if err == nil {
					resp.Body = slowBody{resp.Body, 100_000}
				}
				return resp, err
			})
		})
		client, err := watch.NewClient(kube, 100, 200)
		if err != nil {
			t.Fatal(err)
		}
		r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.Client = client })
		pass(10 * time.Minute)
		r.stop(t)
		got := r.said("pods")
		if want := "synced 400 at 500"; len(got) < 402 || got[401] != want {
			t.Errorf("%d events, the last %q, want %q", len(got), got[len(got)-1], want)
		}
	})
}

// A list without pages that is stopped in the middle lost nothing.
func TestAListWithoutPagesThatIsStoppedIsNoGap(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		for i := range 20 {
			srv.Create(watchtest.Pods, fmt.Sprintf("shop/p%02d", i), watchtest.Spec(fmt.Sprintf(`{"pad":%q}`, strings.Repeat("x", 1000))))
		}
		srv.On(watchtest.Lists(), watchtest.IgnoreLimit())
		kube := srv.Config()
		kube.Wrap(func(rt http.RoundTripper) http.RoundTripper {
			return roundTripper(func(q *http.Request) (*http.Response, error) {
				resp, err := rt.RoundTrip(q)
				if err == nil && strings.HasSuffix(q.URL.Path, "/pods") {
					resp.Body = &stallingBody{resp.Body, 15_000, q.Context().Done()}
				}
				return resp, err
			})
		})
		client, err := watch.NewClient(kube, 100, 200)
		if err != nil {
			t.Fatal(err)
		}
		r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.Client = client })
		pass(time.Second)
		r.stop(t)
		if got := r.said("pods"); len(got) < 5 || !strings.HasPrefix(got[len(got)-2], "present") {
			t.Errorf("wrote %q", got)
		}
	})
}

// A stallingBody says nothing more after left bytes, until its request ends.
type stallingBody struct {
	io.ReadCloser
	left int
	over <-chan struct{}
}

func (b *stallingBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		<-b.over
		return 0, context.Canceled
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
