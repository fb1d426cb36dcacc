package sink

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"strconv"

	"watcher/internal/event"
)

// The stored format, version 1: a bbolt file without a list of free pages, with these buckets.
//
//	about      "watcher" → an about, as JSON
//	streams    Stream.Key → an event.Checkpoint, as JSON
//	ledger K   for every stream K: objectKey → record
//
// Every value begins with a seal: the CRC-32C of the bucket's name, the key and the rest of the value, big-endian, since
// bbolt has no checksums. about holds the sum of all seals but its own: so no record can go, or be of an older
// transaction, unnoticed. Whatever a later version changes, it keeps about: the first bucket, with Format.
//
// objectKey is the length of the namespace (uvarint), the namespace, the name. A record is one byte of flags, and then
//
//	hashes of spec, metadata, status; attribution   8 bytes each, if their flag is set; else 0
//	resourceVersion                                 8 bytes if it is a number, else its length (uvarint) and text
//	uid                                             16 bytes if it is a UUID, else text up to the end
//
// all big-endian. A typical record takes 61 bytes, with the seal.
const (
	formatVersion = 1
	sealSize      = 4

	aboutBucket   = "about"
	aboutKey      = "watcher"
	streamsBucket = "streams"
	ledgerPrefix  = "ledger "
)

// An about is what holds for the state as a whole.
type about struct {
	Format  int    `json:"format"`
	Cluster string `json:"cluster,omitempty"` // its UID
	Clean   bool   `json:"clean"`             // the last run was closed, and had nothing left to write
	Sum     uint64 `json:"sum"`               // of all other seals
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// bucketSeal is what the seals of a bucket begin with.
func bucketSeal(name string) uint32 { return crc32.Checksum([]byte(name), castagnoli) }

// sealOf computes the seal of a value; what it begins with does not matter.
func sealOf(bucket uint32, key, value []byte) uint32 {
	return crc32.Update(crc32.Update(bucket, castagnoli, key), castagnoli, value[sealSize:])
}

// sealed reports whether a value is whole.
func sealed(bucket uint32, key, value []byte) bool {
	return len(value) >= sealSize && seal(value) == sealOf(bucket, key, value)
}

// seal is the seal that a value bears.
func seal(value []byte) uint32 { return binary.BigEndian.Uint32(value) }

// jsonValue is a value with room for its seal.
func jsonValue(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	return append(make([]byte, sealSize), text...), err
}

func appendObjectKey(dst []byte, o *event.Object) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(o.Namespace)))
	return append(append(dst, o.Namespace...), o.Name...)
}

// Flags of a record. The first four are in the order of numbers.
const (
	numericVersion = 1 << (iota + 4)
	canonicalUID
)

// numbers are those of an object that are often not known.
func numbers(o *event.Object) [4]uint64 {
	return [...]uint64{o.Hashes.Spec, o.Hashes.Metadata, o.Hashes.Status, uint64(o.Attribution)}
}

// appendRecord appends what a ledger remembers of an object, with room for the seal.
func appendRecord(dst []byte, o *event.Object) []byte {
	at, flags := len(dst)+sealSize, byte(0)
	dst = append(dst, make([]byte, sealSize+1)...)
	for i, n := range numbers(o) {
		if n != 0 {
			dst = binary.BigEndian.AppendUint64(dst, n)
			flags |= 1 << i
		}
	}
	if n, ok := event.PackVersion(o.ResourceVersion); ok {
		dst = binary.BigEndian.AppendUint64(dst, n)
		flags |= numericVersion
	} else {
		dst = binary.AppendUvarint(dst, uint64(len(o.ResourceVersion)))
		dst = append(dst, o.ResourceVersion...)
	}
	if id, ok := event.PackUID(o.UID); ok {
		dst = append(dst, id[:]...)
		flags |= canonicalUID
	} else {
		dst = append(dst, o.UID...)
	}
	dst[at] = flags
	return dst
}

var errRecord = errors.New("a record of the ledger cannot be read")

// readRecord is the object that a key and a value, of which the seal was looked at, are about.
func readRecord(key, value []byte) (o event.Object, err error) {
	k, v := reader{rest: key}, reader{rest: value[sealSize:]}
	o.Namespace, o.Name = k.text(), string(k.rest)
	flags := v.take(1)
	if v.short {
		return o, errRecord
	}
	var ns [4]uint64
	for i := range ns {
		if flags[0]&(1<<i) != 0 {
			ns[i] = v.number()
		}
	}
	o.Hashes, o.Attribution = event.Hashes{Spec: ns[0], Metadata: ns[1], Status: ns[2]}, event.Attribution(ns[3])
	if flags[0]&numericVersion != 0 {
		o.ResourceVersion = strconv.FormatUint(v.number(), 10)
	} else {
		o.ResourceVersion = v.text()
	}
	o.UID = string(v.rest)
	if flags[0]&canonicalUID != 0 && len(v.rest) == 16 {
		o.UID = event.FormatUID([16]byte(v.rest))
	}
	if k.short || v.short {
		return o, errRecord
	}
	return o, nil
}

// A reader takes values off the front of rest. short says that there was not enough.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.short, r.rest = true, nil
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) number() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// text reads a length and so many bytes.
func (r *reader) text() string {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.short = true
		return ""
	}
	r.rest = r.rest[size:]
	return string(r.take(n))
}
