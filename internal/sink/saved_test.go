package sink

import (
	"encoding/hex"
	"errors"
	"reflect"
	"testing"
	"time"

	"watcher/internal/event"
)

// TestTheStoredFormatIsWhatItWas: whoever changes it gives it another version.
func TestTheStoredFormatIsWhatItWas(t *testing.T) {
	o := event.Object{
		Namespace: "shop", Name: "web", UID: "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9", ResourceVersion: "4711",
		Hashes: event.Hashes{Spec: 1, Metadata: 2, Status: 3}, Attribution: 4,
	}
	odd := event.Object{Name: "web", UID: "u", ResourceVersion: "v1"}
	c := event.Checkpoint{
		Position: event.Position{ResourceVersion: "7", AheadAt: "9", Ahead: []string{"u"}, AsOf: time.Date(2026, 11, 23, 21, 4, 5, 0, time.UTC)},
		Epoch:    3, Healing: "expired", Incomplete: true,
		Witness: event.Witness{Namespace: "shop", Name: "web", UID: "u", ResourceVersion: "9", Attribution: 4711},
		Seq:     12, Run: 1764018245123, StreamEvents: 5,
	}
	cJSON, err := jsonValue(c)
	if err != nil {
		t.Fatal(err)
	}
	aJSON, err := jsonValue(&about{Format: formatVersion, Cluster: "c", Clean: true, Sum: 5})
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		hex.EncodeToString(appendObjectKey(nil, &o)):   "04" + hex.EncodeToString([]byte("shopweb")),
		hex.EncodeToString(appendRecord(nil, &o)):      "00000000" + "3f" + "0000000000000001" + "0000000000000002" + "0000000000000003" + "0000000000000004" + "0000000000001267" + "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
		hex.EncodeToString(appendObjectKey(nil, &odd)): "00776562",
		hex.EncodeToString(appendRecord(nil, &odd)):    "00000000" + "00" + "027631" + "75",
		string(cJSON[sealSize:]): `{"ResourceVersion":"7","AheadAt":"9","Ahead":["u"],"AsOf":"2026-11-23T21:04:05Z","Epoch":3,"Healing":"expired","Incomplete":true,` +
			`"Witness":{"Namespace":"shop","Name":"web","UID":"u","ResourceVersion":"9","Attribution":4711},"Seq":12,"Run":1764018245123,"StreamEvents":5}`,
		string(aJSON[sealSize:]): `{"format":1,"cluster":"c","clean":true,"sum":5}`,
	} {
		if got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
	}
	if got := sealOf(bucketSeal("ledger x"), []byte("key"), []byte("    value")); got != 0x6f150439 {
		t.Errorf("a seal is %#x", got)
	}
}

func FuzzARecordIsReadAsItWasWritten(f *testing.F) {
	for _, s := range []string{"", "0", "00", "1", "007", "+1", "-1", "18446744073709551615", "18446744073709551616", "1_0", "v1", "\xff\x00"} {
		f.Add("shop", "web", "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9", s, uint64(1), uint64(0), uint64(1<<63), uint64(7))
	}
	for _, s := range []string{"", "u", "0A1B2C3D-4E5F-6071-8293-A4B5C6D7E8F9", "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8fg", "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f", "0a1b2c3d04e5f-6071-8293-a4b5c6d7e8f9", "0123456789abcdef", "\xff\x00"} {
		f.Add("", s, s, "1", uint64(0), uint64(2), uint64(0), uint64(0))
		f.Add(s, "", s, s, uint64(0), uint64(2), uint64(0), uint64(0))
	}
	f.Fuzz(func(t *testing.T, namespace, name, uid, version string, spec, metadata, status, attribution uint64) {
		want := event.Object{
			Namespace: namespace, Name: name, UID: uid, ResourceVersion: version,
			Hashes: event.Hashes{Spec: spec, Metadata: metadata, Status: status}, Attribution: event.Attribution(attribution),
		}
		key, value := appendObjectKey(nil, &want), appendRecord(nil, &want)
		if got, err := readRecord(key, value); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	})
}

// FuzzWhateverARecordHoldsItIsReadOrRefused looks for a panic.
func FuzzWhateverARecordHoldsItIsReadOrRefused(f *testing.F) {
	o := event.Object{Namespace: "shop", Name: "web", UID: "u", ResourceVersion: "v1"}
	f.Add(appendObjectKey(nil, &o), appendRecord(nil, &o))
	f.Add([]byte{}, []byte{0, 0, 0, 0})
	f.Add([]byte{0xff}, []byte{0, 0, 0, 0, 0x3f, 1})
	f.Add([]byte{1}, []byte{0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if len(value) < sealSize {
			return
		}
		if _, err := readRecord(key, value); err != nil && !errors.Is(err, errRecord) {
			t.Error(err)
		}
	})
}
