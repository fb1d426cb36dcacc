package sink

import (
	"fmt"
	"io"
	"os"

	"watcher/internal/event"
)

// A medium knows what has become of the bytes that were written to it.
type medium struct {
	sync func() error // of a file
	lost error        // of sync
	pipe *pipe
}

func newMedium(dst io.Writer) medium {
	f, ok := dst.(*os.File)
	if !ok {
		return medium{}
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return medium{}
	case info.Mode().IsRegular():
		return medium{sync: f.Sync}
	case info.Mode()&os.ModeNamedPipe != 0: // with a name or without
		return medium{pipe: openPipe(f)}
	default:
		return medium{}
	}
}

// acknowledged returns how many bytes, of so many that were written, will not be lost by a crash: what is on the disk,
// or what the reader has taken. Of anything else than a file or a pipe nothing is known, and what is written is gone.
//
// When sync fails, the kernel may have dropped what it could not write, and a second sync would say that all is well.
// So there is no second one, and the sink is closed: the position stays before what may be lost, and the next run
// writes that again.
func (m *medium) acknowledged(written int64) (int64, error) {
	switch {
	case m.lost != nil:
		return 0, m.lost
	case m.sync != nil:
		if err := m.sync(); err != nil {
			m.lost = fmt.Errorf("%w, since it may have lost what was written last, which the next run writes again: %w", event.ErrClosed, err)
			return 0, m.lost
		}
		return written, nil
	case m.pipe != nil:
		unread, err := m.pipe.unread()
		return written - unread, err
	default:
		return written, nil
	}
}

// deserted reports whether what is left in a pipe will never be read.
func (m *medium) deserted() bool { return m.pipe != nil && m.pipe.deserted() }
