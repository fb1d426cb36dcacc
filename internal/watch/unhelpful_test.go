package watch_test

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"watcher/internal/watch/watchtest"
)

// While the API server does not say how objects departed, which may be just when many go, the others do not wait for long.
func TestDeparturesThatCannotBeAskedHoldNothingUp(t *testing.T) {
	for name, fault := range map[string]watchtest.Fault{
		"503":  watchtest.Fail(503, "ServiceUnavailable", "x"),
		"429":  watchtest.FailStatus(&metav1.Status{Status: "Failure", Code: 429, Reason: "TooManyRequests", Details: &metav1.StatusDetails{RetryAfterSeconds: 60}}),
		"hang": watchtest.Hang(),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				for i := range 200 {
					srv.Create(watchtest.Pods, pod(i), web)
				}
				r := start(t, srv, newMemory(), []string{"pods"}, selecting)
				pass(10 * time.Second)
				srv.On(watchtest.Lists().When(exactOf), fault)
				for i := range 200 {
					srv.Delete(watchtest.Pods, pod(i))
				}
				pass(5 * time.Minute)
				if n := count(r.said("pods"), "left"); n != 200 {
					t.Errorf("%d of 200 are written", n)
				}
				r.stop(t)
			})
		})
	}
}

// An expiry that shows as a watch that closes, on a server that cannot say more: a gap that was none is better than silence.
func TestEmptyWatchesThatNobodyCanExplainAreAGap(t *testing.T) {
	bubble(t, []watchtest.Resource{watchtest.Events}, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Events, "shop/e1")
		srv.Create(watchtest.Events, "shop/e2")
		srv.On(watchtest.Lists(), watchtest.IgnoreExact())
		r := start(t, srv, newMemory(), []string{"events"})
		pass(10 * time.Second)
		srv.Down()
		srv.Delete(watchtest.Events, "shop/e1")
		srv.Advance(10)
		srv.Compact(srv.RV())
		srv.Up()
		pass(15 * time.Minute)
		srv.Create(watchtest.Events, "shop/e3")
		pass(time.Minute)
		r.stop(t)
		said := r.said("events")
		if count(said, "gap expired after 102") != 1 || count(said, "deleted shop/e1@113 inferred") != 1 || count(said, "added shop/e3@114") != 1 {
			t.Errorf("got %q", said)
		}
	})
}
