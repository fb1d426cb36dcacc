package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/klog/v2"
)

// TestWhatClientGoSaysOfARequestWeCancelledIsLeftOut and the rest of its errors is kept. Not parallel: klog is one for
// the program.
func TestWhatClientGoSaysOfARequestWeCancelledIsLeftOut(t *testing.T) {
	defer klog.ClearLogger()
	path := filepath.Join(t.TempDir(), "stderr")
	stderr, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close() //nolint:errcheck // it is read by its name
	if _, err := newLogger("info", "json", stderr); err != nil {
		t.Fatal(err)
	}
	for _, log := range []klog.Logger{klog.Background(), klog.Background().WithName("a").WithValues("b", "c")} {
		log.Error(fmt.Errorf("read the body: %w", context.Canceled), "unwanted")
		log.Error(errors.New("the cache is broken"), "wanted")
		log.Info("unwanted")
	}
	if text := slurp(path); strings.Contains(text, "unwanted") || strings.Count(text, `"message":"wanted"`) != 2 {
		t.Errorf("on stderr is\n%s", text)
	}
}
