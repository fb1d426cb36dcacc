package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"watcher/internal/event"
)

const (
	// saveInterval is what a crash makes the next run repeat, about; more often would cost more than it saves.
	saveInterval = time.Second
	// takenInterval is how often Close looks whether the reader of a pipe has taken the last events.
	takenInterval = 10 * time.Millisecond
	// maxSteps bounds what waits for an acknowledgement. What is more goes into the last step: then that one waits longer.
	maxSteps = 256
	// maxPending is how many events may wait before they are saved at once: a first list of 100 000 objects would take
	// 100 MB otherwise.
	maxPending = 8192
)

// durable is the half of Lines that outlives the process. It saves what the medium has acknowledged, never more: a
// position before its events would be a hole in the log.
type durable struct {
	state  *StateDir
	medium medium
	stop   chan struct{} // not nil: loop runs until it is closed
	done   sync.WaitGroup
	more   chan struct{} // holds a token while there may be something to save
	hurry  chan struct{} // holds one while that is much

	mu      sync.Mutex
	written int64 // bytes of whole batches
	steps   []*step
	pending int   // events in steps
	trouble error // of the last attempt to save

	// Of the goroutine in loop alone, and of close after it.
	taken []*step // acknowledged, not yet saved
	spare sync.Pool
}

func newDurable(state *StateDir, m medium) *durable {
	return &durable{state: state, medium: m, more: make(chan struct{}, 1), hurry: make(chan struct{}, 1), spare: sync.Pool{New: func() any { return newStep() }}}
}

// begin comes before anything is written: a kill must not leave a torn line and a state that says it was closed.
func (d *durable) begin() error {
	if d.stop != nil {
		return nil
	}
	if err := d.state.save(nil, false); err != nil {
		return err
	}
	d.run()
	return nil
}

// run starts the goroutine that saves, halt waits for its end.
func (d *durable) run() {
	stop := make(chan struct{})
	d.stop = stop
	d.done.Go(func() { d.loop(stop) })
}

func (d *durable) halt() {
	if d.stop != nil {
		close(d.stop)
		d.done.Wait()
		d.stop = nil
	}
}

// err is what is wrong with saving, until it is well again.
func (d *durable) err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.trouble
}

// add takes note of a batch that is written, up to so many bytes in all.
func (d *durable) add(b event.Batch, upTo int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	last := len(d.steps) - 1
	if last < 0 || last < maxSteps-1 && d.steps[last].upTo != upTo {
		d.steps = append(d.steps, d.spare.Get().(*step))
		last++
	}
	d.steps[last].fold(b)
	d.steps[last].upTo, d.written = upTo, upTo
	signal(d.more)
	if d.pending += len(b.Events); d.pending >= maxPending {
		signal(d.hurry)
	}
}

// signal leaves a token in a channel that has room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// loop saves once a second, as long as there is something to save; earlier if there is much.
func (d *durable) loop(stop <-chan struct{}) {
	for {
		select {
		case <-d.more:
		case <-stop:
			return
		}
		for left := true; left; {
			select {
			case <-time.After(saveInterval):
			case <-d.hurry:
			case <-stop:
				return
			}
			left = d.look()
		}
	}
}

// look saves what the medium has acknowledged, and says whether something is left.
func (d *durable) look() (left bool) {
	d.mu.Lock()
	written, waiting := d.written, len(d.steps) > 0
	d.mu.Unlock()
	var acknowledged int64
	var err error
	if waiting {
		acknowledged, err = d.medium.acknowledged(written)
	}
	err = cmp.Or(d.save(acknowledged, false), err)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trouble = err
	return len(d.taken) > 0 || len(d.steps) > 0
}

// save saves the steps up to acknowledged. What cannot be saved stays in taken.
func (d *durable) save(acknowledged int64, clean bool) error {
	d.take(acknowledged)
	if len(d.taken) == 0 && !clean {
		return nil
	}
	if err := d.state.save(d.taken, clean); err != nil {
		return err
	}
	for _, s := range d.taken {
		s.clear()
		d.spare.Put(s)
	}
	clear(d.taken)
	d.taken = d.taken[:0]
	return nil
}

// take moves steps to taken: nobody adds to them any more.
func (d *durable) take(acknowledged int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for n < len(d.steps) && d.steps[n].upTo <= acknowledged {
		n++
	}
	for _, s := range d.steps[:n] {
		d.pending -= s.events
	}
	d.taken = append(d.taken, d.steps[:n]...)
	d.steps = slices.Delete(d.steps, 0, n)
}

// close waits until all is acknowledged, or ctx ends, and saves what is. closed is why nothing can be written any more:
// then it does not wait. torn says that the last line may be.
func (d *durable) close(ctx context.Context, closed error, torn bool) error {
	d.halt()
	acknowledged, missing := d.await(ctx, closed)
	err := d.save(acknowledged, missing == nil && !torn)
	return errors.Join(cmp.Or(err, missing), d.state.Close())
}

// await returns what is acknowledged, and why it is not all.
func (d *durable) await(ctx context.Context, closed error) (int64, error) {
	for {
		acknowledged, err := d.medium.acknowledged(d.written)
		switch {
		case closed != nil:
			return acknowledged, closed
		case err != nil || acknowledged >= d.written:
			return acknowledged, err
		case d.medium.deserted():
			return acknowledged, fmt.Errorf("%w: the reader left without the last events: %w", event.ErrClosed, syscall.EPIPE)
		}
		select {
		case <-ctx.Done():
			return acknowledged, fmt.Errorf("the reader did not take the last %d bytes; the next run writes them again", d.written-acknowledged)
		case <-time.After(takenInterval):
		}
	}
}
