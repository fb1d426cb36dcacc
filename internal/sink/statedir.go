package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"watcher/internal/event"
)

const (
	stateFile = "state.db"
	// lockTimeout is for the run before, which may be about to end.
	lockTimeout = time.Second
	lockRetry   = 50 * time.Millisecond
)

var (
	errInUse   = errors.New("another watcher uses it: stop that one, or give another --state-dir")
	errForeign = errors.New(stateFile + " was not written by watcher: give another --state-dir")
	errDamaged = errors.New(stateFile + " is damaged: remove it to begin anew (everything is listed again), or give another --state-dir")
)

// A StateDir is a directory that keeps positions and ledgers from one run to the next. One process has it at a time.
type StateDir struct {
	dir     string
	db      *bbolt.DB
	about   about
	unclean bool
	streams map[string]event.Checkpoint // as they were when it was opened
}

// OpenStateDir opens the state in dir, or begins one if there is none. Any other state of affairs is an error that says
// what to do: to begin anew without a word would be a hole in the log.
func OpenStateDir(dir string) (*StateDir, error) {
	s, err := openStateDir(dir)
	if err != nil {
		return nil, fmt.Errorf("state directory %s: %w", dir, err)
	}
	return s, nil
}

func openStateDir(dir string) (*StateDir, error) {
	// The parent is not made: a path that is not there is more likely a volume that is not mounted than a wish.
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, unusable(err)
	}
	path := filepath.Join(dir, stateFile)
	f, err := openLocked(path, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, unusable(err)
		}
		f, err = openLocked(path, 0)
	}
	if err != nil {
		return nil, unusable(err)
	}
	s := &StateDir{dir: dir, streams: map[string]event.Checkpoint{}}
	if err := s.inspect(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.unclean = !s.about.Clean
	s.db, err = openBolt(f)
	return s, err
}

// unusable adds to an error of the file system what watcher needs.
func unusable(err error) error {
	if errors.Is(err, errInUse) {
		return err
	}
	return fmt.Errorf("%w: it must be a directory, in one that exists, that watcher can write to", err)
}

// create makes a state that holds nothing. It gets its name when it is complete: what a crash leaves here is a file of
// another name, which the next start writes over. So an empty state.db is never a beginning; it has lost what it held.
func create(path string) error {
	unnamed := path + ".new"
	f, err := openLocked(unnamed, os.O_CREATE)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil { // who had the lock before us made it
		return errors.Join(os.Remove(unnamed), f.Close())
	}
	if err := f.Truncate(0); err != nil {
		return errors.Join(err, f.Close())
	}
	db, err := openBolt(f)
	if err != nil {
		return err
	}
	s := StateDir{dir: filepath.Dir(path), db: db, about: about{Format: formatVersion}}
	err = s.save(nil, true)
	if err == nil {
		err = os.Rename(unnamed, path) // still locked: nobody writes into it in between
	}
	if err == nil {
		err = syncDir(s.dir)
	}
	return errors.Join(err, db.Close())
}

// openLocked opens a file that no other process has. It may have lost its name before it was locked; then it is opened
// again.
func openLocked(path string, flag int) (*os.File, error) {
	for begin := time.Now(); ; time.Sleep(lockRetry) {
		f, err := os.OpenFile(path, os.O_RDWR|flag, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && hasName(f, path) {
			return f, nil
		}
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
		if time.Since(begin) >= lockTimeout {
			return nil, errInUse
		}
	}
}

func hasName(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(opened, named)
}

// openBolt gives bbolt a file that is locked, and inspected or empty; it is closed if that fails. Without a list of free
// pages in the file a transaction writes less, and a start reads all pages, which inspect has done anyway.
func openBolt(f *os.File) (*bbolt.DB, error) {
	db, err := bbolt.Open(f.Name(), 0o600, &bbolt.Options{
		NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, NoStatistics: true,
		OpenFile: func(string, int, os.FileMode) (*os.File, error) { return f, nil },
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", f.Name(), err)
	}
	return db, nil
}

// syncDir makes a name in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Unclean reports whether the run before this one wrote events and was not closed: the last line may be torn.
func (s *StateDir) Unclean() bool { return s.unclean }

// Close gives the directory free for another process. It may be called more than once.
func (s *StateDir) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close %s: %w", s.dir, err)
	}
	return nil
}
