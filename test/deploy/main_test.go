// Package deploy tests what it takes to run watcher in a cluster: its image, and the objects in deploy/.
package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	repository = "../.." // where the Dockerfile is, and what images are built from
	version    = "v9.8.7-test"
)

// native has built the image for this machine.
var native func() (*builder, error)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "deploy-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	native = sync.OnceValues(func() (*builder, error) {
		b, err := newBuilder(repository, dir, buildArgs(runtime.GOARCH))
		if err != nil {
			return nil, err
		}
		return b, b.build()
	})
	return m.Run()
}

// buildArgs are what `make image` and the builder itself tell the Dockerfile.
func buildArgs(arch string) map[string]string {
	return map[string]string{"VERSION": version, "TARGETOS": "linux", "TARGETARCH": arch}
}

// start runs the image's entry point in an empty folder with no environment but env, with args or else the image's own
// arguments, and returns all that it says.
func start(t *testing.T, env []string, args ...string) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the program is one for Linux")
	}
	b, err := native()
	if err != nil {
		t.Fatal(err)
	}
	if len(args) == 0 {
		args = b.image.cmd
	}
	command := slices.Concat(b.image.entrypoint, args)
	cmd := exec.CommandContext(t.Context(), filepath.Join(b.image.root, command[0]), command[1:]...)
	cmd.Dir, cmd.Env = t.TempDir(), append([]string{}, env...) // nil would be the test's own environment
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("%s: %v", strings.Join(command, " "), err)
	}
	return string(out)
}
