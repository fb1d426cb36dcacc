package sink

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A pipe is the writing end of one.
type pipe struct {
	conn syscall.RawConn
	name string
}

// openPipe returns nil if nothing can be known about f.
func openPipe(f *os.File) *pipe {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil
	}
	return &pipe{conn, f.Name()}
}

// unread is how many bytes the reader has not taken. What others wrote counts too, and so does a write under way: then
// less seems to be taken than is.
func (p *pipe) unread() (n int64, err error) {
	failed := p.conn.Control(func(fd uintptr) {
		var count int
		count, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) // FIONREAD
		n = int64(count)
	})
	if failed != nil {
		err = failed
	}
	if err != nil {
		return 0, fmt.Errorf("ask %s what is unread: %w", p.name, err)
	}
	return n, nil
}

// deserted reports whether the pipe has no reader.
func (p *pipe) deserted() bool {
	poll := []unix.PollFd{{}}
	err := p.conn.Control(func(fd uintptr) {
		poll[0].Fd = int32(fd)
		_, _ = unix.Poll(poll, 0) // no answer is no
	})
	return err == nil && poll[0].Revents&unix.POLLERR != 0
}
