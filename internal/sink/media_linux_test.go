package sink_test

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"watcher/internal/event"
	"watcher/internal/sink"
)

// TestAStateThatIsNotOursToWriteIsRefused is done by a thread that has lost its rights on files.
func TestAStateThatIsNotOursToWriteIsRefused(t *testing.T) {
	dir := saved(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if os.Geteuid() == 0 {
		must(t, unix.Setfsuid(65534))
		defer func() { must(t, unix.Setfsuid(0)) }()
	} else {
		must(t, os.Chmod(dir, 0))
	}
	if _, err := sink.OpenStateDir(dir); err == nil || !strings.Contains(err.Error(), "permission denied: it must be") {
		t.Errorf("%v", err)
	}
}

// TestARegularFileIsSynced writes to one that cannot be: the name that this process goes by.
func TestARegularFileIsSynced(t *testing.T) {
	const path = "/proc/self/comm"
	name, err := os.ReadFile(path)
	must(t, err)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	defer func() { must(t, f.Close(), os.WriteFile(path, name, 0)) }()
	dir := t.TempDir()
	l := reopen(t, f, dir)
	commit(t, l, batch(1, 1))
	if err := l.Close(t.Context()); !errors.Is(err, event.ErrClosed) || !errors.Is(err, syscall.EINVAL) {
		t.Errorf("close: %v", err)
	}
	checkHeld(t, dir, 0, true)
}
