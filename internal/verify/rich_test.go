package verify_test

import "watcher/internal/event"

// rich is a clean log with all that may be in one: two streams whose lines are mixed, a kill with a torn line and repeats,
// a gap healed at every level, one that a kill cut short, a rewind, --only, selectors that objects leave.
func rich() []string {
	b := newBook()
	pods, svc := b.pods(), b.pen(event.StreamName{Resource: "services", Kind: "Service", Namespace: "shop"})
	svc.filter = []string{"spec"}

	b.starts()
	pods.started("10", false)
	pods.present("shop/a@3")
	svc.started("10", false)
	pods.present("shop/b@5")
	svc.present("shop/s@4")
	pods.present("shop/c@10")
	pods.synced("10", 3)
	svc.synced("10", 1)
	pods.added("shop/d@11")
	svc.modified("shop/s@12")
	pods.modified("shop/a@13")
	pods.progress("11")
	svc.progress("10")
	pods.deleted("shop/b@14") // two at one version
	pods.deleted("shop/c@14")
	pods.modified("shop/a@15")
	svc.added("shop/t@16")
	b.torn() // killed; what is saved is seq 5 at version 13

	b.starts()
	pods.seq = 5
	pods.started("13", true)
	svc.started("12", true)
	pods.deleted("shop/b@14")
	pods.deleted("shop/c@14")
	pods.modified("shop/a@15")
	pods.added("shop/e@17")
	svc.progress("16")
	pods.added("shop/g@18")
	pods.progress("18") // a bookmark
	pods.gap("expired", "18")
	pods.object(event.Modified, event.Repair, "shop/a@20") // history
	svc.modified("shop/t@19")
	pods.object(event.Modified, event.Repair, "shop/a@22")
	pods.object(event.Deleted, event.Repair, "shop/d@21")
	pods.object(event.Modified, event.Repair, "shop/e@25")          // net
	pods.object(event.Deleted, event.Repair, "shop/g@30", inferred) // inferred
	pods.object(event.Added, event.Repair, "shop/h@27")
	pods.repaired("30", "known", 0, 1, 3, 2)
	pods.modified("shop/a@31")
	pods.progress("30")
	svc.progress("19")
	pods.modified("shop/h@32")
	pods.gap("sink", "32")
	pods.object(event.Modified, event.Repair, "shop/a@35")
	pods.object(event.Added, event.Repair, "shop/i@36") // gone when the repair begins again
	b.lines = append(b.lines, "")                       // killed; what is saved is the gap at 32

	b.starts()
	pods.seq -= 2
	pods.started("32", true)
	pods.gap("sink", "32")
	svc.started("19", true)
	pods.object(event.Modified, event.Repair, "shop/a@35")
	pods.object(event.Added, event.Repair, "shop/f@37")
	pods.repaired("40", "known", 0, 1, 1)
	svc.progress("21")
	pods.progress("40")
	pods.gap("rewind", "40")
	pods.object(event.Present, event.Repair, "shop/a@20")
	pods.object(event.Present, event.Repair, "shop/f@21")
	pods.object(event.Deleted, event.Repair, "shop/e@25", inferred)
	pods.object(event.Deleted, event.Repair, "shop/h@25", inferred)
	pods.repaired("25", "known", 2, 0, 0, 2)
	pods.modified("shop/f@26")
	svc.deleted("shop/s@27")
	pods.progress("25")
	pods.deleted("shop/f@28")
	pods.modified("shop/a@29")
	pods.stopped("28")
	svc.stopped("26")

	b.starts()
	web := b.pen(event.StreamName{Resource: "pods", Kind: "Pod", LabelSelector: "app=web"})
	web.started("30", false)
	web.present("shop/a@29")
	web.synced("30", 1)
	web.object(event.Left, event.Live, "shop/a@31", func(ev *event.Event) { ev.Ambiguous = true })
	web.added("shop/a@32")
	web.progress("31")
	web.modified("shop/a@33")
	web.stopped("32")
	return b.lines
}
