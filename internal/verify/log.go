// Package verify reads a log of events and says what it covers and what is wrong with it: what is missing, repeated, out
// of order or altered, and where the log says itself that it could not see. It reads line by line and keeps, besides
// about one small record for each object that exists, nothing of the log.
//
// What it cannot see: a log that was cut behind its last line, or in what was not saved yet of a run that was killed; an
// object whose bytes were changed but for what the event repeats of them.
package verify

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net/url"

	"watcher/internal/event"
)

// A Log is a log of events as far as it has been read. One goroutine uses it.
type Log struct {
	seed    maphash.Seed
	lines   int
	line    line
	events  int // lines that are events
	streams []*stream
	places  map[place]*stream // the one that was started last in each
	runs    map[int64]bool    // that any stream was started in
	found   findings
	cut     []int // lines that are none, behind which no whole one has come
	torn    []int // those behind which a started came
	// compared is what Compare found.
	compared []Comparison
}

// A place is where a stream writes: at any time there is one stream in it.
type place struct{ source, namespace string }

// New returns a log of which nothing has been read.
func New() *Log {
	return &Log{
		seed: maphash.MakeSeed(), places: map[place]*stream{}, runs: map[int64]bool{},
		found: findings{counts: map[Kind]int{}},
	}
}

// longestLine is more than any event is long, so what is longer is no log.
const longestLine = 64 << 20

var (
	errText  = errors.New("no log of events: it needs the output of 'watcher run -o json'")
	errEmpty = errors.New("no log of events: it is empty")
)

// Read reads to the end. An error means that what was read is no log of events, or could not be read.
func (l *Log) Read(r io.Reader) error {
	in := bufio.NewReaderSize(r, 1<<20)
	var long []byte
	for {
		part, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) || len(long) > 0 {
			long = append(long, part...)
			part = long
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull) && len(long) <= longestLine:
			continue
		case errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("line %d is longer than 64 MiB: %w", l.lines+1, errText)
		case err != nil && !errors.Is(err, io.EOF):
			return err
		}
		if len(part) > 0 {
			l.Line(bytes.TrimSuffix(part, []byte("\n")))
		}
		if err != nil {
			return l.readable()
		}
		long = long[:0]
	}
}

// readable is an error if nothing that was read is an event.
func (l *Log) readable() error {
	switch {
	case l.events > 0:
		return nil
	case l.lines == 0:
		return errEmpty
	default:
		return errText
	}
}

// Line reads the next line, without its newline. Nothing of it is kept.
func (l *Log) Line(raw []byte) {
	l.lines++
	switch err := l.line.parse(l.lines, raw); {
	case errors.Is(err, errCut):
		l.cut = append(l.cut, l.lines)
		return
	case err != nil:
		l.whole(false)
		l.found.add(Altered, l.lines, "", "%v", err)
		return
	}
	l.events++
	if l.line.is.OfObject() {
		l.whole(false)
		l.change()
	} else {
		l.state()
	}
}

// whole judges the lines that were cut before one that is whole. A kill cuts a line, and then the next run begins.
func (l *Log) whole(begins bool) {
	if len(l.cut) == 0 {
		return
	}
	if begins {
		l.torn = append(l.torn, l.cut...)
	} else {
		for _, n := range l.cut {
			l.found.add(Torn, n, "", "the line is cut or empty, and no new run begins behind it")
		}
	}
	l.cut = l.cut[:0]
}

// change gives an object's event to the stream that wrote it: the one that was started last of those that may have.
func (l *Log) change() {
	d := &l.line.Data
	all, one := l.places[place{l.line.Source, ""}], (*stream)(nil)
	if d.Namespace != "" {
		one = l.places[place{l.line.Source, d.Namespace}]
	}
	switch {
	case all == nil && one == nil:
		all = l.unbegun("")
	case all == nil, one != nil && one.startedAt > all.startedAt:
		all = one
	}
	all.change(&l.line)
}

// state gives a stream event to its stream.
func (l *Log) state() {
	id, err := l.line.statementID()
	l.whole(err == nil && l.line.is == event.Started && !l.runs[id.run])
	if err != nil {
		l.found.add(Altered, l.lines, "", "%v", err)
		return
	}
	l.runs[id.run] = true
	at := place{l.line.Source, l.line.Data.Namespace}
	if l.line.is == event.Started {
		l.start(at, id)
		return
	}
	s := l.places[at]
	if s == nil {
		s = l.unbegun(at.namespace)
		s.epoch, s.run, s.n = id.epoch, id.run, id.n-1
	}
	s.say(&l.line, id)
}

// start finds the stream that a started is about: its selectors tell it from others of the place.
func (l *Log) start(at place, id statementID) {
	d, err := statement[event.StartedData](&l.line)
	if err != nil {
		l.found.add(Altered, l.lines, "", "%v", err)
		return
	}
	s := l.places[at]
	if s == nil || s.sum.LabelSelector != d.LabelSelector || s.sum.FieldSelector != d.FieldSelector {
		s = l.named(at, d)
	}
	l.places[at] = s
	s.started(&l.line, id, d)
}

func (l *Log) named(at place, d event.StartedData) *stream {
	for _, s := range l.streams {
		if s.place == at && s.sum.LabelSelector == d.LabelSelector && s.sum.FieldSelector == d.FieldSelector {
			return s
		}
	}
	s := l.stream(at)
	s.sum.LabelSelector, s.sum.FieldSelector = d.LabelSelector, d.FieldSelector
	return s
}

// unbegun is a stream of which the log holds events but no beginning.
func (l *Log) unbegun(namespace string) *stream {
	at := place{l.line.Source, namespace}
	s := l.stream(at)
	l.places[at] = s
	s.open, s.holes, s.sum.Runs = true, true, 1
	s.finding(Missing, "the log has no started of this stream: its beginning is missing")
	return s
}

func (l *Log) stream(at place) *stream {
	d := &l.line.Data
	name, _, _ := l.line.cluster()
	if plain, err := url.PathUnescape(name); err == nil {
		name = plain
	}
	s := newStream(l, at)
	s.sum = Stream{
		Cluster: name, Group: d.Group, Version: d.Version, Resource: d.Resource, Kind: d.Kind,
		Namespace: at.namespace, Gaps: []Gap{},
	}
	l.streams = append(l.streams, s)
	return s
}
