package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The past of the logs below: a was there first, b lived for a moment, c lived within the gap, d came in it.
func somePast() *past {
	r := &recorder{}
	for _, rec := range []struct{ op, name, version string }{
		{"present", "a", "5"}, {"modified", "a", "11"}, {"added", "b", "12"}, {"deleted", "b", "13"}, {"modified", "a", "14"},
		{"modified", "a", "20"}, {"added", "c", "21"}, {"deleted", "c", "22"}, {"added", "d", "23"}, {"modified", "d", "30"},
	} {
		r.records = append(r.records, newRecord(rec.op, meta{"ns", rec.name, "uid-" + rec.name, rec.version}))
	}
	return r.past()
}

// voided is a change that is written in the second run, behind what that run could save, of an object that dies in the gap.
const voided = `{"id":"uid-c.21","type":"watcher.object.added","data":{"op":"added","seq":6,"origin":"live","resource":"configmaps","namespace":"ns","name":"c","uid":"uid-c","resourceVersion":"21"}}`

// someLog is a sound log of that past: two kills, after each of which some is repeated, or a gap is healed.
func someLog() []string {
	object := func(op, origin, name, version string, seq int) string {
		gap := ""
		if origin == "repair" {
			gap = `"gap":"the-gap",`
		}
		return fmt.Sprintf(`{"id":"%s","type":"watcher.object.%s","data":{"op":"%[2]s","seq":%d,"origin":"%s",%s"resource":"configmaps","namespace":"ns","name":"%s","uid":"uid-%[6]s","resourceVersion":"%s"}}`,
			id(op, "uid-"+name, version), op, seq, origin, gap, name, version)
	}
	stream := func(typ, more string) string {
		return fmt.Sprintf(`{"id":"the-%s","type":"watcher.stream.%[1]s","data":{"resource":"configmaps",%s}}`, typ, more)
	}
	return []string{
		0:  stream("started", `"resourceVersion":"","resumed":false`),
		1:  object("present", "snapshot", "a", "5", 1),
		2:  stream("synced", `"resourceVersion":"10"`),
		3:  object("modified", "live", "a", "11", 2),
		4:  object("added", "live", "b", "12", 3),
		5:  object("deleted", "live", "b", "13", 4),
		6:  stream("started", `"resourceVersion":"11","seq":2,"resumed":true`),
		7:  object("added", "live", "b", "12", 3),
		8:  object("deleted", "live", "b", "13", 4),
		9:  object("modified", "live", "a", "14", 5),
		10: stream("progress", `"resourceVersion":"14"`),
		11: stream("started", `"resourceVersion":"14","seq":5,"resumed":true`),
		12: stream("gap", `"reason":"expired","from":"14"`),
		13: object("modified", "repair", "a", "20", 6),
		14: object("added", "repair", "d", "23", 7),
		15: stream("synced", `"resourceVersion":"25","history":2,"net":0,"inferred":0,"deletions":"known"`),
		16: object("modified", "live", "d", "30", 8),
		17: stream("stopped", `"resourceVersion":"30"`),
	}
}

func TestTheJudgeSeesWhatIsWrong(t *testing.T) {
	t.Parallel()
	without := func(i int) func([]string) []string {
		return func(l []string) []string { return slices.Delete(l, i, i+1) }
	}
	twice := func(i int) func([]string) []string {
		return func(l []string) []string { return slices.Insert(l, i, l[i]) }
	}
	says := func(i int, old, now string) func([]string) []string {
		return func(l []string) []string { l[i] = strings.Replace(l[i], old, now, 1); return l }
	}
	for _, tt := range []struct {
		name  string
		spoil func([]string) []string
		want  string // a problem; "": none
	}{
		{"nothing is wrong", says(0, "", ""), ""},
		{"a torn line before a start", func(l []string) []string { return slices.Insert(l, 6, l[5][:40]) }, ""},
		{"a torn line elsewhere", says(9, `}}`, ""), "a torn line"},
		{"a change is lost", without(3), "lost before it: modified of ns/a at 11"},
		{"the last change is lost", without(16), "lost before it: modified of ns/d at 30"},
		{"progress is said too early", func(l []string) []string { l[9], l[10] = l[10], l[9]; return l }, "lost before it: modified of ns/a at 14"},
		{"a change is repeated in one run", twice(16), "twice in one run"},
		{"what was saved is repeated", func(l []string) []string { return slices.Insert(l, 7, l[3]) }, "the saved position 11 covered it"},
		{"what was not saved is repeated in another order", func(l []string) []string { l[7], l[8] = l[8], l[7]; return l }, "not what this run had to repeat next"},
		{"some of what was not saved is not repeated", without(8), "is not repeated yet"},
		{"nothing is repeated", func(l []string) []string { return slices.Delete(l, 7, 9) }, "is not repeated yet"},
		{"what may be saved by its id is not repeated", func(l []string) []string {
			l[6] = strings.NewReplacer(`"11"`, `"12"`, `"seq":2`, `"seq":4`).Replace(l[6])
			return slices.Delete(l, 7, 9)
		}, ""},
		{"a run counts on from what nobody has seen", says(6, `"seq":2`, `"seq":9`), "counts on from 9"},
		{"an object that nobody saved and that is gone", func(l []string) []string { return slices.Insert(l, 11, voided) }, ""},
		{"one that was saved", func(l []string) []string {
			l[11] = strings.Replace(l[11], `"seq":5`, `"seq":6`, 1)
			return slices.Insert(l, 11, voided)
		}, "1 objects are not what they were at 25"},
		{"a change is invented", says(9, `.14"`, `.15"`), "told of no such"},
		{"a change has another name", says(3, `"op":"modified"`, `"op":"added"`), "is called added, was modified"},
		{"a deletion is early", says(5, `"resourceVersion":"13"`, `"resourceVersion":"12"`), "died at 13, not 12"},
		{"a number is left out", says(9, `"seq":5`, `"seq":6`), "seq 6 after 4"},
		{"a repair without a gap", without(12), `open is ""`},
		{"a live change in a gap", says(13, "repair", "live"), "origin live"},
		{"the net effect of a gap is not written", without(14), "1 objects are not what they were at 25"},
		{"a gap that is not closed", without(15), "lost before it: added of ns/c"},
		{"a gap for no good reason", says(12, "expired", "tired"), "the reason is tired"},
		{"a gap that begins too late", says(12, `"from":"14"`, `"from":"20"`), "lost before it: modified of ns/a at 20"},
		{"a gap that is too short", says(15, `"25"`, `"21"`), "not what they were at 21"},
		{"a run that knows nothing", says(6, `"resumed":true`, `"resumed":false`), "resumed false"},
		{"no end", without(17), "no stopped"},
		{"another resource", says(9, "configmaps", "pods"), "nobody recorded pods"},
	} {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(strings.Join(tt.spoil(someLog()), "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		found := judgeLog(t, path, map[string]*past{"configmaps": somePast()}, "expired").problems
		if tt.want == "" && len(found) > 0 || tt.want != "" && !strings.Contains(strings.Join(found, "\n"), tt.want) {
			t.Errorf("%s: found %q, want %q", tt.name, found, tt.want)
		}
	}
}
