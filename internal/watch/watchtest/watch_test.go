package watchtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/watch"
)

// timed reads a watch to its end, with the seconds at which things came.
func timed(w watch.Interface, began time.Time) []string {
	var out []string
	at := func() string { return fmt.Sprintf(" at %v", time.Since(began)) }
	for ev := range w.ResultChan() {
		out = append(out, show(ev)+at())
	}
	return append(out, "end"+at())
}

func TestTimeoutSecondsEndsAWatch(t *testing.T) {
	bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
		began := time.Now()
		w := c.mustWatch(Pods, "resourceVersion=100&timeoutSeconds=300")
		s.Create(Pods, "a/x")
		want(t, timed(w, began), "ADDED a/x 101 at 0s", "end at 5m0s")
		if q := s.Requests(Watches(Pods)); q[0].Outcome != "timeout" || !q[0].Done || q[0].Frames != 1 || q[0].Code != 200 {
			t.Errorf("the record: %+v", q[0])
		}
		began = time.Now()
		want(t, timed(c.mustWatch(Pods, "resourceVersion=101"), began), "end at 30m0s")
	})
}

func TestBookmarksComeEveryMinuteAndBeforeTheEnd(t *testing.T) {
	bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
		began := time.Now()
		s.Advance(5)
		w := c.mustWatch(Pods, "resourceVersion=100&timeoutSeconds=150&allowWatchBookmarks=true")
		want(t, timed(w, began), "BOOKMARK 105 at 1m0s", "BOOKMARK 105 at 2m0s", "BOOKMARK 105 at 2m28s", "end at 2m30s")
		began = time.Now()
		s.BookmarkEvery(0)
		w = c.mustWatch(Pods, "resourceVersion=100&timeoutSeconds=150&allowWatchBookmarks=true")
		want(t, timed(w, began), "end at 2m30s")
	})
}

func TestBookmarksOnCommand(t *testing.T) {
	bubble(t, []Resource{Pods, Events}, func(t *testing.T, s *Server, c client) {
		asked := c.mustWatch(Pods, "resourceVersion=100&allowWatchBookmarks=true")
		silent := c.mustWatch(Pods, "resourceVersion=100")
		events := c.mustWatch(Events, "resourceVersion=100&allowWatchBookmarks=true")
		synctest.Wait()
		s.Bookmark()
		want(t, settled(asked)) // nothing is newer than its start
		s.Create(Pods, "a/x")
		s.Advance(7)
		s.Bookmark()
		want(t, settled(asked), "ADDED a/x 101", "BOOKMARK 108")
		want(t, settled(silent), "ADDED a/x 101")
		want(t, settled(events))
	})
}

func TestSelectorsTurnChangesIntoComingAndGoing(t *testing.T) {
	bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
		byLabel := c.mustWatch(Pods, "resourceVersion=100&labelSelector=app=web")
		byName := c.mustWatch(Pods, "resourceVersion=100&fieldSelector=metadata.name!=x")
		byNode := c.mustWatch(Pods, "resourceVersion=100&fieldSelector=spec.nodeName=n1")
		s.Create(Pods, "a/x", Labels("app", "web"), Spec(`{"nodeName":"n1"}`))
		s.Create(Pods, "a/y")
		s.Update(Pods, "a/x", Status(`{"n":1}`))
		s.Update(Pods, "a/x", Labels("app", ""), Status(`{"n":2}`))
		s.Update(Pods, "a/x", Labels("app", "web"))
		s.Delete(Pods, "a/x")
		want(t, settled(byLabel), "ADDED a/x 101", "MODIFIED a/x 103", "DELETED a/x 104", "ADDED a/x 105", "DELETED a/x 106")
		want(t, settled(byName), "ADDED a/y 102")
		want(t, settled(byNode), "ADDED a/x 101", "MODIFIED a/x 103", "MODIFIED a/x 104", "MODIFIED a/x 105", "DELETED a/x 106")

		// What leaves is shown as it was before.
		_, body, err := c.get(Pods.Path("a")+"?watch=1&resourceVersion=103&labelSelector=app%3Dweb&timeoutSeconds=1", "")
		if err != nil || !strings.Contains(body, `"resourceVersion":"104"`) || !strings.Contains(body, `"status":{"n":1}`) {
			t.Errorf("what left: %s %v", body, err)
		}
		if _, err := c.list(Pods, "fieldSelector=spec.hostNetwork=true"); err == nil || !strings.Contains(err.Error(), "field label not supported") {
			t.Errorf("an unknown field: %v", err)
		}
	})
}

func TestNamespacesAndClusterScopeHaveTheirPaths(t *testing.T) {
	bubble(t, []Resource{Pods, Nodes, Namespaces}, func(t *testing.T, s *Server, c client) {
		s.Create(Pods, "a/x")
		s.Create(Pods, "b/x")
		s.Create(Nodes, "n1")
		for path, expected := range map[string]string{
			Pods.Path(""):  `"namespace":"a"`,
			Pods.Path("b"): `"namespace":"b"`, Pods.Path("b") + "/x": `"kind":"Pod","apiVersion":"v1"`,
			Nodes.Path(""): `"name":"n1"`, Nodes.Path("") + "/n1": `"kind":"Node"`,
			Namespaces.Path("") + "/kube-system":                `"uid":"00000000-`,
			Pods.Path("a") + "?watch=1&timeoutSeconds=1":        `{"type":"ADDED","object":{"kind":"Pod"`,
			Namespaces.Path("") + "?watch=1&timeoutSeconds=1":   `kube-system`,
			Pods.Path("c") + "/x":                               `"message":"pods \"x\" not found","reason":"NotFound"`,
			Pods.Path("a") + "/x/log":                           `404 page not found`,
			Services.Path(""):                                   `404 page not found`,
			Pods.Path("") + "?resourceVersionMatch=Exact":       `resourceVersionMatch is forbidden unless`,
			Pods.Path("") + "?watch=1&sendInitialEvents=true":   `unless the WatchList feature gate is enabled`,
			Pods.Path("") + "?resourceVersion=abc":              `"reason":"BadRequest"`,
			Pods.Path("") + "?continue=abc":                     `invalid continue token`,
			Pods.Path("") + "?resourceVersion=102&limit=1":      `"resourceVersion":"102"`,
			Pods.Path("") + "?labelSelector=a%20b%20c":          `"reason":"BadRequest"`,
			Pods.Path("") + "?watch=1&resourceVersionMatch=Any": `"reason":"Invalid"`,
		} {
			if _, body, err := c.get(path, "application/json"); err != nil || !strings.Contains(body, expected) {
				t.Errorf("GET %s: %s %v, want %s", path, body, err, expected)
			}
		}
	})
}

func TestAWatchFromNowhereBeginsInTheOrderOfKeys(t *testing.T) {
	bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
		s.Create(Pods, "b/x")
		s.Create(Pods, "a/x")
		w := c.mustWatch(Pods, "resourceVersion=0")
		want(t, settled(w), "ADDED a/x 102", "ADDED b/x 101")
		s.Create(Pods, "a/y")
		want(t, settled(w), "ADDED a/y 103")
	})
}

func TestTheFormsOfObjects(t *testing.T) {
	bubble(t, []Resource{Pods, Widgets}, func(t *testing.T, s *Server, c client) {
		s.Create(Pods, "a/x", Labels("app", "web"), Spec(`{"a":1}`))
		s.Create(Widgets, "a/x", Spec(`{"a":1}`))
		const (
			meta       = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
			metaList   = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
			podMeta    = `{"name":"x","namespace":"a","uid":"00000000-0000-4000-8000-000000000001","resourceVersion":"101","generation":1,"creationTimestamp":"2000-01-01T00:00:00Z","labels":{"app":"web"}}`
			widgetMeta = `{"creationTimestamp":"2000-01-01T00:00:00Z","generation":1,"name":"x","namespace":"a","resourceVersion":"102","uid":"00000000-0000-4000-8000-000000000002"}`
			partial    = `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":`
		)
		for _, x := range []struct{ path, accept, expected string }{
			{Pods.Path(""), "", `{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"102"},"items":[{"metadata":` + podMeta + `,"spec":{"a":1}}]}`},
			{Pods.Path("a") + "/x", "*/*", `{"kind":"Pod","apiVersion":"v1","metadata":` + podMeta + `,"spec":{"a":1}}`},
			{Widgets.Path("b"), "application/json", `{"apiVersion":"example.com/v1","items":[],"kind":"WidgetList","metadata":{"resourceVersion":"102"}}`},
			{Widgets.Path("a"), "application/json", `{"apiVersion":"example.com/v1","items":[{"apiVersion":"example.com/v1","kind":"Widget","metadata":` + widgetMeta + `,"spec":{"a":1}}],"kind":"WidgetList","metadata":{"resourceVersion":"102"}}`},
			{Pods.Path("a"), metaList, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"102"},"items":[` + partial + podMeta + `}]}`},
			{Widgets.Path("a"), metaList, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"102"},"items":[` + partial +
				`{"name":"x","namespace":"a","uid":"00000000-0000-4000-8000-000000000002","resourceVersion":"102","generation":1,"creationTimestamp":"2000-01-01T00:00:00Z"}}]}`},
			{Pods.Path("b") + "?watch=1&resourceVersion=101&timeoutSeconds=3&allowWatchBookmarks=1", meta, `{"type":"BOOKMARK","object":` + partial + `{"resourceVersion":"102"}}}`},
			{Pods.Path("b") + "?watch=1&resourceVersion=101&timeoutSeconds=3&allowWatchBookmarks=1", "", `{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"102"}}}`},
			{Pods.Path("a") + "/x", meta, partial + podMeta + `}`},
			{Pods.Path("a") + "?watch=1&resourceVersion=100&timeoutSeconds=1", meta, `{"type":"ADDED","object":` + partial + podMeta + `}}`},
			{Pods.Path("a"), meta, `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"only the following media types are accepted: application/json","reason":"NotAcceptable","code":406}`},
		} {
			if _, body, err := c.get(x.path, x.accept); err != nil || body != x.expected && body != x.expected+"\n" {
				t.Errorf("GET %s:\n got %s %v\nwant %s", x.path, body, err, x.expected)
			}
		}
	})
}

func TestClientsThatLeaveAreForgotten(t *testing.T) {
	bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
		w := c.mustWatch(Pods, "resourceVersion=100")
		ctx, cancel := context.WithCancel(t.Context())
		cancelled, err := c.watch(ctx, Pods, "resourceVersion=100")
		if err != nil {
			t.Fatal(err)
		}
		defer cancelled.Stop() // else its goroutine waits for ever to tell that the watch was cancelled
		if s.Watching(Pods) != 2 {
			t.Errorf("%d watches are open, not 2", s.Watching(Pods))
		}
		cancel()
		w.Stop()
		synctest.Wait()
		if s.Watching() != 0 {
			t.Errorf("%d watches are still open", s.Watching())
		}
		for _, q := range s.Requests(Watches()) {
			if q.Outcome != "client left" || !q.Done {
				t.Errorf("the record: %+v", q)
			}
		}
	})
}

func TestAClientThatDoesNotReadIsClosed(t *testing.T) {
	bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
		s.LimitBacklog(10)
		w := c.mustWatch(Pods, "resourceVersion=100")
		for i := range 30 {
			s.Create(Pods, fmt.Sprint("a/", i), Annotations("size", strings.Repeat("x", 10_000)))
			synctest.Wait()
		}
		if n := s.Unsent(Pods); n <= 10 || s.Fired()["slow"] != 1 {
			t.Errorf("%d changes are unsent, %v", n, s.Fired())
		}
		got := settled(w)
		if len(got) > 20 || got[len(got)-1] != "end" {
			t.Errorf("it was told %v", got)
		}
	})
}

func TestAwaitEnds(t *testing.T) {
	bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
		go func() {
			time.Sleep(time.Second)
			s.Create(Pods, "a/x")
		}()
		if err := s.Await(t.Context(), func() bool { return s.RV() == 101 }); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Await(ctx, func() bool { return false }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("await what never comes: %v", err)
		}
	})
}
