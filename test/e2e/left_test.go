package e2e

import (
	"slices"
	"testing"

	"watcher/test/cluster"
)

var web = map[string]string{"app": "web"}

// fate is what happens to an object of -l app=web, and what must be written of it.
var fate = []struct{ do, key, value, want string }{
	{do: "create", want: "added"},
	{key: "app", value: "", want: "left"},
	{key: "tier", value: "unseen"},
	{key: "app", value: "web", want: "added"},
	{key: "tier", value: "front", want: "modified"},
	{key: "app", value: "db", want: "left"},
	{key: "app", value: "web", want: "added"},
	{do: "delete", want: "deleted"},
	{do: "create", want: "added"}, // somebody else under the old name
	{key: "app", value: "", want: "left"},
	{do: "delete"}, // of which the selector knows nothing
}

// A departure is one object with that fate, and the events that it must become.
type departure struct {
	name, uid string
	want      []string
}

// depart plays the fate of many objects, all of them at once.
func (a *api) depart(t *testing.T, namespace string, names ...string) (all []*departure) {
	t.Helper()
	for _, name := range names {
		all = append(all, &departure{name: name})
	}
	for _, step := range fate {
		for _, d := range all {
			version := ""
			switch step.do {
			case "create":
				cm := a.configMap(t, namespace, d.name, web)
				d.uid, version = string(cm.UID), cm.ResourceVersion
			case "delete":
				a.deleteConfigMap(t, namespace, d.name)
			default:
				version = a.label(t, namespace, d.name, step.key, step.value).ResourceVersion
			}
			if step.want != "" {
				d.want = append(d.want, step.want+" "+id(step.want, d.uid, version))
			}
		}
	}
	return all
}

// accounts demands that each object's events are those, in that order, and that none is ambiguous.
func (d *departure) accounts(t *testing.T, evs []event) {
	t.Helper()
	var got []string
	for _, ev := range pick(evs, func(ev *event) bool { return ev.Data.Name == d.name }) {
		if got = append(got, ev.Data.Op+" "+ev.ID); ev.Data.Ambiguous {
			t.Errorf("%s is ambiguous", ev.ID)
		}
	}
	if !slices.Equal(got, d.want) {
		t.Errorf("%s: got  %q\nwant %q", d.name, got, d.want)
	}
}

func TestT15LeavingTheSelectorIsNotADeletion(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	a := connect(t, c.Config())
	a.namespace(t, "selector")
	p := newProxy(t, "", c.Config(), nil)
	w := watch(t, p.kubeconfig(t), "-l", "app=web", "-n", "selector", "configmaps")
	w.synced(t, 1)
	seen := a.depart(t, "selector", "early-1", "early-2", "early-3", "early-4")
	a.configMap(t, "selector", "seen", web)
	w.wait(t, patience, "what it saw", has("added", "selector", "seen"))
	p.goDown() // so that what follows comes all at once, when it is long over
	late := a.depart(t, "selector", "late-1", "late-2", "late-3")
	p.comeUp()
	a.configMap(t, "selector", "end", web)
	w.wait(t, patience, "the last change", has("added", "selector", "end"))
	evs := w.stop(t)
	for _, d := range slices.Concat(seen, late) {
		d.accounts(t, evs)
	}
	if n := count(evs, only("gap")); n > 0 {
		t.Errorf("%d gaps", n)
	}
}

// What etcd has forgotten cannot be told apart, and is not guessed.
func TestT15WhatCannotBeToldApartIsAmbiguous(t *testing.T) {
	t.Parallel()
	c := ownCluster(t, cluster.Options{})
	a := connect(t, c.Config())
	a.namespace(t, "ambiguous")
	p := newProxy(t, "", c.Config(), nil)
	w := watch(t, p.kubeconfig(t), "-l", "app=web", "-n", "ambiguous", "configmaps")
	w.synced(t, 1)
	leaves, dies := a.configMap(t, "ambiguous", "leaves", web), a.configMap(t, "ambiguous", "dies", web)
	w.wait(t, patience, "both", has("added", "ambiguous", "dies"))
	p.goDown()
	left := a.label(t, "ambiguous", "leaves", "app", "")
	a.deleteConfigMap(t, "ambiguous", "dies")
	compact(t, c) // the watch cache still remembers
	p.comeUp()
	a.configMap(t, "ambiguous", "end", web)
	w.wait(t, patience, "the last change", has("added", "ambiguous", "end"))
	evs := w.stop(t)
	for _, ev := range pick(evs, func(ev *event) bool { return ev.is("left") || ev.is("deleted") }) {
		t.Logf("%s of %s, ambiguous: %t", ev.Data.Op, ev.Data.Name, ev.Data.Ambiguous)
		switch {
		case ev.Data.Ambiguous && ev.is("left"):
		case ev.ID == id("left", string(leaves.UID), left.ResourceVersion), ev.ID == id("deleted", string(dies.UID), ""):
		default:
			t.Errorf("%s is told of %s", ev.ID, ev.Data.Name)
		}
	}
	if n := count(evs, func(ev *event) bool { return ev.is("left") || ev.is("deleted") }); n != 2 {
		t.Errorf("%d objects went, want two", n)
	}
	if count(evs, func(ev *event) bool { return ev.Data.Ambiguous }) == 0 {
		t.Error("nothing was ambiguous: this test tests nothing")
	}
}

// The same through a gap: of each object the net change.
func TestT15ARepairTellsLeavingFromDeletion(t *testing.T) {
	t.Parallel()
	c := ownCluster(t, cluster.Options{})
	a := connect(t, c.Config())
	a.namespace(t, "repaired")
	v := newVictim(t, c.Kubeconfig(), false, "-l", "app=web", "-n", "repaired", "configmaps")
	for _, name := range []string{"leaves", "dies", "leaves-and-dies", "leaves-and-returns"} {
		a.configMap(t, "repaired", name, web)
	}
	a.configMap(t, "repaired", "enters", nil)
	v.run(t)
	v.synced(t, 1)
	v.stop(t)
	want := map[string]string{}
	a.label(t, "repaired", "leaves", "app", "")
	want["leaves"] = "left"
	a.deleteConfigMap(t, "repaired", "dies")
	want["dies"] = "deleted"
	a.label(t, "repaired", "leaves-and-dies", "app", "")
	a.deleteConfigMap(t, "repaired", "leaves-and-dies")
	want["leaves-and-dies"] = "deleted"
	a.label(t, "repaired", "leaves-and-returns", "app", "")
	want["leaves-and-returns"] = "modified " + a.label(t, "repaired", "leaves-and-returns", "app", "web").ResourceVersion
	want["enters"] = "added " + a.label(t, "repaired", "enters", "app", "web").ResourceVersion
	restart(t, c)
	v.run(t)
	v.synced(t, 1)
	v.stop(t)
	got := map[string]string{}
	for _, ev := range pick(v.events(t), (*event).ofObject) {
		said := ev.Data.Op
		if !ev.Data.inferred() { // else its version is the list's
			said += " " + ev.Data.ResourceVersion
		}
		if got[ev.Data.Name] != "" {
			said = got[ev.Data.Name] + ", " + said
		}
		got[ev.Data.Name] = said
	}
	for _, name := range differ(got, want) {
		t.Errorf("%s: got %q, want %q", name, got[name], want[name])
	}
	verify(t, c.Kubeconfig(), v.log())
}
