package verify_test

import (
	"fmt"
	"strings"
	"testing"

	"watcher/internal/event"
	"watcher/internal/verify"
)

// BenchmarkLine is the reading of a log, with objects of 1 and of 6 KB.
func BenchmarkLine(b *testing.B) {
	for _, size := range []int{1 << 10, 6 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			book := newBook()
			pods := book.pods()
			book.starts()
			pods.started("10", false)
			pods.synced("10")
			spec := `{"containers":[` + strings.TrimSuffix(strings.Repeat(`{"name":"web","image":"nginx:1.27","ports":[{"containerPort":80,"protocol":"TCP"}]},`, size/80), ",") + `]}`
			const n = 5000
			total := 0
			for i := range n {
				pods.object(event.Added, event.Live, fmt.Sprintf("shop/web-%d@%d", i, 11+i), func(ev *event.Event) { ev.Object.Body = body(&ev.Object, spec) })
				total += len(book.lines[len(book.lines)-1])
			}
			b.SetBytes(int64(total))
			b.ReportAllocs()
			for b.Loop() {
				log := verify.New()
				for _, l := range book.lines {
					log.Line([]byte(l))
				}
				if r := log.Report(); !r.OK {
					b.Fatal(said(r))
				}
			}
		})
	}
}
