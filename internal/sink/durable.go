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
)

// durable is the half of Lines that outlives the process. It saves what the medium has acknowledged, never more: a
// position before its events would be a hole in the log.
type durable struct {
	state  *StateDir
	medium medium
	stop   chan struct{} // not nil: loop runs until it is closed
	done   sync.WaitGroup
	more   chan struct{} // holds a token while there may be something to save

	mu      sync.Mutex
	written int64 // bytes of whole batches
	steps   []*step
	trouble error // of the last attempt to save

	// Of the goroutine in loop alone, and of close after it.
	taken []*step // acknowledged, not yet saved
	spare sync.Pool
}

func newDurable(state *StateDir, m medium) *durable {
	return &durable{state: state, medium: m, more: make(chan struct{}, 1), spare: sync.Pool{New: func() any { return newStep() }}}
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
	select {
	case d.more <- struct{}{}:
	default:
	}
}

// loop saves once a second, as long as there is something to save.
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
			case <-stop:
				return
			}
			left = d.look()
		}
	}
}

// look saves what can be saved, and says whether something is left.
func (d *durable) look() (left bool) {
	err := d.save(false)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trouble = err
	return len(d.taken) > 0 || len(d.steps) > 0
}

// save makes what the medium has acknowledged durable; what cannot be saved stays in taken. The run is clean only if
// nothing is left.
func (d *durable) save(clean bool) error {
	unacknowledged := d.take()
	clean = clean && unacknowledged == nil && len(d.steps) == 0
	if len(d.taken) == 0 && !clean {
		return unacknowledged
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
	return unacknowledged
}

// take moves the steps that the medium has acknowledged to taken: nobody adds to them any more.
func (d *durable) take() error {
	d.mu.Lock()
	written, waiting := d.written, len(d.steps) > 0
	d.mu.Unlock()
	if !waiting {
		return nil
	}
	acknowledged, err := d.medium.acknowledged(written)
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for n < len(d.steps) && d.steps[n].upTo <= acknowledged {
		n++
	}
	d.taken = append(d.taken, d.steps[:n]...)
	d.steps = slices.Delete(d.steps, 0, n)
	return err
}

// close waits until all is acknowledged, or ctx ends, and saves. closed is why nothing can be written any more, torn
// says that the last line may be.
func (d *durable) close(ctx context.Context, closed error, torn bool) error {
	d.halt()
	waited := closed
	if waited == nil {
		waited = d.await(ctx)
	}
	err := d.save(waited == nil && !torn)
	return errors.Join(cmp.Or(err, waited), d.state.Close())
}

// await returns when all that was written is acknowledged.
func (d *durable) await(ctx context.Context) error {
	for {
		acknowledged, err := d.medium.acknowledged(d.written)
		switch {
		case err != nil || acknowledged >= d.written:
			return err
		case d.medium.deserted():
			return fmt.Errorf("%w: the reader left without the last events: %w", event.ErrClosed, syscall.EPIPE)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the reader did not take the last %d bytes; the next run writes them again", d.written-acknowledged)
		case <-time.After(takenInterval):
		}
	}
}
