package sink

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"

	"go.etcd.io/bbolt"

	"watcher/internal/event"
)

// fillPercent is how full pages are left: most objects are listed once, in the order of their keys, and then change in
// place.
const fillPercent = 0.9

// save makes steps durable, in order, positions and ledgers together: all of it or nothing. clean is said of the run.
func (s *StateDir) save(steps []*step, clean bool) error {
	next := s.about
	next.Clean = clean
	err := s.db.Update(func(tx *bbolt.Tx) (err error) {
		if next.Sum, err = sumIn(tx); err != nil {
			return err
		}
		return next.put(tx, steps)
	})
	if err != nil {
		return fmt.Errorf("save the position in %s: %w", s.dir, err)
	}
	s.about = next
	return nil
}

// sumIn is the sum as a transaction finds it. The last one may be there although it ended with an error.
func sumIn(tx *bbolt.Tx) (uint64, error) {
	b := tx.Bucket([]byte(aboutBucket))
	if b == nil {
		return 0, nil
	}
	var a about
	err := json.Unmarshal(b.Get([]byte(aboutKey))[sealSize:], &a)
	return a.Sum, err
}

func (a *about) put(tx *bbolt.Tx, steps []*step) error {
	streams := map[string]event.Checkpoint{}
	for _, st := range steps {
		maps.Copy(streams, st.streams)
		if st.cluster != "" {
			a.Cluster = st.cluster
		}
		for stream, d := range st.ledgers {
			if err := a.putLedger(tx, ledgerPrefix+stream, d); err != nil {
				return err
			}
		}
	}
	t, err := a.table(tx, streamsBucket)
	if err != nil {
		return err
	}
	for key, c := range streams {
		if err := t.putJSON(key, c); err != nil {
			return err
		}
	}
	if t, err = a.table(tx, aboutBucket); err != nil {
		return err
	}
	t.sum = new(uint64) // its own seal does not count
	return t.putJSON(aboutKey, a)
}

func (a *about) putLedger(tx *bbolt.Tx, bucket string, d *delta) error {
	if d.dropped {
		if err := a.drop(tx, bucket); err != nil {
			return err
		}
	}
	if len(d.changes) == 0 {
		return nil
	}
	t, err := a.table(tx, bucket)
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(d.changes)) { // in any other order bbolt moves what it has again and again
		if err := t.change([]byte(key), d.changes[key]); err != nil {
			return err
		}
	}
	return nil
}

// drop removes a bucket with all that is in it.
func (a *about) drop(tx *bbolt.Tx, bucket string) error {
	b := tx.Bucket([]byte(bucket))
	if b == nil {
		return nil
	}
	err := b.ForEach(func(_, value []byte) error {
		a.Sum -= uint64(seal(value))
		return nil
	})
	if err != nil {
		return err
	}
	return tx.DeleteBucket([]byte(bucket))
}

// A table is a bucket in a transaction. It keeps the sum of the seals.
type table struct {
	*bbolt.Bucket
	seal uint32
	sum  *uint64
}

func (a *about) table(tx *bbolt.Tx, bucket string) (*table, error) {
	b, err := tx.CreateBucketIfNotExists([]byte(bucket))
	if err != nil {
		return nil, err
	}
	b.FillPercent = fillPercent
	return &table{b, bucketSeal(bucket), &a.Sum}, nil
}

// put seals a value. It must not change until the transaction ends.
func (t *table) put(key, value []byte) error {
	if old := t.Get(key); old != nil {
		*t.sum -= uint64(seal(old))
	}
	binary.BigEndian.PutUint32(value, sealOf(t.seal, key, value))
	*t.sum += uint64(seal(value))
	return t.Put(key, value)
}

func (t *table) putJSON(key string, v any) error {
	value, err := jsonValue(v)
	if err != nil {
		return err
	}
	return t.put([]byte(key), value)
}

// change applies what happened to one object. What is deleted under the name of another incarnation stays.
func (t *table) change(key []byte, c *change) error {
	if c.record != nil {
		return t.put(key, c.record)
	}
	old := t.Get(key)
	if old == nil {
		return nil
	}
	o, err := readRecord(key, old)
	if err != nil {
		return err
	}
	if !c.deletes(o.UID) {
		return nil
	}
	*t.sum -= uint64(seal(old))
	return t.Delete(key)
}

// Ledger yields what is stored of a stream's objects. It reads so many at a time: a transaction that stays open while
// somebody thinks about each would hold up the one that wants to save.
func (s *StateDir) Ledger(stream string) iter.Seq2[event.Object, error] {
	const atOnce = 500
	return func(yield func(event.Object, error) bool) {
		var next []byte
		for objects := make([]event.Object, 0, atOnce); ; objects = objects[:0] {
			err := s.db.View(func(tx *bbolt.Tx) (err error) {
				objects, next, err = readSome(tx, ledgerPrefix+stream, next, objects)
				return err
			})
			for _, o := range objects {
				if !yield(o, nil) {
					return
				}
			}
			if err != nil {
				yield(event.Object{}, fmt.Errorf("read what is known of %s in %s: %w", stream, s.dir, err))
			}
			if err != nil || next == nil {
				return
			}
		}
	}
}

// readSome appends objects from a key on, as many as there is room for. next is the key of the first one left.
func readSome(tx *bbolt.Tx, bucket string, from []byte, objects []event.Object) (some []event.Object, next []byte, err error) {
	b := tx.Bucket([]byte(bucket))
	if b == nil {
		return objects, nil, nil
	}
	c, of := b.Cursor(), bucketSeal(bucket)
	for key, value := c.Seek(from); key != nil; key, value = c.Next() {
		if len(objects) == cap(objects) {
			return objects, slices.Clone(key), nil
		}
		if !sealed(of, key, value) {
			return objects, nil, errRecord
		}
		o, err := readRecord(key, value)
		if err != nil {
			return objects, nil, err
		}
		objects = append(objects, o)
	}
	return objects, nil, nil
}
