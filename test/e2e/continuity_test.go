package e2e

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"watcher/test/cluster"
)

// TestT5T26ThePositionStaysBehindTheReader: what waits in a pipe is not delivered, however watcher ends.
func TestT5T26ThePositionStaysBehindTheReader(t *testing.T) {
	for name, end := range map[string]syscall.Signal{"Killed": kill, "AskedToEnd": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := common.start(t)
			a := connect(t, c.Config())
			ns := map[syscall.Signal]string{kill: "reader-killed", syscall.SIGTERM: "reader-asked"}[end]
			a.namespace(t, ns)
			v := newVictim(t, c.Kubeconfig(), true, "-n", ns, "configmaps")
			v.run(t)
			v.synced(t, 1)
			a.configMap(t, ns, "taken", nil)
			v.wrote(t, patience, `"name":"taken"`)
			v.reader.pause()
			const n = 20
			var unread []string
			for i := range n {
				cm := a.configMap(t, ns, fmt.Sprintf("unread-%02d", i), nil)
				unread = append(unread, id("added", string(cm.UID), cm.ResourceVersion))
			}
			eventually(t, patience, "all of it waits in the pipe", func() bool { return v.reader.unread() > n*500 })
			_ = pause(t.Context(), saved)
			if err := v.die(end); err != nil {
				t.Fatal(err)
			}
			if code := v.cmd.ProcessState.ExitCode(); end == syscall.SIGTERM && code != 1 {
				t.Errorf("exit code %d of a watcher that could not hand over what it had read, want 1", code)
			}
			v.reader.die()
			v.run(t)
			v.wrote(t, patience, `"name":"unread-19"`)
			v.stop(t)
			if evs := v.events(t); !slices.Equal(ids(pick(evs, (*event).live)), unread) || !pick(evs, only("started"))[0].Data.Resumed {
				t.Errorf("after the reader's death it wrote %q, want resumed and %q", ids(evs), unread)
			}
			verify(t, c.Kubeconfig(), v.log())
		})
	}
}

func ids(evs []event) (ids []string) {
	for _, ev := range evs {
		ids = append(ids, ev.ID)
	}
	return ids
}

func TestT14EachSelectionHasAPositionOfItsOwn(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	a := connect(t, c.Config())
	a.namespace(t, "selections")
	a.configMap(t, "selections", "web-1", map[string]string{"app": "web"})
	a.configMap(t, "selections", "db-1", map[string]string{"app": "db"})
	v := newVictim(t, c.Kubeconfig(), false, "-n", "selections", "configmaps")
	begin := func(selector string, resumed bool) {
		t.Helper()
		v.run(t, "-l", selector)
		evs := v.await(t, patience, "the start", func(evs []event) bool {
			return count(evs, only("started")) > 0 && (resumed || count(evs, only("synced")) > 0)
		})
		if d := pick(evs, only("started"))[0].Data; d.Resumed != resumed || (d.Reason == "") == !resumed {
			t.Errorf("-l %s: resumed %t, reason %q; want resumed %t", selector, d.Resumed, d.Reason, resumed)
		}
	}
	begin("app=web", false)
	v.stop(t)
	begin("app=db", false)
	a.configMap(t, "selections", "web-2", map[string]string{"app": "web"})
	a.configMap(t, "selections", "db-2", map[string]string{"app": "db"})
	v.wrote(t, patience, `"name":"db-2"`)
	v.stop(t)
	begin("app=web", true)
	v.wrote(t, patience, `"name":"web-2"`)
	v.stop(t)
	if got := pick(v.events(t), (*event).ofObject); len(got) != 1 || !got[0].of("added", "selections", "web-2") {
		t.Errorf("the first selection went on with %q, want what was added since", ids(got))
	}
}

// One object, two groups, and both watched at once: https://kubernetes.io/docs/reference/using-api/ calls them one resource.
func TestT14ResourcesOfOneNameInTwoGroupsHaveAPositionEach(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	a := connect(t, c.Config())
	a.namespace(t, "groups")
	v := newVictim(t, c.Kubeconfig(), false, "-n", "default", "events", "events.v1.events.k8s.io")
	v.run(t)
	v.synced(t, 2)
	v.stop(t)
	a.event(t, "in-both-groups")
	v.run(t)
	evs := v.await(t, patience, "the event, twice", func(evs []event) bool {
		return count(evs, func(ev *event) bool { return ev.of("added", "default", "in-both-groups") }) == 2
	})
	for _, ev := range pick(evs, only("started")) {
		if !ev.Data.Resumed {
			t.Errorf("%s/%s was not resumed: %s", ev.Data.Group, ev.Data.Resource, ev.Data.Reason)
		}
	}
	v.stop(t)
}

// TestT23AReaderThatStallsForTwoMinutesCostsNoChangeThatIsNotInAGap: and the watcher that waits for it grows no further.
func TestT23AReaderThatStallsForTwoMinutesCostsNoChangeThatIsNotInAGap(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	a := connect(t, c.Config())
	a.namespace(t, "stalled")
	r := newRecorder(t, a, "/api/v1/namespaces/stalled/configmaps")
	v := newVictim(t, c.Kubeconfig(), true, "-n", "stalled", "--buffer-bytes", "256Ki", "configmaps")
	v.run(t)
	v.synced(t, 1)
	h := newHistory(a, "stalled")
	stop := background(t, h.run)
	v.wrote(t, patience, `"seq":50,`)
	v.reader.pause()
	_ = pause(t.Context(), 2*time.Minute)
	v.reader.resume()
	stop()
	a.configMap(t, "stalled", "end", nil)
	v.wrote(t, 2*aMinute, `"name":"end"`)
	eventually(t, patience, "the end is recorded", func() bool { all := r.soFar(); return all[len(all)-1].key == "stalled/end" })
	v.stop(t)
	verdict := judgeLog(t, v.log(), map[string]*past{"configmaps": r.past()}, "sink expired")
	for _, p := range verdict.problems {
		t.Error(p)
	}
	if n := len(h.soFar()); n < 3000 {
		t.Errorf("%d changes, which would fit the buffers", n)
	}
	t.Logf("%d changes, %d gaps", len(h.soFar()), count(v.events(t), only("gap")))
	verify(t, c.Kubeconfig(), v.log())
}

// TestT16WhatWasDeletedWhileItWasDownIsWrittenAsDeleted, whether the API server remembers the deletion or nobody does.
func TestT16WhatWasDeletedWhileItWasDownIsWrittenAsDeleted(t *testing.T) {
	t.Parallel()
	c := ownCluster(t, cluster.Options{})
	a := connect(t, c.Config())
	a.namespace(t, "deleted")
	v := newVictim(t, c.Kubeconfig(), false, "-n", "deleted", "configmaps")
	for _, how := range []string{"remembered", "emptied", "compacted"} {
		cm := a.configMap(t, "deleted", how, nil)
		again := a.configMap(t, "deleted", how+"-again", nil)
		kept := a.configMap(t, "deleted", how+"-kept", nil)
		v.run(t)
		v.wrote(t, patience, `"uid":"`+string(kept.UID)+`"`)
		v.stop(t)
		a.deleteConfigMap(t, "deleted", how)
		a.deleteConfigMap(t, "deleted", how+"-again")
		reborn := a.configMap(t, "deleted", how+"-again", nil)
		if how == "compacted" {
			compact(t, c)
		}
		if how != "remembered" {
			restart(t, c)
		}
		v.run(t)
		v.wrote(t, aMinute, `"uid":"`+string(reborn.UID)+`"`)
		v.stop(t)
		evs := v.events(t)
		got := ids(pick(evs, (*event).ofObject))
		slices.Sort(got)
		want := []string{string(cm.UID) + ".deleted", string(again.UID) + ".deleted", id("added", string(reborn.UID), reborn.ResourceVersion)}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: it wrote %q, want %q", how, got, want)
		}
		for _, ev := range pick(evs, only("deleted")) {
			unseen, forgotten := how != "remembered", how == "compacted"
			if d := ev.Data; d.inferred() != unseen || d.Stale != (unseen && !forgotten) || (d.Object == nil) != forgotten {
				t.Errorf("%s: %s is inferred: %t, stale: %t, has an object: %t", how, ev.ID, d.inferred(), d.Stale, d.Object != nil)
			}
		}
		if n := count(evs, only("gap")); n != map[string]int{"remembered": 0, "emptied": 1, "compacted": 1}[how] {
			t.Errorf("%s: %d gaps", how, n)
		}
	}
	verify(t, c.Kubeconfig(), v.log())
}

// restart kills the API server and starts it again: its watch cache is empty then.
func restart(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	if err := c.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := c.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// compact makes etcd forget all but what is now, and that there was something else.
func compact(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	connect(t, c.Config()).namespace(t, fmt.Sprintf("later-%d", time.Now().UnixNano())) // so that what is forgotten is not the last
	if _, err := c.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
}
