package watch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

type judgement struct {
	name, json string
	want       error
}

func syntaxAt(offset int) error { return &syntaxError{offset: offset} }

// verdicts are what scan says to objects.
var verdicts = []judgement{
	{"empty object", `{}`, nil},
	{"white space everywhere", " \t\r\n{ \"a\" : [ 1 , { } , [ ] ] , \"b\" : { \"c\" : null } } \n", nil},
	{"all kinds of values", `{"a":"x","b":true,"c":false,"d":null,"e":[],"f":{},"g":-0,"h":1.5e+10,"i":0.1E-2}`, nil},
	{"all escapes", `{"a":"\"\\\/\b\f\n\r\t\u00Ff\ud83d\ude00"}`, nil},
	{"unpaired surrogates", `{"a":"\ud800","b":"\udc00\ud800\u0041"}`, nil},
	{"DEL, NUL escaped, U+2028, U+10FFFF", "{\"a\":\"\x7f\\u0000\u2028\U0010ffff\"}", nil},
	{"as deep as allowed", `{"a":` + strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1) + `}`, nil},
	{"deep, brackets alternate", `{"a":` + strings.Repeat(`[{"a":`, 300) + `0` + strings.Repeat(`}]`, 300) + `}`, nil},

	{"nothing", ``, errIncomplete},
	{"only white space", " \n", errIncomplete},
	{"ends in a key", `{"a`, errIncomplete},
	{"ends behind a comma", `{"a":1,`, errIncomplete},
	{"ends in a number that could go on", `{"a":-`, errIncomplete},
	{"ends in an escape", `{"a":"\u00`, errIncomplete},
	{"ends in a rune", "{\"a\":\"\xe2\x80", errIncomplete},
	{"ends in a literal", `{"a":tru`, errIncomplete},
	{"last byte lost", `{"metadata":{"name":"a"}`, errIncomplete},

	{"two objects", `{"a":1}{"b":2}`, &trailingError{7}},
	{"two objects on two lines", "{\"a\":1} \n {\"b\":2}", &trailingError{7}},
	{"garbage behind", `{"a":1}x`, &trailingError{7}},
	{"NUL behind", "{\"a\":1}\x00", &trailingError{7}},
	{"invalid UTF-8 behind", "{}\xff", &trailingError{2}},

	{"null", `null`, syntaxAt(0)},
	{"array", ` []`, syntaxAt(1)},
	{"string", `"{}"`, syntaxAt(0)},
	{"HTML", `<html>502</html>`, syntaxAt(0)},
	{"byte order mark", "\ufeff{}", syntaxAt(0)},
	{"wrong bracket", `{"a":[1}}`, syntaxAt(7)},
	{"wrong brace", `{"a":{"b":1]}`, syntaxAt(11)},
	{"wrong bracket of an empty object", `{"a":{]}`, syntaxAt(6)},
	{"wrong brace of an empty array", `{"a":[}}`, syntaxAt(6)},
	{"wrong bracket 64 levels up", `{"a":` + strings.Repeat("[", 70) + strings.Repeat("]", 69) + `}`, syntaxAt(144)},
	{"object ends as an array", `{"a":1]`, syntaxAt(6)},
	{"unquoted key", `{"a":{b:1}}`, syntaxAt(6)},
	{"key without its first quote", `{xa":1,"bbbbbb":2}`, syntaxAt(1)},
	{"key without its last quote", `{"a\:1,"bbbbbb":2}`, syntaxAt(3)},
	{"key is a number", `{1:1}`, syntaxAt(1)},
	{"no colon", `{"a" 1}`, syntaxAt(5)},
	{"no value", `{"a":}`, syntaxAt(5)},
	{"no comma in an object", `{"a":{"b":1"c":2}}`, syntaxAt(11)},
	{"no comma in an array", `{"a":[1 2]}`, syntaxAt(8)},
	{"no comma at the top", `{"a":1"b":2}`, syntaxAt(6)},
	{"brace for a comma", `{"a":1{"b":2}`, syntaxAt(6)},
	{"comma at the end of an object", `{"a":{"b":1,}}`, syntaxAt(12)},
	{"comma at the end of an array", `{"a":[1,]}`, syntaxAt(8)},
	{"comma at the top's end", `{"a":1,}`, syntaxAt(7)},
	{"comma at the beginning", `{,"a":1}`, syntaxAt(1)},
	{"comma alone", `{"a":[,]}`, syntaxAt(6)},
	{"control character in a string", "{\"a\":\"long enough \x01 for a word\"}", syntaxAt(18)},
	{"newline in a string", "{\"a\":\"\n\"}", syntaxAt(6)},
	{"NUL in a string", "{\"a\":\"\x00\"}", syntaxAt(6)},
	{"control character in a key", "{\"\x1f\":1}", syntaxAt(2)},
	{"control character for space", "{\"a\":\v1}", syntaxAt(5)},
	{"no-break space for space", "{\"a\":\u00a01}", syntaxAt(5)},
	{"unknown escape", `{"a":"\q"}`, syntaxAt(6)},
	{"escaped NUL byte", "{\"a\":\"\\\x00\"}", syntaxAt(6)},
	{"escape of too few digits", `{"a":"\u00g0"}`, syntaxAt(6)},
	{"upper case escape", `{"a":"\U0041"}`, syntaxAt(6)},
	{"invalid UTF-8", "{\"a\":\"\xff\"}", syntaxAt(6)},
	{"invalid UTF-8 in a key", "{\"\xc3\":1}", syntaxAt(2)},
	{"overlong UTF-8", "{\"a\":\"\xc0\xaf\"}", syntaxAt(6)},
	{"surrogate in UTF-8", "{\"a\":\"\xed\xa0\x80\"}", syntaxAt(6)},
	{"beyond U+10FFFF", "{\"a\":\"\xf4\x90\x80\x80\"}", syntaxAt(6)},
	{"leading zero", `{"a":012}`, syntaxAt(6)},
	{"leading plus", `{"a":+1}`, syntaxAt(5)},
	{"leading point", `{"a":.5}`, syntaxAt(5)},
	{"no digits behind the point", `{"a":1.}`, syntaxAt(7)},
	{"no digits in the exponent", `{"a":1e+}`, syntaxAt(8)},
	{"minus alone", `{"a":-}`, syntaxAt(6)},
	{"colon behind a number", `{"a":1:2}`, syntaxAt(6)},
	{"slash for a number", `{"a":/}`, syntaxAt(5)},
	{"hexadecimal", `{"a":0x1}`, syntaxAt(6)},
	{"NaN", `{"a":NaN}`, syntaxAt(5)},
	{"Infinity", `{"a":-Infinity}`, syntaxAt(6)},
	{"misspelt literal", `{"a":nul}`, syntaxAt(5)},
	{"literal too long", `{"a":nulls}`, syntaxAt(9)},
	{"single quotes", `{'a':1}`, syntaxAt(1)},
	{"comment", `{/**/"a":1}`, syntaxAt(1)},
	{"too deep", `{"a":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + `}`, syntaxAt(maxDepth + 4)},
	{"very deep and never closed", `{"a":` + strings.Repeat(`{"a":`, 1e6), syntaxAt(5 * maxDepth)},
}

// frameVerdicts are what scanFrame says to lines.
var frameVerdicts = []judgement{
	{"as written by the API server", `{"type":"ADDED","object":{"kind":"Pod","metadata":{"name":"a"}}}` + "\n", nil},
	{"CRLF", `{"type":"ADDED","object":{}}` + "\r\n", nil},
	{"no newline", `{"type":"BOOKMARK","object":{}}`, nil},
	{"keys swapped", `{"object":{"metadata":{"name":"a"}},"type":"ADDED"}`, nil},
	{"white space", ` { "type" : "ADDED" , "object" : { "kind" : "Pod" } } `, nil},
	{"pretty printed", "{\n  \"type\": \"ADDED\",\n  \"object\": {\n    \"kind\": \"Pod\"\n  }\n}\n", nil},
	{"white space behind the object", `{"type":"ADDED","object":{} }`, nil},
	{"unknown members", `{"type":"ADDED","object":{"kind":"Pod"},"a":[{"object":1}],"b":{}}`, nil},
	{"unknown members first", `{"a":1,"type":"ADDED","object":{"kind":"Pod"}}`, nil},
	{"escaped keys", `{"\u0074ype":"ADDED","obj\u0065ct":{"kind":"Pod"}}`, nil},
	{"escaped type", `{"type":"ADD\u0045D","object":{"kind":"Pod"}}`, nil},
	{"empty type", `{"type":"","object":{"kind":"Pod"}}`, nil},
	{"unknown type", `{"type":"_odd-1","object":{"kind":"Pod"}}`, nil},
	{"type twice", `{"type":"ADDED","object":{"kind":"Pod"},"type":"DELETED"}`, nil},
	{"object twice", `{"type":"ADDED","object":{"kind":"Pod"},"object":{"kind":"Node"}}`, nil},
	{"object twice, null first", `{"type":"ADDED","object":null,"object":{"kind":"Node"}}`, nil},
	{"two on one line", `{"type":"ADDED","object":{"kind":"Pod"}}{"type":"ADDED","object":{}}`, &trailingError{40}},
	{"two on one line, keys swapped", `{"object":{},"type":"ADDED"} {"object":{},"type":"ADDED"}`, &trailingError{28}},
	{"garbage behind", `{"type":"ADDED","object":{}}]`, &trailingError{28}},
	{"cut in the head", `{"type":"ADD`, errIncomplete},
	{"cut in the object", `{"type":"ADDED","object":{"kind":"P`, errIncomplete},
	{"cut behind the object", `{"type":"ADDED","object":{"kind":"Pod"}`, errIncomplete},
	{"cut in a literal", `{"type":"ADDED","object":nul`, errIncomplete},
	{"no object", `{"type":"ADDED"}`, syntaxAt(16)},
	{"object is null", `{"type":"ADDED","object":null}`, syntaxAt(25)},
	{"object is an array", `{"type":"ADDED","object":[]}`, syntaxAt(25)},
	{"object twice, null last", `{"type":"ADDED","object":{"kind":"Pod"},"object":null}`, syntaxAt(49)},
	{"no type", `{"object":{}}`, syntaxAt(13)},
	{"type is a number", `{"type":1,"object":{}}`, syntaxAt(22)},
	{"keys in upper case", `{"Type":"ADDED","Object":{}}`, syntaxAt(28)},
	{"no comma in the wrapper", `{"type":"ADDED","object":{}"a":1}`, syntaxAt(27)},
	{"wrong end of the wrapper", `{"type":"ADDED","object":{}]`, syntaxAt(27)},
	{"garbage in an unknown member", `{"type":"ADDED","object":{},"a":01}`, syntaxAt(33)},
	{"broken object, keys swapped", `{"object":{"a":[}},"type":"ADDED"}`, syntaxAt(16)},
	{"garbage line", `hello`, syntaxAt(0)},
}

func TestScanTellsValidFromInvalid(t *testing.T) {
	for _, c := range verdicts {
		t.Run(c.name, func(t *testing.T) {
			checkScan(t, []byte(c.json))
			var o object
			sameError(t, o.scan([]byte(c.json)), c.want)

			frame := fmt.Sprintf(`{"type":"ADDED","object":%s}`, c.json)
			var syntax *syntaxError
			switch _, _, err := o.scanFrame([]byte(frame)); {
			case c.want == nil:
				sameError(t, err, nil)
			case errors.As(c.want, &syntax):
				sameError(t, err, &syntaxError{offset: syntax.offset + 25})
			case err == nil:
				t.Error("scanFrame lets it through")
			}
		})
	}
}

func TestScanFrameTellsValidFromInvalid(t *testing.T) {
	for _, c := range frameVerdicts {
		t.Run(c.name, func(t *testing.T) {
			checkScanFrame(t, []byte(c.json))
			_, _, err := new(object).scanFrame([]byte(c.json))
			sameError(t, err, c.want)
		})
	}
}

func sameError(t *testing.T, got, want error) {
	t.Helper()
	var g, w *syntaxError
	if !sameKind(got, want) || errors.As(got, &g) && errors.As(want, &w) && g.offset != w.offset {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestScanErrorsSayWhere(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":1,}`:  "byte 7 of the JSON: want a key",
		`{"a":1} x`: "the JSON value ends at byte 7, but more follows",
		`{"a":1`:    "the JSON ends inside a value",
	} {
		if err := new(object).scan([]byte(in)); err == nil || err.Error() != want {
			t.Errorf("scan(%s) says %v, want %s", in, err, want)
		}
	}
}

// The object may nest as deep everywhere, and in whatever frame it comes.
func TestScanBoundsNesting(t *testing.T) {
	for _, head := range []string{
		`{"spec":`, `{"metadata":`, `{"metadata":{"labels":`, `{"metadata":{"annotations":`, `{"metadata":{"annotations":{"a":`,
		`{"metadata":{"managedFields":`, `{"metadata":{"managedFields":[`, `{"metadata":{"managedFields":[{"fieldsV1":`,
	} {
		tail := ""
		for _, c := range head {
			if c == '{' || c == '[' {
				tail = string(c+2) + tail
			}
		}
		levels := len(tail)
		for depth, want := range map[int]error{maxDepth: nil, maxDepth + 1: syntaxAt(len(head) + maxDepth - levels)} {
			arrays := strings.Repeat("[", depth-levels) + strings.Repeat("]", depth-levels)
			obj := head + arrays + tail
			checkScan(t, []byte(obj))
			var o object
			sameError(t, o.scan([]byte(obj)), want)
			for _, frame := range []string{`{"type":"ADDED","object":`, `{ "type":"ADDED","object":`} {
				want := want
				if want != nil {
					want = syntaxAt(len(frame) + len(head) + maxDepth - levels)
				}
				_, _, err := o.scanFrame([]byte(frame + obj + "}"))
				sameError(t, err, want)
			}
		}
	}
}

func TestEveryTruncationIsIncomplete(t *testing.T) {
	for _, kind := range kinds {
		obj := samples(t, kind, 1)[0]
		checkScan(t, obj)
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, obj, "", "\t"); err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{obj, pretty.Bytes()} {
			var o object
			for n := range b {
				if err := o.scan(b[:n:n]); !errors.Is(err, errIncomplete) {
					t.Fatalf("%s cut to %.300q: %v", kind, b[:n], err)
				}
			}
			line := fmt.Appendf(nil, `{"type":"ADDED","object":%s}`, b)
			for n := range line {
				if _, _, err := o.scanFrame(line[:n:n]); !errors.Is(err, errIncomplete) {
					t.Fatalf("%s cut to %.300q: %v", kind, line[:n], err)
				}
			}
		}
	}
}

// cuts are objects, and what is left of them without managedFields and the last applied configuration.
var cuts = []struct{ name, json, want string }{
	{"neither", `{"metadata":{"name":"a"}}`, `{"metadata":{"name":"a"}}`},
	{"first", `{"metadata":{"managedFields":[{}],"name":"a"}}`, `{"metadata":{"name":"a"}}`},
	{"middle", `{"metadata":{"name":"a","managedFields":[{}],"uid":"b"}}`, `{"metadata":{"name":"a","uid":"b"}}`},
	{"last", `{"metadata":{"name":"a","managedFields":[{}]}}`, `{"metadata":{"name":"a"}}`},
	{"only", `{"metadata":{"managedFields":[{}]}}`, `{"metadata":{}}`},
	{"null", `{"metadata":{"managedFields":null,"name":"a"}}`, `{"metadata":{"name":"a"}}`},
	{"scalars", `{"metadata":{"name":"a","managedFields":-1}}`, `{"metadata":{"name":"a"}}`},
	{"white space", `{ "metadata" : { "name" : "a" , "managedFields" : [ ] , "uid" : "b" } }`, `{ "metadata" : { "name" : "a" , "uid" : "b" } }`},
	{"white space, first", `{ "metadata" : { "managedFields" : [ ] , "uid" : "b" } }`, `{ "metadata" : {  "uid" : "b" } }`},
	{"white space, only", `{ "metadata" : { "managedFields" : [ ] } }`, `{ "metadata" : {  } }`},
	{"annotation first", `{"metadata":{"annotations":{"LAST":"{}","a":"b"}}}`, `{"metadata":{"annotations":{"a":"b"}}}`},
	{"annotation in the middle", `{"metadata":{"annotations":{"a":"b","LAST":"{}","c":"d"}}}`, `{"metadata":{"annotations":{"a":"b","c":"d"}}}`},
	{"annotation last", `{"metadata":{"annotations":{"a":"b","LAST":"{}"}}}`, `{"metadata":{"annotations":{"a":"b"}}}`},
	{"annotation only", `{"metadata":{"annotations":{"LAST":"{}"}}}`, `{"metadata":{"annotations":{}}}`},
	{"both, annotations first", `{"metadata":{"annotations":{"LAST":"{}"},"managedFields":[]}}`, `{"metadata":{"annotations":{}}}`},
	{"both, managedFields first", `{"metadata":{"managedFields":[],"annotations":{"LAST":"{}"}}}`, `{"metadata":{"annotations":{}}}`},
	{"escaped keys", `{"metad\u0061ta":{"managed\u0046ields":[],"annot\u0061tions":{"kubectl.kubernetes.io\/last-applied-configuration":"{}"}}}`, `{"metad\u0061ta":{"annot\u0061tions":{}}}`},
	{"twice, nothing else", `{"metadata":{"managedFields":[1],"managedFields":[2]}}`, `{"metadata":{}}`},
	{"twice at the beginning", `{"metadata":{"managedFields":[1],"managedFields":[2],"name":"a"}}`, `{"metadata":{"name":"a"}}`},
	{"twice at the end", `{"metadata":{"name":"a","managedFields":[1],"managedFields":[2]}}`, `{"metadata":{"name":"a"}}`},
	{"twice around a member", `{"metadata":{"managedFields":[1],"name":"a","managedFields":[2]}}`, `{"metadata":{"name":"a"}}`},
	{"many times", `{"metadata":{` + strings.Repeat(`"managedFields":[],"a":1,`, 9) + `"managedFields":[]}}`, `{"metadata":{` + strings.Repeat(`,"a":1`, 9)[1:] + `}}`},
	{"annotation twice", `{"metadata":{"annotations":{"LAST":"1","a":"b","LAST":"2"}}}`, `{"metadata":{"annotations":{"a":"b"}}}`},
	{"annotations twice", `{"metadata":{"annotations":{"LAST":"1"},"annotations":{"a":"b","LAST":"2"}}}`, `{"metadata":{"annotations":{},"annotations":{"a":"b"}}}`},
	{"metadata twice", `{"metadata":{"annotations":{"LAST":"1"},"managedFields":[1]},"metadata":{"managedFields":[2],"name":"a"}}`, `{"metadata":{"annotations":{}},"metadata":{"name":"a"}}`},
	{"metadata twice, then null", `{"metadata":{"name":"a","managedFields":[1]},"metadata":null}`, `{"metadata":{"name":"a"},"metadata":null}`},
	{"other case", `{"metadata":{"ManagedFields":[],"annotations":{"last":"{}"}}}`, `{"metadata":{"ManagedFields":[],"annotations":{"last":"{}"}}}`},
	{"other places", `{"managedFields":[],"LAST":1,"metadata":{"LAST":"{}","labels":{"LAST":"{}"}},"spec":{"metadata":{"managedFields":[]}}}`, `{"managedFields":[],"LAST":1,"metadata":{"LAST":"{}","labels":{"LAST":"{}"}},"spec":{"metadata":{"managedFields":[]}}}`},
	{"in text", `{"metadata":{"name":"\"managedFields\":[]","annotations":{"a":"\"LAST\":\"{}\""}}}`, `{"metadata":{"name":"\"managedFields\":[]","annotations":{"a":"\"LAST\":\"{}\""}}}`},
	{"annotations are no object", `{"metadata":{"annotations":["LAST"],"managedFields":{}}}`, `{"metadata":{"annotations":["LAST"]}}`},
	{"metadata is no object", `{"metadata":["managedFields"]}`, `{"metadata":["managedFields"]}`},
}

func TestWhatIsLeftOutLeavesNoTrace(t *testing.T) {
	for _, c := range cuts {
		t.Run(c.name, func(t *testing.T) {
			in, want := strings.ReplaceAll(c.json, "LAST", lastAppliedKey), strings.ReplaceAll(c.want, "LAST", lastAppliedKey)
			checkScan(t, []byte(in))
			var o object
			if err := o.scan([]byte(in)); err != nil {
				t.Fatal(err)
			}
			if got := string(appendWithout(nil, []byte(in), o.managedFields, o.lastApplied)); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if got := string(appendWithout([]byte("x"), []byte(in))); got != "x"+in {
				t.Errorf("left out nothing and got %s", got)
			}
		})
	}
}

func TestScanFindsFields(t *testing.T) {
	for _, c := range []struct{ name, json, want string }{
		{"all", `{"kind":"A","apiVersion":"b/v1","metadata":{"namespace":"c","name":"d","uid":"e","resourceVersion":"5","creationTimestamp":"f","deletionTimestamp":"g","generation":7}}`, `"A" "b/v1" "c" "d" "e" "5" "g" 7`},
		{"none", `{"metadata":{},"spec":{"kind":"X","metadata":{"name":"x"}}}`, `none none none none none none none 0`},
		{"empty", `{"kind":"","metadata":{"name":""}}`, `"" none none "" none none none 0`},
		{"escaped", `{"k\u0069nd":"\u0041","metadata":{"na\u006de":"a\n\"\\\/\u00e4\ud83d\ude00","\u0075id":"\ud800x\udc00\ud800\ndc00\ud83d"}}`, `"A" none none "a\n\"\\/ä😀" "�x��\ndc00�" none none 0`},
		{"other case", `{"Kind":"A","METADATA":{"name":"a"},"metadata":{"Name":"b","UID":"c"}}`, `none none none none none none none 0`},
		{"other types", `{"kind":1,"apiVersion":null,"metadata":{"namespace":true,"name":["a"],"uid":{"uid":"b"},"resourceVersion":5,"generation":"7"}}`, `none none none none none none none 0`},
		{"metadata is null", `{"kind":"A","metadata":null}`, `"A" none none none none none none 0`},
		{"metadata is text", `{"kind":"A","metadata":"name"}`, `"A" none none none none none none 0`},
		{"the last of a kind wins", `{"kind":"A","kind":"B","metadata":{"name":"a","name":"b","generation":1,"generation":2}}`, `"B" none none "b" none none none 2`},
		{"the last wins, of whatever type", `{"kind":"A","kind":1,"metadata":{"name":"a","name":null,"generation":1,"generation":"2"}}`, `none none none none none none none 0`},
		{"the last metadata replaces the first", `{"metadata":{"name":"a","generation":1},"metadata":{"uid":"b"}}`, `none none none none "b" none none 0`},
		{"null replaces metadata", `{"metadata":{"name":"a","generation":1},"metadata":null}`, `none none none none none none none 0`},
		{"greatest generation", `{"metadata":{"generation":9223372036854775807}}`, `none none none none none none none 9223372036854775807`},
		{"generation overflows", `{"metadata":{"generation":9223372036854775808}}`, `none none none none none none none 0`},
		{"generation is negative", `{"metadata":{"generation":-1}}`, `none none none none none none none -1`},
		{"generation is a fraction", `{"metadata":{"generation":1.0}}`, `none none none none none none none 0`},
		{"generation is a power", `{"metadata":{"generation":1e3}}`, `none none none none none none none 0`},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkScan(t, []byte(c.json))
			var o object
			if err := o.scan([]byte(c.json)); err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(fieldsOf(&o)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestScanDoesNotAllocate(t *testing.T) {
	objects := [][]byte{
		[]byte(managed(`[{'manager':'a','operation':'Update'},{'manager':'b',OLD},{'manager':'c',OLD}]`)),
		[]byte(`{"apiVersion":"v1","data":1,"kind":"A","metadata":{"name":"a"},"spec":2,"status":3,"zone":4}`),
	}
	for _, kind := range kinds {
		objects = append(objects, samples(t, kind, 1)...)
	}
	for _, obj := range objects {
		line := fmt.Appendf(nil, `{"type":"ADDED","object":%s}`+"\n", obj)
		dst := make([]byte, 0, len(line))
		var o object
		allocs := testing.AllocsPerRun(100, func() {
			_, obj, err := o.scanFrame(line)
			if err != nil {
				t.Fatal(err)
			}
			dst = appendWithout(dst[:0], line[obj.start:obj.end], o.managedFields, o.lastApplied)
			_ = o.newest.attribution()
		})
		if allocs > 0 {
			t.Errorf("%.300s: %v allocations", line, allocs)
		}
	}
}

// A special byte must be seen wherever in a word it stands, whatever surrounds it.
func TestScanSeesEveryByteAtEveryPlace(t *testing.T) {
	for c := range 256 {
		for before := range 18 {
			for _, around := range []string{"x", "\x7f", "\"", "ÿ", " "} {
				text := strings.Repeat(around, before) + string([]byte{byte(c)}) + strings.Repeat(around, 9)
				checkScan(t, []byte(`{"`+text+`":"`+text+`"}`))
				checkScan(t, []byte(`{"a":"`+text+`","b":"`+text+`"}`))
			}
		}
	}
}
