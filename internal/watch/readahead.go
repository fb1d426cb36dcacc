package watch

import (
	"sync"

	"k8s.io/apimachinery/pkg/watch"
)

// A readahead is a watch that reads on while nobody takes what it delivers: opened before a repair it keeps what happens
// meanwhile, so that a repair that takes long does not expire in its turn. What it keeps is charged to the writer's
// buffer. When there is no room it ends, as any watch may, behind what it has kept.
type readahead struct {
	watch.Interface
	out  chan watch.Event
	end  chan struct{}
	once sync.Once
	done sync.WaitGroup
	full bool // there was no room; set before out is closed
}

// readAhead begins to read w. reserve charges bytes, or refuses to; a negative number gives them back.
func readAhead(w watch.Interface, reserve func(bytes int) bool) *readahead {
	a := &readahead{Interface: w, out: make(chan watch.Event), end: make(chan struct{})}
	a.done.Go(func() { a.run(reserve) })
	return a
}

// ResultChan implements watch.Interface.
func (a *readahead) ResultChan() <-chan watch.Event { return a.out }

// Stop implements watch.Interface, and joins.
func (a *readahead) Stop() {
	a.once.Do(func() { close(a.end) })
	a.Interface.Stop()
	a.done.Wait()
}

func (a *readahead) run(reserve func(int) bool) {
	defer close(a.out)
	var queue []weighed
	defer func() {
		for _, e := range queue {
			reserve(-e.weight)
		}
	}()
	in := a.Interface.ResultChan()
	for in != nil || len(queue) > 0 {
		out, next := chan watch.Event(nil), weighed{}
		if len(queue) > 0 {
			out, next = a.out, queue[0]
		}
		select {
		case e, open := <-in:
			if n := weight(e); open && reserve(n) {
				queue = append(queue, weighed{e, n})
				continue
			}
			a.full = open
			a.Interface.Stop()
			in = nil
		case out <- next.Event:
			reserve(-next.weight)
			queue = queue[1:]
		case <-a.end:
			return
		}
	}
}

// A weighed is what was delivered, and its weight then: when it has been taken its memory is somebody else's.
type weighed struct {
	watch.Event
	weight int
}

// weight is what a watch's delivery takes in memory.
func weight(e watch.Event) int {
	n := eventOverhead
	if fs, ok := e.Object.(*frames); ok {
		for _, f := range *fs {
			n += cap(f.buf) + eventOverhead
		}
	}
	return n
}
