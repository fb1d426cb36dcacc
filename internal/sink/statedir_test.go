package sink_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"watcher/internal/event"
	"watcher/internal/sink"
)

// openState opens a state that must be good.
func openState(t *testing.T, dir string) *sink.StateDir {
	t.Helper()
	state, err := sink.OpenStateDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// contents are what a state holds, as Recover tells it.
type contents struct {
	cluster string
	streams map[string]event.Checkpoint
	ledgers map[string]map[string]event.Object // by stream and key
}

// contentsOf reads a state and closes it.
func contentsOf(t *testing.T, state *sink.StateDir) contents {
	t.Helper()
	held, err := sink.NewLines(&medium{}, sink.JSON(0), state).Recover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := contents{held.ClusterUID, held.Streams, map[string]map[string]event.Object{}}
	for key := range held.Streams {
		c.ledgers[key] = ledgerOf(t, held, key)
	}
	if err := state.Close(); err != nil {
		t.Fatal(err)
	}
	return c
}

func ledgerOf(t *testing.T, held event.State, stream string) map[string]event.Object {
	t.Helper()
	objects := map[string]event.Object{}
	for o, err := range held.Ledger(stream) {
		if err != nil {
			t.Fatal(err)
		}
		objects[o.Key()] = o
	}
	return objects
}

func streamNamed(resource string) *event.Stream {
	return event.NewStream(event.StreamName{Cluster: "test", Version: "v1", Resource: resource})
}

// present is a batch that lists objects of a stream.
func present(s *event.Stream, c event.Checkpoint, objects ...event.Object) event.Batch {
	b := event.Batch{ClusterUID: "cluster-uid", Streams: map[string]event.Checkpoint{s.Key(): c}}
	for _, o := range objects {
		b.Events = append(b.Events, &event.Event{Stream: s, Type: event.Present, Object: o})
	}
	return b
}

// saved makes a state directory that holds batches.
func saved(t *testing.T, batches ...event.Batch) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "state")
	l := sink.NewLines(&medium{}, sink.JSON(0), openState(t, dir))
	for _, b := range batches {
		if err := l.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		l.Settle() // each in a transaction of its own
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAStateIsThereInTheNextRunAsItWas(t *testing.T) {
	pods, nodes := streamNamed("pods"), streamNamed("nodes")
	podsAt := event.Checkpoint{
		Position: event.Position{ResourceVersion: "7", AheadAt: "9", Ahead: []string{"u1", "u2"}},
		Epoch:    3, Healing: "expired", Incomplete: true,
		Witness: event.Witness{Namespace: "shop", Name: "web", UID: "u", ResourceVersion: "9"},
		Seq:     1<<64 - 1, Run: 1764018245123, StreamEvents: 12,
	}
	objects := []event.Object{
		{Namespace: "shop", Name: "web", UID: "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9", ResourceVersion: "18446744073709551615",
			Hashes: event.Hashes{Spec: 1, Metadata: 1 << 63, Status: 1<<64 - 1}, Attribution: 1 << 40},
		{Name: "system:node \x00 ü", ResourceVersion: "007"},
		{Namespace: "sh", Name: "opweb", UID: "0A1B2C3D-4E5F-6071-8293-A4B5C6D7E8F9", ResourceVersion: "18446744073709551616"},
	}
	dir := saved(t, present(pods, podsAt, objects...), present(nodes, event.Checkpoint{Seq: 1}))
	want := contents{"cluster-uid", map[string]event.Checkpoint{pods.Key(): podsAt, nodes.Key(): {Seq: 1}}, map[string]map[string]event.Object{
		pods.Key(): {}, nodes.Key(): {},
	}}
	for _, o := range objects {
		want.ledgers[pods.Key()][o.Key()] = o
	}
	if got := contentsOf(t, openState(t, dir)); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant\n%+v", got, want)
	}
}

func TestAStateIsItsOwnersAlone(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := saved(t)
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, sink.StateFile): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

// boltWith makes a bbolt file that is not ours.
func boltWith(t *testing.T, path string, opts *bbolt.Options, fill func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, opts)
	if err == nil {
		err = errors.Join(db.Update(fill), db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func otherBucket(tx *bbolt.Tx) error {
	b, err := tx.CreateBucket([]byte("key"))
	if err != nil {
		return err
	}
	return b.Put([]byte("a"), []byte("b"))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAStateThatCannotBeUsedIsRefusedAndSaysWhatToDo(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, dir, file string)
		want string
	}{
		"another has it": {func(t *testing.T, dir, _ string) {
			state := openState(t, dir)
			t.Cleanup(func() { _ = state.Close() }) // it was only held
		}, "another watcher uses it: stop that one, or give another --state-dir"},
		"no directory": {func(t *testing.T, dir, _ string) { write(t, dir, "") }, "not a directory: it must be a directory"},
		"a directory":  {func(t *testing.T, _, file string) { must(t, os.MkdirAll(file, 0o700)) }, "is a directory: it must be a directory, in one that exists, that watcher can write to"},
		"a pipe":       {func(t *testing.T, dir, file string) { must(t, os.Mkdir(dir, 0o700), syscall.Mkfifo(file, 0o600)) }, "not written by watcher: give another"},
		"empty":        {func(t *testing.T, dir, file string) { must(t, os.Mkdir(dir, 0o700)); write(t, file, "") }, "damaged: remove it to begin anew (everything is listed again), or give another --state-dir (it has 0 bytes)"},
		"a text": {func(t *testing.T, dir, file string) {
			must(t, os.Mkdir(dir, 0o700))
			write(t, file, strings.Repeat("text\n", 5000))
		}, "not written by watcher: give another"},
		"another's bbolt": {func(t *testing.T, dir, file string) {
			must(t, os.Mkdir(dir, 0o700))
			boltWith(t, file, nil, otherBucket)
		}, "not written by watcher: give another"},
		"a bbolt without a list of free pages": {func(t *testing.T, dir, file string) {
			must(t, os.Mkdir(dir, 0o700))
			boltWith(t, file, &bbolt.Options{NoFreelistSync: true}, otherBucket)
		}, "not written by watcher: give another"},
		"what another has written to": {func(t *testing.T, dir, file string) {
			must(t, openState(t, dir).Close())
			boltWith(t, file, nil, func(*bbolt.Tx) error { return nil })
		}, "not written by watcher: give another"},
		"a newer format": {func(t *testing.T, dir, file string) {
			must(t, openState(t, dir).Close())
			sink.SetFormat(t, dir, 2)
		}, "has format 2, and this watcher knows only 1: use the newer watcher"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			c.make(t, dir, filepath.Join(dir, sink.StateFile))
			_, err := sink.OpenStateDir(dir)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "state directory "+dir+": ") {
				t.Errorf("%v\nwant one with %q", err, c.want)
			}
		})
	}
	dir := filepath.Join(t.TempDir(), "not mounted", "state")
	if _, err := sink.OpenStateDir(dir); err == nil || !strings.Contains(err.Error(), "no such file or directory: it must be a directory, in one that exists") {
		t.Errorf("without a parent: %v", err)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestAStateIsFreeWhenItIsClosed(t *testing.T) {
	dir := saved(t)
	for range 3 {
		state := openState(t, dir)
		must(t, state.Close(), state.Close())
	}
}

// TestAKillWhileAStateIsBegunLeavesNothingInTheWay: until it has its name it is no state, whatever is in it.
func TestAKillWhileAStateIsBegunLeavesNothingInTheWay(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join(saved(t), sink.StateFile))
	must(t, err)
	for name, left := range map[string][]byte{"nothing": {}, "a part": whole[:5000], "all but the name": whole, "garbage": slices.Repeat([]byte{7}, 70_000)} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, sink.StateFile+".new"), string(left))
			state := openState(t, dir)
			if state.Unclean() {
				t.Error("nobody ran before")
			}
			must(t, state.Close())
			if names, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(names) != 1 {
				t.Errorf("%v, %v", names, err)
			}
		})
	}
}

// TestOfManyThatBeginAtOnceOneHasTheState: not each a file of its own.
func TestOfManyThatBeginAtOnceOneHasTheState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	var wg sync.WaitGroup
	states, refused := make(chan *sink.StateDir, 8), make(chan error, 8)
	for range cap(states) {
		wg.Go(func() {
			state, err := sink.OpenStateDir(dir)
			if err != nil {
				refused <- err
				return
			}
			states <- state
		})
	}
	wg.Wait()
	close(states)
	close(refused)
	if len(states) != 1 {
		t.Errorf("%d have it", len(states))
	}
	for state := range states {
		must(t, state.Close())
	}
	for err := range refused {
		if !strings.Contains(err.Error(), "another watcher uses it") {
			t.Error(err)
		}
	}
}
