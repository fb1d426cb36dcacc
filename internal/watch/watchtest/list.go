package watchtest

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A page is the answer to a LIST.
type page struct {
	rv        uint64
	states    []*state
	continues string
	remaining int // -1: not told
}

// A token is what a continue parameter holds; it is the API server's own.
type token struct {
	Version string `json:"v"`
	RV      int64  `json:"rv"` // -1: whatever is newest
	Start   string `json:"start"`
}

func (t token) encode() string {
	t.Version = "meta.k8s.io/v1"
	raw, _ := json.Marshal(t) // strings and a number always marshal
	return base64.RawURLEncoding.EncodeToString(raw)
}

func decodeToken(continues string) (token, *metav1.Status) {
	var t token
	raw, err := base64.RawURLEncoding.DecodeString(continues)
	if err == nil {
		err = json.Unmarshal(raw, &t)
	}
	if err != nil || t.RV == 0 || t.Start == "" {
		return t, NewStatus(http.StatusBadRequest, metav1.StatusReasonBadRequest,
			fmt.Sprintf("invalid continue token: continue key is not valid: %v", err))
	}
	return t, nil
}

func (c *call) list() {
	o, status := c.options()
	var p page
	if status == nil {
		p, status = c.page(o)
	}
	if status != nil {
		if status.Reason == metav1.StatusReasonExpired {
			c.s.happened("expired list", c.q, nil)
		}
		c.fail(status)
		return
	}
	c.code(http.StatusOK)
	c.body(o.mediaType(), func(w io.Writer) { p.write(w, o) })
}

// page reads one page of the history.
func (c *call) page(o *options) (page, *metav1.Status) {
	s, t := c.s, c.table
	s.mu.Lock()
	defer s.mu.Unlock()
	rv, start, status := s.readAt(o, c.sc)
	if status != nil {
		return page{}, status
	}
	if c.sc.ignoreLimit && o.limit > 0 {
		o.limit = 0
		s.fired["ignore limit"]++
		c.sc.rule.fired++
	}
	p := page{rv: rv, remaining: -1}
	keys := t.keys
	if key, ok := o.single(); ok {
		keys = []string{key}
	}
	from, _ := slices.BinarySearch(keys, start)
	for i, key := range keys[from:] {
		st := t.at(key, rv)
		if o.limit > 0 && len(p.states) == o.limit && st != nil && (o.namespace == "" || st.namespace == o.namespace) {
			last := p.states[o.limit-1]
			p.continues = token{RV: int64(rv), Start: t.res.key(last.namespace, last.name) + "\x00"}.encode()
			if o.labels.Empty() && o.fields.Empty() {
				p.remaining = o.count(t, keys[from+i:], rv)
			}
			break
		}
		if o.matches(st) {
			p.states = append(p.states, st)
		}
	}
	return p, nil
}

// readAt settles the resourceVersion that a LIST reads at, and the key where it begins.
func (s *Server) readAt(o *options, sc *script) (rv uint64, start string, _ *metav1.Status) {
	rv = s.rv
	switch {
	case o.continues != "":
		tok, status := decodeToken(o.continues)
		if status != nil {
			return 0, "", status
		}
		if tok.RV > 0 {
			rv = uint64(tok.RV)
		}
		if rv < s.compacted {
			status := expiredStatus(expiredContinue)
			status.Continue = token{RV: -1, Start: tok.Start}.encode()
			return 0, "", status
		}
		start = tok.Start
	case o.exact && sc.ignoreExact:
		s.fired["ignore exact"]++
		sc.rule.fired++
	case o.exact:
		if rv = o.rv; rv < s.compacted {
			return 0, "", expiredStatus(expiredList)
		}
	case o.rv > s.rv:
		rv = o.rv
	}
	if rv > s.rv {
		return 0, "", TooLarge(rv, s.rv)
	}
	return rv, start, nil
}

func (o *options) count(t *table, keys []string, rv uint64) int {
	n := 0
	for _, key := range keys {
		if o.matches(t.at(key, rv)) {
			n++
		}
	}
	return n
}

func (p page) write(w io.Writer, o *options) {
	custom := o.res.Custom && !o.partial
	switch {
	case o.protobuf:
		_, _ = w.Write(p.protobuf()) // as below
		return
	case o.partial:
		fmt.Fprintf(w, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":%s,"items":[`, p.metadata(custom))
	case custom:
		fmt.Fprintf(w, `{"apiVersion":%q,"items":[`, o.res.APIVersion())
	default:
		fmt.Fprintf(w, `{"kind":%q,"apiVersion":%q,"metadata":%s,"items":[`, o.res.listKind(), o.res.APIVersion(), p.metadata(custom))
	}
	for i, st := range p.states {
		if i > 0 {
			fmt.Fprint(w, ",")
		}
		if o.partial {
			_, _ = w.Write(st.partial(st.rv)) // a bufio.Writer or a cutWriter: the end tells
		} else {
			_, _ = w.Write(st.item(o.res))
		}
	}
	if custom {
		fmt.Fprintf(w, `],"kind":%q,"metadata":%s}`+"\n", o.res.listKind(), p.metadata(custom))
		return
	}
	fmt.Fprintln(w, "]}")
}

func (p page) metadata(alphabetical bool) []byte {
	m := members{{"resourceVersion", fmt.Appendf(nil, `"%d"`, p.rv)}}
	if p.continues != "" {
		m = append(m, member{"continue", fmt.Appendf(nil, "%q", p.continues)})
	}
	if p.remaining >= 0 {
		m = append(m, member{"remainingItemCount", fmt.Append(nil, p.remaining)})
	}
	if alphabetical {
		m.sorted(strings.Compare)
	}
	var b bytes.Buffer
	m.write(&b)
	return b.Bytes()
}

func (c *call) get() {
	want, status := c.negotiate()
	if status != nil {
		c.fail(status)
		return
	}
	c.s.mu.Lock()
	st := c.table.at(c.table.res.key(c.q.Namespace, c.q.Name), c.s.rv)
	c.s.mu.Unlock()
	if st == nil {
		c.fail(notFound(c.table.res, c.q.Name))
		return
	}
	o := &options{res: c.table.res, form: want}
	c.code(http.StatusOK)
	c.body(o.mediaType(), func(w io.Writer) {
		_, _ = w.Write(append(o.object(st, st.rv), '\n')) // as above
	})
}

// body writes the body of a LIST or GET as the script has it.
func (c *call) body(mediaType string, write func(io.Writer)) {
	h := c.w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Cache-Control", "no-cache, private")
	if c.sc.rewrite != nil {
		var b bytes.Buffer
		write(&b)
		out := c.sc.rewrite(b.Bytes())
		c.s.happened("rewrite", c.q, c.sc.rule)
		write = func(w io.Writer) { _, _ = w.Write(out) }
	}
	if c.sc.cutBody >= 0 {
		write(&cutWriter{c, c.sc.cutBody})
		c.s.happened("cut body", c.q, c.sc.rule)
		c.cut()
	}
	buffered := bufio.NewWriterSize(c.w, 32<<10)
	write(buffered)
	_ = buffered.Flush() // the client may be gone
}

// cut breaks the connection, after what was written has gone out.
func (c *call) cut() {
	_ = http.NewResponseController(c.w).Flush() // the client may be gone
	panic(http.ErrAbortHandler)
}

// A cutWriter lets the first bytes pass and drops the rest.
type cutWriter struct {
	c    *call
	left int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.left)
	w.left -= n
	_, err := w.c.w.Write(p[:n])
	return len(p), err
}
