package event

import (
	"errors"
	"iter"
	"time"
)

// A Position says how far one stream has got: everything up to ResourceVersion is written.
type Position struct {
	// ResourceVersion is empty while nothing is known to be complete.
	ResourceVersion string
	// One version may carry many changes (leases that expire in one etcd transaction), so the newest one is known to be
	// complete only when a later one has been seen. Until then the position stays before it, at ResourceVersion, and
	// Ahead names the incarnations whose change at AheadAt is written too: a resume reads it again, and drops those.
	AheadAt string
	Ahead   []string
	// AsOf is a moment at which ResourceVersion, or one before it, was the present: nothing that happened until then was
	// missed. A change does not move it: it may have been on its way for long.
	AsOf time.Time
}

// A Witness is the newest state of a stream: as long as the API server remembers that version, it must find it there. Else
// it has been restored from a backup, and gives the same versions out again; even to the same object, where things happen at
// a steady pace, hence the attribution. (Hashes would not do: a newer API server may show an old state with new defaults.)
type Witness struct {
	Namespace, Name, UID, ResourceVersion string
	Attribution                           Attribution
}

// A Checkpoint is a position together with all else that a stream goes on from.
type Checkpoint struct {
	Position
	Epoch      uint64 // how many rewinds there were
	Healing    string // reason of the gap that is being repaired; "": none is open
	Incomplete bool   // the ledger may not name every object that exists at the position
	Witness    Witness

	Seq          uint64 // of the last object event
	Run          int64  // the process that counted StreamEvents: its start, in Unix milliseconds
	StreamEvents uint64 // of that process; the ids of stream events end in it
}

// A State is what a sink holds.
type State struct {
	ClusterUID string                // of the cluster that it is about; "": not known
	Streams    map[string]Checkpoint // how far each stream has got, by Stream.Key
	// Ledger yields which objects of a stream exist at its checkpoint, without bodies, in any order. nil: the sink keeps
	// no ledger. Any goroutine may call it, until the first Commit that is about that stream.
	Ledger func(stream string) iter.Seq2[Object, error]
}

// A Batch is events, in order, and the checkpoints that they lead to. There may be no events: a bookmark moves a
// position all the same.
type Batch struct {
	ClusterUID string
	Events     []*Event
	Streams    map[string]Checkpoint
}

// ErrClosed is what a sink's error wraps when it will never take anything again: there is nothing to wait for.
var ErrClosed = errors.New("the output is closed")
