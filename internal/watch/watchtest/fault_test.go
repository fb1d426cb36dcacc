package watchtest

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// wired opens a watch and shows its bytes as they are on the wire, and how they end.
func wired(c client, query string) string {
	c.t.Helper()
	resp, body, err := c.get(Pods.Path("")+"?watch=1&"+query, "application/json")
	if resp == nil {
		return fmt.Sprintf("nothing: %v", err)
	}
	return fmt.Sprintf("%d %s%v", resp.StatusCode, body, err)
}

func TestFaultsOfAWatch(t *testing.T) {
	frameOf := func(n int) string {
		return fmt.Sprintf(`{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"%d","namespace":"a",`+
			`"uid":"00000000-0000-4000-8000-%012d","resourceVersion":"%d","creationTimestamp":"2000-01-01T00:00:00Z"}}}`+"\n", n, n, 100+n)
	}
	all := frameOf(1) + frameOf(2) + frameOf(3)
	for name, x := range map[string]struct {
		faults []Fault
		fired  string
		answer string
		takes  time.Duration
	}{
		"none":              {nil, "timeout", "200 " + all + "<nil>", 10 * time.Second},
		"closed at once":    {[]Fault{CloseAfter(0)}, "close", "200 <nil>", 0},
		"closed":            {[]Fault{CloseAfter(2)}, "close", "200 " + frameOf(1) + frameOf(2) + "<nil>", 0},
		"cut":               {[]Fault{CutAfter(2)}, "cut", "200 " + frameOf(1) + frameOf(2) + "unexpected EOF", 0},
		"cut within":        {[]Fault{CutWithin(1, 20)}, "cut within", "200 " + frameOf(1) + frameOf(2)[:20] + "unexpected EOF", 0},
		"cut before LF":     {[]Fault{CutWithin(0, 9999)}, "cut within", "200 " + strings.TrimSuffix(frameOf(1), "\n") + "unexpected EOF", 0},
		"a line":            {[]Fault{LineAfter(1, "garbage"), CloseAfter(2)}, "line", "200 " + frameOf(1) + "garbage\n<nil>", 0},
		"an error":          {[]Fault{ErrorAfter(1, NewStatus(500, metav1.StatusReasonInternalError, "etcd is away"))}, "error 500", "200 " + frameOf(1) + `{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"etcd is away","reason":"InternalError","code":500}}` + "\n<nil>", 0},
		"rewritten":         {[]Fault{Rewrite(bytes.ToUpper), CloseAfter(1)}, "rewrite", "200 " + strings.ToUpper(frameOf(1)) + "<nil>", 0},
		"late":              {[]Fault{Delay(time.Minute), CloseAfter(0)}, "delay", "200 <nil>", time.Minute},
		"reset":             {[]Fault{Reset()}, "reset", `nothing: Get "http://watchtest/api/v1/pods?watch=1&resourceVersion=100&timeoutSeconds=10": EOF`, 0},
		"an error page":     {[]Fault{HTML(503)}, "respond 503", "503 <html><body><h1>503 Service Unavailable</h1></body></html>\n<nil>", 0},
		"something to wait": {[]Fault{Fail(429, metav1.StatusReasonTooManyRequests, "slow down"), RetryAfter(3 * time.Second)}, "status 429", `429 {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"slow down","reason":"TooManyRequests","code":429}<nil>`, 0},
		"forbidden":         {[]Fault{Forbidden()}, "status 403", `403 {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods is forbidden: User \"system:serviceaccount:watcher:watcher\" cannot watch resource \"pods\" in API group \"\" at the cluster scope","reason":"Forbidden","details":{"kind":"pods"},"code":403}<nil>`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
				for i := range 3 {
					s.Create(Pods, fmt.Sprint("a/", i+1))
				}
				rule := s.On(Watches(Pods).Times(1), x.faults...)
				began := time.Now()
				if got := wired(c, "resourceVersion=100&timeoutSeconds=10"); got != x.answer || time.Since(began) != x.takes {
					t.Errorf("after %v\n got %s\nwant %s", time.Since(began), got, x.answer)
				}
				if s.Fired()[x.fired] != 1 || rule.Fired() != len(x.faults) && x.fired != "status 429" {
					t.Errorf("fired %v, of the rule %d", s.Fired(), rule.Fired())
				}
				if got := wired(c, "resourceVersion=100&timeoutSeconds=1"); got != "200 "+all+"<nil>" {
					t.Errorf("the next watch: %s", got)
				}
			})
		})
	}
}

func TestHangAndStallEndWithTheClient(t *testing.T) {
	bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
		s.Create(Pods, "a/x")
		hang := s.On(Any().Times(2), Hang())
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		began := time.Now()
		if err := request(c.rest(Pods), Pods, "").Do(ctx).Error(); err == nil || time.Since(began) != 90*time.Second {
			t.Errorf("a LIST that hangs: %v after %v", err, time.Since(began))
		}
		ctx, cancel = context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		began = time.Now()
		w, err := c.watch(ctx, Pods, "") // client-go says nothing of a time-out while it connects
		if err != nil {
			t.Fatalf("a watch that hangs: %v", err)
		}
		want(t, timed(w, began), "end at 1m30s")
		stall := s.On(Watches(), StallAfter(1))
		ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began = time.Now()
		w, err = c.watch(ctx, Pods, "resourceVersion=100&timeoutSeconds=300&allowWatchBookmarks=true")
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		want(t, settled(w), "ADDED a/x 101")
		s.Create(Pods, "a/y")
		if ev := <-w.ResultChan(); time.Since(began) != time.Hour {
			t.Errorf("a watch that stalls: %v after %v", show(ev), time.Since(began))
		}
		synctest.Wait()
		if hang.Fired() != 2 || stall.Fired() != 1 || s.Watching() != 0 {
			t.Errorf("hung %d, stalled %d, %d still open", hang.Fired(), stall.Fired(), s.Watching())
		}
	})
}

func TestFaultsOfAList(t *testing.T) {
	bubble(t, []Resource{Pods, Services}, func(t *testing.T, s *Server, c client) {
		s.Create(Pods, "a/x")
		s.Create(Pods, "a/y")
		s.On(Lists(Pods).After(1).Times(1), CutBody(50))
		s.On(Lists(Pods).When(func(q *Request) bool { return q.Query.Get("resourceVersionMatch") == "Exact" }), IgnoreExact())
		for i, ok := range []bool{true, false, true} {
			if _, err := c.list(Pods, ""); (err == nil) != ok {
				t.Errorf("list %d: %v", i, err)
			}
		}
		if list, err := c.list(Pods, "resourceVersionMatch=Exact&resourceVersion=101"); err != nil || names(list) != "a/x a/y" || list.GetResourceVersion() != "102" {
			t.Errorf("an exact read that is not exact: %v", err)
		}
		s.On(Lists(Pods).When(func(q *Request) bool { return q.Query.Get("limit") == "1" }), IgnoreLimit())
		if list, err := c.list(Pods, "limit=1"); err != nil || names(list) != "a/x a/y" || list.GetContinue() != "" {
			t.Errorf("a limit that is ignored: %v %v", list, err)
		}
		s.On(Lists(Pods), CutBody(1<<20))
		if _, err := c.list(Pods, ""); err == nil {
			t.Error("a body that is whole and not ended passed")
		}
		s.On(Lists(Services).Times(1), FailStatus(TooLarge(500, 101)))
		_, err := c.list(Services, "")
		if !apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) {
			t.Errorf("a lagging server: %v", err)
		}
		if resp, _, err := c.get(Services.Path("")+"?resourceVersion=500", ""); err != nil || resp.Header.Get("Retry-After") != "1" {
			t.Errorf("no delay is suggested: %v %v", resp, err)
		}
		if got := s.Fired(); got["cut body"] != 2 || got["ignore exact"] != 1 || got["ignore limit"] != 1 || got["status 504"] != 1 {
			t.Errorf("fired: %v", got)
		}
		if n := s.Count(Lists(Pods)); n != 6 {
			t.Errorf("%d lists are in the records", n)
		}
	})
}

func TestRulesComeInTurn(t *testing.T) {
	bubble(t, []Resource{Pods, Services}, func(t *testing.T, s *Server, c client) {
		s.On(Lists(Pods).Times(1), Fail(500, metav1.StatusReasonInternalError, "1"))
		rest := s.On(Lists(), Fail(503, metav1.StatusReasonServiceUnavailable, "2"))
		code := func(r Resource) string {
			resp, _, err := c.get(r.Path(""), "")
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprint(resp.StatusCode)
		}
		want(t, []string{code(Services), code(Pods), code(Pods)}, "503", "500", "503")
		rest.Off()
		want(t, []string{code(Services), code(Pods)}, "200", "200")
		s.On(Discovery().Times(1), Fail(403, metav1.StatusReasonForbidden, "3"))
		if resp, _, err := c.get("/apis", ""); err != nil || resp.StatusCode != 403 {
			t.Errorf("discovery: %v", err)
		}
		reset := s.On(Any().Times(3), Reset())
		for range 3 { // net/http itself does not try again
			if _, _, err := c.get("/version", ""); err == nil {
				t.Error("a reset was not seen")
			}
		}
		s.On(Any(), Forbidden())
		if _, body, _ := c.get("/version", ""); reset.Fired() != 3 || !strings.Contains(body, `cannot get path \"/version\"`) {
			t.Errorf("%d resets, then %s", reset.Fired(), body)
		}
	})
}

func TestMisuseIsToldToTheTest(t *testing.T) {
	for name, misuse := range map[string]func(*Server){
		"there already":  func(s *Server) { s.Create(Pods, "a/x") },
		"no such object": func(s *Server) { s.Update(Pods, "a/y") },
		"none to delete": func(s *Server) { s.Delete(Pods, "a/y") },
		"no namespace":   func(s *Server) { s.Create(Pods, "y") },
		"no resource":    func(s *Server) { s.Create(Services, "a/x") },
		"no JSON":        func(s *Server) { s.Update(Pods, "a/x", Spec(`{]`)) },
		"an odd pair":    func(s *Server) { s.Update(Pods, "a/x", Labels("a", "b", "c")) },
	} {
		tb := &recorder{}
		s := New(tb, Pods)
		s.Create(Pods, "a/x")
		func() {
			defer func() { _ = recover() }()
			misuse(s)
		}()
		if len(tb.said) != 1 {
			t.Errorf("%s: %q", name, tb.said)
		}
		s.Close()
	}
}

type recorder struct{ said []string }

func (r *recorder) Helper()        {}
func (r *recorder) Cleanup(func()) {}
func (r *recorder) Fatalf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
	panic(http.ErrAbortHandler)
}
