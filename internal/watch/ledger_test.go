package watch

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"watcher/internal/event"
)

func uuid(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", n, n*7919) }

// uids and versions that an API server may give out, and such as none should.
var (
	oddUIDs = []string{"", uuid(1), uuid(2), "u-1", "U", "00000000-0000-0000-0000-000000000000", "0000000A-0000-4000-8000-000000000001", "0000000a-0000-4000-8000-000000000001",
		"0000000a-0000-4000-8000-00000000000g", "0000000a00000-4000-8000-000000000001", "0000000a-0000-4000-8000-0000000000012", "\x00", "é"}
	oddVersions = []string{"", "1", "42", "18446744073709551615", "18446744073709551616", "340282366920938463463374607431768211455", "0", "01", "+1", "-1", "1 ", "abc", "1e3"}
)

// What was put is what comes out, to the byte, whatever uid and version are.
func TestTheLedgerIsExact(t *testing.T) {
	for _, uid := range oddUIDs {
		for _, version := range oddVersions {
			o := event.Object{Namespace: "shop", Name: "a", UID: uid, ResourceVersion: version, Hashes: event.Hashes{Spec: 1, Metadata: 2, Status: 3}, Attribution: 4}
			for _, before := range oddUIDs { // an entry is used again for another object of the name
				l := newLedger()
				l.put(&event.Object{Namespace: "shop", Name: "a", UID: before, ResourceVersion: "7"})
				l.put(&o)
				if got := entries(l); len(got) != 1 || !alike(got[0], o) {
					t.Errorf("%q at %q came out as %+v", uid, version, got)
				}
				for _, other := range oddUIDs {
					if is := l.is(l.get(key{"shop", "a"}), other); is != (other == uid) {
						t.Errorf("%q is %q: %v", uid, other, is)
					}
				}
				for _, other := range oddVersions {
					if at := l.at(l.get(key{"shop", "a"}), other); at != (other == version) {
						t.Errorf("version %q is %q: %v", version, other, at)
					}
				}
			}
		}
	}
}

func entries(l *ledger) []event.Object {
	var out []event.Object
	for k, e := range l.all() {
		out = append(out, l.object(k, e))
	}
	return out
}

func alike(a, b event.Object) bool {
	return a.Namespace == b.Namespace && a.Name == b.Name && a.UID == b.UID && a.ResourceVersion == b.ResourceVersion && a.Hashes == b.Hashes && a.Attribution == b.Attribution
}

// Whatever is put, removed and looked for, a ledger says what a plain map says.
func FuzzLedger(f *testing.F) {
	for seed := range uint64(64) {
		f.Add(seed, uint16(200))
	}
	f.Fuzz(func(t *testing.T, seed uint64, steps uint16) {
		r := rand.New(rand.NewPCG(seed, 1))
		pick := func(from []string) string { return from[r.IntN(len(from))] }
		l, m, marked := newLedger(), map[string]event.Object{}, map[string]bool{}
		for range steps % 512 {
			o := event.Object{Namespace: pick([]string{"", "a", "a-b"}), Name: pick([]string{"", "x", "y", "z"}), UID: pick(oddUIDs), ResourceVersion: pick(oddVersions),
				Hashes: event.Hashes{Spec: r.Uint64N(3), Metadata: r.Uint64N(3), Status: r.Uint64N(3)}, Attribution: event.Attribution(r.Uint64N(3))}
			k := o.Namespace + "/" + o.Name
			held, known := m[k]
			switch r.IntN(8) {
			case 0:
				if l.remove(&o); known && held.UID == o.UID {
					delete(m, k)
				}
			case 1, 2:
				want := related(&held, &o)
				if !known {
					want = unknown
				} else if want != recreated {
					marked[k] = true
				}
				if got := l.relate(&o); got != want {
					t.Fatalf("%+v is related %d to %+v, want %d", o, got, held, want)
				}
			case 3:
				l.newRound()
				clear(marked)
			case 4:
				var got, want []string
				for o := range l.unmarked() {
					got = append(got, o.Namespace+"/"+o.Name)
				}
				for k := range m {
					if !marked[k] {
						want = append(want, k)
					}
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Fatalf("unmarked are %q, want %q", got, want)
				}
			default:
				l.put(&o)
				m[k], marked[k] = o, true
			}
			if l.size != len(m) {
				t.Fatalf("size %d, want %d", l.size, len(m))
			}
		}
		for _, o := range entries(l) {
			if !alike(m[o.Namespace+"/"+o.Name], o) {
				t.Fatalf("%+v came out as %+v", m[o.Namespace+"/"+o.Name], o)
			}
			delete(m, o.Namespace+"/"+o.Name)
		}
		if len(m) > 0 || len(l.odd) > l.size {
			t.Fatalf("lost: %+v; %d odd ones of %d", m, len(l.odd), l.size)
		}
	})
}

// related is how a state that exists compares to one of its name that was held.
func related(held, is *event.Object) relation {
	plain := func(o *event.Object) bool {
		return slices.Contains([]string{"", uuid(1), uuid(2), "0000000a-0000-4000-8000-000000000001"}, o.UID) && slices.Contains([]string{"", "1", "42", "18446744073709551615"}, o.ResourceVersion)
	}
	switch {
	case held.UID != is.UID:
		return recreated
	case held.ResourceVersion == is.ResourceVersion && held.Attribution == is.Attribution:
		return same
	case held.ResourceVersion == is.ResourceVersion:
		return forged
	case plain(held) && plain(is) && cmp.Or(cmp.Compare(len(held.ResourceVersion), len(is.ResourceVersion)), cmp.Compare(held.ResourceVersion, is.ResourceVersion)) > 0:
		return forged
	}
	return changed
}

// What exists in an older version than was seen, or in the same one but written by somebody else, is of another history.
func TestAnObjectThatGotOlderIsOfAnotherHistory(t *testing.T) {
	for _, c := range []struct {
		uid, held, is string
		by            event.Attribution
		want          relation
	}{
		{uuid(1), "9", "9", 1, same}, {uuid(1), "9", "10", 1, changed}, {uuid(1), "10", "9", 1, forged}, {uuid(1), "100", "99", 2, forged}, {uuid(1), "9", "9", 2, forged},
		{uuid(1), "18446744073709551615", "18446744073709551616", 1, changed}, {uuid(1), "", "9", 1, changed}, {uuid(2), "10", "9", 1, recreated},
	} {
		l := newLedger()
		l.put(&event.Object{Namespace: "shop", Name: "a", UID: uuid(1), ResourceVersion: c.held, Attribution: 1})
		if got := l.relate(&event.Object{Namespace: "shop", Name: "a", UID: c.uid, ResourceVersion: c.is, Attribution: c.by}); got != c.want {
			t.Errorf("%q behind %q is related %d, want %d", c.is, c.held, got, c.want)
		}
	}
}

// A deletion of an old incarnation never removes a newer one of the same name.
func TestALateDeletionRemovesNoLaterObject(t *testing.T) {
	l := newLedger()
	l.put(&event.Object{Namespace: "shop", Name: "a", UID: uuid(2), ResourceVersion: "9"})
	l.remove(&event.Object{Namespace: "shop", Name: "a", UID: uuid(1), ResourceVersion: "8"})
	if l.size != 1 {
		t.Error("the newer one is gone")
	}
	l.remove(&event.Object{Namespace: "shop", Name: "a", UID: uuid(2), ResourceVersion: "10"})
	if l.size != 0 || len(l.objects) != 0 {
		t.Errorf("%d are left, in %d namespaces", l.size, len(l.objects))
	}
}

// The ledger keeps nothing of what it is shown: that may be part of something larger.
func TestTheLedgerKeepsNothingOfAFrame(t *testing.T) {
	l := newLedger()
	piece := []byte("shopname\xffodd uid7 odd")
	o := event.Object{Namespace: string(piece[:4]), Name: string(piece[4:8]), UID: "odd uid", ResourceVersion: "7 odd"}
	l.put(&o)
	for _, got := range entries(l) {
		for what, pair := range map[string][2]string{"namespace": {got.Namespace, o.Namespace}, "name": {got.Name, o.Name}, "uid": {got.UID, o.UID},
			"version": {got.ResourceVersion, o.ResourceVersion}} {
			if pair[0] != pair[1] || unsafe.StringData(pair[0]) == unsafe.StringData(pair[1]) {
				t.Errorf("the %s %q is kept as it was given", what, pair[0])
			}
		}
	}
}

// After a rewind it is known who exists, and in no version that may come again.
func TestForgottenVersionsAreNeverTheSame(t *testing.T) {
	for _, uid := range oddUIDs {
		l := newLedger()
		l.put(&event.Object{Namespace: "shop", Name: "a", UID: uid, ResourceVersion: "9", Hashes: event.Hashes{Metadata: 1}, Attribution: 1})
		l.forgetVersions()
		if got := l.relate(&event.Object{Namespace: "shop", Name: "a", UID: uid, ResourceVersion: "9"}); got != changed {
			t.Errorf("%q at its old version is related %d", uid, got)
		}
		if e := l.get(key{"shop", "a"}); e.hashes != (event.Hashes{}) || e.attribution != 0 {
			t.Errorf("%+v and %d are remembered", e.hashes, e.attribution)
		}
	}
}

// What a sink held is loaded as it was, and an error is not taken for the end.
func TestALedgerIsLoadedAsItWasHeld(t *testing.T) {
	held := map[string]event.Object{}
	for i := range 100 {
		o := event.Object{Namespace: fmt.Sprint("ns", i%3), Name: fmt.Sprint("p", i), UID: uuid(i), ResourceVersion: fmt.Sprint(100 + i), Hashes: event.Hashes{Spec: 1, Metadata: 2, Status: 3}, Attribution: 9}
		held[o.Key()] = o
	}
	for _, broken := range []error{nil, errors.New("the disk is broken")} {
		l := newLedger()
		err := l.load(func(yield func(event.Object, error) bool) {
			for o := range maps.Values(held) {
				if !yield(o, nil) {
					return
				}
			}
			if broken != nil {
				yield(event.Object{}, broken)
			}
		})
		if !errors.Is(err, broken) {
			t.Errorf("got %v, want %v", err, broken)
		}
		for _, o := range entries(l) {
			if want := held[o.Key()]; !alike(o, want) {
				t.Errorf("%+v was loaded as %+v", want, o)
			}
		}
		if l.size != len(held) {
			t.Errorf("%d objects, want %d", l.size, len(held))
		}
	}
}

// BenchmarkLedger tells what an object takes: of 100 000 and of a million pods in a hundred namespaces.
func BenchmarkLedger(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			objects := make([]event.Object, n)
			for i := range objects {
				objects[i] = event.Object{Namespace: fmt.Sprintf("team-%d", i%100), Name: fmt.Sprintf("deployment-%07d-7d9c5b8f6-x2lqp", i), UID: uuid(i), ResourceVersion: fmt.Sprint(48_000_000 + i),
					Hashes: event.Hashes{Spec: 1, Metadata: 2, Status: 3}, Attribution: 4}
			}
			for b.Loop() {
				before := heap()
				kept := newLedger()
				for i := range objects {
					kept.put(&objects[i])
				}
				b.ReportMetric(float64(heap()-before)/float64(n), "bytes/object")
				runtime.KeepAlive(kept)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/object")
			runtime.KeepAlive(objects)
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
