package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"watcher/internal/watch/watchtest"
)

// A terminal is a pseudo-terminal whose screen is remembered.
type terminal struct {
	end    *os.File // the program's
	mu     sync.Mutex
	screen strings.Builder
	done   chan struct{}
}

func newTerminal(t *testing.T, columns uint16) *terminal {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this system has no pseudo-terminals: %v", err)
	}
	fd := int(ours.Fd())
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err := errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0), unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns})); err != nil {
		t.Fatal(err)
	}
	theirs, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &terminal{end: theirs, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		defer ours.Close()      //nolint:errcheck // it was only read
		_, _ = io.Copy(s, ours) // ends with EIO when the program has gone
	}()
	return s
}

func (s *terminal) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.screen.Write(p)
}

func (s *terminal) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.ReplaceAll(s.screen.String(), "\r\n", "\n")
}

// TestOnATerminalEventsAreReadable: text is the default there, in colour unless NO_COLOR is set or the terminal is dumb,
// as wide as the terminal, without progress.
func TestOnATerminalEventsAreReadable(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env   string
		color bool
	}{"Color": {"TERM=xterm", true}, "NoColor": {"NO_COLOR=1", false}, "Dumb": {"TERM=dumb", false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, watchtest.Pods)
			w.Create(watchtest.Pods, "shop/web-7d9c5b8f6d-x2lqp", watchtest.Spec(`{"nodeName":"a-node-with-a-name-that-is-rather-long","containers":[{}]}`),
				watchtest.Status(`{"phase":"Pending"}`))
			w.env = append(w.env, c.env)
			s := newTerminal(t, 60)
			p := w.runInto(s.end, "pods")
			if !poll(func() bool { return strings.Contains(s.text(), "synced") }) {
				t.Fatalf("on the screen:\n%s\n%s", s.text(), p.stderr())
			}
			if code := p.end(os.Interrupt); code != 0 {
				t.Errorf("exit code %d", code)
			}
			<-s.done
			text := s.text()
			if got := strings.Contains(text, "\x1b["); got != c.color {
				t.Errorf("in colour: %t", got)
			}
			for _, code := range []string{"\x1b[0m", "\x1b[2m"} {
				text = strings.ReplaceAll(text, code, "")
			}
			lines := strings.Split(strings.TrimSpace(text), "\n")
			if len(lines) != 4 || !strings.Contains(lines[1], " present  pods    shop/web-7d9c5b8f6d-x2lqp  Pend") || !strings.HasSuffix(lines[1], "…") ||
				utf8.RuneCountInString(lines[1]) != 60 || !strings.Contains(lines[3], " stopped ") {
				t.Errorf("on the screen:\n%s", text)
			}
		})
	}
}

// TestOnATerminalJSONIsStillJSON when it is asked for.
func TestOnATerminalJSONIsStillJSON(t *testing.T) {
	t.Parallel()
	w := newWorld(t, watchtest.Pods)
	w.Create(watchtest.Pods, "shop/web")
	s := newTerminal(t, 60)
	p := w.runInto(s.end, "--once", "pods", "-o", "json")
	if code := p.ended(); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.stderr())
	}
	<-s.done
	if err := valid(s.text()); err != nil || strings.Count(s.text(), "\n") != 4 {
		t.Errorf("%v\n%s", err, s.text())
	}
}
