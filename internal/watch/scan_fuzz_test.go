package watch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"watcher/internal/event"
)

// What scan and appendWithout do is judged by encoding/json, here for made-up inputs and in scan_test.go for chosen ones.

func FuzzScan(f *testing.F) {
	for _, c := range verdicts {
		addSmall(f, c.json)
	}
	for _, c := range cuts {
		addSmall(f, strings.ReplaceAll(c.json, "LAST", lastAppliedKey))
	}
	for _, c := range attributions {
		addSmall(f, managed(c.json))
	}
	for _, objects := range sameHashes {
		for _, obj := range objects {
			addSmall(f, obj)
		}
	}
	f.Fuzz(checkScan)
}

func FuzzScanFrame(f *testing.F) {
	for _, c := range frameVerdicts {
		addSmall(f, c.json)
	}
	for _, c := range verdicts {
		addSmall(f, `{"type":"ADDED","object":`+c.json+`}`)
	}
	f.Fuzz(checkScanFrame)
}

// addSmall keeps out what would make every mutation slow.
func addSmall(f *testing.F, seed string) {
	if len(seed) < 1<<10 {
		f.Add([]byte(seed))
	}
}

func checkScan(t *testing.T, b []byte) {
	before := bytes.Clone(b)
	o := object{kind: []byte("old"), managedFields: spans{span{1, 2}, []span{{3, 4}}}, lastApplied: spans{first: span{1, 2}}, hashes: event.Hashes{Spec: 1, Metadata: 2, Status: 3}}
	o.newest = newest{managedEntry: managedEntry{manager: []byte("old"), second: math.MaxUint32}, tied: true, others: 1}
	err := o.scan(b)
	if want := judge(b); !sameKind(err, want) {
		t.Fatalf("scan(%.300q): %v, want %v", b, err, want)
	}
	if err != nil {
		return
	}
	if got, want := fieldsOf(&o), wantFields(t, b); got != want {
		t.Errorf("scan(%.300q) found\n%s\nwant\n%s", b, got, want)
	}
	if want := wantHashes(t, b); o.hashes != want {
		t.Errorf("scan(%.300q) found\n%x\nwant\n%x", b, o.hashes, want)
	}
	if got, want := attributed(&o), wantAttribution(t, b); got != want {
		t.Errorf("scan(%.300q) found\n%+v\nwant\n%+v", b, got, want)
	}
	for _, c := range []struct {
		members []spans
		paths   []string
	}{
		{[]spans{o.managedFields}, []string{managedFieldsPath}},
		{[]spans{o.lastApplied}, []string{lastAppliedPath}},
		{[]spans{o.managedFields, o.lastApplied}, []string{managedFieldsPath, lastAppliedPath}},
	} {
		out := appendWithout([]byte("dst"), b, c.members...)[len("dst"):]
		if !json.Valid(out) {
			t.Fatalf("%.300q without %s is invalid: %q", b, c.paths, out)
		}
		if got, want := render(t, out, ""), render(t, b, "", c.paths...); got != want {
			t.Errorf("%.300q without %s is\n%s\nwant\n%s", b, c.paths, got, want)
		}
	}
	if !bytes.Equal(b, before) {
		t.Errorf("scan made %q of its input %q", b, before)
	}
}

func checkScanFrame(t *testing.T, line []byte) {
	if bytes.Count(line, []byte("["))+bytes.Count(line, []byte("{")) >= maxDepth {
		t.Skip("whether the frame itself counts as a level is of no interest")
	}
	var o object
	typ, obj, err := o.scanFrame(line)
	want := judge(line)
	var end *trailingError
	if want == nil || errors.As(want, &end) {
		first := line
		if end != nil {
			first = line[:end.end]
		}
		wantType, wantObject := lastMember(t, first, "type"), lastMember(t, first, "object")
		if bytes.HasPrefix(wantType, []byte(`"`)) && bytes.HasPrefix(wantObject, []byte("{")) {
			if got, want := string(typ), unquote(t, wantType); got != want {
				t.Errorf("scanFrame(%.300q) found type %q, want %q", line, got, want)
			}
			if got := line[obj.start:obj.end]; !bytes.Equal(got, wantObject) {
				t.Errorf("scanFrame(%.300q) found object %q, want %q", line, got, wantObject)
			}
			var alone object
			if err := alone.scan(wantObject); err != nil || !reflect.DeepEqual(o, alone) {
				t.Errorf("scanFrame(%.300q) found\n%+v\nwant\n%+v, %v", line, o, alone, err)
			}
		} else {
			want = &syntaxError{}
		}
	}
	if !sameKind(err, want) {
		t.Errorf("scanFrame(%.300q): %v, want %v", line, err, want)
	}
}

// judge says what scan should return for b, but for the offset of a syntax error.
func judge(b []byte) error {
	if start := bytes.TrimLeft(b, " \t\r\n"); len(start) > 0 && start[0] != '{' {
		return &syntaxError{}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	err := d.Decode(new(json.RawMessage))
	end := int(d.InputOffset())
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && utf8.Valid(wholeRunes(b)):
		return errIncomplete
	case err != nil || !utf8.Valid(b[:end]):
		return &syntaxError{}
	case !json.Valid(b):
		return &trailingError{end}
	}
	return nil
}

// wholeRunes is b less an incomplete rune at its end.
func wholeRunes(b []byte) []byte {
	for i := max(0, len(b)-utf8.UTFMax+1); i < len(b); i++ {
		if utf8.RuneStart(b[i]) && !utf8.FullRune(b[i:]) {
			return b[:i]
		}
	}
	return b
}

// sameKind compares errors of scan, but for the offset of a syntax error.
func sameKind(got, want error) bool {
	var syntax *syntaxError
	if errors.As(want, &syntax) {
		return errors.As(got, &syntax)
	}
	return reflect.DeepEqual(got, want)
}

func fieldsOf(o *object) string {
	show := func(b []byte) string {
		if b == nil {
			return "none"
		}
		return strconv.Quote(string(b))
	}
	return fmt.Sprintln(show(o.kind), show(o.apiVersion), show(o.namespace), show(o.name), show(o.uid), show(o.resourceVersion),
		show(o.deletionTimestamp), o.generation)
}

// wantFields is fieldsOf for what decoding into a map finds.
func wantFields(t *testing.T, b []byte) string {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var top map[string]any
	if err := d.Decode(&top); err != nil {
		t.Fatal(err)
	}
	meta, _ := top["metadata"].(map[string]any)
	show := func(v any) string {
		if s, ok := v.(string); ok {
			return strconv.Quote(s)
		}
		return "none"
	}
	number, _ := meta["generation"].(json.Number)
	generation, err := number.Int64()
	if err != nil {
		generation = 0
	}
	return fmt.Sprintln(show(top["kind"]), show(top["apiVersion"]), show(meta["namespace"]), show(meta["name"]),
		show(meta["uid"]), show(meta["resourceVersion"]), show(meta["deletionTimestamp"]),
		generation)
}

// A path is the quoted keys that lead to a member.
const (
	metadataPath      = `"metadata"`
	managedFieldsPath = metadataPath + `"managedFields"`
	annotationsPath   = metadataPath + `"annotations"`
	lastAppliedPath   = annotationsPath + `"` + lastAppliedKey + `"`
)

// render lists the members of the object b, which lies at path, in their order and with their repetitions, and those of its
// metadata and annotations likewise, but leaves some out.
func render(t *testing.T, b []byte, path string, without ...string) string {
	var out strings.Builder
	eachMember(t, b, func(key string, value, _ []byte) {
		path := path + strconv.Quote(key)
		for _, w := range without {
			if w == path {
				return
			}
		}
		if value[0] == '{' && (path == metadataPath || path == annotationsPath) {
			fmt.Fprintf(&out, "%s {\n%s}\n", path, render(t, value, path, without...))
			return
		}
		fmt.Fprintf(&out, "%s %s\n", path, value)
	})
	return out.String()
}

func lastMember(t testing.TB, b []byte, key string) (last []byte) {
	eachMember(t, b, func(k string, value, _ []byte) {
		if k == key {
			last = value
		}
	})
	return last
}

// eachMember yields the members of the object b. whole is all of one, from its key's opening quote.
func eachMember(t testing.TB, b []byte, yield func(key string, value, whole []byte)) {
	d := json.NewDecoder(bytes.NewReader(b))
	_, err := d.Token()
	for err == nil && d.More() {
		var key json.Token
		var value json.RawMessage
		start := d.InputOffset()
		if key, err = d.Token(); err == nil {
			if err = d.Decode(&value); err == nil {
				yield(key.(string), value, bytes.TrimLeft(b[start:d.InputOffset()], ", \t\r\n"))
			}
		}
	}
	if err != nil {
		t.Fatalf("read the members of %q: %v", b, err)
	}
}

func unquote(t *testing.T, b []byte) (s string) {
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return s
}
