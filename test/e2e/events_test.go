package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"watcher/test/cluster"
)

// Events expire in etcd, many at one resourceVersion. A watch that is cut among them and resumed at that version would
// never deliver the rest.
func TestDeletionsAtOneVersionAreAllWrittenThoughTheWatchIsCutAmongThem(t *testing.T) {
	t.Parallel()
	c := ownCluster(t, cluster.Options{EventTTL: 20 * time.Second}) // leases of less than 20 s are not shared
	a := connect(t, c.Config())
	var cuts atomic.Int32
	p := newProxy(t, "", c.Config(), func(path string, frame []byte) (int, error) {
		if path == "/api/v1/events" && bytes.HasPrefix(frame, []byte(`{"type":"DELETED"`)) && cuts.Add(1) == 1 {
			return len(frame), io.ErrUnexpectedEOF
		}
		return 0, nil
	})
	w := watch(t, p.kubeconfig(t), "events")
	w.synced(t, 1)
	const n = 12
	createEvents(t, a, n)
	w.wait(t, patience, "the events", func(evs []event) bool { return count(evs, only("added")) >= n })
	ours := func(ev *event) bool { return only("deleted")(ev) && strings.HasPrefix(ev.Data.Name, "event-") } // the API server writes some too
	evs := w.wait(t, aMinute, "all of them expired", func(evs []event) bool { return count(evs, ours) == n })
	at := map[string]int{}
	for _, ev := range pick(evs, ours) {
		at[ev.Data.ResourceVersion]++
	}
	if first := pick(evs, ours)[0].Data.ResourceVersion; at[first] < 2 {
		t.Fatalf("the first of the events expired alone (%v): the machine is too slow for this test", at)
	}
	t.Logf("deletions by version: %v", at)
	if cuts.Load() < 2 {
		t.Error("the watch was cut, but no deletion came a second time")
	}
	a.event(t, "end")
	w.wait(t, patience, "what comes after", has("added", "default", "end"))
	evs = w.stop(t) // finds any that is written twice
	if got := count(evs, ours); got != n || count(evs, only("gap")) > 0 {
		t.Errorf("%d deletions and %d gaps, want %d and none", got, count(evs, only("gap")), n)
	}
}

// Events have no watch cache: etcd's compaction is enough to make the position expire, and an API server may say so by no
// more than a watch that ends.
func TestEventsThatEtcdForgotAreAGap(t *testing.T) {
	t.Parallel()
	c := ownCluster(t, cluster.Options{})
	a := connect(t, c.Config())
	p := newProxy(t, "", c.Config(), nil)
	w := watch(t, p.kubeconfig(t), "events")
	w.synced(t, 1)
	a.event(t, "seen")
	w.wait(t, patience, "an event", has("added", "default", "seen"))
	p.goDown()
	a.event(t, "unseen")
	if err := a.CoreV1().Events("default").Delete(t.Context(), "seen", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	a.namespace(t, "later") // so that the forgotten revisions are not the last
	forgotten, err := c.Compact(t.Context())
	must(t, forgotten, err)
	p.comeUp()
	evs := w.wait(t, aMinute, "the repair", func(evs []event) bool { return count(evs, only("synced")) == 2 })
	for _, gap := range pick(evs, only("gap")) {
		if gap.Data.Reason != "expired" || number(gap.Data.From) >= uint64(forgotten) {
			t.Errorf("%s: %s from %s; etcd has forgotten everything before %d", gap.ID, gap.Data.Reason, gap.Data.From, forgotten)
		}
	}
	repaired := pick(evs, func(ev *event) bool { return ev.Data.Origin == "repair" })
	if len(repaired) != 2 || !has("added", "default", "unseen")(repaired) || !has("deleted", "default", "seen")(repaired) {
		t.Errorf("the repair wrote %q, want what was added and what was deleted", ids(repaired))
	}
	a.event(t, "end")
	w.wait(t, patience, "what comes after", has("added", "default", "end"))
	w.stop(t)
}

func createEvents(t *testing.T, a *api, n int) {
	t.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = a.createEvent(t.Context(), fmt.Sprintf("event-%d", i)) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func (a *api) event(t *testing.T, name string) {
	t.Helper()
	if err := a.createEvent(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

func (a *api) createEvent(ctx context.Context, name string) error {
	_, err := a.CoreV1().Events("default").Create(ctx, &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Reason: "Tested", Type: "Normal",
		InvolvedObject: corev1.ObjectReference{Kind: "ConfigMap", Namespace: "default", Name: "none", APIVersion: "v1"},
	}, metav1.CreateOptions{})
	return err
}
