package verify_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"watcher/internal/verify"
)

// TestACleanLogIsClean: a kill, a repair that a kill cut short, and a rewind are accounted for.
func TestACleanLogIsClean(t *testing.T) {
	r := read(rich())
	if !r.OK || len(r.Kinds) != 0 {
		t.Errorf("findings:\n%s", said(r))
	}
	if want := []int{18, 44}; !slices.Equal(r.Torn, want) {
		t.Errorf("torn %v, want %v", r.Torn, want)
	}
	var got []string
	for _, s := range r.Streams {
		got = append(got, fmt.Sprintf("%s: %s to %s, %d runs, %d events, %d repeated, %d objects, %d gaps, epoch %d",
			s.Name(), s.From, s.To, s.Runs, s.Events, s.Repeated, s.Objects, len(s.Gaps), s.Epoch))
	}
	want := []string{
		"pods: 10 to 28, 3 runs, 32 events, 5 repeated, 1 objects, 4 gaps, epoch 1",
		"services -n shop: 10 to 26, 3 runs, 5 events, 0 repeated, 2 objects, 0 gaps, epoch 0",
		"pods -l app=web: 30 to 32, 1 runs, 4 events, 0 repeated, 1 objects, 0 gaps, epoch 0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// harmless are the lines of the rich log whose loss cannot be seen, and why that is no loss that verify has promised to
// see.
var harmless = map[int]string{
	12: "the last stream event of a run that was killed", 13: "likewise", 39: "likewise", 16: "it is there once more, after the kill",
	43: "the last event before a kill", 18: "torn", 44: "torn",
	60: "the last event of its stream", 63: "likewise", 72: "likewise", 64: "the last line of its stream", 65: "likewise", 73: "likewise",
}

// about names the stream of a line; "" is that of a torn one.
func about(line string) string {
	var ev struct {
		Source string
		Type   string
		Data   struct{ Namespace string }
	}
	if json.Unmarshal([]byte(line), &ev) != nil {
		return ""
	}
	return ev.Source
}

// follower is the line, counted from 1, of the nth event of the stream at or behind lines[i].
func follower(lines []string, i int, stream string, n int) int {
	for ; i < len(lines); i++ {
		if about(lines[i]) == stream {
			if n--; n == 0 {
				return i + 1
			}
		}
	}
	return len(lines)
}

// named fails unless there is a finding in one of the lines from first to last.
func named(t *testing.T, what string, lines []string, first, last int) {
	t.Helper()
	r := read(lines)
	if r.OK {
		t.Errorf("%s: nothing found", what)
		return
	}
	if !slices.ContainsFunc(r.Findings, func(f verify.Finding) bool { return f.Line >= first && f.Line <= last }) {
		t.Errorf("%s: nothing in lines %d to %d, but\n%s", what, first, last, said(r))
	}
}

// TestALostLineIsNamed: whichever it is, it is missed at the next events of its stream, at its place.
func TestALostLineIsNamed(t *testing.T) {
	lines := rich()
	for i := range lines {
		lost := slices.Delete(slices.Clone(lines), i, i+1)
		if why := harmless[i+1]; why != "" {
			if r := read(lost); !r.OK {
				t.Errorf("line %d, harmless since %s: %s", i+1, why, said(r))
			}
			continue
		}
		named(t, fmt.Sprintf("without line %d", i+1), lost, i+1, follower(lost, i, about(lines[i]), 3))
	}
}

// TestLostLinesAreNamed: any that go together.
func TestLostLinesAreNamed(t *testing.T) {
	lines := rich()
	var unseen []string
	for i := range lines {
		for n := 2; i+n < 60 && (n < 8 || i == 0); n++ { // a log that lost its end is a log
			if read(slices.Delete(slices.Clone(lines), i, i+n)).OK {
				unseen = append(unseen, fmt.Sprintf("%d-%d", i+1, i+n))
			}
		}
	}
	want := []string{
		"1-17", "1-18", "1-43", "1-44", // it begins with a run that resumed
		"12-13",                            // the last progress of both streams before a kill
		"12-16", "13-16", "14-16", "15-16", // what came twice
		"41-43", "41-44", "42-43", "42-44", "43-44", // the end of a run that was killed in a repair, which was begun again
	}
	if !slices.Equal(unseen, want) {
		t.Errorf("nothing found without lines %v, want %v", unseen, want)
	}
}

// TestALineThatComesTwiceIsNamed: at once, or later.
func TestALineThatComesTwiceIsNamed(t *testing.T) {
	lines := rich()
	for i := range lines {
		if about(lines[i]) == "" {
			continue
		}
		for _, at := range []int{i + 1, min(i+4, len(lines)), len(lines)} {
			if at > 18 && i < 18 || at > 44 && i < 44 { // behind a kill it may be a repeat, or is one of another run
				continue
			}
			named(t, fmt.Sprintf("line %d again as line %d", i+1, at+1), slices.Insert(slices.Clone(lines), at, lines[i]), at+1, at+1)
		}
	}
}

// TestSwappedLinesAreNamed: but for those of two streams, between which there is no order.
func TestSwappedLinesAreNamed(t *testing.T) {
	lines := rich()
	for i := range lines[1:] {
		swapped := slices.Clone(lines)
		swapped[i], swapped[i+1] = lines[i+1], lines[i]
		a, b := about(lines[i]), about(lines[i+1])
		switch {
		case a == b:
			named(t, fmt.Sprintf("lines %d and %d swapped", i+1, i+2), swapped, i+1, follower(swapped, i+1, a, 2))
		case a != "" && b != "":
			if r := read(swapped); !r.OK {
				t.Errorf("lines %d and %d of two streams swapped:\n%s", i+1, i+2, said(r))
			}
		}
	}
}

// TestACutLineIsNamed: it is taken for the work of a kill only if a run begins behind it, and then what is lost is missed.
func TestACutLineIsNamed(t *testing.T) {
	lines := rich()
	for i, l := range lines {
		if about(l) == "" {
			continue
		}
		for _, n := range []int{0, 1, len(l) / 2, len(l) - 1} {
			cut := slices.Clone(lines)
			cut[i] = l[:n]
			r := read(cut)
			if slices.Contains(r.Torn, i+1) {
				if r.OK && harmless[i+1] == "" && i+1 != 17 {
					t.Errorf("line %d cut at %d: nothing found", i+1, n)
				}
				continue
			}
			named(t, fmt.Sprintf("line %d cut at %d", i+1, n), cut, i+1, i+1)
		}
	}
}

// TestALineThatContradictsItselfIsNamed: whatever is said twice in it is altered in one place.
func TestALineThatContradictsItselfIsNamed(t *testing.T) {
	for i, l := range rich() {
		if about(l) == "" {
			continue
		}
		for _, member := range []string{"id", "source", "type", "subject", "op", "origin", "group", "version", "resource", "name", "uid", "resourceVersion", "seq", "from"} {
			for at, m := range regexp.MustCompile(`"`+member+`":"?([^",]*)`).FindAllStringSubmatchIndex(l, -1) {
				inferred := strings.Contains(l, `"inferred":true`) && member == "resourceVersion"
				statement := strings.Contains(l, "watcher.stream") && (member == "resourceVersion" || member == "from") || strings.Contains(l, "stream.started") && member == "seq"
				// Of these a larger one may be the truth; the next ones show that it is not.
				if statement || inferred {
					continue
				}
				altered := slices.Clone(rich())
				altered[i] = l[:m[2]] + "7" + l[m[2]:]
				named(t, fmt.Sprintf("line %d with another %s (%d)", i+1, member, at), altered, i+1, i+1)
			}
		}
	}
}

// TestAnotherBeginningOfTheCountIsNamed: a run that would go on from one event more or less than it did.
func TestAnotherBeginningOfTheCountIsNamed(t *testing.T) {
	lines := rich()
	n := 0
	for i, l := range lines {
		m := regexp.MustCompile(`"resumed":.*"seq":(\d+)`).FindStringSubmatchIndex(l)
		if m == nil {
			continue
		}
		n++
		seq, err := strconv.Atoi(l[m[2]:m[3]])
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range []int{seq - 1, seq + 1} {
			altered := slices.Clone(lines)
			altered[i] = l[:m[2]] + strconv.Itoa(other) + l[m[3]:]
			named(t, fmt.Sprintf("line %d with seq %d instead of %d", i+1, other, seq), altered, i+1, follower(lines, i, about(l), 4))
		}
	}
	if n != 7 {
		t.Errorf("%d started in the log", n)
	}
}

// TestALostEndOfARunIsNamed: the next one says what it goes on from. What was not saved at the end is no loss.
func TestALostEndOfARunIsNamed(t *testing.T) {
	for unsaved := range 3 {
		b, p := begun()
		p.modified("shop/a@11")
		p.added("shop/x@12")
		p.deleted("shop/b@13")
		p.progress("12")
		end := len(b.lines)
		b.starts()
		p.seq -= uint64(unsaved)
		p.started("10", true)
		for lost := 1; lost < end; lost++ {
			lines := slices.Delete(slices.Clone(b.lines), end-lost, end)
			if lost-1 > unsaved && lost < end { // the progress is one of them
				named(t, fmt.Sprintf("%d lost, %d not saved", lost, unsaved), lines, end-lost+1, end-lost+1)
			} else if r := read(lines); !r.OK {
				t.Errorf("%d lost, %d not saved:\n%s", lost, unsaved, said(r))
			}
		}
	}
}

// TestAVersionBeyondItsListIsNamed: a deletion that nobody saw is of the version of a list that synced is of.
func TestAVersionBeyondItsListIsNamed(t *testing.T) {
	lines := rich()
	for _, i := range []int{34, 56, 57} {
		altered := slices.Clone(lines)
		altered[i-1] = strings.Replace(lines[i-1], `"resourceVersion":"`, `"resourceVersion":"9`, 1)
		named(t, fmt.Sprintf("line %d with a larger version", i), altered, i, i)
	}
}

// TestSyncedIsMissed in every place where it ends something.
func TestSyncedIsMissed(t *testing.T) {
	lines := rich()
	n := 0
	for i, l := range lines {
		if strings.Contains(l, "stream.synced") {
			n++
			lost := slices.Delete(slices.Clone(lines), i, i+1)
			named(t, fmt.Sprintf("synced of line %d", i+1), lost, i+1, follower(lost, i, about(l), 1))
		}
	}
	if n != 6 {
		t.Errorf("%d synced in the log", n)
	}
}

// FuzzALostLine: whatever is done to a log, verify ends, and never calls one clean that lost a line in its middle.
func FuzzALostLine(f *testing.F) {
	f.Add(uint64(1), []byte("x"))
	f.Add(uint64(2), []byte(`{"specversion":"1.0"}`))
	f.Add(uint64(3), []byte(rich()[3]))
	f.Fuzz(func(t *testing.T, seed uint64, garbage []byte) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		lines := rich()
		i := rnd.IntN(len(lines))
		lost := slices.Delete(slices.Clone(lines), i, i+1)
		if harmless[i+1] == "" && read(lost).OK {
			t.Errorf("without line %d: nothing found", i+1)
		}
		for range rnd.IntN(5) { // and then anything
			switch j := rnd.IntN(len(lost)); rnd.IntN(4) {
			case 0:
				lost = slices.Insert(lost, j, string(garbage))
			case 1:
				k := rnd.IntN(len(lost))
				lost[j], lost[k] = lost[k], lost[j]
			case 2:
				lost[j] = strings.Replace(lost[j], fmt.Sprint(rnd.IntN(10)), string(garbage), 1)
			case 3:
				lost = slices.Delete(lost, j, j+1)
			}
		}
		r := read(lost)
		if r.OK != (len(r.Findings) == 0) || len(r.Streams) > len(lost) {
			t.Errorf("%+v", r)
		}
	})
}
