package sink_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"watcher/internal/event"
	"watcher/internal/sink"
)

// happened makes an event of a word: +u is that an object of uid u is there, -u that it is gone, ~u that it has left, !
// that the stream begins without a list, . that it begins with one.
func happened(s *event.Stream, word string) *event.Event {
	ev := &event.Event{Stream: s, Object: event.Object{Namespace: "shop", Name: "web", UID: word[1:], ResourceVersion: word}}
	switch word[0] {
	case '+':
		ev.Type = event.Added
	case '-':
		ev.Type = event.Deleted
	case '~':
		ev.Type = event.Left
	default:
		ev.Type, ev.Object, ev.Data = event.Started, event.Object{}, event.StartedData{Unlisted: word == "!"}
	}
	return ev
}

// TestALedgerIsWhatTheEventsMakeOfIt, however they are divided into batches and transactions.
func TestALedgerIsWhatTheEventsMakeOfIt(t *testing.T) {
	for story, want := range map[string]string{
		"+a":              "+a",
		"+a -a":           "",
		"+a ~a":           "",
		"-a":              "",
		"-a +a":           "+a", // its frames came out of order: it is there
		"+a +b":           "+b", // nobody saw a go
		"+a +b -a":        "+b",
		"+a +b -b":        "",
		"+a +b -a -b":     "",
		"+a -b":           "+a",
		"+a -b -c":        "+a",
		"+a -b -c -a":     "",
		"+a -b -a":        "",
		"+a -a +b":        "+b",
		"+a -a +b -a":     "+b",
		"+a -a -a +b":     "+b",
		"+a -":            "", // of whom is not said
		"+ -a":            "",
		"+ -":             "",
		"+ +a -":          "",
		"+a - +b -a":      "+b",
		"+a !":            "",
		"+a ! +b":         "+b",
		"+a ! -a":         "",
		"! +a":            "+a",
		"+a .":            "+a",
		"+a . -a":         "",
		"+a ! .":          "",
		"+a +b -a ! -b":   "",
		"+a -b ! +b -a":   "+b",
		"+a -a ! +b -b !": "",
	} {
		words := strings.Fields(story)
		l := reopen(t, &medium{}, t.TempDir())
		l.NoSync()
		for way := range 1 << (2 * (len(words) - 1)) {
			if got := tell(t, l, words, way); got != want {
				t.Errorf("%q, told in way %d, makes %q, want %q", story, way, got, want)
			}
		}
		must(t, l.Close(t.Context()))
	}
}

// tell commits a story, of a stream of its own, and returns the version of the object that it leaves. way says, in two
// bits for each event but the first, what is before it: nothing, a new batch, one that is not written (and so adds to
// the step before it), or a new transaction.
func tell(t *testing.T, l *sink.Lines, words []string, way int) string {
	t.Helper()
	s, filtered := streamNamed(fmt.Sprint("way", way)), false
	b := event.Batch{Streams: map[string]event.Checkpoint{s.Key(): {}}}
	end := func() {
		for _, ev := range b.Events {
			ev.Filtered = filtered
		}
		commit(t, l, b)
		b.Events = nil
	}
	for i, word := range words {
		if how := way << 2 >> (2 * i) & 3; how > 0 {
			end()
			if filtered = how == 2; how == 3 {
				l.Settle()
			}
		}
		b.Events = append(b.Events, happened(s, word))
	}
	end()
	l.Settle()
	held, err := l.Recover(t.Context())
	must(t, err)
	objects := ledgerOf(t, held, s.Key())
	if len(objects) > 1 {
		t.Errorf("%+v", objects)
	}
	return objects["shop/web"].ResourceVersion
}

func TestALedgerMayBeReadWhileAnotherStreamIsSaved(t *testing.T) {
	pods, nodes := streamNamed("pods"), streamNamed("nodes")
	var objects []event.Object
	for i := range 2345 {
		objects = append(objects, event.Object{Namespace: fmt.Sprint("ns-", i%7), Name: fmt.Sprint("object-", i)})
	}
	l := reopen(t, &medium{}, saved(t, present(pods, event.Checkpoint{}, objects...)))
	held, err := l.Recover(t.Context())
	must(t, err)
	got := map[string]int{}
	for o, err := range held.Ledger(pods.Key()) {
		must(t, err)
		if got[o.Key()]++; len(got)%100 == 0 {
			commit(t, l, present(nodes, event.Checkpoint{}, objects[:len(got)]...))
			l.Settle()
		}
	}
	if len(got) != len(objects) || slices.Max(slices.Collect(maps.Values(got))) != 1 {
		t.Errorf("%d objects of %d", len(got), len(objects))
	}
	for o, err := range held.Ledger(pods.Key()) {
		if err != nil || o.Name == "" {
			t.Errorf("%+v, %v", o, err)
		}
		break
	}
	if got := ledgerOf(t, held, "no such stream"); len(got) > 0 {
		t.Errorf("of a stream that never was %d objects are known", len(got))
	}
	must(t, l.Close(t.Context()))
	for _, err := range held.Ledger(pods.Key()) {
		if err == nil {
			t.Error("a ledger can be read that is closed")
		}
	}
}

func TestARecordThatCannotBeReadIsAnError(t *testing.T) {
	l := reopen(t, &medium{}, saved(t, present(stream, event.Checkpoint{}, event.Object{Name: "a"}, event.Object{Name: "b", UID: "u"})))
	l.SpoilRecord(t, stream.Key(), event.Object{Name: "b"})
	held, err := l.Recover(t.Context())
	must(t, err)
	var names, errs []string
	for o, err := range held.Ledger(stream.Key()) {
		if err != nil {
			errs = append(errs, err.Error())
			continue
		}
		names = append(names, o.Name)
	}
	if len(errs) != 1 || !strings.Contains(errs[0], "read what is known of "+stream.Key()) || !slices.Equal(names, []string{"a"}) {
		t.Errorf("%q, %q", names, errs)
	}
	must(t, l.Crash())
}
