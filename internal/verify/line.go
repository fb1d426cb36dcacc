package verify

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"watcher/internal/event"
)

// A line is what verify reads of one event. What it does not know it leaves alone: a newer watcher may say more.
type line struct {
	SpecVersion string `json:"specversion"`
	ID          string `json:"id"`
	Source      string `json:"source"`
	Type        string `json:"type"`
	Subject     string `json:"subject"`
	Time        string `json:"time"`
	Data        data   `json:"data"`

	n   int    // its number
	raw []byte // valid while the line is read
	is  event.Type
	at  time.Time // of a stream event
	// wrong is what an object's event contradicts itself in; its seq counts all the same.
	wrong error
}

// data is what both kinds of events have, and the rest of an object's. The rest of a stream event is read by its type.
type data struct {
	Group             string         `json:"group"`
	Version           string         `json:"version"`
	Resource          string         `json:"resource"`
	Kind              string         `json:"kind"`
	Namespace         string         `json:"namespace"`
	Op                string         `json:"op"`
	Seq               uint64         `json:"seq"`
	Origin            string         `json:"origin"`
	Gap               string         `json:"gap"`
	Name              string         `json:"name"`
	UID               string         `json:"uid"`
	ResourceVersion   string         `json:"resourceVersion"`
	Generation        int64          `json:"generation"`
	DeletionTimestamp string         `json:"deletionTimestamp"`
	Inferred          jsontext.Value `json:"inferred"` // true, or in synced a number
	Stale             bool           `json:"stale"`
	Object            jsontext.Value `json:"object"`
}

// errCut is the error of a line that is no JSON: it may be the one that a kill left.
var errCut = errors.New("the line is no JSON")

// parse reads a line and holds it against itself. An error that is not errCut is a contradiction.
func (l *line) parse(n int, raw []byte) error {
	*l = line{n: n, raw: raw, Data: data{Inferred: l.Data.Inferred[:0], Object: l.Data.Object[:0]}}
	if err := json.Unmarshal(raw, l); err != nil {
		if errors.As(err, new(*jsontext.SyntacticError)) && !errors.Is(err, jsontext.ErrDuplicateName) {
			return fmt.Errorf("%w: %w", errCut, err)
		}
		return fmt.Errorf("no event of watcher: %w", err)
	}
	if l.SpecVersion != "1.0" || l.ID == "" {
		return errors.New("no event of watcher: no CloudEvent with specversion 1.0 and an id")
	}
	if !l.typed() {
		return fmt.Errorf("no event of watcher: type %q", l.Type)
	}
	if err := l.placed(); err != nil {
		return err
	}
	if l.is.OfObject() {
		l.wrong = l.consistent()
		return nil
	}
	var err error
	l.at, err = time.Parse(time.RFC3339Nano, l.Time)
	return err
}

func (l *line) typed() bool {
	for l.is = event.Present; l.is <= event.Stopped; l.is++ {
		kind := "watcher.stream."
		if l.is.OfObject() {
			kind = "watcher.object."
		}
		if word, ok := strings.CutPrefix(l.Type, kind); ok && word == l.is.String() {
			return true
		}
	}
	return false
}

// cluster is the one that the source names, still percent-encoded.
func (l *line) cluster() (name, rest string, ok bool) {
	rest, ok = strings.CutPrefix(l.Source, "/clusters/")
	name, rest, found := strings.Cut(rest, "/")
	return name, rest, ok && found
}

// placed holds the source against the data.
func (l *line) placed() error {
	_, path, ok := l.cluster()
	root, version := "api", l.Data.Version
	if l.Data.Group != "" {
		root, version = "apis", l.Data.Group+"/"+version
	}
	gotRoot, gotVersion, _ := strings.Cut(path, "/")
	gotVersion, ends := strings.CutSuffix(gotVersion, "/"+l.Data.Resource)
	if !ok || !ends || gotRoot != root || gotVersion != version {
		return fmt.Errorf("the source %q is not that of %s/%s %s", l.Source, l.Data.Group, l.Data.Version, l.Data.Resource)
	}
	return nil
}

// object is who the event is about.
func (d *data) object() event.Object {
	return event.Object{Namespace: d.Namespace, Name: d.Name, UID: d.UID, ResourceVersion: d.ResourceVersion}
}

// consistent holds an object event against itself: its type, its subject, and the object that it carries.
func (l *line) consistent() error {
	d := &l.Data
	o := d.object()
	switch {
	case d.Op != l.is.String():
		return fmt.Errorf("type %s, but op %q", l.Type, d.Op)
	case d.Name == "" || d.Seq == 0:
		return errors.New("no name or no seq")
	case l.Subject != o.Key():
		return fmt.Errorf("subject %q, but the data is about %q", l.Subject, o.Key())
	case !wellFormed(d.ResourceVersion):
		return fmt.Errorf("%q is no resourceVersion", d.ResourceVersion)
	case (d.Origin == event.Repair.String()) != (d.Gap != ""):
		return fmt.Errorf("origin %q, gap %q: a repaired event, and no other, names its gap", d.Origin, d.Gap)
	}
	switch origin := d.Origin; {
	case origin == event.Live.String() && l.is == event.Present, origin != event.Live.String() && origin != event.Snapshot.String() && origin != event.Repair.String():
		return fmt.Errorf("origin %q of a %s event", origin, l.is)
	}
	return d.carries()
}

// carries holds the data against the object.
func (d *data) carries() error {
	if len(d.Object) == 0 {
		return nil
	}
	var got struct {
		Metadata struct {
			Name              string `json:"name"`
			Namespace         string `json:"namespace"`
			UID               string `json:"uid"`
			ResourceVersion   string `json:"resourceVersion"`
			Generation        int64  `json:"generation"`
			DeletionTimestamp string `json:"deletionTimestamp"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(d.Object, &got); err != nil {
		return fmt.Errorf("the object is none: %w", err)
	}
	m := &got.Metadata
	if m.Name != d.Name || m.Namespace != d.Namespace || m.UID != d.UID {
		return fmt.Errorf("the data is about %s/%s uid %s, its object is %s/%s uid %s", d.Namespace, d.Name, d.UID, m.Namespace, m.Name, m.UID)
	}
	if d.Stale { // it is an earlier state
		return nil
	}
	if m.ResourceVersion != d.ResourceVersion || m.Generation != d.Generation || m.DeletionTimestamp != d.DeletionTimestamp {
		return fmt.Errorf("resourceVersion %s, generation %d, deletionTimestamp %q, but the object's are %s, %d, %q",
			d.ResourceVersion, d.Generation, d.DeletionTimestamp, m.ResourceVersion, m.Generation, m.DeletionTimestamp)
	}
	return nil
}

// statement reads what a stream event says.
func statement[T any](l *line) (T, error) {
	var w struct {
		Data T `json:"data"`
	}
	if err := json.Unmarshal(l.raw, &w); err != nil {
		return w.Data, fmt.Errorf("no %s event: %w", l.is, err)
	}
	return w.Data, nil
}

func wellFormed(version string) bool {
	_, err := resourceversion.CompareResourceVersion(version, "1")
	return err == nil
}

// compare orders two versions that are well formed.
func compare(a, b string) int {
	order, _ := resourceversion.CompareResourceVersion(a, b) // so no error
	return order
}

// A statementID is the id of a stream event, taken apart.
type statementID struct {
	epoch uint64
	run   int64
	n     uint64
}

// statementID takes the id apart, and holds it against the data.
func (l *line) statementID() (statementID, error) {
	scope := l.Data.Resource
	if l.Data.Namespace != "" {
		scope += "." + l.Data.Namespace
	}
	prefix, count, ok := strings.Cut(l.ID, scope+"."+l.is.String()+".")
	run, n, _ := strings.Cut(count, ".")
	epoch, errEpoch := parseEpoch(prefix)
	id := statementID{epoch: epoch}
	var errRun, errN error
	id.run, errRun = strconv.ParseInt(run, 10, 64)
	id.n, errN = strconv.ParseUint(n, 10, 64)
	if err := errors.Join(errEpoch, errRun, errN); !ok || err != nil || id.n == 0 {
		return id, fmt.Errorf("the id %q is not that of a %s event of this stream", l.ID, l.is)
	}
	return id, nil
}

// parseEpoch reads what ids begin with after a rewind.
func parseEpoch(prefix string) (uint64, error) {
	if prefix == "" {
		return 0, nil
	}
	digits, dot := strings.CutSuffix(strings.TrimPrefix(prefix, "e"), ".")
	epoch, err := strconv.ParseUint(digits, 10, 64)
	if ev := (event.Event{Epoch: epoch}); err == nil && (!dot || ev.Prefix() != prefix) {
		err = strconv.ErrSyntax
	}
	return epoch, err
}
