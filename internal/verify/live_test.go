package verify_test

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"watcher/internal/event"
	"watcher/internal/verify"
)

// cluster yields what exists: NAMESPACE/NAME@VERSION.
func cluster(objects ...string) iter.Seq2[event.Object, error] {
	return func(yield func(event.Object, error) bool) {
		for _, what := range objects {
			key, version, _ := strings.Cut(what, "@")
			ns, name, _ := strings.Cut(key, "/")
			o := event.Object{Namespace: ns, Name: name, UID: "uid-" + name, ResourceVersion: version, Generation: 2}
			o.Body = body(&o, `{"node":"n1"}`)
			if !yield(o, nil) {
				return
			}
		}
	}
}

// compared holds the first claim of a log against the cluster, and says what came out, in short.
func compared(t *testing.T, lines []string, at string, objects iter.Seq2[event.Object, error]) (*verify.Report, []string) {
	t.Helper()
	l := verify.New()
	for _, line := range lines {
		l.Line([]byte(line))
	}
	c := l.Claims()[0]
	if c.ResourceVersion != at {
		t.Fatalf("to be compared at %q, want %q", c.ResourceVersion, at)
	}
	if err := l.Compare(c, objects); err != nil {
		t.Fatal(err)
	}
	r := l.Report()
	var out []string
	for _, d := range r.Live[0].Differences {
		out = append(out, fmt.Sprintf("%d %s %s", d.Line, d.Object, d.Problem))
	}
	if r.Live[0].Equal != (len(out) == 0) || r.Live[0].Different != len(out) || !r.Live[0].Equal && r.OK {
		t.Errorf("%+v", r.Live[0])
	}
	return r, out
}

func equal(t *testing.T, lines []string, at string, objects ...string) {
	t.Helper()
	if _, got := compared(t, lines, at, cluster(objects...)); len(got) > 0 {
		t.Errorf("not equal: %v", got)
	}
}

// TestTheClusterIsComparedAtThePosition: what the log has beyond it is not there yet.
func TestTheClusterIsComparedAtThePosition(t *testing.T) {
	b, p := begun()
	equal(t, b.lines, "10", "shop/a@3", "shop/b@5")
	p.modified("shop/a@11")
	p.added("shop/c@12")
	p.deleted("shop/b@13")
	p.modified("shop/a@14")
	p.modified("shop/c@15")
	equal(t, b.lines, "10", "shop/a@3", "shop/b@5")
	p.progress("14")
	equal(t, b.lines, "14", "shop/a@14", "shop/c@12")
	p.deleted("shop/c@16")
	p.added("shop/d@17")
	p.deleted("shop/d@18")
	equal(t, b.lines, "14", "shop/a@14", "shop/c@12")
	p.progress("500")
	equal(t, b.lines, "500", "shop/a@14")
	p.gap("expired", "500")
	p.object(event.Modified, event.Repair, "shop/a@510")
	p.progress("500") // of a repair under way
	equal(t, b.lines, "500", "shop/a@14")
	p.object(event.Added, event.Repair, "shop/e@505")
	p.repaired("520", "known", 0, 1, 1)
	equal(t, b.lines, "520", "shop/a@510", "shop/e@505")
	p.stopped("520")
	equal(t, b.lines, "520", "shop/a@510", "shop/e@505")
}

// TestEachDifferenceIsNamed with the line that the log has of the object.
func TestEachDifferenceIsNamed(t *testing.T) {
	b, p := begun()
	p.added("shop/c@11")
	p.progress("20")
	r, got := compared(t, b.lines, "20", cluster("shop/a@3", "shop/b@7", "shop/x@9"))
	want := []string{
		"3 shop/b is in version 7, and by the log in 5",
		"0 shop/x exists in version 9, and by the log it does not",
		"5 shop/c does not exist, and by the log it does, in version 11",
	}
	if !slices.Equal(got, want) || r.OK {
		t.Errorf("ok %v\n%s\nwant\n%s", r.OK, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestALostEndShowsInTheCluster, where the log alone cannot tell.
func TestALostEndShowsInTheCluster(t *testing.T) {
	b, p := begun()
	p.modified("shop/a@11")
	p.progress("11")
	lost := slices.Delete(slices.Clone(b.lines), 4, 5)
	if _, got := compared(t, lost, "11", cluster("shop/a@11", "shop/b@5")); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// TestWhatNobodyKnowsIsNoDifference: after a gap with unknown deletions, or without a first list.
func TestWhatNobodyKnowsIsNoDifference(t *testing.T) {
	b, p := begun()
	p.gap("expired", "10")
	p.object(event.Present, event.Repair, "shop/a@3")
	p.repaired("20", "unknown", 1)
	equal(t, b.lines, "20", "shop/a@3")
	equal(t, b.lines, "20", "shop/a@3", "shop/b@5")
	if _, got := compared(t, b.lines, "20", cluster()); len(got) != 1 {
		t.Errorf("%v", got)
	}

	b = newBook()
	p = b.pods()
	b.starts()
	p.started("10", false)
	p.modified("shop/a@11")
	p.progress("11")
	r, got := compared(t, b.lines, "11", cluster("shop/a@11", "shop/b@5"))
	if len(got) > 0 || r.Live[0].Unlisted != 1 || r.Live[0].Objects != 2 {
		t.Errorf("%v, %+v", got, r.Live[0])
	}
	if _, got = compared(t, b.lines, "11", cluster("shop/b@5")); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// TestAnotherBeginningIsComparedAlone: a restart without a position, and a rewind.
func TestAnotherBeginningIsComparedAlone(t *testing.T) {
	b, p := begun()
	p.gap("rewind", "10")
	p.object(event.Present, event.Repair, "shop/a@2")
	l := verify.New()
	for _, line := range b.lines {
		l.Line([]byte(line))
	}
	if c := l.Claims()[0]; c.ResourceVersion != "" {
		t.Errorf("in the middle of a rewind it is to be compared at %s", c.ResourceVersion)
	}
	p.object(event.Deleted, event.Repair, "shop/b@4", inferred)
	p.repaired("4", "known", 1, 0, 0, 1)
	equal(t, b.lines, "4", "shop/a@2")

	b.starts()
	p.seq = 0
	p.started("8", false)
	p.present("shop/c@7")
	equal(t, b.lines, "4", "shop/a@2")
	p.synced("8", 1)
	equal(t, b.lines, "8", "shop/c@7")
	if _, got := compared(t, b.lines, "8", cluster("shop/a@2", "shop/c@7")); len(got) != 1 {
		t.Errorf("what the list left out: %v", got)
	}
}

// TestWhatAKillLeftBehindIsNoDifference: the end of a run may be written once more, or otherwise.
func TestWhatAKillLeftBehindIsNoDifference(t *testing.T) {
	b, p := begun()
	p.added("shop/x@11")
	p.deleted("shop/b@12")
	p.progress("11")
	b.starts()
	p.seq -= 2
	p.started("10", true)
	p.added("shop/x@11")
	equal(t, b.lines, "11", "shop/a@3", "shop/b@5", "shop/x@11")
	p.deleted("shop/b@12")
	p.progress("12")
	equal(t, b.lines, "12", "shop/a@3", "shop/x@11")

	p.added("shop/y@13") // it is gone when the gap is repaired, and what is saved knows nothing of it
	b.starts()
	p.seq--
	p.started("12", true)
	p.gap("expired", "12")
	p.object(event.Modified, event.Repair, "shop/a@15")
	p.repaired("20", "known", 0, 0, 1)
	equal(t, b.lines, "20", "shop/a@15", "shop/x@11")
}

// TestWhatIsAheadOfThePositionIsKnown: the run that resumes at the position knows it, and does not write it again.
func TestWhatIsAheadOfThePositionIsKnown(t *testing.T) {
	b, p := begun()
	p.added("shop/x@220")
	p.deleted("shop/b@220")
	p.stopped("219")
	equal(t, b.lines, "219", "shop/a@3", "shop/b@5")
	b.starts()
	p.started("219", true)
	p.gap("expired", "219")
	p.object(event.Added, event.Repair, "shop/y@223")
	p.repaired("225", "known", 0, 1)
	equal(t, b.lines, "225", "shop/a@3", "shop/x@220", "shop/y@223")
}

// TestWhatIsVoidIsNotTheLastWord: what a repair with a filter left out has moved on, and what left may be back.
func TestWhatIsVoidIsNotTheLastWord(t *testing.T) {
	b := newBook()
	p := b.pods()
	p.filter = []string{"spec"}
	b.starts()
	p.started("10", false)
	for _, what := range []string{"shop/a@3", "shop/b@5", "shop/c@6"} {
		p.present(what)
	}
	p.synced("10", 3)
	p.object(event.Modified, event.Live, "shop/a@11", func(ev *event.Event) { ev.Object.Body = body(&ev.Object, `{"node":"n2"}`) })
	p.object(event.Left, event.Live, "shop/b@12")
	p.deleted("shop/c@13")
	p.seq -= 3
	b.starts()
	p.started("10", true)
	p.gap("expired", "10")
	p.object(event.Deleted, event.Repair, "shop/c@20", inferred)
	p.repaired("20", "known", 0, 0, 0, 1)
	equal(t, b.lines, "20", "shop/a@15", "shop/b@17")
	equal(t, b.lines, "20", "shop/b@17")
	if _, got := compared(t, b.lines, "20", cluster("shop/a@15", "shop/b@17", "shop/c@6")); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// TestAListIsTheLastWord also with a filter, which only a repair knows.
func TestAListIsTheLastWord(t *testing.T) {
	b := newBook()
	p := b.pods()
	p.filter = []string{"spec"}
	b.starts()
	p.started("10", false)
	p.present("shop/a@3")
	p.present("shop/b@5") // gone when the list begins again
	b.starts()
	p.seq--
	p.started("20", false)
	p.synced("20")
	equal(t, b.lines, "20", "shop/a@3")
	if _, got := compared(t, b.lines, "20", cluster("shop/a@3", "shop/b@5")); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// TestPartsOfAnotherPayloadAreNotCompared: the digests are of other bytes.
func TestPartsOfAnotherPayloadAreNotCompared(t *testing.T) {
	b := newBook()
	p := b.pods()
	p.filter = []string{"spec"}
	b.starts()
	p.started("10", false)
	p.present("shop/a@3")
	p.synced("10", 1)
	p.modified("shop/a@11")
	b.starts()
	p.payload = "metadata"
	p.started("10", true)
	equal(t, b.lines, "10", "shop/a@3")
	p.progress("12")
	equal(t, b.lines, "12", "shop/a@11")
}

// TestOtherSelectorsTakeThePlace: what they were before is history.
func TestOtherSelectorsTakeThePlace(t *testing.T) {
	b, p := begun()
	p.stopped("10")
	b.starts()
	q := b.pen(event.StreamName{Resource: "pods", Kind: "Pod", LabelSelector: "app=web"})
	q.started("20", false)
	q.present("shop/a@3")
	q.synced("20", 1)
	equal(t, b.lines, "20", "shop/a@3")
}

// TestWithOnlyThePartsThatPassAreCompared: the version has moved on, and the log need not say so.
func TestWithOnlyThePartsThatPassAreCompared(t *testing.T) {
	for name, c := range map[string]struct {
		filter, payload string
		old, now        string // in the object
		generation      int64
		differs         bool
	}{
		"Nothing":                {"spec", "full", ``, ``, 2, false},
		"AnOmittedObject":        {"spec", "omitted", `"n1"`, `"n2"`, 3, false},
		"Spec":                   {"spec", "full", `"n1"`, `"n2"`, 3, true},
		"AMemberBesideSpec":      {"spec", "full", `"spec":`, `"data":{},"spec":`, 2, true},
		"StatusOutsideSpec":      {"spec", "full", `"at":"3"`, `"at":"4"`, 2, false},
		"LabelsOutsideSpec":      {"spec", "full", `"web"`, `"db"`, 2, false},
		"ItemsOfListsHaveNoKind": {"spec", "full", `"kind":"Pod","apiVersion":"v1",`, ``, 2, false},
		"Labels":                 {"metadata", "full", `"web"`, `"db"`, 2, true},
		"Bookkeeping":            {"metadata", "full", `"generation":2`, `"generation":3,"managedFields":[]`, 3, false},
		"Status":                 {"status", "full", `"at":"3"`, `"at":"4"`, 2, true},
		"SpecOutsideStatus":      {"status", "full", `"n1"`, `"n2"`, 3, false},
		"Generation":             {"spec", "metadata", ``, ``, 3, true},
		"SameGeneration":         {"spec", "metadata", ``, ``, 2, false},
		"StatusIsNotKnown":       {"status", "metadata", `"at":"3"`, `"at":"4"`, 2, false},
		"GenerationAlone":        {"spec", "none", ``, ``, 3, true},
		"MetadataIsNotKnown":     {"metadata", "none", `"web"`, `"db"`, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBook()
			p := b.pods()
			p.filter, p.payload = []string{c.filter}, strings.Replace(c.payload, "omitted", "full", 1)
			b.starts()
			p.started("10", false)
			p.object(event.Present, event.Snapshot, "shop/a@3", func(ev *event.Event) { ev.Inferred = c.payload == "none" || c.payload == "omitted" })
			p.synced("10", 1)
			o := event.Object{Namespace: "shop", Name: "a", UID: "uid-a", ResourceVersion: "3", Generation: 2}
			o.Body = []byte(strings.Replace(string(body(&o, `{"node":"n1"}`)), `"resourceVersion":"3"`, `"resourceVersion":"7"`, 1))
			if c.old != "" {
				o.Body = []byte(strings.Replace(string(o.Body), c.old, c.now, 1))
			}
			o.ResourceVersion, o.Generation = "7", c.generation
			if c.payload == "none" {
				o.Body = nil
			}
			_, got := compared(t, b.lines, "10", func(yield func(event.Object, error) bool) { yield(o, nil) })
			if (len(got) > 0) != c.differs {
				t.Errorf("%v, want a difference: %v", got, c.differs)
			}
		})
	}
}

// TestAListThatFailsIsNoComparison.
func TestAListThatFailsIsNoComparison(t *testing.T) {
	b, _ := begun()
	l := verify.New()
	for _, line := range b.lines {
		l.Line([]byte(line))
	}
	lost := errors.New("lost")
	err := l.Compare(l.Claims()[0], func(yield func(event.Object, error) bool) { yield(event.Object{}, lost) })
	if !errors.Is(err, lost) || len(l.Report().Live) != 0 {
		t.Errorf("%v, %+v", err, l.Report().Live)
	}
}
