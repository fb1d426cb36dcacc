package verify_test

import (
	"slices"
	"strings"
	"testing"

	"watcher/internal/event"
	"watcher/internal/verify"
)

// kinds are the kinds of the findings, in the order of the lines, with their lines.
func kinds(r *verify.Report) (kinds []verify.Kind, lines []int) {
	for _, f := range r.Findings {
		kinds, lines = append(kinds, f.Kind), append(lines, f.Line)
	}
	return kinds, lines
}

// expect fails unless the log has just these findings.
func expect(t *testing.T, lines []string, want ...verify.Kind) {
	t.Helper()
	r := read(lines)
	if got, _ := kinds(r); !slices.Equal(got, want) || r.OK != (len(want) == 0) {
		t.Errorf("ok %v, findings %v, want %v\n%s", r.OK, got, want, said(r))
	}
}

// begun is a log whose stream has listed shop/a@3 and shop/b@5, at 10.
func begun() (*book, *pen) {
	b := newBook()
	pods := b.pods()
	b.starts()
	pods.started("10", false)
	pods.present("shop/a@3")
	pods.present("shop/b@5")
	pods.synced("10", 2)
	return b, pods
}

// TestWhatTheLogSaysItMissedIsFound: the log may be whole, and yet not everything is accounted for.
func TestWhatTheLogSaysItMissedIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		write func(b *book, p *pen)
		want  []verify.Kind
	}{
		"Restart": {func(b *book, p *pen) {
			p.stopped("10")
			b.starts()
			p.seq = 0
			p.started("20", false)
			p.present("shop/a@3")
			p.synced("20", 1)
		}, []verify.Kind{verify.Restart}},
		"RestartBehindAListWhoseEndWasNotSaved": {func(b *book, p *pen) {
			b.starts()
			p.say(event.Started, event.StartedData{Namespaces: []string{}, Payload: "full", ResourceVersion: "20", Reason: event.Unfinished, Seq: p.seq, WatcherVersion: "v0"})
			p.synced("20", 0)
		}, nil},
		"RestartWithoutAList": {func(b *book, _ *pen) {
			q := b.pen(event.StreamName{Resource: "services", Kind: "Service"})
			q.started("10", false)
			q.added("shop/s@11")
			b.starts()
			q.seq = 0
			q.started("20", false)
			q.added("shop/t@21")
		}, []verify.Kind{verify.Restart}},
		"RestartThatLostItsFirstEvent": {func(b *book, p *pen) {
			b.starts()
			p.seq = 0
			p.started("20", false)
			p.seq++
			p.added("shop/t@21")
		}, []verify.Kind{verify.Restart, verify.Missing}},
		"DeletionsUnknown": {func(_ *book, p *pen) {
			p.gap("expired", "10")
			p.object(event.Present, event.Repair, "shop/a@3")
			p.repaired("20", "unknown", 1)
		}, []verify.Kind{verify.Deletions}},
		"AFirstListThatBeganAgain": {func(b *book, _ *pen) {
			q := b.pen(event.StreamName{Resource: "services", Kind: "Service"})
			q.started("10", false)
			q.present("shop/s@4")
			q.gap("expired", "10")
			q.object(event.Present, event.Repair, "shop/s@11")
			q.repaired("20", "unknown", 1)
			q.modified("shop/t@21")
		}, []verify.Kind{verify.Deletions, verify.Missing}},
		"UnfinishedRepair": {func(_ *book, p *pen) {
			p.gap("expired", "10")
			p.object(event.Modified, event.Repair, "shop/a@13")
		}, []verify.Kind{verify.Unhealed}},
		"StoppedInARepair": {func(_ *book, p *pen) {
			p.gap("expired", "10")
			p.stopped("10")
		}, []verify.Kind{verify.Unhealed}},
		"ResumedBehindAnUnfinishedRepair": {func(b *book, p *pen) {
			p.gap("expired", "10")
			b.starts()
			p.started("20", true)
		}, []verify.Kind{verify.Unhealed, verify.Unhealed}},
		"ACrashBehindWhatEndedARewind": {func(b *book, p *pen) {
			p.gap("rewind", "10")
			p.object(event.Present, event.Repair, "shop/a@2")
			p.object(event.Deleted, event.Repair, "shop/b@4", inferred)
			p.repaired("4", "known", 1, 0, 0, 1) // of all this the first event is saved
			b.starts()
			p.seq--
			p.started("6", false)
			p.present("shop/a@2")
			p.object(event.Deleted, event.Snapshot, "shop/b@6", inferred)
			p.synced("6", 1, 0, 0, 1)
		}, []verify.Kind{verify.Restart}},
		"ASecondGapInARepair": {func(_ *book, p *pen) {
			p.gap("expired", "10")
			p.gap("sink", "12")
			p.repaired("20", "known")
		}, []verify.Kind{verify.Unhealed}},
	} {
		t.Run(name, func(t *testing.T) {
			b, p := begun()
			c.write(b, p)
			expect(t, b.lines, c.want...)
		})
	}
}

// TestWhatCannotHaveHappenedIsFound: each is a log that holds together line by line.
func TestWhatCannotHaveHappenedIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		write func(b *book, p *pen)
		want  []verify.Kind
	}{
		"AddedThoughItExists":               {func(_ *book, p *pen) { p.added("shop/a@11") }, []verify.Kind{verify.Order}},
		"ModifiedThoughNobodyKnowsIt":       {func(_ *book, p *pen) { p.modified("shop/x@11") }, []verify.Kind{verify.Missing}},
		"DeletedThoughNobodyKnowsIt":        {func(_ *book, p *pen) { p.deleted("shop/x@11") }, []verify.Kind{verify.Missing}},
		"ModifiedAfterItsDeletion":          {func(_ *book, p *pen) { p.deleted("shop/a@11"); p.modified("shop/a@12") }, []verify.Kind{verify.Order}},
		"DeletedTwice":                      {func(_ *book, p *pen) { p.deleted("shop/a@11"); p.deleted("shop/a@12") }, []verify.Kind{verify.Repeated}},
		"TwoChangesOfOneObjectAtOneVersion": {func(_ *book, p *pen) { p.modified("shop/a@11"); p.modified("shop/a@11") }, []verify.Kind{verify.Repeated}},
		"AnOlderVersion":                    {func(_ *book, p *pen) { p.modified("shop/a@13"); p.modified("shop/b@12") }, []verify.Kind{verify.Order}},
		"AVersionBeforeThePosition":         {func(_ *book, p *pen) { p.progress("20"); p.modified("shop/a@15") }, []verify.Kind{verify.Order}},
		"AVersionBeforeTheList":             {func(_ *book, p *pen) { p.modified("shop/a@9") }, []verify.Kind{verify.Order}},
		"ThePositionGoesBack":               {func(_ *book, p *pen) { p.progress("20"); p.progress("19") }, []verify.Kind{verify.Order}},
		"AnOlderVersionInARepair": {func(_ *book, p *pen) {
			p.modified("shop/a@11")
			p.gap("expired", "10")
			p.object(event.Modified, event.Repair, "shop/b@14")
			p.object(event.Modified, event.Repair, "shop/b@13")
			p.repaired("20", "known", 0, 0, 2)
		}, []verify.Kind{verify.Order}},
		"AChangeFromBeforeTheGap": {func(_ *book, p *pen) {
			p.progress("15")
			p.gap("expired", "15")
			p.object(event.Modified, event.Repair, "shop/b@14")
			p.repaired("20", "known", 0, 0, 1)
		}, []verify.Kind{verify.Order}},
		"AChangeFromAfterTheRepair": {func(_ *book, p *pen) {
			p.gap("expired", "10")
			p.object(event.Modified, event.Repair, "shop/b@21")
			p.repaired("20", "known", 0, 0, 1)
		}, []verify.Kind{verify.Order}},
		"AGapAfterWhatIsNotThePosition":  {func(_ *book, p *pen) { p.progress("15"); p.gap("expired", "12"); p.repaired("20", "known") }, []verify.Kind{verify.Order}},
		"SyncedOfARepairBeforeTheGap":    {func(_ *book, p *pen) { p.gap("expired", "15"); p.repaired("12", "known") }, []verify.Kind{verify.Order}},
		"SyncedOfNothing":                {func(_ *book, p *pen) { p.synced("20") }, []verify.Kind{verify.Missing}},
		"SyncedOfARepairThatSaysNothing": {func(_ *book, p *pen) { p.gap("expired", "10"); p.synced("20") }, []verify.Kind{verify.Altered, verify.Deletions}},
		"AnEventInNoGap":                 {func(_ *book, p *pen) { p.gapID = "pods.gap.1.1"; p.object(event.Modified, event.Repair, "shop/a@11") }, []verify.Kind{verify.Order}},
		"AnEventOfAnotherGap": {func(_ *book, p *pen) {
			p.gap("expired", "10")
			p.gapID = "pods.gap.1000.9"
			p.object(event.Modified, event.Repair, "shop/a@11")
			p.repaired("20", "known", 0, 0, 1)
		}, []verify.Kind{verify.Order}},
		"SyncedCountsLess": {func(_ *book, p *pen) {
			p.gap("expired", "10")
			p.object(event.Modified, event.Repair, "shop/a@11")
			p.repaired("20", "known")
		}, []verify.Kind{verify.Order}},
		"NobodyKnowsItAfterARewind": {func(b *book, _ *pen) {
			q := b.pen(event.StreamName{Resource: "services", Kind: "Service"})
			q.started("10", false)
			q.modified("shop/s@11") // not listed
			q.gap("rewind", "10")
			q.object(event.Present, event.Repair, "shop/s@4")
			q.repaired("5", "known", 1)
			q.modified("shop/t@6")
		}, []verify.Kind{verify.Missing}},
		"WhatALostLineExplains": {func(_ *book, p *pen) {
			p.seq++ // shop/x was added
			p.modified("shop/x@12")
		}, []verify.Kind{verify.Missing}},
		"APresentBehindTheList":     {func(_ *book, p *pen) { p.present("shop/c@9") }, []verify.Kind{verify.Order}},
		"AnEventAfterStopped":       {func(_ *book, p *pen) { p.stopped("10"); p.modified("shop/a@11") }, []verify.Kind{verify.Order}},
		"StoppedWithoutThePosition": {func(_ *book, p *pen) { p.stopped("") }, []verify.Kind{verify.Altered}},
		"ResumedBehindStopped":      {func(b *book, p *pen) { p.stopped("10"); b.starts(); p.started("12", true) }, []verify.Kind{verify.Missing}},
		"ResumedInAnUnfinishedList": {func(b *book, p *pen) {
			q := b.pen(event.StreamName{Resource: "services", Kind: "Service"})
			q.started("10", false)
			q.present("shop/s@4")
			b.starts()
			q.started("10", true)
		}, []verify.Kind{verify.Missing}},
		"TheEndOfARunIsLost": {func(b *book, p *pen) {
			p.seq += 2
			b.starts()
			p.started("12", true)
			p.modified("shop/b@13")
		}, []verify.Kind{verify.Missing}},
		"TheEndOfAListIsLost": {func(b *book, _ *pen) {
			q := b.pen(event.StreamName{Resource: "services", Kind: "Service"})
			q.started("10", false)
			q.present("shop/s@4")
			q.seq++
			b.starts()
			q.started("12", false)
			q.synced("12")
		}, []verify.Kind{verify.Missing}},
		"ARunGoesOnElsewhere": {func(b *book, p *pen) {
			p.modified("shop/a@11")
			b.starts()
			p.started("10", true)
			p.seq--
			p.modified("shop/a@11")
		}, []verify.Kind{verify.Repeated}},
		"AVersionTwiceBehindARewindThatIsHealed": {func(b *book, p *pen) {
			p.gap("rewind", "10")
			p.object(event.Present, event.Repair, "shop/a@2")
			p.object(event.Deleted, event.Repair, "shop/b@4", inferred)
			p.repaired("4", "known", 1, 0, 0, 1)
			p.modified("shop/a@5")
			b.starts()
			p.started("4", true)
			p.modified("shop/a@5")
		}, []verify.Kind{verify.Repeated}},
		"OneLineIsLate": {func(b *book, p *pen) {
			p.modified("shop/a@11")
			p.modified("shop/b@12")
			p.modified("shop/a@13")
			n := len(b.lines)
			b.lines[n-2], b.lines[n-1] = b.lines[n-1], b.lines[n-2]
		}, []verify.Kind{verify.Missing, verify.Order}},
		"OneLineComesTwice": {func(b *book, p *pen) {
			p.modified("shop/a@11")
			p.modified("shop/b@12")
			b.lines = append(b.lines, b.lines[len(b.lines)-2])
		}, []verify.Kind{verify.Repeated}},
		"OneLineOfAnEarlierLog": {func(b *book, _ *pen) {
			q := b.pen(event.StreamName{Resource: "services", Kind: "Service"})
			q.seq = 700
			q.started("10", true)
			q.seq = 600
			q.modified("shop/s@11")
		}, []verify.Kind{verify.Order}},
		"FilteredGoesBack": {func(_ *book, p *pen) {
			p.say(event.Progress, event.ProgressData{ResourceVersion: "10", Seq: p.seq, Filtered: 5})
			p.progress("10")
		}, []verify.Kind{verify.Altered}},
		"TheSameRunAgain": {func(b *book, p *pen) {
			b.starts()
			p.started("10", true)
			b.run -= 1000
			p.started("10", true)
		}, []verify.Kind{verify.Order}},
		"NoEvent": {func(b *book, _ *pen) { b.lines = append(b.lines, `{"level":"info","message":"watching"}`) }, []verify.Kind{verify.Altered}},
		"AKeyThatIsTwice": {func(b *book, p *pen) {
			p.modified("shop/a@11")
			last := &b.lines[len(b.lines)-1]
			*last = strings.Replace(*last, `"seq":`, `"seq":1,"seq":`, 1)
			p.progress("10")
		}, []verify.Kind{verify.Altered, verify.Missing}},
		"ATornLineAmongOthers": {func(b *book, p *pen) { b.torn(); p.modified("shop/a@11") }, []verify.Kind{verify.Torn}},
		"ATornLineBeforeAnotherStreamOfTheRun": {func(b *book, _ *pen) {
			b.torn()
			b.pen(event.StreamName{Resource: "services", Kind: "Service"}).started("10", false)
		}, []verify.Kind{verify.Torn}},
	} {
		t.Run(name, func(t *testing.T) {
			b, p := begun()
			c.write(b, p)
			expect(t, b.lines, c.want...)
		})
	}
}

// TestWhatMayHappenIsClean: what looks odd and is no loss.
func TestWhatMayHappenIsClean(t *testing.T) {
	for name, write := range map[string]func(b *book, p *pen){
		"ManyAtOneVersion": func(_ *book, p *pen) { p.deleted("shop/a@11"); p.deleted("shop/b@11") },
		"ReCreated": func(_ *book, p *pen) {
			p.deleted("shop/a@11")
			p.object(event.Added, event.Live, "shop/a@12", func(ev *event.Event) { ev.Object.UID = "another" })
		},
		"WithoutUID": func(_ *book, p *pen) {
			none := func(ev *event.Event) { ev.Object.UID = "" }
			p.object(event.Added, event.Live, "shop/x@11", none)
			p.object(event.Deleted, event.Live, "shop/x@12", none)
			p.object(event.Added, event.Live, "shop/x@13", none)
		},
		"LeftAndBack": func(_ *book, p *pen) { p.object(event.Left, event.Live, "shop/a@11"); p.added("shop/a@12") },
		"ABookmarkFarAhead": func(b *book, p *pen) {
			p.modified("shop/a@11")
			b.starts()
			p.started("500", true)
			p.modified("shop/a@501")
		},
		"AFilterThatIsNew": func(b *book, p *pen) {
			p.modified("shop/a@11")
			p.modified("shop/b@12")
			b.starts()
			p.filter = []string{"spec"}
			p.seq -= 2
			p.started("10", true)
			p.modified("shop/b@12")
		},
		"ARepairOfNothingInsteadOfRepeats": func(b *book, p *pen) {
			p.added("shop/x@11") // both are gone when the gap is repaired
			p.added("shop/y@12")
			b.starts()
			p.started("10", true)
			p.gap("expired", "10")
			p.repaired("20", "known")
			b.starts()
			p.seq -= 2
			p.started("20", true)
			p.added("shop/z@21")
			p.modified("shop/a@22")
			p.deleted("shop/z@23")
		},
		"TwoRunsThatRepeat": func(b *book, p *pen) {
			p.modified("shop/a@11")
			p.modified("shop/b@12")
			for range 2 {
				b.starts()
				p.seq -= 2
				p.started("10", true)
				p.modified("shop/a@11")
				p.modified("shop/b@12")
			}
			p.modified("shop/a@13")
		},
		"ARepairInsteadOfRepeats": func(b *book, p *pen) {
			p.modified("shop/a@11")
			p.added("shop/x@12") // gone when the repair begins
			p.deleted("shop/b@13")
			b.starts()
			p.seq -= 3
			p.started("10", true)
			p.gap("expired", "10")
			p.object(event.Modified, event.Repair, "shop/a@11")
			p.object(event.Modified, event.Repair, "shop/a@15")
			p.object(event.Deleted, event.Repair, "shop/b@13")
			p.repaired("20", "known", 0, 0, 2, 1)
			p.added("shop/y@21")
			p.modified("shop/a@22")
		},
		"ResumedBeforeAGapThatWasNotSaved": func(b *book, p *pen) {
			p.gap("forbidden", "10")
			p.object(event.Modified, event.Repair, "shop/a@11")
			p.repaired("20", "known", 0, 0, 1)
			b.starts()
			p.seq--
			p.started("10", true)
			p.modified("shop/a@11")
			p.modified("shop/b@12")
		},
		"AllNamespacesAndThenOne": func(b *book, p *pen) {
			p.stopped("10")
			b.starts()
			q := b.pen(event.StreamName{Resource: "pods", Kind: "Pod", Namespace: "shop"})
			q.started("11", false)
			q.present("shop/a@3")
			q.synced("11", 1)
			q.modified("shop/a@12")
			q.stopped("11")
			b.starts()
			p.started("10", true)
			p.modified("shop/a@12")
			p.stopped("11")
		},
		"OmittedObjects": func(_ *book, p *pen) {
			p.object(event.Modified, event.Live, "shop/a@11", func(ev *event.Event) { ev.Inferred = true })
		},
		"AStaleObject": func(_ *book, p *pen) {
			p.gap("expired", "10")
			p.object(event.Deleted, event.Repair, "shop/a@20", func(ev *event.Event) {
				was := ev.Object
				was.ResourceVersion = "3"
				ev.Stale, ev.Object.Body = true, body(&was, `{}`)
			})
			p.repaired("20", "known", 0, 0, 0, 1)
		},
		"KilledInARewindThatWasNotSaved": func(b *book, p *pen) {
			rewind := func() {
				p.gap("rewind", "10")
				p.object(event.Present, event.Repair, "shop/a@2")
				p.object(event.Deleted, event.Repair, "shop/b@4", inferred)
			}
			rewind()
			b.starts()
			p.epoch, p.seq = 0, p.seq-2
			p.started("10", true)
			rewind()
			p.repaired("4", "known", 1, 0, 0, 1)
			p.modified("shop/a@5")
		},
		"AGapWithoutAFirstList": func(b *book, _ *pen) {
			q := b.pen(event.StreamName{Resource: "services", Kind: "Service"})
			q.started("10", false)
			q.gap("expired", "10")
			q.object(event.Modified, event.Repair, "shop/s@11")
			q.repaired("20", "known", 0, 0, 1)
			q.modified("shop/t@21")
		},
		"ACrashBehindARewind": func(b *book, p *pen) {
			p.gap("rewind", "10")
			p.object(event.Present, event.Repair, "shop/a@2")
			for _, at := range []string{"5", "7"} {
				b.starts()
				p.started(at, false)
				p.present("shop/a@2")
			}
			p.object(event.Deleted, event.Snapshot, "shop/b@7", inferred)
			p.synced("7", 1, 0, 0, 1)
			p.modified("shop/a@8")
		},
		"ARewindInAnUnfinishedList": func(b *book, _ *pen) {
			q := b.pen(event.StreamName{Resource: "services", Kind: "Service"})
			q.started("10", false)
			q.present("shop/s@4")
			q.present("shop/t@10")
			b.starts()
			q.started("10", false)
			q.gap("rewind", "10")
			q.object(event.Present, event.Repair, "shop/s@4")
			q.object(event.Deleted, event.Repair, "shop/t@6", inferred)
			q.repaired("6", "known", 1, 0, 0, 1)
			q.deleted("shop/s@7")
		},
		"AListThatIsForgottenInsteadOfBegunAgain": func(b *book, _ *pen) {
			q := b.pen(event.StreamName{Resource: "services", Kind: "Service"})
			q.started("10", false)
			q.present("shop/s@4")
			q.present("shop/t@5")
			b.starts()
			q.started("20", false)
			q.present("shop/u@11")
			q.gap("expired", "20")
			q.object(event.Deleted, event.Repair, "shop/t@20", inferred)
			q.repaired("20", "known", 0, 0, 0, 1)
			q.modified("shop/s@21")
		},
		"WhatLeftComesAgain": func(b *book, p *pen) {
			p.object(event.Left, event.Live, "shop/a@11")
			b.starts()
			p.seq--
			p.started("10", true)
			p.object(event.Left, event.Live, "shop/a@11")
		},
		"TwoTornLines": func(b *book, p *pen) { b.torn(); b.torn(); b.starts(); p.started("10", true) },
		"ATornEnd":     func(b *book, _ *pen) { b.torn() },
	} {
		t.Run(name, func(t *testing.T) {
			b, p := begun()
			write(b, p)
			expect(t, b.lines)
		})
	}
}

// TestAnInputThatIsNoLogIsRefused, and one that only ends badly is not.
func TestAnInputThatIsNoLogIsRefused(t *testing.T) {
	whole := strings.Join(rich(), "\n") + "\n"
	for name, c := range map[string]struct{ input, says string }{
		"Empty":             {"", "no log of events: it is empty"},
		"Text":              {"21:04:05 modified deployments  shop/web        spec\n", "'watcher run -o json'"},
		"Diagnostics":       {`{"level":"info","message":"watching"}` + "\n", "'watcher run -o json'"},
		"OneEndlessLine":    {strings.Repeat("x", 65<<20), "line 1 is longer than 64 MiB"},
		"Whole":             {whole, ""},
		"WithoutItsNewline": {strings.TrimSuffix(whole, "\n"), ""},
		"ATornEnd":          {whole + `{"specversion":"1.0","i`, ""},
	} {
		l := verify.New()
		err := l.Read(strings.NewReader(c.input))
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
		if r := l.Report(); err == nil && (!r.OK || r.Lines != strings.Count(strings.TrimSuffix(c.input, "\n"), "\n")+1) {
			t.Errorf("%s: %d lines\n%s", name, r.Lines, said(r))
		}
	}
}

// TestABrokenLogIsDescribedBriefly: what a reader keeps of it does not grow with what is wrong.
func TestABrokenLogIsDescribedBriefly(t *testing.T) {
	b, p := begun()
	for range 500 {
		p.seq++ // lost
		p.object(event.Modified, event.Live, "shop/a@11")
	}
	r := read(b.lines)
	if n := len(r.Findings); n > 40 || r.Kinds[verify.Missing] != 500 || r.Streams[0].Missing != 500 {
		t.Errorf("%d findings, %v, %d missing", n, r.Kinds, r.Streams[0].Missing)
	}
}

// TestLongLinesAreRead: an object may have megabytes.
func TestLongLinesAreRead(t *testing.T) {
	b, p := begun()
	long := `{"text":"` + strings.Repeat("x", 3<<20) + `"}`
	for _, what := range []string{"shop/a@11", "shop/b@12"} {
		p.object(event.Modified, event.Live, what, func(ev *event.Event) { ev.Object.Body = body(&ev.Object, long) })
		p.progress("10")
	}
	l := verify.New()
	if err := l.Read(strings.NewReader(strings.Join(b.lines, "\n") + "\n")); err != nil {
		t.Fatal(err)
	}
	if r := l.Report(); r.Lines != len(b.lines) || !r.OK {
		t.Errorf("%d lines of %d\n%s", r.Lines, len(b.lines), said(r))
	}
}
