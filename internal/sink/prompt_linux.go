package sink

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// prompt returns whether a Write of n bytes to dst will not wait for a reader. To ask is cheap; to leave such a Write to
// a goroutine, so that it can be abandoned, wakes two threads for every batch.
func prompt(dst io.Writer) func(n int) bool {
	never := func(int) bool { return false }
	f, ok := dst.(*os.File)
	if !ok {
		return never
	}
	info, err := f.Stat()
	if err != nil {
		return never
	}
	switch mode := info.Mode(); {
	case mode.IsRegular(), mode&os.ModeCharDevice != 0 && !term.IsTerminal(int(f.Fd())): // /dev/null
		return func(int) bool { return true }
	case mode&os.ModeNamedPipe != 0:
		return func(n int) bool { return hasRoom(f, n) }
	default: // a terminal may be stopped, a socket's peer may be slow
		return never
	}
}

// hasRoom reports whether n bytes fit into a pipe. Only of an empty one that is certain: how much a write takes of it
// depends on where the writes before it ended.
func hasRoom(pipe *os.File, n int) bool {
	conn, err := pipe.SyscallConn()
	if err != nil {
		return false
	}
	var waiting, size int
	var failed error
	err = conn.Control(func(fd uintptr) {
		if waiting, failed = unix.IoctlGetInt(int(fd), unix.TIOCINQ); failed == nil {
			size, failed = unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0)
		}
	})
	return err == nil && failed == nil && waiting == 0 && n <= size
}
