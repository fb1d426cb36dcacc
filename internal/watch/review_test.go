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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"watcher/internal/event"
	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

// Schedules that a hostile reading of the code found, each a promise that did not hold.

// A frame that cannot be decoded is a gap at the second time also if good frames came before it.
func TestGarbageBehindALiveFrameIsAGap(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a")
		srv.On(watchtest.Watches().Times(2), watchtest.LineAfter(1, "<html>502</html>"))
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Second)
		srv.Create(watchtest.Pods, "shop/b")
		pass(2 * time.Second)
		srv.Create(watchtest.Pods, "shop/c")
		pass(5 * time.Minute)
		r.stop(t)
		check(t, r.said("pods")[:7], "started at 101", "present shop/a@101", "synced 1 at 101", "added shop/b@102",
			"gap decode after 101", "added shop/c@103", "synced +1 (1 net, 0 inferred) at 103")
	})
}

// --once that is interrupted has not listed what exists.
func TestOnceInterruptedIsAnError(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		for i := range 1200 {
			srv.Create(watchtest.Pods, fmt.Sprintf("shop/p%04d", i))
		}
		srv.On(watchtest.Lists().After(2).Times(1), watchtest.Delay(10*time.Second))
		r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.Once = true })
		pass(time.Second)
		r.cancel()
		if err := <-r.done; err == nil {
			t.Errorf("no error, and %d events", len(r.events))
		}
	})
}

// What is wrong with a resource that came late must not end what is watched already.
func TestALateResourceEndsNothing(t *testing.T) {
	bubble(t, served, func(t *testing.T, srv *watchtest.Server) {
		srv.GroupDown("example.com/v1")
		r := start(t, srv, newMemory(), []string{"pods", "widgets.v1.example.com"})
		pass(time.Second)
		srv.On(watchtest.Lists(watchtest.Widgets), watchtest.Fail(400, metav1.StatusReasonBadRequest, "field label not supported"))
		srv.GroupUp("example.com/v1")
		pass(5 * time.Minute)
		srv.Create(watchtest.Pods, "shop/p")
		pass(time.Second)
		check(t, r.said("pods"), "started at 100", "synced 0 at 100", "added shop/p@101")
		if n := r.logged("refuses"); n != 1 {
			t.Errorf("said %d times", n)
		}
		r.stop(t)
	})
}

// Two names of one resource are one stream, also if it came late.
func TestALateResourceIsReadOnce(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		r := start(t, srv, newMemory(), []string{"widgets.v1.example.com", "widget.v1.example.com"})
		pass(time.Second)
		srv.Add(watchtest.Widgets)
		srv.Create(watchtest.Widgets, "shop/w")
		pass(2 * time.Minute)
		r.stop(t)
		check(t, r.said("widgets")[:3], "started at 101", "present shop/w@101", "synced 1 at 101")
		if n := srv.Count(watchtest.Watches(watchtest.Widgets)); n != 1 {
			t.Errorf("%d watches", n)
		}
	})
}

// While a version of its group is down, no other version is taken for a resource, and it is no mistake of the user's.
func TestAGroupThatIsHalfDownIsWaitedFor(t *testing.T) {
	bubble(t, served, func(t *testing.T, srv *watchtest.Server) {
		srv.GroupDown("example.com/v1")
		r := start(t, srv, newMemory(), []string{"pods", "widgets.example.com"})
		pass(5 * time.Minute)
		check(t, r.said("pods"), "started at 100", "synced 0 at 100")
		check(t, r.said("widgets"))
		srv.GroupUp("example.com/v1")
		pass(2 * time.Minute)
		r.stop(t)
		if watches := srv.Requests(watchtest.Watches().When(func(q *watchtest.Request) bool { return strings.Contains(q.Path, "widgets") })); len(watches) != 1 || watches[0].Path != "/apis/example.com/v1/widgets" {
			t.Errorf("watches %+v", watches)
		}
	})
}

// Discovery asks no more often than a stream, waits no longer for an answer, and says what is wrong.
func TestDiscoveryIsBounded(t *testing.T) {
	for name, faults := range map[string][]watchtest.Fault{
		"hangs":       {watchtest.Hang()},
		"hangs up":    {watchtest.Reset()},
		"retry after": {watchtest.Fail(503, metav1.StatusReasonServiceUnavailable, "not ready"), watchtest.RetryAfter(time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				rule := srv.On(watchtest.Discovery(), faults...)
				r := start(t, srv, newMemory(), []string{"pods"})
				pass(time.Minute)
				if n, said := r.tries.Load(), r.logged(""); n > outage || said != 1 {
					t.Errorf("%d requests in the first minute, %d warnings", n, said)
				}
				rule.Off()
				pass(2 * time.Minute)
				r.stop(t)
				check(t, r.said("pods")[:2], "started at 100", "synced 0 at 100")
			})
		})
	}
}

// etcd may have forgotten what the watch cache still knows: no gap until a watch has failed.
func TestALISTAloneDecidesNoGap(t *testing.T) {
	for seed := range 20 {
		bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
			srv.Create(watchtest.Pods, "shop/a")
			r := start(t, srv, newMemory(), []string{"pods"})
			pass(time.Second)
			rule := srv.On(watchtest.Any(), watchtest.Reset())
			srv.CutWatches()
			pass(10*time.Minute + time.Duration(seed)*5*time.Second)
			srv.Create(watchtest.Pods, "shop/b")
			srv.Create(watchtest.Pods, "shop/c")
			srv.CompactStore(srv.RV())
			rule.Off()
			pass(time.Minute)
			r.stop(t)
			check(t, r.said("pods")[3:5], "added shop/b@102", "added shop/c@103")
		})
	}
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

// A gap begins before the changes that it encloses, also if the API server told an old one of them late.
func TestAGapBeginsBeforeWhatItEncloses(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a")
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Second)
		srv.Down()
		pass(10 * time.Minute)
		changed := time.Now()
		for i := range 5 {
			srv.Create(watchtest.Pods, fmt.Sprintf("shop/n%d", i))
		}
		srv.On(watchtest.Watches().Times(1), watchtest.CutAfter(1))
		pass(5 * time.Minute)
		srv.Up()
		for r.srv.Count(watchtest.Watches()) < 2 {
			pass(100 * time.Millisecond)
		}
		srv.Forget(srv.RV())
		pass(2 * time.Minute)
		r.stop(t)
		i := slices.IndexFunc(r.of("pods"), func(ev *event.Event) bool { return ev.Type == event.Gap })
		if i < 0 {
			t.Fatalf("no gap: %q", r.said("pods"))
		}
		if d := r.of("pods")[i].Data.(event.GapData); d.FromTime.After(changed) {
			t.Errorf("the gap begins %v after the first change in it", d.FromTime.Sub(changed))
		}
	})
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
