package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"watcher/test/cluster"
)

// A restoration is what becomes of a watcher whose cluster's etcd is put back to an older snapshot.
type restoration struct {
	*api
	cluster  *cluster.Cluster
	victim   *victim
	snapshot string
	position uint64 // watcher had read up to there
}

const restored = "restored" // namespace

// TestT22AnOlderEtcdIsARewind: the versions that the API server gives out go back, and a watch at a future one is silent.
func TestT22AnOlderEtcdIsARewind(t *testing.T) {
	for name, run := range map[string]func(*testing.T, *restoration){
		"WhileItWasDown": func(t *testing.T, r *restoration) {
			r.victim.stop(t)
			r.restore(t)
			if now := r.now(t); now >= r.position {
				t.Fatalf("etcd is at %d already, want it behind %d", now, r.position)
			}
			r.victim.run(t)
		},
		"WhileItWasDownAndTheNewHistoryHasPassedThePosition": func(t *testing.T, r *restoration) {
			r.victim.stop(t)
			r.restore(t)
			r.pass(t)
			r.victim.run(t)
		},
		"WhileItWasKilledAndTheNewHistoryHasPassedThePosition": func(t *testing.T, r *restoration) {
			if err := r.victim.die(kill); err != nil {
				t.Fatal(err)
			}
			r.restore(t)
			r.pass(t)
			r.victim.run(t)
		},
		"WhileItRan": func(t *testing.T, r *restoration) { r.restore(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRestoration(t)
			run(t, r)
			r.victim.wrote(t, 2*aMinute, `"id":"e1.configmaps.`+restored+`.synced.`)
			r.isSound(t)
			r.goesOn(t)
			verify(t, r.cluster.Kubeconfig(), r.victim.log())
		})
	}
}

// newRestoration brings watcher to a position that the snapshot knows nothing of.
func newRestoration(t *testing.T) *restoration {
	t.Helper()
	r := &restoration{cluster: ownCluster(t, cluster.Options{}), snapshot: filepath.Join(t.TempDir(), "snapshot.db")}
	r.api = connect(t, r.cluster.Config())
	r.namespace(t, restored)
	for _, name := range []string{"kept", "changed", "deleted"} {
		r.configMap(t, restored, name, nil)
	}
	if err := r.cluster.Snapshot(t.Context(), r.snapshot); err != nil {
		t.Fatal(err)
	}
	r.victim = newVictim(t, r.cluster.Kubeconfig(), false, "-n", restored, "configmaps")
	r.victim.run(t)
	r.victim.synced(t, 1)
	r.configMap(t, restored, "lost", nil)
	r.label(t, restored, "changed", "after", "snapshot")
	r.deleteConfigMap(t, restored, "deleted")
	var last *corev1.ConfigMap
	for i := range 300 { // more than an API server writes when it starts
		last = r.label(t, restored, "lost", "n", fmt.Sprint(i))
	}
	r.position = number(last.ResourceVersion)
	r.victim.wrote(t, patience, `"resourceVersion":"`+last.ResourceVersion+`"`)
	_ = pause(t.Context(), saved)
	return r
}

func (r *restoration) restore(t *testing.T) {
	t.Helper()
	if err := r.cluster.Restore(t.Context(), r.snapshot); err != nil {
		t.Fatal(err)
	}
	r.api = connect(t, r.cluster.Config())
}

func (r *restoration) now(t *testing.T) uint64 {
	t.Helper()
	l, err := r.CoreV1().ConfigMaps(restored).List(t.Context(), metav1.ListOptions{Limit: 1})
	return number(must(t, l, err).ResourceVersion)
}

// pass makes new history, until versions say nothing any more.
func (r *restoration) pass(t *testing.T) {
	t.Helper()
	r.configMap(t, restored, "new", nil)
	for i := 0; r.now(t) <= r.position+10; i++ {
		r.label(t, restored, "kept", "n", fmt.Sprint(i))
	}
}

// isSound demands one gap, and behind it in the next epoch all that exists and what is lost.
func (r *restoration) isSound(t *testing.T) {
	t.Helper()
	all := r.victim.all(t)
	gaps := pick(all, only("gap"))
	if len(gaps) != 1 || gaps[0].Data.Reason != "rewind" || strings.HasPrefix(gaps[0].ID, "e") || number(gaps[0].Data.From) < r.position-1 {
		t.Fatalf("gaps %+v, want one rewind from %d, with an id of the old epoch", gaps, r.position)
	}
	behind := all[1+slices.IndexFunc(all, func(ev event) bool { return ev.is("gap") }):]
	end := slices.IndexFunc(behind, func(ev event) bool { return ev.is("synced") })
	for i, ev := range behind {
		if !strings.HasPrefix(ev.ID, "e1.") {
			t.Errorf("%s comes after the rewind", ev.ID)
		}
		if i < end && ev.ofObject() && (ev.Data.Gap != gaps[0].ID || ev.Data.Origin != "repair") {
			t.Errorf("%s is of origin %s for gap %q", ev.ID, ev.Data.Origin, ev.Data.Gap)
		}
	}
	var want []string
	l, err := r.CoreV1().ConfigMaps(restored).List(t.Context(), metav1.ListOptions{})
	for _, cm := range must(t, l, err).Items {
		want = append(want, fmt.Sprintf("present %s e1.%s.%s false", cm.Name, cm.UID, cm.ResourceVersion))
	}
	lost := pick(all, func(ev *event) bool { return ev.of("added", restored, "lost") })
	want = append(want, fmt.Sprintf("deleted lost e1.%s.deleted true", lost[0].Data.UID))
	var got []string
	for _, ev := range pick(behind[:end], (*event).ofObject) {
		got = append(got, fmt.Sprintf("%s %s %s %t", ev.Data.Op, ev.Data.Name, ev.ID, ev.Data.inferred()))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("after the rewind it wrote\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// goesOn demands that what happens next is written in the new epoch, also by the next run.
func (r *restoration) goesOn(t *testing.T) {
	t.Helper()
	for _, name := range []string{"next", "last"} {
		cm := r.configMap(t, restored, name, nil)
		r.victim.wrote(t, patience, `"id":"e1.`+id("added", string(cm.UID), cm.ResourceVersion)+`"`)
		r.victim.stop(t)
		r.victim.run(t)
	}
	evs := r.victim.await(t, patience, "the start", func(evs []event) bool { return count(evs, only("started")) == 1 })
	if s := pick(evs, only("started"))[0]; !s.Data.Resumed || !strings.HasPrefix(s.ID, "e1.") {
		t.Errorf("%s was resumed: %t (%s)", s.ID, s.Data.Resumed, s.Data.Reason)
	}
	r.victim.stop(t)
	if evs := r.victim.events(t); count(evs, (*event).ofObject)+count(evs, only("gap")) > 0 {
		t.Errorf("a run in which nothing happened wrote %q", ids(evs))
	}
}
