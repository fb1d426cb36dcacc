package sink

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// atOnce returns a Write that takes what can be taken without waiting for a reader, perhaps nothing, and never blocks. To
// leave a Write to a goroutine, so that it can be abandoned, would wake two threads for every batch.
func atOnce(dst io.Writer) func(p []byte) (int, error) {
	nothing := func([]byte) (int, error) { return 0, nil }
	f, ok := dst.(*os.File)
	if !ok {
		return nothing
	}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		return f.Write // a file has no reader
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return nothing
	}
	var (
		bufs [1][]byte
		n    int
	)
	write := func(fd uintptr) bool {
		n, err = unix.Pwritev2(int(fd), bufs[:], -1, unix.RWF_NOWAIT)
		return true
	}
	return func(p []byte) (int, error) {
		bufs[0], n = p, 0
		if failed := conn.Write(write); failed != nil {
			return 0, failed
		}
		if errors.Is(err, syscall.EPIPE) {
			return 0, &os.PathError{Op: "write", Path: f.Name(), Err: err}
		}
		return max(n, 0), nil // what else is wrong, or cannot be done in this way, Write will say
	}
}
