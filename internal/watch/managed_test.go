package watch

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"watcher/internal/event"
)

// attribution is what a scan finds in managedFields.
type attribution struct {
	event.Attribution
	event.Actor
}

func attributed(o *object) attribution {
	var n names
	return attribution{o.newest.attribution(), o.newest.actor(&n)}
}

// wantAttribution is what encoding/json finds.
func wantAttribution(t *testing.T, b []byte) (want attribution) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var top map[string]any
	if err := d.Decode(&top); err != nil {
		t.Fatal(err)
	}
	meta, _ := top["metadata"].(map[string]any)
	entries, _ := meta["managedFields"].([]any)
	newest, sum, by := int64(0), uint32(0), [2]string{}
	for _, e := range entries {
		e, _ := e.(map[string]any)
		member := func(name string) string { s, _ := e[name].(string); return s }
		at, err := time.Parse(time.RFC3339, member("time"))
		if s := at.Unix(); err != nil || s <= 0 || s > math.MaxUint32 || s < newest {
			continue
		}
		header := xxhash.Sum64String(strings.Join([]string{member("manager"), member("operation"), member("subresource")}, "\n"))
		if at.Unix() == newest {
			sum += uint32(header)
			if by != [2]string{member("manager"), member("operation")} {
				want.Actor = event.Actor{}
			}
			continue
		}
		newest, sum, by = at.Unix(), uint32(header), [2]string{member("manager"), member("operation")}
		want.Actor = event.Actor{Manager: member("manager"), Operation: member("operation"), Time: at.UTC().Format(time.RFC3339)}
	}
	want.Attribution = event.Attribution(newest)<<32 | event.Attribution(sum)
	return want
}

// managed is an object with these managedFields, in which quotes are single and OLD and NEW are members, the times of two
// seconds.
func managed(fields string) string {
	fields = strings.NewReplacer("'", `"`, "OLD", `"time":"2026-09-01T10:00:07Z"`, "NEW", `"time":"2026-09-01T10:00:08Z"`).Replace(fields)
	return `{"metadata":{"name":"a","managedFields":` + fields + `}}`
}

// attributions are managedFields, and who is found to have made the last change.
var attributions = []struct{ name, json, want string }{
	{"one", `[{'manager':'a','operation':'Update','apiVersion':'v1',OLD,'fieldsType':'FieldsV1','fieldsV1':{'f:spec':{}}}]`, "a Update 2026-09-01T10:00:07Z"},
	{"as custom resources have it", `[{'apiVersion':'v1','fieldsType':'FieldsV1','fieldsV1':{'f:status':{}},'manager':'a','operation':'Apply','subresource':'status',OLD}]`, "a Apply 2026-09-01T10:00:07Z"},
	{"the last", `[{'manager':'a','operation':'Update',OLD},{'manager':'b','operation':'Update',NEW}]`, "b Update 2026-09-01T10:00:08Z"},
	{"not the last: Apply stands before Update", `[{'manager':'a','operation':'Apply',NEW},{'manager':'b','operation':'Update',OLD}]`, "a Apply 2026-09-01T10:00:08Z"},
	{"in the middle", `[{'manager':'a',OLD},{'manager':'b','operation':'Apply',NEW},{'manager':'c',OLD}]`, "b Apply 2026-09-01T10:00:08Z"},
	{"two in one second", `[{'manager':'a','operation':'Apply',OLD},{'manager':'b','operation':'Update',OLD}]`, "tie"},
	{"two in one second, an older one behind", `[{'manager':'a',NEW},{'manager':'b',NEW},{'manager':'c',OLD}]`, "tie"},
	{"two in one second, a newer one behind", `[{'manager':'a',OLD},{'manager':'b',OLD},{'manager':'c','operation':'Update',NEW}]`, "c Update 2026-09-01T10:00:08Z"},
	{"one manager's two in one second", `[{'manager':'a','operation':'Update',OLD},{'manager':'a','operation':'Update','subresource':'status',OLD}]`, "a Update 2026-09-01T10:00:07Z"},
	{"one manager's update and apply in one second", `[{'manager':'a','operation':'Apply',OLD},{'manager':'a','operation':'Update',OLD}]`, "tie"},
	{"three in one second, two of them alike", `[{'manager':'a',OLD},{'manager':'b',OLD},{'manager':'b',OLD}]`, "tie"},
	{"one second in two zones", `[{'manager':'a',OLD},{'manager':'b','time':'2026-09-01T12:00:07+02:00'}]`, "tie"},
	{"one second, by fractions", `[{'manager':'a',OLD},{'manager':'b','time':'2026-09-01T10:00:07.9Z'}]`, "tie"},
	{"a zone", `[{'manager':'a','operation':'Update','time':'2026-09-01T12:00:07+02:00'}]`, "a Update 2026-09-01T10:00:07Z"},
	{"a fraction", `[{'manager':'a','operation':'Update','time':'2026-09-01T10:00:07.999Z'}]`, "a Update 2026-09-01T10:00:07Z"},
	{"escapes", `[{'m\u0061nager':'\u0061\n\ud800','operat\u0069on':'Upd\u0061te','t\u0069me':'2026-09-01T10:00:07\u005a'}]`, "a\n\ufffd Update 2026-09-01T10:00:07Z"},
	{"an operation that nobody knows", `[{'manager':'a','operation':'Patch',OLD}]`, "a Patch 2026-09-01T10:00:07Z"},
	{"no manager", `[{OLD}]`, "  2026-09-01T10:00:07Z"},
	{"white space", "[ { 'manager' : 'a' ,\n'operation' : 'Update' , OLD } , { } ]", "a Update 2026-09-01T10:00:07Z"},
	{"keys twice", `[{'manager':'a','manager':'b','operation':'Apply','operation':'Update',NEW,OLD}]`, "b Update 2026-09-01T10:00:07Z"},
	{"keys twice, the last of another type", `[{'manager':'a','manager':null,'operation':'Apply','operation':1,OLD}]`, "  2026-09-01T10:00:07Z"},
	{"time twice, the last of another type", `[{'manager':'a',OLD,'time':null}]`, "none"},
	{"managedFields twice", `[{'manager':'a',NEW}],'managedFields':[{'manager':'b','operation':'Update',OLD}]`, "b Update 2026-09-01T10:00:07Z"},
	{"managedFields twice, then null", `[{'manager':'a',NEW}],'managedFields':null`, "none"},
	{"metadata twice", `[{'manager':'a',NEW}]},'metadata':{'name':'b'`, "none"},
	{"not in metadata", `[]},'managedFields':[{'manager':'a',OLD}],'spec':{'managedFields':[{'manager':'a',OLD}]`, "none"},
	{"nothing", `[]`, "none"},
	{"null", `null`, "none"},
	{"no array", `{'manager':'a',OLD}`, "none"},
	{"text", `'time'`, "none"},
	{"entries that are none", `[null,1,'a',[{'manager':'a',NEW}],{'manager':'b','operation':'Update',OLD},true]`, "b Update 2026-09-01T10:00:07Z"},
	{"an entry in an entry", `[{'manager':'a','operation':'Update',OLD,'fieldsV1':{'manager':'b',NEW}}]`, "a Update 2026-09-01T10:00:07Z"},
	{"no time", `[{'manager':'a','operation':'Update'}]`, "none"},
	{"time is a number", `[{'manager':'a','time':1788256807}]`, "none"},
	{"time is empty", `[{'manager':'a','time':''}]`, "none"},
	{"time is no time", `[{'manager':'a','time':'yesterday'},{'manager':'b','operation':'Update',OLD}]`, "b Update 2026-09-01T10:00:07Z"},
	{"the beginning of time", `[{'manager':'a','time':'1970-01-01T00:00:00Z'}]`, "none"},
	{"before the beginning of time", `[{'manager':'a','time':'1969-12-31T23:59:59Z'}]`, "none"},
	{"a second later", `[{'manager':'a','operation':'Update','time':'1970-01-01T00:00:01Z'}]`, "a Update 1970-01-01T00:00:01Z"},
	{"the last second of 32 bits", `[{'manager':'a','operation':'Update','time':'2106-02-07T06:28:15Z'}]`, "a Update 2106-02-07T06:28:15Z"},
	{"one second more", `[{'manager':'a','time':'2106-02-07T06:28:16Z'},{'manager':'b','operation':'Update',OLD}]`, "b Update 2026-09-01T10:00:07Z"},
}

func TestTheNewestEntryOfManagedFieldsIsFound(t *testing.T) {
	for _, c := range attributions {
		t.Run(c.name, func(t *testing.T) {
			b := []byte(managed(c.json))
			checkScan(t, b)
			var o object
			if err := o.scan(b); err != nil {
				t.Fatal(err)
			}
			got, want := attributed(&o), event.Actor{}
			if c.want != "none" && c.want != "tie" {
				f := strings.Split(c.want, " ")
				want = event.Actor{Manager: f[0], Operation: f[1], Time: f[2]}
			}
			if got.Actor != want || (got.Attribution == 0) != (c.want == "none") {
				t.Errorf("found %+v, want %s", got, c.want)
			}
		})
	}
}

// Stored attributions must mean the same to every later version: these numbers are not to change.
func TestAttributionsAreFrozen(t *testing.T) {
	for fields, want := range map[string]event.Attribution{
		`[{'manager':'kubelet','operation':'Update',OLD,'subresource':'status'}]`:                                                          0x6a96a22721aa45d8, // of "kubelet\nUpdate\nstatus"
		`[{'manager':'a','operation':'Apply',OLD},{'manager':'b','operation':'Update',OLD}]`:                                               0x6a96a22723f07be4, // the sum of "a\nApply\n" and "b\nUpdate\n"
		`[{'manager':'b','operation':'Update',OLD},{'manager':'c','time':'2026-09-01T10:00:06Z'},{'manager':'a','operation':'Apply',OLD}]`: 0x6a96a22723f07be4, // entries of one second may change places
	} {
		var o object
		if err := o.scan([]byte(managed(fields))); err != nil {
			t.Fatal(err)
		}
		if got := o.newest.attribution(); got != want {
			t.Errorf("%s: %#x", fields, got)
		}
	}
}

// Every way in which a time may be none, or may be one that another layout would read.
func TestTimesAreReadAsTheStandardLibraryReadsThem(t *testing.T) {
	const form = "2026-09-01T10:00:07Z"
	texts := []string{form, "2024-02-29T00:00:00Z", "2025-02-29T00:00:00Z", "2000-02-29T23:59:59Z", "2100-02-29T00:00:00Z",
		"2026-09-31T10:00:07Z", "2026-12-31T23:59:60Z", "2026-09-01T10:00:07+00:00", "2026-09-01T1:00:07Z", "2026-09-01T10:00:07,5Z",
		"2026-09-01T24:00:00Z", "1970-01-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-00T00:00:00Z"}
	for i := range form {
		for _, c := range "0123456789 -+:./TtZz;\x00\u00ff" {
			texts = append(texts, form[:i]+string(c)+form[i+1:], form[:i]+string(c)+form[i:])
		}
		texts = append(texts, form[:i], form[:i]+form[i+1:])
	}
	for _, text := range texts {
		want := ""
		if at, err := time.Parse(time.RFC3339, text); err == nil && at.Unix() > 0 && at.Unix() <= math.MaxUint32 {
			want = at.UTC().Format(time.RFC3339)
		}
		got, second := wholeSecond([]byte(text))
		if string(got) != want || second > 0 && time.Unix(second, 0).UTC().Format(time.RFC3339) != want {
			t.Errorf("%q is %q and %d, want %q", text, got, second, want)
		}
	}
}

func TestFramesSayWhoMayHaveMadeThem(t *testing.T) {
	for _, payload := range []Payload{PayloadFull, PayloadNone} {
		f := frameOf(t, Selection{Payload: payload}, managed(`[{'manager':'kubelet','operation':'Update',OLD,'subresource':'status'}]`))
		if want := (event.Actor{Manager: "kubelet", Operation: "Update", Time: "2026-09-01T10:00:07Z"}); f.actor != want {
			t.Errorf("payload %s: the actor is %+v", payload, f.actor)
		}
		if f.Object.Attribution != 0x6a96a22721aa45d8 {
			t.Errorf("payload %s: the attribution is %#x", payload, uint64(f.Object.Attribution))
		}
	}
}
