package sink_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"watcher/internal/event"
	"watcher/internal/sink"
)

// bigState is a state of some thousand objects that came, changed and went, so that pages are free and not in order.
func bigState(t *testing.T, rng *rand.Rand) (file []byte, want contents) {
	t.Helper()
	var batches []event.Batch
	for round := range 12 {
		for i, s := range []*event.Stream{streamNamed("pods"), streamNamed("configmaps"), streamNamed("nodes")} {
			b := present(s, event.Checkpoint{Seq: uint64(round), Position: event.Position{ResourceVersion: fmt.Sprint(round)}})
			for range []int{300, 100, 3}[i] {
				o := event.Object{Namespace: fmt.Sprint("ns-", rng.IntN(5)), Name: fmt.Sprint("object-", rng.IntN(500)), UID: "u", ResourceVersion: fmt.Sprint(rng.Uint32())}
				b.Events = append(b.Events, &event.Event{Stream: s, Type: event.Type(1 + rng.IntN(4)), Object: o})
			}
			batches = append(batches, b)
		}
	}
	dir := filepath.Join(t.TempDir(), "state")
	l := reopen(t, &medium{}, dir)
	for _, b := range batches {
		commit(t, l, b)
		l.Settle()
	}
	must(t, l.Crash()) // so that the transaction before the last one holds less
	file, err := os.ReadFile(filepath.Join(dir, sink.StateFile))
	must(t, err)
	want = contentsOf(t, openState(t, dir))
	n := 0
	for _, l := range want.ledgers {
		n += len(l)
	}
	if n < 1500 || len(want.streams) != 3 {
		t.Fatalf("only %d objects in %d streams", n, len(want.streams))
	}
	return file, want
}

// TestADamagedStateIsRefusedOrIsWhatItWas cuts a state off and changes bytes of it. It is never less than it was without
// a word, and never the end of the process.
func TestADamagedStateIsRefusedOrIsWhatItWas(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	good, want := bigState(t, rng)
	dir := t.TempDir()
	path := filepath.Join(dir, sink.StateFile)
	page := os.Getpagesize()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close() //nolint:errcheck // it is of no use any more
	opened, refused := 0, 0
	// check opens a state that has a length and, from at on, other bytes.
	check := func(size, at int, bytes []byte) {
		t.Helper()
		write := func(b []byte, at int) { _, err = f.WriteAt(b, int64(at)); must(t, err) }
		if size < len(good) {
			must(t, f.Truncate(int64(size)))
			defer func() { write(good[size:], size) }()
		}
		write(bytes, at)
		defer write(good[at:at+len(bytes)], at)
		state, err := sink.OpenStateDir(dir)
		switch {
		case err == nil:
			opened++
			if got := contentsOf(t, state); !reflect.DeepEqual(got, want) {
				t.Errorf("%d of %d bytes, others at %d: it is not what it was", size, len(good), at)
			}
		case strings.Contains(err.Error(), "is damaged: remove it") || strings.Contains(err.Error(), "was not written by watcher"):
			refused++
		default:
			t.Errorf("%d of %d bytes, others at %d: %v", size, len(good), at, err)
		}
	}
	check(len(good), 0, good)
	for size := 0; size < len(good); size += page {
		check(size, 0, nil)
		check(size+rng.IntN(page), 0, nil)
	}
	pages, branches := usedPages(good, page), 0
	for _, n := range pages {
		bad := slices.Clone(good[n*page : (n+1)*page])
		if bad[8] == 1 { // a branch, of which the first leaf shall be itself
			branches++
			binary.NativeEndian.PutUint64(bad[24:], uint64(n))
			check(len(good), n*page, bad)
		}
	}
	for range 1000 {
		at := pages[rng.IntN(len(pages))] * page
		bad := slices.Clone(good[at : at+page])
		switch rng.IntN(10) {
		case 0:
			clear(bad)
		case 1: // another page
			copy(bad, good[pages[rng.IntN(len(pages))]*page:])
		case 5: // that says it is this one
			copy(bad[8:], good[pages[rng.IntN(len(pages))]*page+8:])
		case 6: // fewer entries
			bad[10] -= byte(rng.IntN(3))
		case 2, 3, 4: // the header and the first elements
			bad[rng.IntN(100)] ^= 1 << rng.IntN(8)
		default:
			bad[rng.IntN(page)] = byte(rng.Uint32())
		}
		check(len(good), at, bad)
	}
	t.Logf("%d opened, %d refused", opened, refused)
	if branches == 0 || opened < 100 || refused < 400 {
		t.Errorf("%d were opened, %d refused: that proves little", opened, refused)
	}
}

// usedPages are the numbers of pages that something was written to.
func usedPages(file []byte, page int) []int {
	used := map[int]bool{}
	for at := 0; at+page <= len(file); at += page {
		if slices.ContainsFunc(file[at:at+page], func(b byte) bool { return b != 0 }) {
			used[at/page] = true
		}
	}
	return slices.Sorted(maps.Keys(used))
}
