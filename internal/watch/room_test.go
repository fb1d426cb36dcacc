package watch

import (
	"testing"
	"testing/synctest"

	"go.uber.org/zap"

	"k8s.io/apimachinery/pkg/watch"

	"watcher/internal/event"
)

// A tap is a watch that has delivered something and says nothing more.
type tap chan watch.Event

func (c tap) ResultChan() <-chan watch.Event { return c }
func (c tap) Stop()                          {}

// A watch that reads ahead gives back all the room that it took: for what was taken from it, whose memory may be used again at
// once, for what found no room, and for what nobody took. It delivers what it has kept, and nothing else.
func TestWhatIsReadAheadGivesItsRoomBack(t *testing.T) {
	const sent = 20
	for name, c := range map[string]struct {
		limit, taken, kept int // of sent
	}{
		"all is taken":     {16 << 20, sent, sent},
		"some is taken":    {16 << 20, 7, sent},
		"there is no room": {200_000, 3, 3}, // half of it is for three times 8 KiB and a little more, each
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var pool framePool
				live := make(tap, sent)
				for range sent {
					fs := pool.none()
					for range 3 {
						*fs = append(*fs, pool.get(8<<10))
					}
					live <- watch.Event{Type: watch.Modified, Object: fs}
				}
				w := newWriter(slowSink{}, event.State{}, zap.NewNop())
				w.limit = c.limit
				a := readAhead(live, w.reserve)
				synctest.Wait()
				if w.kept < c.kept*3*(8<<10) || w.kept > c.limit/2 {
					t.Errorf("%d bytes are kept of %d", w.kept, c.limit)
				}
				for range c.taken {
					e := <-a.ResultChan()
					pool.passed(e.Object.(*frames))
				}
				if c.kept < sent {
					if _, more := <-a.ResultChan(); more {
						t.Error("something is delivered behind what found no room")
					}
				}
				a.Stop()
				if a.full != (c.kept < sent) || w.kept != 0 {
					t.Errorf("full is %v, and %d bytes were never given back", a.full, w.kept)
				}
			})
		})
	}
}
