package sink

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"go.etcd.io/bbolt"

	"watcher/internal/event"
)

// StateFile is the name of the file in a state directory, MaxSteps what may wait for an acknowledgement.
const (
	StateFile = stateFile
	MaxSteps  = maxSteps
)

// Crash drops the sink as a kill would: nothing more is saved.
func (l *Lines) Crash() error {
	l.durable.halt()
	return l.durable.state.Close()
}

// Settle saves what the medium has acknowledged now.
func (l *Lines) Settle() {
	l.durable.halt()
	l.durable.look()
	l.durable.run()
}

// Saved returns the positions that are saved, and in which transaction.
func (l *Lines) Saved(t *testing.T) (streams map[string]event.Checkpoint, transaction int) {
	t.Helper()
	streams = map[string]event.Checkpoint{}
	err := l.durable.state.db.View(func(tx *bbolt.Tx) error {
		transaction = tx.ID()
		b := tx.Bucket([]byte(streamsBucket))
		if b == nil {
			return nil
		}
		return b.ForEach(func(key, value []byte) error {
			var c event.Checkpoint
			err := json.Unmarshal(value[sealSize:], &c)
			streams[string(key)] = c
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return streams, transaction
}

// SyncWith replaces what makes a file durable.
func (l *Lines) SyncWith(sync func() error) {
	l.durable.mu.Lock()
	defer l.durable.mu.Unlock()
	l.durable.medium.sync = sync
}

// LimitState makes the state's file system one of so many bytes; 0 is no limit.
func (l *Lines) LimitState(bytes int) {
	l.durable.mu.Lock()
	defer l.durable.mu.Unlock()
	l.durable.state.db.MaxSize = bytes
}

// NoSync leaves it to the kernel when the state is written.
func (l *Lines) NoSync() { l.durable.state.db.NoSync = true }

// DoubtLastSave makes of the last save one of which it is not known that it is there.
func (l *Lines) DoubtLastSave() {
	l.durable.mu.Lock()
	defer l.durable.mu.Unlock()
	l.durable.state.about.Sum = 4711
}

// Steps is how many steps wait.
func (l *Lines) Steps() int {
	l.durable.mu.Lock()
	defer l.durable.mu.Unlock()
	return len(l.durable.steps)
}

// SetFormat makes a state one of another format.
func SetFormat(t *testing.T, dir string, format int) {
	t.Helper()
	s, err := OpenStateDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.about.Format = format
	if err := errors.Join(s.save(nil, true), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// SpoilRecord changes a bit of an object's record.
func (l *Lines) SpoilRecord(t *testing.T, stream string, o event.Object) {
	t.Helper()
	err := l.durable.state.db.Update(func(tx *bbolt.Tx) error {
		b, key := tx.Bucket([]byte(ledgerPrefix+stream)), appendObjectKey(nil, &o)
		value := slices.Clone(b.Get(key))
		value[len(value)-1] ^= 1
		return b.Put(key, value)
	})
	if err != nil {
		t.Fatal(err)
	}
}
