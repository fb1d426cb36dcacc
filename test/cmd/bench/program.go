package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// A program is watcher itself, at work.
type program struct {
	*exec.Cmd
	lines *bufio.Reader // what it writes, unless that is a file
}

// start runs watcher on the server. It writes into out or, if that is nil, into a pipe.
func (b *bench) start(ctx context.Context, s *loadServer, out *os.File, args ...string) (*program, error) {
	kubeconfig := filepath.Join(b.dir, "kubeconfig")
	if err := s.writeKubeconfig(kubeconfig); err != nil {
		return nil, err
	}
	args = append([]string{"run", "pods", "-o", "json", "--log-level", "error", "--kubeconfig", kubeconfig}, args...)
	p := &program{Cmd: exec.CommandContext(ctx, b.watcher, args...)}
	p.Cancel = func() error { return p.Process.Signal(syscall.SIGTERM) }
	p.Stderr = os.Stderr
	if out != nil {
		p.Stdout = out
		return p, p.Start()
	}
	pipe, err := p.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.lines = bufio.NewReaderSize(pipe, 1<<20)
	return p, p.Start()
}

// until reads what the program writes up to a stream event of that type.
func (p *program) until(typ string) error {
	want := []byte(`"watcher.stream.` + typ + `"`)
	for {
		line, err := p.lines.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("before the event %s: %w", typ, errors.Join(err, p.Wait()))
		}
		if bytes.Contains(line[:min(len(line), 300)], want) {
			return nil
		}
	}
}

// stop ends the program as a user would, and waits for it.
func (p *program) stop() error {
	err := p.Process.Signal(syscall.SIGTERM)
	if p.lines != nil {
		_, copied := io.Copy(io.Discard, p.lines)
		err = errors.Join(err, copied)
	}
	return errors.Join(err, p.Wait())
}

// kill ends it at once.
func (p *program) kill() {
	_ = p.Process.Kill() // it may have ended
	_ = p.Wait()         // it was killed
}

// used is what the program has used by now.
func (p *program) used() *usage {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Process.Pid))
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // behind the name
	var user, system int
	if len(fields) > 12 {
		_, _ = fmt.Sscan(fields[11]+" "+fields[12], &user, &system) // in hundredths of a second; 0 on other systems
	}
	return &usage{at: time.Now(), cpu: time.Duration(user+system) * 10 * time.Millisecond, peak: peakRSS(p.Process.Pid)}
}

// settledPeak is the most memory that was resident once that has not grown for a while.
func (p *program) settledPeak(ctx context.Context, settled time.Duration) (peak int, err error) {
	for grew := time.Now(); time.Since(grew) < settled; {
		if now := peakRSS(p.Process.Pid); now > peak {
			peak, grew = now, time.Now()
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return peak, nil
}

// writeKubeconfig writes one that leads to the server.
func (s *loadServer) writeKubeconfig(path string) error {
	c := clientcmdapi.NewConfig()
	c.Clusters["bench"] = &clientcmdapi.Cluster{Server: s.URL, CertificateAuthorityData: pemOf(s.Certificate())}
	c.Contexts["bench"] = &clientcmdapi.Context{Cluster: "bench"}
	c.CurrentContext = "bench"
	return clientcmd.WriteToFile(*c, path)
}
