package watch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-json-experiment/json/jsontext"
)

// FuzzInput: however an object arrives, its members, and the elements of those that are arrays, are those that a library
// finds; and what the library refuses is refused, but for what lies behind the object.
func FuzzInput(f *testing.F) {
	for _, s := range []string{
		`{}`, ` { "a" : 1 , "b":[ 1, 2.5e3 ,"x"] }`, `{"items":[{"k":[{}]},{}],"n":-0.5,"t":true}`, `{"a\u0062":"\ud83d\ude00","ü":null}`,
		`{"a":12`, `{"a":[1,`, `{"a":[12`, `{"a" 1}`, `{"a":1,}`, `{"a":[1,]}`, `[]`, ``, `{"a":tru}`, `{"a":"` + "\xff" + `"}`, `{"long":"` + strings.Repeat("x", 5000) + `"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		want, wrong := walkTokens(text)
		for name, r := range map[string]io.Reader{
			"at once": bytes.NewReader(text), "byte by byte": iotest.OneByteReader(bytes.NewReader(text)), "by halves": iotest.HalfReader(bytes.NewReader(text)),
			"with its end": iotest.DataErrReader(bytes.NewReader(text)),
		} {
			got, err := walkInput(newInput(r, 1))
			if got != want && wrong == nil || (err == nil) != (wrong == nil) || errors.Is(err, io.EOF) {
				t.Errorf("%s: %q %v, want %q %v", name, got, err, want, wrong)
			}
		}
	})
}

// What comes in many packets is parsed a few times.
func TestALongObjectIsNotParsedForEachPacket(t *testing.T) {
	long := `"` + strings.Repeat("x", 3<<20) + `"`
	in, parsed := newInput(iotest.OneByteReader(strings.NewReader("["+long+"]")), 1), 0
	if err := in.open('['); err != nil {
		t.Fatal(err)
	}
	if more, err := in.element(true); !more || err != nil {
		t.Fatalf("%v %v", more, err)
	}
	got, err := in.take(func(b []byte) (int, error) {
		parsed++
		return skipValue(b, 0, 1)
	})
	if string(got) != long || err != nil || parsed > 50 {
		t.Errorf("%d bytes, parsed %d times: %v", len(got), parsed, err)
	}
}

func walkInput(in *input) (walked string, err error) {
	if err := in.open('{'); err != nil {
		return "", err
	}
	for first := true; ; first = false {
		name, err := in.member(first)
		if err != nil || name == nil {
			return walked, err
		}
		walked += fmt.Sprintf("%q:", name)
		if in.buf[in.at] != '[' {
			value, err := in.value()
			if err != nil {
				return "", err
			}
			walked += string(value) + ";"
			continue
		}
		if err := in.open('['); err != nil {
			return "", err
		}
		for first := true; ; first = false {
			more, err := in.element(first)
			if err != nil {
				return "", err
			}
			if !more {
				break
			}
			value, err := in.value()
			if err != nil {
				return "", err
			}
			walked += string(value) + ","
		}
	}
}

func walkTokens(text []byte) (walked string, err error) {
	d := jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowDuplicateNames(true))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return "", fmt.Errorf("no object: %w", err)
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return "", err
		}
		walked += fmt.Sprintf("%q:", name.String())
		array := d.PeekKind() == '['
		if array {
			_, _ = d.ReadToken() // it was looked at
		}
		for !array || d.PeekKind() != ']' {
			value, err := d.ReadValue()
			if err != nil {
				return "", err
			}
			if walked += string(value); !array {
				walked += ";"
				break
			}
			walked += ","
		}
		if array {
			if _, err := d.ReadToken(); err != nil {
				return "", err
			}
		}
	}
	_, err = d.ReadToken()
	return walked, err
}
