package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// A span is what a way has to read: first what is not measured, in which connections are made and buffers grow.
type span struct {
	Warm, Events        int // counts of events
	WarmBytes, AllBytes int // what both are in the stream's own JSON
}

// A cost is what one way took for its events, in its own process.
type cost struct {
	Events  int
	CPU     time.Duration // user and system
	Wall    time.Duration
	Allocs  uint64
	Bytes   uint64 // allocated
	Before  int    // bytes: PeakRSS before that
	PeakRSS int    // bytes
}

// A meter measures from the end of the warm-up to the last event, and then calls done, once. Events come from one
// goroutine at a time.
type meter struct {
	span
	done  func(cost)
	seen  int
	start *usage
}

// A usage is what the process has used by now.
type usage struct {
	seen   int
	cpu    time.Duration
	at     time.Time
	peak   int // bytes
	allocs runtime.MemStats
}

func used(seen int) *usage {
	u := &usage{seen: seen, at: time.Now()}
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r) // nothing of one's own process can fail
	u.cpu = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	runtime.ReadMemStats(&u.allocs)
	u.peak = peakRSS(os.Getpid())
	return u
}

// since is what was used from u to v.
func (v *usage) since(u *usage) cost {
	return cost{
		CPU: v.cpu - u.cpu, Wall: v.at.Sub(u.at), Before: u.peak, PeakRSS: v.peak,
		Allocs: v.allocs.Mallocs - u.allocs.Mallocs, Bytes: v.allocs.TotalAlloc - u.allocs.TotalAlloc,
	}
}

// events counts n more.
func (m *meter) events(n int) { m.count(n, m.Warm, m.Warm+m.Events, 1) }

// bytes counts n more bytes of the stream, where events cannot be told.
func (m *meter) bytes(n int) {
	m.count(n, m.WarmBytes, m.AllBytes, float64(m.Events)/float64(m.AllBytes-m.WarmBytes))
}

func (m *meter) count(n, warm, all int, eventsEach float64) {
	if m.seen += n; m.start == nil && m.seen >= warm {
		m.start = used(m.seen)
	}
	if m.seen < all || m.done == nil {
		return
	}
	end := used(m.seen)
	c := end.since(m.start)
	c.Events = int(float64(end.seen-m.start.seen) * eventsEach)
	m.done(c)
	m.done = nil
}

// peakRSS is the most memory, in bytes, that the process has had resident. Not ru_maxrss: that begins with the parent's.
func peakRSS(pid int) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kb int
	_, _ = fmt.Sscan(rest, &kb) // 0 where there is none: of a process that has ended, or on another system
	return kb << 10
}
