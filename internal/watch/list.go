package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pageSize is the number of objects a LIST asks for at a time; client-go's own.
const pageSize = 500

// A list reads a consistent LIST page by page and item by item; with a server that knows limit, one item is in memory.
// After an error it goes on where it was, without repeating an item, as long as the API server remembers the version.
type list struct {
	src     *source
	options metav1.ListOptions
	// version is the list's resourceVersion, known before the first item is yielded. Whatever happened up to it shows in
	// the items, and nothing later.
	version string
	asOf    time.Time // when it was asked for: version is of that moment or later
	next    string    // continue token of the page to read
	read    int       // items of that page that were yielded
	done    bool
}

// list prepares a LIST of everything that exists now.
func (s *source) list() *list { return &list{src: s} }

// listAt prepares a LIST of what existed at a version.
func (s *source) listAt(version string) *list {
	return &list{src: s, options: metav1.ListOptions{ResourceVersion: version, ResourceVersionMatch: metav1.ResourceVersionMatchExact}}
}

// first reads the first page, which tells the version, and returns its only item, or nil if there is none.
func (l *list) first(ctx context.Context) (*frame, error) {
	for f, err := range l.items(ctx) {
		return f, err
	}
	return nil, nil
}

// items yields the items that have not been yielded yet. An error ends it; it is yielded last.
func (l *list) items(ctx context.Context) iter.Seq2[*frame, error] {
	return func(yield func(*frame, error) bool) {
		for !l.done {
			more, err := l.page(ctx, func(f *frame) bool { return yield(f, nil) })
			if err != nil {
				if l.options.ResourceVersionMatch != "" && classify(err) == refused { // it takes no versions at all
					err = fmt.Errorf("%w: %w", errInexact, err)
				}
				yield(nil, fmt.Errorf("list %s: %w", l.src.res.Name(), err))
				return
			}
			if !more {
				return
			}
		}
	}
}

// page reads one page. The very first holds a single item: lists of custom resources give their version behind the
// items, and what comes before the version must wait in memory.
func (l *list) page(ctx context.Context, yield func(*frame) bool) (more bool, err error) {
	o := l.options
	o.Continue, o.Limit = l.next, pageSize
	if l.next != "" {
		o.ResourceVersion, o.ResourceVersionMatch = "", "" // the token says it
	} else {
		o.Limit, l.version, l.asOf, l.read = 1, "", time.Now(), 0
	}
	if err := l.src.limiter.Wait(ctx); err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer quiet.Stop()
	body, err := l.src.request(o).Stream(ctx)
	if err != nil {
		return false, because(ctx, err)
	}
	defer body.Close() //nolint:errcheck // the page was read, or is read again
	p := page{list: l, input: newInput(&impatient{body, quiet}, o.Limit), yield: yield}
	if err := p.parse(); err != nil {
		err = because(ctx, err)
		if l.next == "" && l.read > 0 { // a server without pages was cut: asked again, it shows another version
			err = fmt.Errorf("%w: %w", errUnpaged, err)
		}
		return false, err
	}
	return !p.stopped, nil
}

// because prefers our own reason for ending a request to what the transport made of it.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
		return cause
	}
	return err
}

// An impatient reader lets its timer run only while it waits: the sink may take its time.
type impatient struct {
	io.Reader
	quiet *time.Timer
}

func (r *impatient) Read(b []byte) (int, error) {
	r.quiet.Reset(silence)
	defer r.quiet.Stop()
	return r.Reader.Read(b)
}

// A page is one response of a LIST while it is read.
type page struct {
	*list
	*input
	yield   func(*frame) bool
	meta    metav1.ListMeta
	held    []*frame // items that came before the list's version
	n       int      // items read
	names   names
	scanned object
	stopped bool // the consumer wants no more
}

func (p *page) parse() error {
	read := p.json
	if protobuf, err := p.begins(protobufMagic); err != nil {
		return err
	} else if protobuf {
		read = p.message
	}
	if err := read(); err != nil || p.stopped {
		return err
	}
	if p.meta.ResourceVersion == "" { // also of a later page: it would pass for the last one
		return errors.New("no list of objects: it has no version")
	}
	p.release()
	if !p.stopped {
		p.list.next, p.list.read, p.list.done = p.meta.Continue, 0, p.meta.Continue == ""
	}
	return nil
}

func (p *page) json() error {
	if err := p.open('{'); err != nil {
		return err
	}
	for first := true; !p.stopped; first = false {
		key, err := p.member(first)
		if err != nil || key == nil {
			return err
		}
		switch string(key) {
		case "metadata":
			err = p.metadata()
		case "items":
			err = p.items()
		default:
			_, err = p.value()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *page) metadata() error {
	raw, err := p.value()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &p.meta); err != nil {
		return fmt.Errorf("metadata of the list: %w", err)
	}
	return p.versioned()
}

// versioned takes the version from the list's metadata.
func (p *page) versioned() error {
	if _, err := compare(p.meta.ResourceVersion, "1"); err != nil {
		return err
	}
	if p.version == "" {
		p.version = p.meta.ResourceVersion
	}
	if p.version != p.meta.ResourceVersion { // what was deleted between the two would be in neither
		return fmt.Errorf("the pages of a list are of the versions %s and %s", p.version, p.meta.ResourceVersion)
	}
	return p.exact(p.version)
}

// exact refuses to be told of another version than was asked for.
func (l *list) exact(version string) error {
	want := l.options.ResourceVersion
	if want == "" || version == want {
		return nil
	}
	return fmt.Errorf("%w: the answer is of version %s", errInexact, version)
}

// items reads the items; null is none.
func (p *page) items() error {
	if p.buf[p.at] == 'n' {
		_, err := p.value()
		return err
	}
	if err := p.open('['); err != nil {
		return err
	}
	for first := true; !p.stopped; first = false {
		if more, err := p.element(first); err != nil || !more {
			return err
		}
		raw, err := p.take(p.scanned.read)
		if err != nil {
			return err
		}
		if err := p.item(raw); err != nil {
			return err
		}
	}
	return nil
}

// item is about the item that was scanned last.
func (p *page) item(raw []byte) error {
	p.n++
	if p.n <= p.read { // yielded before the page was cut: the same token gives the same items in the same order
		return nil
	}
	if err := p.scanned.check(); err != nil {
		return err
	}
	if want := p.options.ResourceVersion; want != "" && newer(string(p.scanned.resourceVersion), want) {
		return fmt.Errorf("%w: an object is of version %s", errInexact, p.scanned.resourceVersion)
	}
	p.held = append(p.held, p.src.cutter.frame(&p.scanned, raw, &p.names))
	// The only item of the first page waits for the page's end: that page cannot be gone on with, only begun again.
	if p.version != "" && (p.next != "" || p.n > 1) {
		p.release()
	}
	return nil
}

func (p *page) release() {
	for _, f := range p.held {
		if p.stopped {
			return
		}
		p.list.read++
		p.stopped = !p.yield(f)
	}
	p.held = p.held[:0]
}
