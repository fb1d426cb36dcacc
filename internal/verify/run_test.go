package verify_test

import (
	"slices"
	"testing"

	"watcher/internal/event"
	"watcher/internal/verify"
)

// TestAnUnfinishedFirstListIsALossOnlyAtTheEnd: nothing was covered yet, so nothing is lost when it begins again.
func TestAnUnfinishedFirstListIsALossOnlyAtTheEnd(t *testing.T) {
	b := newBook()
	p := b.pods()
	b.starts()
	p.started("10", false)
	p.present("shop/a@3")
	expect(t, b.lines, verify.Unhealed)
	b.starts()
	p.started("20", false)
	p.present("shop/b@5") // shop/a is held already
	p.synced("20", 1)
	p.modified("shop/a@21")
	expect(t, b.lines)
}

// TestALogMayBeginInTheMiddle: with --initial none, or where the one before ends. What it does not name may exist.
func TestALogMayBeginInTheMiddle(t *testing.T) {
	b := newBook()
	p, q := b.pods(), b.pen(event.StreamName{Resource: "services", Kind: "Service"})
	b.starts()
	p.started("10", false)
	p.modified("shop/a@11")
	p.deleted("shop/b@12")
	p.progress("11")
	q.seq = 700
	q.started("10", true)
	q.modified("shop/a@11")
	q.progress("10")
	b.starts()
	q.seq--
	q.started("10", true)
	q.modified("shop/a@11")
	p.started("11", true)
	p.modified("shop/c@13")
	expect(t, b.lines)
	r := read(b.lines)
	if r.Streams[0].From != "10" || r.Streams[0].To != "11" || r.Streams[1].Repeated != 1 {
		t.Errorf("%+v", r.Streams)
	}
	expect(t, slices.Delete(slices.Clone(b.lines), 1, 2), verify.Missing) // without a list seq begins at 1
}

// TestALogMayBeginInTheMiddleOfAList: what the log before has of it is not listed again.
func TestALogMayBeginInTheMiddleOfAList(t *testing.T) {
	for name, c := range map[string]struct {
		write    func(b *book, p *pen)
		unlisted int
		want     []verify.Kind
	}{
		"ToItsEnd": {func(*book, *pen) {}, 1, nil},
		"AndANewOne": {func(b *book, p *pen) {
			b.starts()
			p.seq = 0
			p.started("20", false)
			p.present("shop/a@3")
			p.synced("20", 1)
		}, 0, []verify.Kind{verify.Restart}},
		"AndARepairOfALostGap": {func(_ *book, p *pen) {
			p.gapID = "pods.gap.1000.3"
			p.n++
			p.object(event.Deleted, event.Repair, "shop/c@20", inferred)
			p.repaired("20", "known", 0, 0, 0, 1)
		}, 1, []verify.Kind{verify.Order, verify.Missing}},
		"AndARewind": {func(_ *book, p *pen) {
			p.gap("rewind", "10")
			p.object(event.Present, event.Repair, "shop/a@3")
			p.repaired("20", "known", 1)
		}, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBook()
			p := b.pods()
			p.seq = 700
			b.starts()
			p.started("10", false)
			p.present("shop/a@3")
			p.synced("10", 1)
			c.write(b, p)
			expect(t, b.lines, c.want...)
			l := verify.New()
			for _, line := range b.lines {
				l.Line([]byte(line))
			}
			if err := l.Compare(l.Claims()[0], cluster("shop/a@3", "shop/b@5")); err != nil {
				t.Fatal(err)
			}
			if live := l.Report().Live[0]; live.Unlisted != c.unlisted || live.Different != 1-c.unlisted {
				t.Errorf("%+v", live)
			}
		})
	}
}

// TestWhatACrashTookBackIsCounted, and what another beginning leaves behind is not.
func TestWhatACrashTookBackIsCounted(t *testing.T) {
	b, p := begun()
	p.modified("shop/a@11")
	p.modified("shop/b@12")
	b.starts()
	p.seq--
	p.started("11", true)
	p.modified("shop/b@12")
	p.stopped("11")
	b.starts()
	p.seq = 0
	p.started("20", false)
	if r := read(b.lines); r.Streams[0].Repeated != 1 {
		t.Errorf("%d repeated", r.Streams[0].Repeated)
	}
}

// TestARewindInAnUnfinishedListCoversNothing: what was listed is of another history.
func TestARewindInAnUnfinishedListCoversNothing(t *testing.T) {
	b := newBook()
	p := b.pods()
	b.starts()
	p.started("10", false)
	p.present("shop/a@3")
	b.starts()
	p.started("10", false)
	p.gap("rewind", "10")
	if r := read(b.lines); r.Streams[0].To != "" {
		t.Errorf("covered up to %s", r.Streams[0].To)
	}
}
