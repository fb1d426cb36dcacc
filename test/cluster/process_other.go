//go:build !linux

package cluster

import "syscall"

// processAttr keeps the signals of a terminal away from a server. Only Linux
// can tie it to its parent: elsewhere a killed parent leaves its servers.
func processAttr(detach bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: detach, Setpgid: !detach}
}
