package event

import "errors"

// A Position says how far one stream has got: everything up to ResourceVersion is written.
type Position struct {
	// ResourceVersion is empty while nothing is known to be complete.
	ResourceVersion string
	// One version may carry many changes (leases that expire in one etcd transaction), so the newest one is known to be
	// complete only when a later one has been seen. Until then the position stays before it, at ResourceVersion, and
	// Ahead names the incarnations whose change at AheadAt is written too: a resume reads it again, and drops those.
	AheadAt string
	Ahead   []string
}

// A Checkpoint is a position together with the counts that go on from there.
type Checkpoint struct {
	Position
	Seq          uint64 // of the last object event
	Run          int64  // the process that counted StreamEvents: its start, in Unix milliseconds
	StreamEvents uint64 // of that process; the ids of stream events end in it
}

// A State is what a sink holds: how far each stream has got, by Stream.Key.
type State map[string]Checkpoint

// A Batch is events, in order, and the checkpoints that they lead to. There may be no events: a bookmark moves a
// position all the same.
type Batch struct {
	Events []*Event
	State  State
}

// ErrClosed is what a sink's error wraps when it will never take anything again: there is nothing to wait for.
var ErrClosed = errors.New("the output is closed")
