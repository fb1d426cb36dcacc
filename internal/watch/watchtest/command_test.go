package watchtest

import (
	"context"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestCommandsToLiveWatches(t *testing.T) {
	for name, x := range map[string]struct {
		command  func(*Server) int
		expected string
	}{
		"close":  {func(s *Server) int { return s.CloseWatches(Pods) }, "<nil>"},
		"cut":    {func(s *Server) int { return s.CutWatches() }, "unexpected EOF"},
		"within": {func(s *Server) int { n := s.CutWatchesWithin(16, Pods); s.Create(Pods, "a/y"); return n }, `{"type":"ADDED",unexpected EOF`},
		"error": {func(s *Server) int { return s.SendError(Pods, NewStatus(403, metav1.StatusReasonForbidden, "no")) },
			`{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"no","reason":"Forbidden","code":403}}` + "\n<nil>"},
		"line":    {func(s *Server) int { s.SendLine(Pods, "{]"); return s.CloseWatches(Pods) }, "{]\n<nil>"},
		"stall":   {func(s *Server) int { s.StallWatches(Pods); s.Create(Pods, "a/y"); return s.CutWatches(Pods) }, "unexpected EOF"},
		"restart": {func(s *Server) int { s.Restart(); return 1 }, "unexpected EOF"},
		"down":    {func(s *Server) int { s.Down(); return 1 }, "unexpected EOF"},
		"remove":  {func(s *Server) int { s.Remove(Pods); return 1 }, "<nil>"},
		"other": {func(s *Server) int {
			return 1 + s.CutWatches(Services) + s.CloseWatches(Services) + s.StallWatches(Services)
		}, "<nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, []Resource{Pods, Services}, func(t *testing.T, s *Server, c client) {
				done := make(chan string)
				go func() { done <- wired(c, "resourceVersion=100&timeoutSeconds=60") }()
				synctest.Wait()
				if n := x.command(s); n != 1 {
					t.Errorf("%d watches were told", n)
				}
				if got := <-done; got != "200 "+x.expected {
					t.Errorf("got %s, want %s", got, x.expected)
				}
			})
		})
	}
}

func TestACutDoesNotWaitForTheReader(t *testing.T) {
	bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
		w := c.mustWatch(Pods, "resourceVersion=100")
		for i := range 5 {
			s.Create(Pods, fmt.Sprint("a/", i), Annotations("size", strings.Repeat("x", 100_000)))
		}
		synctest.Wait() // the server waits for the client to read
		if s.Watching() != 1 || s.CutWatches(Pods) != 1 || s.CutWatches(Pods) != 0 {
			t.Error("the watch was not told once")
		}
		synctest.Wait()
		if s.Watching() != 0 || s.Fired()["cut"] != 1 {
			t.Errorf("%d watches still wait, %v", s.Watching(), s.Fired())
		}
		if got := settled(w); len(got) > 3 {
			t.Errorf("it was told all the same: %v", got)
		}
	})
}

func TestAServerThatIsDownRefuses(t *testing.T) {
	bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
		s.Down()
		if _, err := c.list(Pods, ""); err == nil || !strings.Contains(err.Error(), syscall.ECONNREFUSED.Error()) {
			t.Errorf("list: %v", err)
		}
		s.Up()
		if _, err := c.list(Pods, ""); err != nil {
			t.Errorf("list: %v", err)
		}
	})
}

func TestAFrozenConnectionIsSilentBothWays(t *testing.T) {
	bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		w, err := c.watch(ctx, Pods, "resourceVersion=100&timeoutSeconds=60&allowWatchBookmarks=true")
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		synctest.Wait()
		s.Freeze()
		s.Create(Pods, "a/x")
		if _, err := c.list(Pods, ""); err != nil { // on a new connection
			t.Errorf("list: %v", err)
		}
		if ev, ok := <-w.ResultChan(); time.Since(began) != time.Hour {
			t.Errorf("not silent: %v %v after %v", ev, ok, time.Since(began))
		}
	})
}

func TestPermissionsAndResourcesComeAndGo(t *testing.T) {
	bubble(t, []Resource{Pods, Widgets}, func(t *testing.T, s *Server, c client) {
		s.Create(Widgets, "a/x")
		s.Forbid(Widgets, "watch")
		live := c.mustWatch(Pods, "resourceVersion=101")
		_, err := c.watch(t.Context(), Widgets, "resourceVersion=101")
		if !apierrors.IsForbidden(err) || !strings.HasPrefix(err.Error(), `widgets.example.com is forbidden: User "system:serviceaccount:watcher:watcher" cannot watch resource "widgets" in API group "example.com" at the cluster scope`) {
			t.Errorf("a watch that is not allowed: %v", err)
		}
		if _, err := c.list(Widgets, ""); err != nil {
			t.Errorf("a list that is: %v", err)
		}
		s.Forbid(Pods, "list", "watch")
		if _, body, _ := c.get(Pods.Path("shop"), ""); !strings.Contains(body, `cannot list resource \"pods\" in API group \"\" in the namespace \"shop\"`) {
			t.Errorf("a list of a namespace: %s", body)
		}
		s.Create(Pods, "a/x")
		want(t, settled(live), "ADDED a/x 102") // a watch is authorized at its beginning
		s.Allow(Widgets, "watch")
		w := c.mustWatch(Widgets, "resourceVersion=101")

		s.Delete(Widgets, "a/x")
		s.Remove(Widgets)
		want(t, settled(w), "end") // one that is told to end is told nothing more
		if _, err := c.list(Widgets, ""); !apierrors.IsNotFound(err) {
			t.Errorf("a list of what is gone: %v", err)
		}
		if n := s.Count(Lists(Widgets)); n != 2 {
			t.Errorf("%d lists of what is gone are in the records", n)
		}
		s.Add(Widgets)
		want(t, settled(c.mustWatch(Widgets, "resourceVersion=101")), "ERROR 410 Expired", "end")
	})
}

func TestDiscoveryTellsWhatIsThere(t *testing.T) {
	bubble(t, []Resource{Pods, Deployments, Widgets, Gadgets}, func(t *testing.T, s *Server, c client) {
		const oneDocument = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
		see := func(path, accept string, parts ...string) {
			t.Helper()
			resp, body, err := c.get(path, accept)
			if err != nil {
				t.Fatal(err)
			}
			text := resp.Status + " " + resp.Header.Get("Content-Type") + " " + body
			for _, part := range parts {
				if !strings.Contains(text, part) {
					t.Errorf("GET %s: %s\n  has no %s", path, text, part)
				}
			}
		}
		see("/api", "", `"versions":["v1"]`)
		see("/apis", "", `"preferredVersion":{"groupVersion":"apps/v1","version":"v1"}`, `"name":"example.com"`)
		see("/api/v1", "", `"groupVersion":"v1"`, `"name":"pods","namespaced":true,"shortNames":["po"]`, `"name":"pods/status"`, `"name":"bindings"`)
		see("/apis/example.com/v1", "", `"kind":"Gadget","name":"gadgets","namespaced":false`, `"kind":"Widget"`)
		see("/apis", oneDocument, "as=APIGroupDiscoveryList", `"resource":"deployments"`, `"scope":"Cluster"`, `"freshness":"Current"`)
		see("/api", oneDocument, "as=APIGroupDiscoveryList", `"resource":"pods"`)
		see("/version", "", `"gitVersion":"v1.37.2"`)
		see("/readyz", "", "ok")
		see("/apis/none.example.com/v1", "", "404")
		s.GroupDown("example.com/v1")
		see("/apis/example.com/v1", "", "503", "service unavailable")
		see(Widgets.Path(""), "", "503")
		see("/apis", oneDocument, `"freshness":"Stale"`)
		s.GroupUp("example.com/v1")
		s.Remove(Gadgets)
		see("/apis/example.com/v1", "", `"resources":[{"kind":"Widget"`)
		s.Remove(Widgets)
		see("/apis/example.com/v1", "", "404")
	})
}

func TestEverythingEndsWithTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(t, Pods)
		c := client{t, s.Config()}
		s.Create(Pods, "a/x", Annotations("size", strings.Repeat("x", 1<<20)))
		s.On(Watches().After(1).Times(1), StallAfter(0))
		for _, query := range []string{"resourceVersion=100", "resourceVersion=100", "resourceVersion=101"} {
			c.mustWatch(Pods, query) // nobody reads the first
		}
		s.On(Lists(), Hang())
		done := make(chan error)
		for range 2 {
			go func() { _, err := c.list(Pods, ""); done <- err }()
		}
		synctest.Wait()
		s.Freeze()
		c.mustWatch(Pods, "resourceVersion=101")
		s.Close()
		s.Close()
		for range 2 {
			if err := <-done; err == nil || !strings.Contains(err.Error(), io.EOF.Error()) {
				t.Errorf("a list that hung: %v", err)
			}
		}
		if _, err := c.list(Pods, ""); err == nil {
			t.Error("a closed server answers")
		}
	})
}
