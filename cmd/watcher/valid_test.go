package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemas are the published ones, by the beginning of the type that each is for.
var schemas = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	out := map[string]*jsonschema.Schema{}
	for prefix, name := range map[string]string{"watcher.object.": "object", "watcher.stream.": "stream"} {
		s, err := c.Compile(filepath.Join("..", "..", "docs", "schemas", name+"-event.schema.json"))
		if err != nil {
			return nil, err
		}
		out[prefix] = s
	}
	return out, nil
})

// A line is what tests look at in an event.
type line struct {
	ID, Type, Source, Subject string
	Data                      struct {
		Op, Origin, Group, Version, Resource, Kind, Namespace, Name, UID, ResourceVersion string

		Seq               uint64
		Generation        int64
		DeletionTimestamp string
		Ambiguous         bool
		ObjectOmitted     *struct {
			Bytes  int
			SHA256 string
		}
		Object json.RawMessage

		Present                      int
		Payload                      string
		Namespaces                   []string
		LabelSelector, FieldSelector string
		Resumed                      bool
		Reason                       string
	}
}

// String is the event in short: "modified shop/web-1@103", "synced 3@103".
func (l line) String() string {
	_, op, _ := strings.Cut(strings.TrimPrefix(l.Type, "watcher."), ".")
	switch {
	case l.Subject != "":
		return fmt.Sprintf("%s %s@%s", op, l.Subject, l.Data.ResourceVersion)
	case op == "synced":
		return fmt.Sprintf("synced %d@%s", l.Data.Present, l.Data.ResourceVersion)
	default:
		return fmt.Sprintf("%s @%s", op, l.Data.ResourceVersion)
	}
}

// read returns the lines of an output, which must all be whole.
func read(text string) ([]line, error) {
	var out []line
	for raw := range strings.Lines(text) {
		var l line
		if err := json.Unmarshal([]byte(raw), &l); err != nil || !strings.HasSuffix(raw, "\n") {
			return nil, fmt.Errorf("a line that is not whole: %w\n%.500s", err, raw)
		}
		out = append(out, l)
	}
	return out, nil
}

// valid checks every line of an output with its schema and with the CloudEvents SDK.
func valid(text string) error {
	for raw := range strings.Lines(text) {
		if err := validLine(strings.TrimSuffix(raw, "\n")); err != nil {
			return fmt.Errorf("%w\n%.1000s", err, raw)
		}
	}
	return nil
}

func validLine(raw string) error {
	var ev cloudevents.Event
	if err := json.Unmarshal([]byte(raw), &ev); err != nil {
		return fmt.Errorf("the CloudEvents SDK: %w", err)
	}
	if err := ev.Validate(); err != nil {
		return fmt.Errorf("the CloudEvents SDK: %w", err)
	}
	all, err := schemas()
	if err != nil {
		return err
	}
	for prefix, s := range all {
		if !strings.HasPrefix(ev.Type(), prefix) {
			continue
		}
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(raw))
		if err != nil {
			return err
		}
		if err := s.Validate(doc); err != nil {
			return err
		}
		return sameData(raw, ev.Data())
	}
	return fmt.Errorf("no schema for type %q", ev.Type())
}

// sameData shows that the SDK hands on the data as it is in the line.
func sameData(raw string, data []byte) error {
	var l struct{ Data json.RawMessage }
	if err := json.Unmarshal([]byte(raw), &l); err != nil || !bytes.Equal(l.Data, data) {
		return fmt.Errorf("the CloudEvents SDK reads other data: %.300s", data)
	}
	return nil
}

// TestTheSchemasRefuseWhatIsWrong shows that validation is one.
func TestTheSchemasRefuseWhatIsWrong(t *testing.T) {
	t.Parallel()
	good := `{"specversion":"1.0","id":"u.1","source":"/clusters/c/api/v1/pods","type":"watcher.object.added","subject":"a/b",` +
		`"time":"2026-11-23T21:04:05.123456789Z","datacontenttype":"application/json","data":{"op":"added","seq":1,"origin":"live",` +
		`"group":"","version":"v1","resource":"pods","kind":"Pod","namespace":"a","name":"b","uid":"u","resourceVersion":"1","object":{}}}`
	if err := validLine(good); err != nil {
		t.Fatal(err)
	}
	for what, edit := range map[string][2]string{
		"an unknown member":     {`"seq":1`, `"seq":1,"more":2`},
		"seq 0":                 {`"seq":1`, `"seq":0`},
		"no uid and no name":    {`"name":"b",`, ``},
		"a type without schema": {`watcher.object.added`, `watcher.objects.added`},
		"an op of another kind": {`"op":"added"`, `"op":"gap"`},
		"a short time":          {`.123456789Z`, `.123Z`},
		"a gap without repair":  {`"seq":1`, `"seq":1,"gap":"g"`},
		"no specversion":        {`"specversion":"1.0",`, ``},
	} {
		bad := strings.Replace(good, edit[0], edit[1], 1)
		if bad == good {
			t.Fatalf("%s: nothing was edited", what)
		}
		if validLine(bad) == nil {
			t.Errorf("%s passes", what)
		}
	}
}
