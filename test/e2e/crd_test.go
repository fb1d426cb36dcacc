package e2e

import (
	"testing"
)

func TestAResourceThatIsNotServedYetIsFoundAndSurvivesItsDefinition(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	a := connect(t, c.Config())
	const group = "later.example.com"
	once := watch(t, c.Kubeconfig(), "--once", "widgets.v1."+group)
	if evs := once.exit(t, 1); len(evs) > 0 {
		t.Errorf("--once wrote %d events of a resource that is not served", len(evs))
	}
	const last = "last.example.com" // comes after watcher has looked in vain
	w := watch(t, c.Kubeconfig(), "namespaces", "widgets.v1."+group, "widgets.v1."+last)
	w.saidOnce(t, group)
	w.saidOnce(t, last)
	w.synced(t, 1)
	gvr := a.installWidgets(t, group)
	early := a.widget(t, gvr, "early")
	evs := w.wait(t, aMinute, "the widget that was there first", has("present", "default", "early"))
	if ev := pick(evs, func(ev *event) bool { return ev.Data.Name == "early" })[0]; ev.ID != id("present", string(early.GetUID()), early.GetResourceVersion()) {
		t.Errorf("%s, want the widget at %s", ev.ID, early.GetResourceVersion())
	}
	a.widget(t, gvr, "live")
	w.wait(t, patience, "a change", has("added", "default", "live"))
	w.saidOnce(t, group)

	a.widget(t, a.installWidgets(t, last), "patient")
	a.removeWidgets(t, group) // and both widgets with it
	w.saidOnce(t, "not served", `"resource":"widgets.`+group)
	a.installWidgets(t, group)
	a.widget(t, gvr, "again")
	evs = w.wait(t, aMinute, "the widget of the new definition", func(evs []event) bool {
		return has("added", "default", "again")(evs) || has("present", "default", "again")(evs)
	})
	gaps := pick(evs, only("gap"))
	for _, gap := range gaps {
		if gap.Data.Reason != "removed" || gap.Data.Resource != "widgets" {
			t.Errorf("gap in %s because of %s", gap.Data.Resource, gap.Data.Reason)
		}
	}
	w.wait(t, aMinute, "the widget that came last", has("present", "default", "patient"))
	w.saidOnce(t, last)
	a.widget(t, gvr, "end")
	w.wait(t, patience, "a change after it", has("added", "default", "end"))
	t.Logf("%d gaps", len(gaps))
	evs = w.stop(t)
	for _, change := range [][2]string{{"deleted", "early"}, {"deleted", "live"}, {"added", "again"}} {
		if !has(change[0], "default", change[1])(evs) {
			t.Errorf("that %s was %s, with the definition or after it, is not written", change[1], change[0])
		}
	}
}
