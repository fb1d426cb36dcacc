package watchtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAWatchTellsTheHistory(t *testing.T) {
	bubble(t, []Resource{Pods, Services}, func(t *testing.T, s *Server, c client) {
		s.Create(Pods, "shop/before", Spec(`{}`))
		list, err := c.list(Pods, "")
		if err != nil || names(list) != "shop/before" || list.GetResourceVersion() != "101" {
			t.Fatalf("list: %v at %s, %v", names(list), list.GetResourceVersion(), err)
		}
		w := c.mustWatch(Pods, "resourceVersion=101")
		s.Create(Services, "shop/other")
		s.Create(Pods, "shop/web", Labels("app", "web"), Spec(`{"n":1}`))
		s.Update(Pods, "shop/web", Spec(`{"n":2}`))
		s.Update(Pods, "shop/web", Spec(`{"n":2}`)) // changes nothing
		s.Delete(Pods, "shop/web")
		s.Create(Pods, "shop/web") // another one of the same name
		want(t, settled(w), "ADDED shop/web 103", "MODIFIED shop/web 104", "DELETED shop/web 105", "ADDED shop/web 106")

		// One that begins in the middle is told the rest.
		want(t, settled(c.mustWatch(Pods, "resourceVersion=104")), "DELETED shop/web 105", "ADDED shop/web 106")

		history := s.History(Pods)
		var told []string
		for _, ch := range history {
			told = append(told, fmt.Sprintf("%s %s/%s %d", ch.Type, ch.Namespace, ch.Name, ch.RV))
		}
		want(t, told, "ADDED shop/before 101", "ADDED shop/web 103", "MODIFIED shop/web 104", "DELETED shop/web 105", "ADDED shop/web 106")
		if history[1].UID != history[3].UID || history[3].UID == history[4].UID {
			t.Errorf("uids: %s, %s, %s", history[1].UID, history[3].UID, history[4].UID)
		}
		deleted := decoded(t, string(history[3].JSON))["metadata"].(map[string]any)
		if deleted["resourceVersion"] != "105" || deleted["generation"] != float64(2) || history[3].At.IsZero() {
			t.Errorf("the deletion: %s at %s", history[3].JSON, history[3].At)
		}
		var at []string
		for _, o := range s.StateAt(Pods, 104) {
			at = append(at, fmt.Sprint(o.Name, " ", o.RV))
		}
		want(t, at, "before 101", "web 104")
	})
}

func TestDeletionsTogetherShareOneVersion(t *testing.T) {
	bubble(t, []Resource{Events}, func(t *testing.T, s *Server, c client) {
		for _, key := range []string{"a/1", "a/2", "a/3"} {
			s.Create(Events, key)
		}
		s.On(Watches(Events).Times(1), CutAfter(1))
		s.DeleteTogether(Events, "a/1", "a/2", "a/3")
		want(t, settled(c.mustWatch(Events, "resourceVersion=103")), "DELETED a/1 104", "end")
		// Who goes on at the version that was seen misses the rest; who goes on below gets all.
		want(t, settled(c.mustWatch(Events, "resourceVersion=104")))
		want(t, settled(c.mustWatch(Events, "resourceVersion=103")), "DELETED a/1 104", "DELETED a/2 104", "DELETED a/3 104")
	})
}

func TestPagesAreOfOneMoment(t *testing.T) {
	bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
		for _, key := range []string{"a/x", "a-b/x", "a/y", "b/x", "c/x"} {
			s.Create(Pods, key, Labels("ns", key[:1]))
		}
		first, err := c.list(Pods, "limit=2")
		if err != nil {
			t.Fatal(err)
		}
		if names(first) != "a-b/x a/x" || *first.GetRemainingItemCount() != 3 || first.GetResourceVersion() != "105" {
			t.Errorf("page 1: %s, %d remain, at %s", names(first), *first.GetRemainingItemCount(), first.GetResourceVersion())
		}
		s.Delete(Pods, "a/y")
		s.Create(Pods, "a/z")
		second, err := c.list(Pods, "limit=2&continue="+first.GetContinue())
		if err != nil || names(second) != "a/y b/x" || second.GetResourceVersion() != "105" {
			t.Errorf("page 2: %s at %s, %v", names(second), second.GetResourceVersion(), err)
		}
		filtered, err := c.list(Pods, "limit=1&labelSelector=ns=b")
		if err != nil || names(filtered) != "b/x" || filtered.GetRemainingItemCount() != nil || filtered.GetContinue() == "" {
			t.Errorf("filtered: %s, %v", names(filtered), err)
		}
		empty, err := c.list(Pods, "limit=1&labelSelector=ns=b&continue="+filtered.GetContinue())
		if err != nil || names(empty) != "" || empty.GetContinue() != "" {
			t.Errorf("the page after: %s, %v", names(empty), err)
		}
		cached, err := c.list(Pods, "limit=1&resourceVersion=0")
		if err != nil || len(cached.Items) != 5 || cached.GetContinue() != "" {
			t.Errorf("the watch cache pages: %s, %v", names(cached), err)
		}

		s.CompactStore(s.RV())
		_, err = c.list(Pods, "limit=2&continue="+first.GetContinue())
		if !apierrors.IsResourceExpired(err) {
			t.Fatalf("an expired continue token: %v", err)
		}
		var status apierrors.APIStatus
		errors.As(err, &status)
		rest, err := c.list(Pods, "continue="+status.Status().ListMeta.Continue)
		if err != nil || names(rest) != "a/z b/x c/x" || rest.GetResourceVersion() != "107" {
			t.Errorf("with the inconsistent token: %s at %s, %v", names(rest), rest.GetResourceVersion(), err)
		}
	})
}

func TestAnExactListAnswersThePast(t *testing.T) {
	bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
		s.Create(Pods, "a/x", Spec(`{"n":1}`))  // 101
		s.Create(Pods, "b/x", Spec(`{"n":10}`)) // 102
		s.Update(Pods, "a/x", Spec(`{"n":2}`))  // 103
		s.Delete(Pods, "a/x")                   // 104
		for rv, expected := range map[int]string{100: "", 101: "a/x", 102: "a/x b/x", 103: "a/x b/x", 104: "b/x"} {
			list, err := c.list(Pods, fmt.Sprintf("resourceVersionMatch=Exact&resourceVersion=%d", rv))
			if err != nil || names(list) != expected || list.GetResourceVersion() != fmt.Sprint(rv) {
				t.Errorf("at %d: %q at %s, %v", rv, names(list), list.GetResourceVersion(), err)
			}
		}
		point := func(rv uint64) string {
			_, body, err := c.get(Pods.Path("a")+fmt.Sprintf("?fieldSelector=metadata.name%%3Dx&resourceVersion=%d&resourceVersionMatch=Exact", rv), "application/json")
			if err != nil {
				t.Fatal(err)
			}
			items := decoded(t, body)["items"].([]any)
			if len(items) == 0 {
				return "none"
			}
			return fmt.Sprint(items[0].(map[string]any)["spec"])
		}
		want(t, []string{point(100), point(101), point(102), point(103), point(104)}, "none", "map[n:1]", "map[n:1]", "map[n:2]", "none")

		_, err := c.list(Pods, "resourceVersionMatch=Exact&resourceVersion=105")
		if !apierrors.IsTimeout(err) || !apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) {
			t.Errorf("of the future: %v", err)
		}
		if _, err := c.list(Pods, "resourceVersion=105"); !apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) {
			t.Errorf("not older than the future: %v", err)
		}
		if list, err := c.list(Pods, "limit=1&resourceVersion=101"); err != nil || names(list) != "a/x" || list.GetResourceVersion() != "101" {
			t.Errorf("a limit makes it exact: %v", err)
		}
		if list, err := c.list(Pods, "fieldSelector=metadata.name=x&resourceVersionMatch=Exact&resourceVersion=103"); err != nil || names(list) != "a/x b/x" {
			t.Errorf("one name in all namespaces: %v", err)
		}
		s.Compact(103)
		if _, err := c.list(Pods, "resourceVersionMatch=Exact&resourceVersion=102"); !apierrors.IsResourceExpired(err) {
			t.Errorf("below the compaction: %v", err)
		}
		if list, err := c.list(Pods, "resourceVersionMatch=Exact&resourceVersion=103"); err != nil || names(list) != "a/x b/x" {
			t.Errorf("at the compaction: %v", err)
		}
		if len(s.StateAt(Pods, 101)) != 1 {
			t.Error("the test itself no longer knows what is compacted")
		}
	})
}

func TestALiveWatchOutlivesCompaction(t *testing.T) {
	bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
		w := c.mustWatch(Pods, "resourceVersion=100")
		s.Create(Pods, "a/x")
		s.Compact(s.RV())
		s.Create(Pods, "a/y")
		want(t, settled(w), "ADDED a/x 101", "ADDED a/y 102")
	})
}

func TestForgottenWatchesLeaveExactReads(t *testing.T) {
	bubble(t, []Resource{Pods, Services, Events}, func(t *testing.T, s *Server, c client) {
		s.Create(Pods, "a/x")
		s.Create(Services, "a/x")
		s.Create(Events, "a/x")
		s.Forget(s.RV(), Pods)
		want(t, settled(c.mustWatch(Pods, "resourceVersion=100")), "ERROR 410 Expired", "end")
		want(t, settled(c.mustWatch(Services, "resourceVersion=100")), "ADDED a/x 102")
		want(t, settled(c.mustWatch(Pods, "resourceVersion=103"))) // as far as it goes
		if list, err := c.list(Pods, "resourceVersionMatch=Exact&resourceVersion=101"); err != nil || names(list) != "a/x" {
			t.Errorf("an exact read: %v", err)
		}
		s.Forget(s.RV())
		want(t, settled(c.mustWatch(Services, "resourceVersion=100")), "ERROR 410 Expired", "end")
		// Events have no watch cache to forget anything.
		want(t, settled(c.mustWatch(Events, "resourceVersion=100")), "ADDED a/x 103")
		s.CompactStore(s.RV())
		want(t, settled(c.mustWatch(Events, "resourceVersion=100")), "end")
	})
}

func TestTheFacesOfExpiry(t *testing.T) {
	for face, expected := range map[Face]string{
		FaceUsual: "[ERROR 410 Expired end]", FaceFrame: "[ERROR 410 Expired end]", FaceGone: "[ERROR 410 Gone end]",
		FaceClose: "[end]", FaceStatus: "too old resource version: 100 (101)",
	} {
		bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
			s.ExpireAs(face, Pods)
			s.Create(Pods, "a/x")
			s.Compact(s.RV())
			w, err := c.watch(t.Context(), Pods, "resourceVersion=100")
			got := fmt.Sprint(err)
			if err == nil {
				got = fmt.Sprint(settled(w))
			} else if !apierrors.IsResourceExpired(err) {
				t.Errorf("not expired: %v", err)
			}
			if got != expected {
				t.Errorf("face %d: %s, want %s", face, got, expected)
			}
			if q := s.Requests(Watches()); !strings.HasPrefix(q[0].Outcome, "expired") || s.Fired()[q[0].Outcome] != 1 {
				t.Errorf("not in the records: %q, %v", q[0].Outcome, s.Fired())
			}
		})
	}
}

func TestAFutureWatchIsSilent(t *testing.T) {
	bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
		w := c.mustWatch(Pods, "resourceVersion=103&allowWatchBookmarks=true&timeoutSeconds=600")
		s.Create(Pods, "a/1")
		s.Create(Pods, "a/2")
		s.Create(Pods, "a/3")
		time.Sleep(5 * time.Minute)
		want(t, settled(w))
		s.Create(Pods, "a/4")
		want(t, settled(w), "ADDED a/4 104")
	})
}

func TestRewindLosesWhatCameLater(t *testing.T) {
	bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
		s.Create(Pods, "a/kept", Spec(`{"n":1}`)) // 101
		backup := s.RV()
		w := c.mustWatch(Pods, "resourceVersion=101")
		s.Update(Pods, "a/kept", Spec(`{"n":2}`)) // 102
		s.Create(Pods, "a/lost")                  // 103
		want(t, settled(w), "MODIFIED a/kept 102", "ADDED a/lost 103")
		s.Rewind(backup)
		want(t, settled(w), "end")
		list, err := c.list(Pods, "")
		if err != nil || names(list) != "a/kept" || list.GetResourceVersion() != "101" {
			t.Errorf("after the rewind: %s at %s, %v", names(list), list.GetResourceVersion(), err)
		}
		if _, err := c.list(Pods, "resourceVersionMatch=Exact&resourceVersion=103"); !apierrors.IsTimeout(err) {
			t.Errorf("a read at what is no longer there: %v", err)
		}
		w = c.mustWatch(Pods, "resourceVersion=103")
		s.Create(Pods, "a/new1") // 102 again
		s.Create(Pods, "a/new2")
		s.Create(Pods, "a/new3")
		want(t, settled(w), "ADDED a/new3 104") // two changes lost without a sign

		var told []string
		uids := map[string]bool{}
		for _, ch := range s.History(Pods) {
			told = append(told, fmt.Sprintf("%s %d epoch %d lost %v", ch.Name, ch.RV, ch.Epoch, ch.Lost))
			uids[ch.UID] = true
		}
		want(t, told, "kept 101 epoch 0 lost false", "kept 102 epoch 0 lost true", "lost 103 epoch 0 lost true",
			"new1 102 epoch 1 lost false", "new2 103 epoch 1 lost false", "new3 104 epoch 1 lost false")
		if len(uids) != 5 {
			t.Errorf("a uid was given twice: %v", uids)
		}
	})
}

func TestBytesAreKeptAsTheyAre(t *testing.T) {
	bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
		big := strings.Repeat("x", 5<<19)
		s.Create(Pods, "a/x",
			Annotations("quote", `say "hi" \ <b>&`, "lines", "one\ntwo\u2028three", "greek", "αβγ𝛼", "big", big),
			Spec(`{ "number": 12345678901234567890123, "float": 1.0, "escaped": "\u0041\/", "same": 1, "same": 2 }`),
			Raw("unknown", `[{"a":null}]`),
			Meta("managedFields", `[{"manager":"kubectl","operation":"Update","time":"2026-01-02T03:04:05Z"}]`))
		_, body, err := c.get(Pods.Path("")+"?watch=1&resourceVersion=100&timeoutSeconds=1", "application/json")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(body, "\n") != 1 || !strings.HasSuffix(body, "}\n") {
			t.Error("a frame is not one line")
		}
		for _, part := range []string{
			`"spec":{"number":12345678901234567890123,"float":1.0,"escaped":"\u0041\/","same":1,"same":2}`,
			`"unknown":[{"a":null}]`, `"managedFields":[{"manager":"kubectl",`, big,
		} {
			if !strings.Contains(body, part) {
				t.Errorf("%.80s is not there", part)
			}
		}
		var fr struct {
			Object struct {
				Metadata struct{ Annotations map[string]string }
			}
		}
		if err := json.Unmarshal([]byte(body), &fr); err != nil {
			t.Fatal(err)
		}
		if a := fr.Object.Metadata.Annotations; a["quote"] != `say "hi" \ <b>&` || a["lines"] != "one\ntwo\u2028three" || a["greek"] != "αβγ𝛼" {
			t.Errorf("annotations: %q %q %q", a["quote"], a["lines"], a["greek"])
		}
	})
}
