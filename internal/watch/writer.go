package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"watcher/internal/event"
)

// A Sink is the durable end of the log. What it holds is the only truth about how far watcher has got. Only one
// goroutine calls it.
type Sink interface {
	// Recover returns what the sink holds, at start and after any error of Commit. Whatever an error left half done is
	// finished or undone when it returns nil.
	Recover(ctx context.Context) (event.State, error)
	// Commit writes the batch, and keeps nothing of it: its memory is used again. nil: all events are written, in order,
	// and the state becomes durable with or after them, never before. An error: any beginning of the batch may be
	// written; Recover tells which. An error that wraps event.ErrClosed: nothing will ever be taken again.
	Commit(ctx context.Context, b event.Batch) error
	// Close makes durable what was committed, as far as the medium allows before ctx ends. The sink is of no use then.
	Close(ctx context.Context) error
}

const (
	// A batch is cut at batchEvents events or batchBytes bytes, whichever comes first: the limits of an atomic batch in
	// JetStream, and enough for a pipe.
	batchEvents = 1000
	batchBytes  = 4 << 20
	// sinkRetry is the longest wait for a sink that fails: well within drainTimeout.
	sinkRetry = 5 * time.Second
	// eventOverhead is what an event takes in memory besides its object, about.
	eventOverhead = 512
)

// A writer takes the events of all streams and alone talks to the sink. What waits is bounded in bytes, never in
// events; when the bound is reached the streams stop reading.
type writer struct {
	sink     Sink
	held     event.State   // by the sink, at start
	cluster  string        // its UID
	limit    int           // bytes that may wait
	interval time.Duration // between progress events; 0: none
	once     bool          // an error of the sink is final
	run      int64         // names this process in the ids of stream events: Unix milliseconds
	log      *zap.Logger

	mu     sync.Mutex
	queue  []item
	bytes  int // in the queue and in the batch that the sink has
	kept   int // by streams that repair, of what happens meanwhile
	closed bool
	more   chan struct{} // holds a token while there may be something to take
	room   chan struct{} // holds a token when bytes has shrunk
	turn   chan struct{} // holds a token while somebody puts: who waits for room is not overtaken by what is smaller

	// Of the goroutine in loop alone.
	tallies map[*event.Stream]*tally
	order   []*event.Stream // of tallies, so that progress comes in a fixed order
	taken   []item          // the batch under way
	batch   event.Batch     // likewise, as the sink gets it
}

// An item is an event and what it leads to, or a position alone.
type item struct {
	stream *event.Stream
	event  *event.Event
	frame  *frame         // whose memory an object's event is in
	after  event.Position // that it leads to
	n      uint64         // of a stream event: stamped
	// complete: what the ledger lacked has been handed over.
	complete bool
}

// size is what an item takes in memory.
func (it *item) size() int {
	switch {
	case it.frame != nil:
		return cap(it.frame.buf) + eventOverhead
	case it.event != nil:
		return eventOverhead
	default:
		return 0
	}
}

// A tally is what the writer counts of one stream.
type tally struct {
	event.Checkpoint
	gap      string // id of the last gap
	open     bool   // started, and not stopped
	filtered uint64 // since started
}

// newWriter returns a writer that goes on counting where held, the sink's state, has stopped.
func newWriter(sink Sink, held event.State, log *zap.Logger) *writer {
	return &writer{
		sink: sink, held: held, run: time.Now().UnixMilli(), log: log,
		more: make(chan struct{}, 1), room: make(chan struct{}, 1), turn: make(chan struct{}, 1),
		tallies: map[*event.Stream]*tally{}, batch: event.Batch{Streams: map[string]event.Checkpoint{}},
	}
}

// put queues items, and waits first while the buffer is full. If ctx ends meanwhile they are queued all the same: what
// was read is handed over.
func (w *writer) put(ctx context.Context, items []item) {
	size := 0
	for i := range items {
		size += items[i].size()
	}
	if size > 0 {
		select {
		case w.turn <- struct{}{}:
			defer func() { <-w.turn }()
		case <-ctx.Done():
		}
	}
	for {
		w.mu.Lock()
		if w.bytes == 0 || size == 0 || w.bytes+size <= w.limit-w.kept || ctx.Err() != nil {
			w.enqueue(items, size)
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		select {
		case <-w.room:
		case <-ctx.Done():
		}
	}
}

// reserve charges bytes that a stream keeps until it has repaired, or gives them back if negative. It refuses to let that be
// more than half of the buffer: what is repaired must find room.
func (w *writer) reserve(bytes int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if bytes > 0 && w.kept+bytes > w.limit/2 {
		return false
	}
	if w.kept += bytes; bytes < 0 {
		signal(w.room)
	}
	return true
}

// append queues an item without waiting: the last one of a stream.
func (w *writer) append(it item) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.enqueue([]item{it}, it.size())
}

func (w *writer) enqueue(items []item, size int) {
	w.queue = append(w.queue, items...)
	w.bytes += size
	signal(w.more)
}

// signal leaves a token in a channel that has room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// close says that no more will come. loop ends when what there is has been committed.
func (w *writer) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	signal(w.more)
}

// loop commits what is queued until the writer is closed, or ctx ends, or the sink is closed.
func (w *writer) loop(ctx context.Context) error {
	var tick <-chan time.Time
	if w.interval > 0 {
		t := time.NewTicker(w.interval)
		defer t.Stop()
		tick = t.C
	}
	for {
		due := false
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick:
			due = true
		case <-w.more:
		}
		size, closed := w.take()
		w.stamp(w.taken)
		if due {
			w.taken = append(w.taken, w.progress()...)
		}
		if err := w.commit(ctx, w.taken); err != nil {
			return err
		}
		w.release(size)
		if closed {
			return nil
		}
	}
}

// take cuts a batch off the queue. closed says that nothing is left and nothing will come.
func (w *writer) take() (size int, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for n < len(w.queue) && n < batchEvents && (n == 0 || size < batchBytes) {
		size += w.queue[n].size()
		n++
	}
	w.taken = append(w.taken[:0], w.queue[:n]...)
	w.queue = slices.Delete(w.queue, 0, n)
	if len(w.queue) == 0 {
		return size, w.closed
	}
	signal(w.more)
	return size, false
}

// release makes room for what the batch took.
func (w *writer) release(size int) {
	for i := range w.taken {
		if f := w.taken[i].frame; f != nil {
			f.free()
		}
	}
	clear(w.taken)
	clear(w.batch.Events)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes -= size
	signal(w.room)
}

// stamp gives the events their place: seq, epoch, ids of stream events, the gap that a repaired event belongs to.
func (w *writer) stamp(batch []item) {
	for i := range batch {
		it := &batch[i]
		t := w.tally(it.stream)
		t.Position = it.after
		switch ev := it.event; {
		case it.complete:
			t.Incomplete = false
		case ev == nil:
		case ev.Type.OfObject():
			t.stampObject(ev)
		default:
			t.StreamEvents++
			it.n = t.StreamEvents
			w.stampStatement(t, ev)
		}
	}
}

func (t *tally) stampObject(ev *event.Event) {
	ev.Epoch = t.Epoch
	switch {
	case !ev.Filtered:
		t.Seq++
	case ev.Type == event.Modified:
		t.filtered++
	}
	ev.Seq = t.Seq
	if ev.Origin == event.Repair {
		ev.Gap = t.gap
	}
	if ev.Type <= event.Modified && ev.Origin == event.Live {
		testify(&t.Witness, &ev.Object)
	}
}

// stampStatement also notes what the statement means for where the stream goes on from.
func (w *writer) stampStatement(t *tally, ev *event.Event) {
	ev.Seq, ev.Epoch = t.Seq, t.Epoch
	ev.ID = w.streamEventID(ev, t.StreamEvents)
	switch d := ev.Data.(type) {
	case event.StartedData:
		d.Seq = t.Seq
		ev.Data = d
		t.open, t.filtered = true, 0
		t.Incomplete = t.Incomplete && d.Resumed || d.Unlisted
	case event.GapData:
		t.gap, t.Healing = ev.ID, d.Reason
		if d.Reason == event.Rewind { // from here on the same versions may be given to other states
			t.Epoch++
			t.Witness = event.Witness{}
		}
	case event.SyncedData:
		t.Healing, t.Incomplete = "", false
		if newer(d.Newest.ResourceVersion, t.Witness.ResourceVersion) {
			t.Witness = d.Newest
		}
	case event.ProgressData:
		d.Seq, d.Filtered = t.Seq, t.filtered
		ev.Data = d
	case event.StoppedData:
		t.open = false
	}
}

func (w *writer) streamEventID(ev *event.Event, n uint64) string {
	scope := ""
	if ev.Stream.Namespace != "" {
		scope = "." + ev.Stream.Namespace
	}
	return ev.Prefix() + fmt.Sprintf("%s%s.%s.%d.%d", ev.Stream.Resource, scope, ev.Type, w.run, n)
}

func (w *writer) tally(s *event.Stream) *tally {
	t := w.tallies[s]
	if t == nil {
		t = &tally{Checkpoint: w.held.Streams[s.Key()]}
		t.Run, t.StreamEvents = w.run, 0
		w.tallies[s] = t
		w.order = append(w.order, s)
	}
	return t
}

// progress says how far each stream has got, also if it has not moved: silence never means death.
func (w *writer) progress() []item {
	var batch []item
	for _, s := range w.order {
		t := w.tallies[s]
		if !t.open || t.ResourceVersion == "" {
			continue
		}
		ev := &event.Event{Stream: s, Type: event.Progress, Time: time.Now(), Data: event.ProgressData{ResourceVersion: t.ResourceVersion}}
		batch = append(batch, item{stream: s, event: ev, after: t.Position})
	}
	w.stamp(batch)
	return batch
}

// commit hands the batch to the sink until it has taken it. Nothing is read again from the API server: what the sink
// did take, Recover says, and the rest stays here.
func (w *writer) commit(ctx context.Context, batch []item) error {
	if len(batch) == 0 {
		return nil
	}
	var retry backoff
	err := w.sink.Commit(ctx, w.batchOf(batch))
	for failing := false; err != nil; {
		if ctx.Err() != nil {
			return fmt.Errorf("write events: %w: %w", context.Cause(ctx), err)
		}
		if w.once || errors.Is(err, event.ErrClosed) {
			return fmt.Errorf("write events: %w", err)
		}
		if !failing {
			failing = true
			w.log.Warn("events cannot be written; trying again until they can", zap.Error(err))
		}
		if sleep(ctx, min(retry.next(), sinkRetry)); ctx.Err() != nil {
			continue // err says what is wrong; the sink would only say that it was interrupted
		}
		var held event.State
		if held, err = w.sink.Recover(ctx); err != nil {
			continue
		}
		if batch = missing(batch, held, w.run); len(batch) > 0 {
			err = w.sink.Commit(ctx, w.batchOf(batch))
		}
		if err == nil {
			w.log.Info("events are written again")
		}
	}
	return nil
}

// batchOf makes a batch for the sink, in memory of the last one.
func (w *writer) batchOf(items []item) event.Batch {
	w.batch.Events = w.batch.Events[:0]
	clear(w.batch.Streams)
	w.batch.ClusterUID = w.cluster
	for i := range items {
		w.batch.Streams[items[i].stream.Key()] = w.tallies[items[i].stream].Checkpoint // the batch is stamped to its end
		if ev := items[i].event; ev != nil {
			w.batch.Events = append(w.batch.Events, ev)
		}
	}
	return w.batch
}

// missing returns what of the batch the sink does not hold. The counts tell, since they are contiguous.
func missing(batch []item, held event.State, run int64) []item {
	return slices.DeleteFunc(batch, func(it item) bool {
		h := held.Streams[it.stream.Key()]
		switch {
		case it.event == nil:
			return false
		case it.event.Filtered: // it must not come to the ledger behind what came after it
			return it.event.Seq < h.Seq
		case it.event.Type.OfObject():
			return it.event.Seq <= h.Seq
		default:
			return h.Run == run && it.n <= h.StreamEvents
		}
	})
}
