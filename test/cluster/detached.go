package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Detached is what there is of a detached cluster in a folder.
type Detached struct {
	dir  string
	pids map[string]int // by server: -1 if the one that was there does not run any more
}

// Find looks for a detached cluster in dir, which need not exist.
func Find(dir string) (*Detached, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	d := &Detached{dir: dir, pids: map[string]int{}}
	for _, name := range []string{"kube-apiserver", "etcd"} {
		data, err := os.ReadFile(filepath.Join(dir, name+".pid"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
		if err != nil || !runs(pid, dir) {
			pid = -1
		}
		d.pids[name] = pid
	}
	return d, nil
}

// Exists tells whether a cluster was started in the folder.
func (d *Detached) Exists() bool { return len(d.pids) > 0 }

// Running tells whether both servers run.
func (d *Detached) Running() bool { return d.pids["etcd"] > 0 && d.pids["kube-apiserver"] > 0 }

// Remove ends the servers that run, waits until they are gone, and removes
// the folder.
func (d *Detached) Remove() error {
	if !d.Exists() {
		return fmt.Errorf("remove %s: it holds no cluster", d.dir)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for name, pid := range d.pids {
		if pid < 0 {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill %s, process %d: %w", name, pid, err)
		}
		for runs(pid, d.dir) {
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return fmt.Errorf("wait for the end of %s, process %d: %w", name, pid, err)
			}
		}
	}
	return os.RemoveAll(d.dir)
}

// runs tells whether the process is a server that keeps its files in dir. Its
// id alone says nothing: after a reboot it may be anybody's.
func runs(pid int, dir string) bool {
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil { // no such process, or not Linux
		args, err = exec.Command("ps", "-ww", "-o", "args=", "-p", strconv.Itoa(pid)).Output()
	}
	return err == nil && strings.Contains(string(args), "="+filepath.Join(dir, "server.crt"))
}
