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

// An Object is one state of an object: who it is, and the API server's own bytes.
type Object struct {
	Namespace, Name, UID, ResourceVersion string
	Generation                            int64  // 0: not set
	DeletionTimestamp                     string // RFC 3339; "": not set
	Body                                  []byte // JSON; nil: not asked for
}

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

// An Event is one change of an object, or one statement about a stream's coverage.
type Event struct {
	Stream *Stream
	Type   Type
	Time   time.Time // when watcher received it; of a repaired event: when it was repaired

	// Stamped by the writer, in the order in which events are handed to the sink.
	Seq uint64 // this stream's object events, counted from 1; on a stream event, the number so far
	ID  string // of a stream event; an object event's follows from its state
	Gap string // id of the gap that a repaired event belongs to

	// Object events.
	Object    Object
	Origin    Origin
	Ambiguous bool // it left the selector, or was deleted: the API server did not say which

	// Stream events: one of the *Data types.
	Data any
}

// StartedData says what a stream covers, and from where.
type StartedData struct {
	Namespaces      []string `json:"namespaces"` // empty: all namespaces, or a cluster-scoped resource
	LabelSelector   string   `json:"labelSelector,omitempty"`
	FieldSelector   string   `json:"fieldSelector,omitempty"`
	Payload         string   `json:"payload"`
	ResourceVersion string   `json:"resourceVersion"`
	Resumed         bool     `json:"resumed"`
	Reason          string   `json:"reason,omitempty"` // why it was not resumed
	WatcherVersion  string   `json:"watcherVersion"`
}

// GapData says after which version, and when, changes may have gone unseen.
type GapData struct {
	Reason   string    `json:"reason"`
	From     string    `json:"from"` // resourceVersion
	FromTime time.Time `json:"fromTime"`
	ToTime   time.Time `json:"toTime"`
}

// SyncedData says that a snapshot or a repair is complete at ResourceVersion, and counts what it wrote.
type SyncedData struct {
	ResourceVersion string `json:"resourceVersion"`
	Present         int    `json:"present"`
	Added           int    `json:"added"`
	Modified        int    `json:"modified"`
	Deleted         int    `json:"deleted"`
	Deletions       string `json:"deletions,omitempty"` // of a repair: "known" or "unknown"
}

// ProgressData says that everything up to ResourceVersion has been written; Seq is the last one that was.
type ProgressData struct {
	ResourceVersion string `json:"resourceVersion"`
	Seq             uint64 `json:"seq"`
}

// StoppedData says that coverage ended cleanly at ResourceVersion.
type StoppedData struct {
	ResourceVersion string `json:"resourceVersion"`
}
