package watch

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
)

// maxFrame bounds one watch frame. An object may reach etcd's 1.5 MiB, about 3 MiB as JSON; what comes near this bound
// is no Kubernetes API server.
const maxFrame = 64 << 20

// anyJSON lets the tokenizer find where values end; whether they may pass is for the scan to say.
var anyJSON = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

// statusCodecs decodes Status, the only typed object that is ever read.
var statusCodecs = func() serializer.CodecFactory {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	return serializer.NewCodecFactory(scheme)
}()

// A negotiator makes client-go's Watch yield frames. Whatever is no frame, Status above all, the stock codecs decode.
type negotiator struct {
	runtime.NegotiatedSerializer
	cutter cutter
}

// SupportedMediaTypes implements runtime.NegotiatedSerializer. client-go asks once a response, so that each watch has a
// decoder of its own.
func (n negotiator) SupportedMediaTypes() []runtime.SerializerInfo {
	info, _ := runtime.SerializerInfoForMediaType(n.NegotiatedSerializer.SupportedMediaTypes(), runtime.ContentTypeJSON)
	d := &watchDecoder{cutter: n.cutter}
	info.Serializer = objectSerializer{info.Serializer, d}
	info.StreamSerializer = &runtime.StreamSerializerInfo{EncodesAsText: true, Serializer: frameSerializer{info.Serializer, d}, Framer: d}
	return []runtime.SerializerInfo{info}
}

// DecoderToVersion implements runtime.NegotiatedSerializer: nothing is converted.
func (n negotiator) DecoderToVersion(d runtime.Decoder, _ runtime.GroupVersioner) runtime.Decoder {
	return d
}

// A watchDecoder is the state of one watch's decoding. client-go cuts decoding into a framer, a serializer of frames and
// one of objects, and copies every frame from each to the next. Here all three look at one line in the read buffer, and
// the only copy is the event's own.
type watchDecoder struct {
	cutter  cutter
	lines   *lineReader // nil: this response is no watch
	names   names
	scanned object          // in the current line
	verb    watch.EventType // of the current line; "": no frame's
}

// NewFrameReader implements runtime.Framer.
func (d *watchDecoder) NewFrameReader(r io.ReadCloser) io.ReadCloser {
	d.lines = &lineReader{body: r, buf: bufio.NewReaderSize(r, 64<<10)}
	return d.lines
}

// NewFrameWriter implements runtime.Framer. A client writes no frames.
func (d *watchDecoder) NewFrameWriter(w io.Writer) io.Writer { return w }

type frameSerializer struct {
	runtime.Serializer
	d *watchDecoder
}

// Decode reads the frame that the line reader stands at; the bytes that client-go passes are empty.
func (s frameSerializer) Decode(_ []byte, _ *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	ev, ok := into.(*metav1.WatchEvent)
	if !ok {
		return nil, nil, fmt.Errorf("decode a watch frame into %T", into)
	}
	line := s.d.lines.line
	typ, obj, err := s.d.scanned.scanFrame(line)
	if s.d.lines.tokens == nil && (errors.Is(err, errIncomplete) || errors.As(err, new(*trailingError))) {
		// Not one frame a line: from here on the tokens say where each ends.
		if line, err = s.d.lines.fallBack(); err == nil {
			typ, obj, err = s.d.scanned.scanFrame(line)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	s.d.verb = verb(typ)
	ev.Type, ev.Object.Raw = string(s.d.verb), line[obj.start:obj.end]
	if s.d.verb == "" {
		ev.Type = string(typ) // an ERROR, or what client-go will refuse
		return ev, nil, nil
	}
	return ev, nil, s.d.scanned.check()
}

// verb is the type of a frame, or "" of whatever else.
func verb(typ []byte) watch.EventType {
	for _, v := range [...]watch.EventType{watch.Modified, watch.Added, watch.Deleted, watch.Bookmark} {
		if string(typ) == string(v) {
			return v
		}
	}
	return ""
}

type objectSerializer struct {
	runtime.Serializer
	d *watchDecoder
}

// Decode makes a frame of the object that the frame serializer has just scanned.
func (s objectSerializer) Decode(raw []byte, gvk *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	switch {
	case s.d.lines == nil || into != nil:
		return s.Serializer.Decode(raw, gvk, into)
	case s.d.verb == "":
		return s.Serializer.Decode(raw, gvk, &metav1.Status{})
	default:
		return s.d.together(raw), nil, nil
	}
}

// together makes frames of the current line, whose object is raw, and of those behind it that are here already: to hand
// each over alone, from goroutine to goroutine, costs more than to copy it. What is not plainly a frame Read finds again.
func (d *watchDecoder) together(raw []byte) *frames {
	fs := d.cutter.pool.none()
	for {
		f := d.cutter.frame(&d.scanned, raw, &d.names)
		f.verb = d.verb
		*fs = append(*fs, f)
		line := d.lines.here()
		typ, obj, err := d.scanned.scanFrame(line)
		if d.verb = verb(typ); err != nil || d.verb == "" || d.scanned.check() != nil {
			return fs
		}
		d.lines.skip(line)
		raw = line[obj.start:obj.end]
	}
}

// A lineReader finds the frames of a watch: one a line, as the API server writes them. Its Read passes no bytes; the
// frame is in line until the next Read.
type lineReader struct {
	body   io.ReadCloser
	buf    *bufio.Reader
	line   []byte
	long   []byte            // holds a line that is longer than buf
	tokens *jsontext.Decoder // where frames come from once lines are not frames
}

// Read advances to the next frame.
func (l *lineReader) Read([]byte) (int, error) {
	var err error
	if l.tokens != nil {
		l.line, err = l.nextValue()
		return 0, err
	}
	for {
		if l.line, err = l.nextLine(); err != nil || len(bytes.TrimSpace(l.line)) > 0 {
			return 0, err
		}
	}
}

// here is the next line if all of it has been read from the network, or else empty.
func (l *lineReader) here() []byte {
	if l.tokens != nil {
		return nil
	}
	all, _ := l.buf.Peek(l.buf.Buffered()) // of what is there nothing can fail
	return all[:bytes.IndexByte(all, '\n')+1]
}

// skip goes past that line.
func (l *lineReader) skip(line []byte) { _, _ = l.buf.Discard(len(line)) }

// Close implements io.Closer.
func (l *lineReader) Close() error { return l.body.Close() }

func (l *lineReader) nextLine() ([]byte, error) {
	line, err := l.buf.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		l.long = l.long[:0]
		for errors.Is(err, bufio.ErrBufferFull) {
			if l.long = append(l.long, line...); len(l.long) > maxFrame {
				return nil, fmt.Errorf("a watch frame of more than %d bytes", maxFrame)
			}
			line, err = l.buf.ReadSlice('\n')
		}
		l.long = append(l.long, line...)
		line = l.long
	}
	switch {
	case err == nil:
		return line, nil
	case errors.Is(err, io.EOF) && len(line) > 0:
		return line, nil // the end comes back at the next Read
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	default:
		return nil, errCut
	}
}

// errCut is how a connection that broke is told to client-go, which knows its kind by identity: it closes the watch. Any
// other error, such as HTTP/2's of a broken stream, it would report as a frame that cannot be decoded.
var errCut = io.ErrUnexpectedEOF

// fallBack gives the current line to a tokenizer, which all further frames come from, and returns the first of them.
func (l *lineReader) fallBack() ([]byte, error) {
	l.tokens = jsontext.NewDecoder(io.MultiReader(bytes.NewReader(bytes.Clone(l.line)), l.buf), anyJSON...)
	return l.nextValue()
}

func (l *lineReader) nextValue() ([]byte, error) {
	v, err := l.tokens.ReadValue()
	switch {
	case err == nil:
		return v, nil
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errCut
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	case errors.As(err, new(*jsontext.SyntacticError)):
		return nil, err
	default:
		return nil, errCut
	}
}
