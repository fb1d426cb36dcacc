package sink

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"

	"watcher/internal/event"
)

// bbolt maps a file into memory and trusts each number in it. One wrong bit, and it runs into a signal, or panics in a
// goroutine of its own, where nobody can recover; its Check does so too. So before bbolt sees a file, it is read here,
// page by page: every page of the tree is where the tree says and used once, every key and value lies within its page
// and the keys are in order, every value is sealed, and the seals add up. bbolt's numbers have the machine's byte order.
const (
	boltMagic    = 0xED0CDAED
	boltVersion  = 2
	branchPage   = 1
	leafPage     = 2
	pageHeader   = 16
	elementSize  = 16
	bucketHeader = 16
	noFreelist   = ^uint64(0)
	// A meta page holds, after its header: magic, version, size of a page, flags (4 bytes each), page of the root bucket,
	// its sequence, page of the list of free pages, number of pages, transaction, FNV-1a of all that (8 bytes each).
	metaSize = 64
)

type meta struct {
	magic                          bool
	valid                          bool
	pageSize                       int64
	root, freelist, pages, transit uint64
}

func readMeta(f io.ReaderAt, at int64) (m meta, err error) {
	b := make([]byte, metaSize)
	if _, err := f.ReadAt(b, at+pageHeader); err != nil && !errors.Is(err, io.EOF) {
		return m, err
	}
	order, sum := binary.NativeEndian, fnv.New64a()
	_, _ = sum.Write(b[:metaSize-8]) // a hash takes everything
	m = meta{
		magic: order.Uint32(b) == boltMagic, pageSize: int64(order.Uint32(b[8:])),
		root: order.Uint64(b[16:]), freelist: order.Uint64(b[32:]), pages: order.Uint64(b[40:]), transit: order.Uint64(b[48:]),
	}
	m.valid = m.magic && order.Uint32(b[4:]) == boltVersion && sum.Sum64() == order.Uint64(b[56:]) &&
		m.pageSize >= metaSize+pageHeader
	return m, nil
}

// newest is the meta page that counts. bbolt would go back to the other one if it is not valid, and with it to a state
// that was. But a kill leaves none half written, and the loss of power none either: it lies within a sector.
func newest(f io.ReaderAt) (meta, error) {
	first, err := readMeta(f, 0)
	if err != nil {
		return meta{}, err
	}
	size := int64(os.Getpagesize())
	if first.valid {
		size = first.pageSize
	}
	second, err := readMeta(f, size)
	switch {
	case err != nil:
		return meta{}, err
	case !first.magic && !second.magic:
		return meta{}, errForeign
	case !first.valid || !second.valid || first.pageSize != second.pageSize:
		return meta{}, damaged("one of its first pages")
	case first.transit > second.transit:
		return first, nil
	default:
		return second, nil
	}
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w ("+format+")", append([]any{errDamaged}, args...)...)
}

// inspect reads the whole file, and from it what holds for the state as a whole.
func (s *StateDir) inspect(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errForeign
	}
	if info.Size() < pageHeader+metaSize {
		return damaged("it has %d bytes", info.Size())
	}
	m, err := newest(f)
	if err != nil {
		return err
	}
	if m.freelist != noFreelist {
		return errForeign
	}
	if whole := info.Size() / m.pageSize; m.pages > uint64(whole) { // to touch what is missing would be a signal
		return damaged("of its %d pages %d are there", m.pages, whole)
	}
	i := inspection{f: f, meta: m, seen: make([]bool, m.pages), state: s}
	if err := i.tree("", m.root, nil, nil); err != nil {
		return err
	}
	if s.about.Format == 0 || i.sum != s.about.Sum {
		return damaged("records are missing, or of another time")
	}
	return nil
}

// An inspection goes through the tree of pages.
type inspection struct {
	f io.ReaderAt
	meta
	seen  []bool
	sum   uint64
	state *StateDir
}

// tree inspects the pages from id down. Their keys are from first on, and before end if there is one.
func (i *inspection) tree(bucket string, id uint64, first, end []byte) error {
	p, err := i.read(id)
	if err != nil {
		return err
	}
	return i.page(bucket, p, first, end)
}

// read returns a page, with those that it continues in.
func (i *inspection) read(id uint64) (page, error) {
	if id < 2 || id >= i.pages {
		return nil, damaged("there is no page %d", id)
	}
	p := make(page, i.pageSize)
	if _, err := i.f.ReadAt(p, int64(id)*i.pageSize); err != nil {
		return nil, err
	}
	more := uint64(binary.NativeEndian.Uint32(p[12:]))
	if binary.NativeEndian.Uint64(p) != id || !p.is(leafPage) && !p.is(branchPage) || id+more >= i.pages {
		return nil, damaged("page %d", id)
	}
	for n := id; n <= id+more; n++ {
		if i.seen[n] {
			return nil, damaged("page %d is used twice", n)
		}
		i.seen[n] = true
	}
	if more == 0 {
		return p, nil
	}
	p = make(page, (1+int64(more))*i.pageSize)
	_, err := i.f.ReadAt(p, int64(id)*i.pageSize)
	return p, err
}

// A page is a header of 16 bytes, so many elements, and what they point to.
type page []byte

func (p page) is(kind uint16) bool { return binary.NativeEndian.Uint16(p[8:]) == kind }

func (p page) count() int { return int(binary.NativeEndian.Uint16(p[10:])) }

// An element of a leaf is a record or a bucket, an element of a branch the page with the keys from key on.
type element struct {
	bucket     bool
	child      uint64
	key, value []byte
}

// element returns the element at index n, if it lies within the page.
func (p page) element(n int) (e element, ok bool) {
	at := pageHeader + n*elementSize
	if at+elementSize > len(p) {
		return e, false
	}
	h := p[at : at+elementSize]
	var pos, key, value uint32
	if p.is(branchPage) {
		pos, key, e.child = binary.NativeEndian.Uint32(h), binary.NativeEndian.Uint32(h[4:]), binary.NativeEndian.Uint64(h[8:])
	} else {
		flags := binary.NativeEndian.Uint32(h)
		pos, key, value = binary.NativeEndian.Uint32(h[4:]), binary.NativeEndian.Uint32(h[8:]), binary.NativeEndian.Uint32(h[12:])
		if e.bucket = flags == 1; flags > 1 {
			return e, false
		}
	}
	from := uint64(at) + uint64(pos)
	to := from + uint64(key)
	if key == 0 || to+uint64(value) > uint64(len(p)) {
		return e, false
	}
	e.key, e.value = p[from:to], p[to:to+uint64(value)]
	return e, true
}

func (i *inspection) page(bucket string, p page, first, end []byte) error {
	if p.is(branchPage) && p.count() == 0 {
		return damaged("a branch without leaves")
	}
	last := first
	for n := range p.count() {
		e, ok := p.element(n)
		if !ok {
			return damaged("an entry of %q", bucket)
		}
		if c := bytes.Compare(e.key, last); c < 0 || c == 0 && n > 0 || end != nil && bytes.Compare(e.key, end) >= 0 {
			return damaged("the order of keys in %q", bucket)
		}
		if err := i.element(bucket, p, n, e, end); err != nil {
			return err
		}
		last = e.key
	}
	return nil
}

func (i *inspection) element(bucket string, p page, n int, e element, end []byte) error {
	switch {
	case p.is(branchPage):
		if next, ok := p.element(n + 1); ok && n+1 < p.count() {
			end = next.key
		}
		return i.tree(bucket, e.child, e.key, end)
	case bucket == "" && e.bucket:
		return i.bucket(string(e.key), e.value)
	case bucket == "" || e.bucket:
		return damaged("a record and a bucket have changed places")
	default:
		return i.record(bucket, e.key, e.value)
	}
}

// bucket inspects a bucket. A small one has no pages of its own: it lies in the value.
func (i *inspection) bucket(name string, value []byte) error {
	if i.state.about.Format == 0 && name != aboutBucket {
		return errForeign
	}
	if len(value) < bucketHeader {
		return damaged("bucket %q", name)
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return i.tree(name, root, nil, nil)
	}
	p := page(value[bucketHeader:])
	if len(p) < pageHeader || !p.is(leafPage) {
		return damaged("bucket %q", name)
	}
	return i.page(name, p, nil, nil)
}

func (i *inspection) record(bucket string, key, value []byte) (err error) {
	if !sealed(bucketSeal(bucket), key, value) {
		return damaged("a record of %q", bucket)
	}
	text := value[sealSize:]
	if bucket == aboutBucket {
		if err := json.Unmarshal(text, &i.state.about); err != nil {
			return damaged("what it is about: %w", err)
		}
		if got := i.state.about.Format; got != formatVersion {
			return fmt.Errorf("%s has format %d, and this watcher knows only %d: use the newer watcher that wrote it, or give another --state-dir", stateFile, got, formatVersion)
		}
		return nil
	}
	if bucket == streamsBucket {
		var c event.Checkpoint
		if err := json.Unmarshal(text, &c); err != nil {
			return damaged("the position of %q: %w", key, err)
		}
		i.state.streams[string(key)] = c
	}
	i.sum += uint64(seal(value))
	return nil
}
