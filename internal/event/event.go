// Package event is what watcher delivers: the event, its id, its canonical line, and the positions that a batch of
// events leads to. It knows neither Kubernetes clients nor sinks, and imports only the standard library.
package event

import (
	"net/url"
	"time"
)

// A Type is the last part of a CloudEvents type: what happened to an object, or to a stream's coverage.
type Type uint8

// The types of object events come first, those of stream events from Started on.
const (
	Present Type = iota + 1
	Added
	Modified
	Deleted
	Left
	Started
	Synced
	Gap
	Progress
	Stopped
)

var typeNames = [...]string{
	Present: "present", Added: "added", Modified: "modified", Deleted: "deleted", Left: "left",
	Started: "started", Synced: "synced", Gap: "gap", Progress: "progress", Stopped: "stopped",
}

// String returns the word that the type has in an event.
func (t Type) String() string { return typeNames[t] }

// OfObject reports whether events of this type are about an object, not about a stream.
func (t Type) OfObject() bool { return t < Started }

// An Origin says how watcher came to know of an object's state.
type Origin uint8

// Snapshot is a LIST, Live a watch frame, Repair whatever closes a gap.
const (
	Snapshot Origin = iota + 1
	Live
	Repair
)

var originNames = [...]string{Snapshot: "snapshot", Live: "live", Repair: "repair"}

// String returns the word that the origin has in an event.
func (o Origin) String() string { return originNames[o] }

// A Stream names one resource × scope × selector, the unit that has a position. Make it with NewStream; it is not
// changed afterwards, so that any number of goroutines may read it.
type Stream struct {
	StreamName
	key    string
	source string // CloudEvents source
}

// A StreamName is what tells one stream from every other.
type StreamName struct {
	Cluster                        string
	Group, Version, Resource, Kind string
	Namespace                      string // "" is all namespaces, or a cluster-scoped resource
	LabelSelector, FieldSelector   string
}

// NewStream returns the stream of that name.
func NewStream(n StreamName) *Stream {
	api := "api/" + n.Version
	if n.Group != "" {
		api = "apis/" + n.Group + "/" + n.Version
	}
	scope := url.Values{}
	for k, v := range map[string]string{"namespace": n.Namespace, "labelSelector": n.LabelSelector, "fieldSelector": n.FieldSelector} {
		if v != "" {
			scope.Set(k, v)
		}
	}
	return &Stream{
		StreamName: n,
		key:        api + "/" + n.Resource + "?" + scope.Encode(),
		source:     "/clusters/" + url.PathEscape(n.Cluster) + "/" + api + "/" + n.Resource,
	}
}

// Key names the stream within its cluster: group, version, resource, namespace and selectors. Two streams of one
// process never share a key.
func (s *Stream) Key() string { return s.key }

// An Object is one state of an object: who it is, and the API server's own bytes. Without Body it is what a ledger
// remembers of it.
type Object struct {
	Namespace, Name, UID, ResourceVersion string
	Generation                            int64  // 0: not set
	DeletionTimestamp                     string // RFC 3339; "": not set
	Hashes                                Hashes
	Attribution                           Attribution
	Body                                  []byte // JSON; nil: not asked for
}

// Hashes are xxhash64, seed 0, of the parts of an object; 0 is one that is not known, and a hash that would be 0 is 1. They
// are part of every stored format. What is hashed is the part's members in the API server's own bytes and order, each from
// the opening quote of its key to the end of its value, with a comma between two. Status is one member; Metadata is what is
// in metadata but resourceVersion, generation and managedFields; Spec is all that is neither metadata nor status, kind nor
// apiVersion. Where the API server sends metadata only, Spec is the generation plus 1 and Status 0.
type Hashes struct{ Spec, Metadata, Status uint64 }

// An Attribution remembers the newest entry of an object's managedFields: its second (Unix time) in the upper half, and a
// hash of its manager, operation and subresource in the lower. 0: there was none. Two entries of one second share a hash.
type Attribution uint64

// Second is the Unix time of the entry.
func (a Attribution) Second() uint32 { return uint32(a >> 32) }

// Incarnation tells this object from every other, also from a later one of the same name: its uid, or its name where
// the API server gave it none. Ids begin with it.
func (o *Object) Incarnation() string {
	if o.UID != "" {
		return o.UID
	}
	return o.Key()
}

// Key is the object's name within its resource: namespace/name, or the name alone.
func (o *Object) Key() string {
	if o.Namespace == "" {
		return o.Name
	}
	return o.Namespace + "/" + o.Name
}

// Parts are parts of an object, as a set. Without Told they say nothing.
type Parts uint8

// Told says that the others are known: none of them is then "nothing but bookkeeping".
const (
	Spec Parts = 1 << iota
	Metadata
	Status
	Told
)

// An Actor is who made a change, by the client's own word: an entry of managedFields. It is no authenticated user.
type Actor struct {
	Manager, Operation string
	Time               string // RFC 3339, of the API server's clock, whole seconds
}

// An Event is one change of an object, or one statement about a stream's coverage.
type Event struct {
	Stream *Stream
	Type   Type
	Time   time.Time // when watcher received it; of a repaired event: when it was repaired

	// Stamped by the writer, in the order in which events are handed to the sink.
	Seq   uint64 // this stream's object events, counted from 1; on a stream event, the number so far
	Epoch uint64 // how many rewinds came before it
	ID    string // of a stream event; an object event's follows from its state
	Gap   string // id of the gap that a repaired event belongs to

	// Object events.
	Object    Object
	Origin    Origin
	Changed   Parts // that differ from the state before
	Actor     Actor // zero: not known
	Ambiguous bool  // it left the selector, or was deleted: the API server did not say which
	Inferred  bool  // a deletion that was concluded, not seen
	Stale     bool  // the body is the state at the gap's beginning, not the last one
	Filtered  bool  // it is not to be written; ledger and position learn of it all the same

	// Stream events: one of the *Data types.
	Data any
}

// Rewind is the reason of a gap behind which the API server's history is another one.
const Rewind = "rewind"

// Unfinished is the reason why a stream begins anew that never had a position: what it wrote covers nothing.
const Unfinished = "the snapshot was not finished"

// StartedData says what a stream covers, and from where.
type StartedData struct {
	Namespaces      []string `json:"namespaces"` // empty: all namespaces, or a cluster-scoped resource
	LabelSelector   string   `json:"labelSelector,omitempty"`
	FieldSelector   string   `json:"fieldSelector,omitempty"`
	Filter          []string `json:"filter,omitempty"` // modified events are written only if one of these parts changed
	Payload         string   `json:"payload"`
	ResourceVersion string   `json:"resourceVersion"`
	Resumed         bool     `json:"resumed"`
	Reason          string   `json:"reason,omitempty"` // why it was not resumed
	Seq             uint64   `json:"seq"`              // the next object event has the next one; what the run before counted further comes again
	WatcherVersion  string   `json:"watcherVersion"`
	Unlisted        bool     `json:"-"` // what exists is not listed: the ledger does not know it
}

// GapData says after which version, and when, changes may have gone unseen.
type GapData struct {
	Reason   string    `json:"reason"`
	From     string    `json:"from"`              // resourceVersion
	FromTime time.Time `json:"fromTime,omitzero"` // nothing that happened until then was missed
	ToTime   time.Time `json:"toTime"`
}

// SyncedData says that a snapshot or a repair is complete at ResourceVersion, and counts what it wrote.
type SyncedData struct {
	ResourceVersion string  `json:"resourceVersion"`
	Present         int     `json:"present"`
	Added           int     `json:"added"`
	Modified        int     `json:"modified"`
	Deleted         int     `json:"deleted"`
	Left            int     `json:"left,omitempty"`
	Filtered        int     `json:"filtered"` // modified objects that the filter left out
	Newest          Witness `json:"-"`        // of what was listed
	*Healed                 // of a repair
}

// Healed counts what a repair found out, in objects, by how much: every version, the net change, or that it is gone.
type Healed struct {
	History   int    `json:"history"`
	Net       int    `json:"net"`
	Inferred  int    `json:"inferred"`
	Deletions string `json:"deletions"` // "known" or "unknown"
}

// ProgressData says that everything up to ResourceVersion has been written; Seq is the last one that was.
type ProgressData struct {
	ResourceVersion string `json:"resourceVersion"`
	Seq             uint64 `json:"seq"`
	Filtered        uint64 `json:"filtered"` // since started: modified events that the filter left out
}

// StoppedData says that coverage ended cleanly at ResourceVersion.
type StoppedData struct {
	ResourceVersion string `json:"resourceVersion"`
}
