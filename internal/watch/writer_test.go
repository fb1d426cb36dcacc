package watch

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"watcher/internal/event"
)

// A slowSink takes 20 MB a second.
type slowSink struct{}

func (slowSink) Close(context.Context) error                  { return nil }
func (slowSink) Recover(context.Context) (event.State, error) { return event.State{}, nil }

func (slowSink) Commit(_ context.Context, b event.Batch) error {
	n := 0
	for _, ev := range b.Events {
		n += len(ev.Object.Body)
	}
	time.Sleep(time.Duration(n) * 50 * time.Nanosecond)
	return nil
}

// While the buffer is full each stream gets its turn, whatever the size of its events.
func TestAFullBufferIsSharedFairly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWriter(slowSink{}, event.State{}, zap.NewNop())
		w.limit = 16 << 20
		ctx, cancel := context.WithCancel(t.Context())
		var pool framePool
		var running sync.WaitGroup
		running.Go(func() { _ = w.loop(ctx) }) // until it is cancelled
		sizes := []int{6000, 6000, 6000, 500_000, 1_500_000}
		puts := make([]int, len(sizes))
		for i, n := range sizes {
			s := event.NewStream(event.StreamName{Resource: "x"})
			running.Go(func() {
				for ; ctx.Err() == nil; puts[i]++ {
					f := pool.get(n)
					f.Stream, f.Type, f.Object.Body = s, event.Modified, f.buf[:n]
					w.put(ctx, []item{{stream: s, event: &f.Event, frame: f}})
				}
			})
		}
		time.Sleep(time.Minute)
		cancel()
		running.Wait()
		if slices.Min(puts) < slices.Max(puts)/20 { // it was a three hundredth
			t.Errorf("streams with events of %v bytes put %v", sizes, puts)
		}
	})
}
