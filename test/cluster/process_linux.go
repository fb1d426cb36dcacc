package cluster

import "syscall"

// processAttr keeps the signals of a terminal away from a server: who started
// it stops it. Unless it is detached, it dies with the thread that started it.
func processAttr(detach bool) *syscall.SysProcAttr {
	if detach {
		return &syscall.SysProcAttr{Setsid: true}
	}
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
