package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"watcher/test/cluster"
)

// quick takes no heed of the API server, so that repairs of thousands end soon.
var quick = []string{"--kube-api-qps", "2000", "--kube-api-burst", "2000"}

// A crowd is many pods of one namespace.
type crowd struct {
	*api
	namespace string
	pods      map[string]*corev1.Pod // by name
}

// each does something to each of these pods, many at a time.
func (c *crowd) each(t *testing.T, names []string, do func(ctx context.Context, name string) error) {
	t.Helper()
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(16)
	for _, name := range names {
		g.Go(func() error { return do(ctx, name) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// oddManagers are names that an API server lets clients give themselves: it writes them in JSON and protobuf, and what a
// repair makes of the two must be the same.
var oddManagers = []string{"e2e", `<ü> & "quoted\"`, "\xff\xfe not UTF-8 \xe2\x80"}

func newCrowd(t *testing.T, a *api, namespace string, n int) *crowd {
	t.Helper()
	a.namespace(t, namespace)
	c := &crowd{a, namespace, map[string]*corev1.Pod{}}
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("pod-%05d", i))
	}
	c.each(t, names, func(ctx context.Context, name string) error {
		manager := oddManagers[int(name[len(name)-1])%len(oddManagers)]
		_, err := a.CoreV1().Pods(namespace).Create(ctx, pod(name), metav1.CreateOptions{FieldManager: manager})
		return err
	})
	l, err := a.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	for _, p := range must(t, l, err).Items {
		c.pods[p.Name] = &p
	}
	if len(c.pods) != n {
		t.Fatalf("%d pods, want %d", len(c.pods), n)
	}
	return c
}

// some returns the names of n of the pods.
func (c *crowd) some(r *rand.Rand, n int) []string {
	var names []string
	for name := range c.pods {
		names = append(names, name)
	}
	slices.Sort(names)
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names[:n]
}

// delete deletes pods and returns the ids of their deletions, sorted.
func (c *crowd) delete(t *testing.T, names []string) (want []string) {
	t.Helper()
	c.each(t, names, func(ctx context.Context, name string) error {
		return c.CoreV1().Pods(c.namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
	})
	for _, name := range names {
		want = append(want, string(c.pods[name].UID)+".deleted")
		delete(c.pods, name)
	}
	slices.Sort(want)
	return want
}

// change gives pods a label and returns the ids of these changes, sorted.
func (c *crowd) change(t *testing.T, names []string) (want []string) {
	t.Helper()
	got := make(chan string, len(names))
	c.each(t, names, func(ctx context.Context, name string) error {
		p, err := c.CoreV1().Pods(c.namespace).Patch(ctx, name, types.MergePatchType, []byte(`{"metadata":{"labels":{"changed":"yes"}}}`), metav1.PatchOptions{})
		if err == nil {
			got <- id("modified", string(p.UID), p.ResourceVersion)
		}
		return err
	})
	close(got)
	for id := range got {
		want = append(want, id)
	}
	slices.Sort(want)
	return want
}

func TestOfTenThousandPodsExactlyWhatHappenedIsWritten(t *testing.T) {
	t.Parallel()
	c := ownCluster(t, cluster.Options{})
	all := newCrowd(t, connect(t, c.Config()), "mass", 10_000)
	v := newVictim(t, c.Kubeconfig(), false, append([]string{"-n", "mass", "pods"}, quick...)...)
	v.run(t)
	v.wrote(t, patience, `"seq":2000,`)
	if err := v.die(kill); err != nil { // in the middle of the snapshot, or soon after it
		t.Fatal(err)
	}
	v.run(t)
	v.wrote(t, aMinute, `"id":"pods.mass.started.`)
	all.pods["end"] = all.pod(t, "mass", "end")
	v.wrote(t, aMinute, `"name":"end"`)
	v.stop(t)
	present := map[string]bool{}
	for _, ev := range pick(v.all(t), (*event).ofObject) {
		present[ev.ID] = ev.is("present") || ev.Data.Name == "end"
	}
	for _, p := range all.pods {
		if !present[id("present", string(p.UID), p.ResourceVersion)] {
			t.Fatalf("%s is not written", p.Name)
		}
	}
	if len(present) != len(all.pods) {
		t.Errorf("%d events of the %d pods that were there from the beginning to the end", len(present), len(all.pods))
	}

	r := rand.New(rand.NewPCG(5, 5))
	for _, hole := range []struct {
		name      string
		while     func() (ids []string)
		compacted bool
	}{
		{"37 changed", func() []string { return all.change(t, all.some(r, 37)) }, false},
		{"1000 deleted", func() []string { return all.delete(t, all.some(r, 1000)) }, false},
		{"37 changed and forgotten", func() []string { return all.change(t, all.some(r, 37)) }, true},
		{"1000 deleted and forgotten", func() []string { return all.delete(t, all.some(r, 1000)) }, true},
	} {
		want := hole.while()
		if hole.compacted {
			compact(t, c)
		}
		restart(t, c)
		v.run(t)
		v.wrote(t, 2*aMinute, `"id":"pods.mass.synced.`)
		v.stop(t)
		evs := v.events(t)
		got := ids(pick(evs, (*event).ofObject))
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %d events, want %d: of the wanted %d are not among them", hole.name, len(got), len(want), missing(want, got))
		}
		gaps, ends := pick(evs, only("gap")), pick(evs, only("synced"))
		if len(gaps) != 1 || len(ends) != 1 || ends[0].Data.Deletions != "known" {
			t.Fatalf("%s: %d gaps, and %+v", hole.name, len(gaps), ends)
		}
		s := ends[0].Data
		t.Logf("%s: %d net, %d inferred in %s", hole.name, s.Net, s.inferences(), ends[0].Time.Sub(gaps[0].Time).Round(time.Millisecond))
	}
	verify(t, c.Kubeconfig(), v.log())
}

func missing(want, got []string) (n int) {
	for _, w := range want {
		if _, found := slices.BinarySearch(got, w); !found {
			n++
		}
	}
	return n
}

// A repair is as slow as who reads it. The watch that goes on after it must be open before: its beginning would expire.
func TestARepairThatIsSlowerThanTheWatchCacheIsOneGap(t *testing.T) {
	t.Parallel()
	const memory = 90 * time.Second // more than a watch cache has with five changes a second
	c := ownCluster(t, cluster.Options{})
	a := replica(t, c)
	all := newCrowd(t, a, "slow", 4000)
	rec := newRecorder(t, a, "/api/v1/namespaces/slow/pods")
	v := newVictim(t, c.Kubeconfig(), true, append([]string{"-n", "slow", "--buffer-bytes", "2Mi", "pods"}, quick...)...)
	v.run(t)
	v.wrote(t, aMinute, `"id":"pods.slow.synced.`)
	v.stop(t)
	all.change(t, all.some(rand.New(rand.NewPCG(6, 6)), 4000))
	restart(t, c)
	v.pace = 300 * time.Millisecond // 16 KiB: 55 KB/s
	v.run(t)
	stop := background(t, func(ctx context.Context) error {
		for n := 0; ctx.Err() == nil; n++ {
			body := fmt.Appendf(nil, `{"metadata":{"labels":{"n":"%d"}}}`, n)
			_, err := a.CoreV1().Pods("slow").Patch(context.WithoutCancel(ctx), "pod-00000", types.MergePatchType, body, metav1.PatchOptions{})
			if err != nil {
				return err
			}
			_ = pause(ctx, 200*time.Millisecond)
		}
		return nil
	})
	v.wrote(t, 3*aMinute, `"id":"pods.slow.synced.`)
	stop()
	a.pod(t, "slow", "end")
	v.wrote(t, 2*aMinute, `"name":"end"`)
	eventually(t, patience, "the end is recorded", func() bool { all := rec.soFar(); return all[len(all)-1].key == "slow/end" })
	v.stop(t)
	verdict := judgeLog(t, v.log(), map[string]*past{"pods": rec.past()}, "expired")
	for _, p := range verdict.problems {
		t.Error(p)
	}
	evs := v.events(t)
	gaps, ends := pick(evs, only("gap")), pick(evs, only("synced"))
	if len(gaps) != 1 || len(ends) != 1 {
		t.Fatalf("%d gaps, %d repairs, want one of each", len(gaps), len(ends))
	}
	took := ends[0].Time.Sub(gaps[0].Time)
	if t.Logf("the repair took %s", took); took < memory {
		t.Errorf("the repair took %s: the watch cache remembered its beginning", took)
	}
	verify(t, c.Kubeconfig(), v.log())
}
