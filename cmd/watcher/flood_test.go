package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"watcher/internal/watch/watchtest"
)

const flood = 50_000

// flood changes one pod so many times, and tells when its watch is open first.
func (w *world) flood(n int) {
	w.t.Helper()
	w.await(func() bool { return w.Watching(watchtest.Pods) == 1 })
	for i := range n {
		w.Update(watchtest.Pods, "shop/web", watchtest.Spec(fmt.Sprintf(`{"n":%d,"pad":"%0200d"}`, i, i)))
	}
}

// standstill waits until the API server has sent nothing for a while.
func (w *world) standstill() {
	w.t.Helper()
	sent, still := -1, 0
	poll(func() bool {
		now := w.Requests(watchtest.Watches(watchtest.Pods))[0].Frames
		if still++; now != sent {
			sent, still = now, 0
		}
		return still == 30
	})
}

func (w *world) pipe() (r, into *os.File) {
	w.t.Helper()
	r, into, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = r.Close() }) // mostly closed before
	return r, into
}

// TestAReaderThatLeavesEndsWatcherQuietly is `watcher run | head -1` in the middle of a flood.
func TestAReaderThatLeavesEndsWatcherQuietly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, watchtest.Pods)
	w.Create(watchtest.Pods, "shop/web")
	r, into := w.pipe()
	p := w.runInto(into, "pods", "--initial", "none")
	lines := bufio.NewReader(r)
	head, err := lines.ReadString('\n')
	if err != nil || valid(head) != nil || !strings.Contains(head, "stream.started") {
		t.Fatalf("the head is %q: %v", head, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	w.flood(flood)
	if code := p.ended(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if bad := complaints(t, p.stderr()); len(bad) > 0 || strings.Count(p.stderr(), "\n") > 1 {
		t.Errorf("it is not quiet: %s", p.stderr())
	}
}

// TestASlowReaderGetsEveryLineWholeAndInOrder floods a reader that takes little at a time: the buffer is far smaller
// than what comes, so that reading has to stop and go on.
func TestASlowReaderGetsEveryLineWholeAndInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, watchtest.Pods)
	w.Create(watchtest.Pods, "shop/web")
	r, into := w.pipe()
	p := w.runInto(into, "pods", "--buffer-bytes", "256Ki")
	w.flood(flood)
	if w.standstill(); w.Unsent(watchtest.Pods) == 0 {
		t.Error("everything has been read, though the buffer is small and nobody takes anything")
	}
	lines := bufio.NewReaderSize(bites{r}, 16)
	const last = flood + 3 // started, present, synced
	for n := 1; n <= last; n++ {
		raw, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatalf("line %d: %v\n%s", n, err, p.stderr())
		}
		checkFlood(t, n, raw)
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(lines)
	if stopped, bad := read(string(rest)); err != nil || bad != nil || len(stopped) != 1 || stopped[0].Type != "watcher.stream.stopped" {
		t.Errorf("behind the flood: %s, %v, %v", rest, err, bad)
	}
	if code := p.ended(); code != 0 || len(complaints(t, p.stderr())) > 0 {
		t.Errorf("exit code %d\n%s", code, p.stderr())
	}
}

// checkFlood looks at the n-th line of a flood; every thousandth is validated in full.
func checkFlood(t *testing.T, n int, raw []byte) {
	t.Helper()
	if n%1000 == 1 || n < 10 {
		if err := validLine(strings.TrimSuffix(string(raw), "\n")); err != nil {
			t.Fatalf("line %d: %v", n, err)
		}
	}
	if n <= 3 {
		return
	}
	var l struct {
		Type string
		Data struct {
			Seq    uint64
			Object struct{ Spec struct{ N int } }
		}
	}
	if err := json.Unmarshal(raw, &l); err != nil {
		t.Fatalf("line %d is not whole: %v\n%s", n, err, raw)
	}
	if l.Type != "watcher.object.modified" || l.Data.Object.Spec.N != n-4 || l.Data.Seq != uint64(n-2) {
		t.Fatalf("line %d is %s", n, raw)
	}
}

// bites reads no more than a few hundred bytes at once.
type bites struct{ io.Reader }

func (b bites) Read(p []byte) (int, error) { return b.Reader.Read(p[:min(len(p), 300)]) }

// TestAFullDiskIsSaidAndWaitedFor: /dev/full takes nothing. watcher says so once and goes on trying; a signal ends it
// with 1 when the time to drain is over. That takes 20 s, in which other tests run.
func TestAFullDiskIsSaidAndWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, watchtest.Pods)
	w.Create(watchtest.Pods, "shop/web")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("this system has no /dev/full")
	}
	p := w.runInto(full, "pods")
	p.await("a complaint", p.errout, func(text string) bool { return strings.Contains(text, `"level":"warn"`) })
	if code := p.end(syscall.SIGTERM); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	lines := strings.Split(strings.TrimSpace(p.stderr()), "\n")
	bad := complaints(t, strings.Join(lines[:len(lines)-1], "\n"))
	if len(bad) != 1 || !strings.Contains(bad[0].Message, "cannot be written") || !strings.Contains(bad[0].Error, "no space left on device") {
		t.Errorf("it says %+v", bad)
	}
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "watcher: write events: ") || !strings.Contains(last, "within 20s") || !strings.Contains(last, "no space left on device") {
		t.Errorf("at the end it says %s", last)
	}
}

// TestAStuckReaderDoesNotKeepASecondSignalOut: one signal waits for the reader, the second does not.
func TestAStuckReaderDoesNotKeepASecondSignalOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, watchtest.Pods)
	w.Create(watchtest.Pods, "shop/web", watchtest.Spec(`{"pad":"`+strings.Repeat("x", 200_000)+`"}`))
	r, into := w.pipe()
	p := w.runInto(into, "pods", "--log-level", "debug")
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil { // so much it takes
		t.Fatal(err)
	}
	w.await(func() bool { return w.Watching() == 1 })
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	w.await(func() bool { return w.Watching() == 0 }) // the first has been heard
	if code := p.end(syscall.SIGTERM); code != 130 {
		t.Errorf("exit code %d after the second signal, want 130", code)
	}
}

// TestASignalHandsOverWhatWasReadAndStopsEachStream: what is in memory when the signal comes is written, stopped comes
// last, for each stream.
func TestASignalHandsOverWhatWasReadAndStopsEachStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, watchtest.Pods, watchtest.Services)
	w.Create(watchtest.Pods, "shop/web")
	r, into := w.pipe()
	p := w.runInto(into, "pods", "services")
	const n = 2000 // some 900 kB: more than a pipe holds, less than the buffer
	w.await(func() bool { return w.Watching(watchtest.Services) == 1 })
	w.flood(n)
	w.await(func() bool { return w.Unsent(watchtest.Pods) == 0 })
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	w.await(func() bool { return w.Watching() == 0 })
	out, err := io.ReadAll(bufio.NewReader(bites{r}))
	if err != nil {
		t.Fatal(err)
	}
	if code := p.ended(); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.stderr())
	}
	lines, err := read(string(out))
	if err != nil {
		t.Fatal(err)
	}
	var seq uint64
	for _, l := range lines {
		if l.Type == "watcher.object.modified" {
			seq++
			if l.Data.Seq != seq+1 {
				t.Fatalf("event %d has seq %d", seq, l.Data.Seq)
			}
		}
	}
	// What the server has sent may still be on its way when the signal comes; what is written has no hole.
	if seq == 0 || seq > n {
		t.Errorf("%d of %d changes", seq, n)
	}
	last := lines[len(lines)-2:]
	if last[0].Type != "watcher.stream.stopped" || last[1].Type != "watcher.stream.stopped" || last[0].Data.Resource == last[1].Data.Resource {
		t.Errorf("the last lines are %v", last)
	}
	if err := valid(string(out[bytes.LastIndexByte(out[:len(out)-2000], '\n')+1:])); err != nil {
		t.Error(err)
	}
}

// TestALargeObjectIsNeverCut: 2.5 MiB come out whole, and above --max-event-bytes as a length and a hash.
func TestALargeObjectIsNeverCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, watchtest.ConfigMaps)
	large := strings.Repeat("0123456789abcdef", 5<<19/16)
	w.Create(watchtest.ConfigMaps, "shop/large", watchtest.Raw("data", `{"a":"`+large+`"}`))
	w.Create(watchtest.ConfigMaps, "shop/small", watchtest.Raw("data", `{"a":"b"}`))
	object := func(key string) []byte {
		for _, o := range w.StateAt(watchtest.ConfigMaps, w.RV()) {
			if o.Namespace+"/"+o.Name == key {
				return o.JSON
			}
		}
		t.Fatalf("no %s", key)
		return nil
	}
	whole, limited := w.run("cm"), begin(t, w.dir, "limited", w.env, nil, "run", "cm", "--max-event-bytes", "1Mi")
	w.await(func() bool { return w.Watching() == 2 })
	w.Update(watchtest.ConfigMaps, "shop/large", watchtest.Raw("data", `{"b":"`+large+`"}`))
	for _, p := range []*process{whole, limited} {
		p.await("the change", p.out, func(text string) bool {
			return strings.Contains(text, "object.modified") && strings.HasSuffix(text, "\n")
		})
		if code := p.end(os.Interrupt); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if err := valid(p.stdout()); err != nil {
			t.Errorf("%.500v", err)
		}
	}
	lines, err := read(whole.stdout())
	if err != nil {
		t.Fatal(err)
	}
	omitted, err := read(limited.stdout())
	if err != nil || len(lines) != len(omitted) || len(lines) != 6 {
		t.Fatalf("%d and %d lines, %v", len(lines), len(omitted), err)
	}
	for i, l := range lines {
		o := omitted[i].Data
		switch {
		case l.Subject == "shop/large":
			sum := sha256.Sum256(l.Data.Object)
			if o.Object != nil || o.ObjectOmitted == nil || o.ObjectOmitted.Bytes != len(l.Data.Object) || o.ObjectOmitted.SHA256 != hex.EncodeToString(sum[:]) {
				t.Errorf("%s: %.300v", l, o)
			}
		case l.Subject == "shop/small" && string(o.Object) != string(l.Data.Object):
			t.Errorf("%s: %.300v", l, o)
		}
	}
	if last := lines[4]; last.Type != "watcher.object.modified" || !bytes.Equal(last.Data.Object, object("shop/large")) {
		t.Errorf("the object is not the server's: %d bytes, %d", len(last.Data.Object), len(object("shop/large")))
	}
}

// TestATornLastLineIsClosedAtTheStart: what a kill left stays one bad line.
func TestATornLastLineIsClosedAtTheStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, watchtest.Pods)
	const torn = `{"specversion":"1.0","id":"` + "\u00fc"
	if err := os.WriteFile(filepath.Join(w.dir, "run.out"), []byte("{}\n"+torn), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds a whole line
		p := w.run("pods")
		w.await(func() bool { return w.Watching() == 1 })
		if code := p.end(syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d\n%s", code, p.stderr())
		}
		w.await(func() bool { return w.Watching() == 0 }) // else the next one would be taken for ready
	}
	rest, ok := strings.CutPrefix(slurp(filepath.Join(w.dir, "run.out")), "{}\n"+torn+"\n")
	lines, err := read(rest)
	if !ok || err != nil || fmt.Sprint(lines) != "[started @100 synced 0@100 stopped @100 started @100 synced 0@100 stopped @100]" {
		t.Errorf("%v, %v\n%s", lines, err, slurp(filepath.Join(w.dir, "run.out")))
	}
}

// TestAnythingInAnAnnotationStaysInItsLine: the API server's own bytes come out, on one line, and read back the same.
func TestAnythingInAnAnnotationStaysInItsLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, watchtest.Pods)
	notes := map[string]string{
		"newlines": "a\nb\r\nc\u2028d\u2029e\u0085f", "quotes": `"'` + "`\\", "controls": "\x00\x01\x1b[31m\x7f\t",
		"unicode": "ü 漢字 \U0001f980 \u202e", "json": `{"type":"watcher.stream.stopped"}` + "\n", "long": strings.Repeat("x", 70_000),
	}
	var edits []watchtest.Edit
	for key, value := range notes {
		edits = append(edits, watchtest.Annotations(key, value))
	}
	w.Create(watchtest.Pods, "shop/web.v1.example.com", edits...)
	code, stdout, stderr := once(t, w.dir, w.env, "run", "--once", "pods")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	if err := valid(stdout); err != nil {
		t.Fatal(err)
	}
	lines, err := read(stdout)
	if err != nil || len(lines) != 4 || lines[1].Subject != "shop/web.v1.example.com" {
		t.Fatalf("%v, %v", lines, err)
	}
	var got struct {
		Metadata struct{ Annotations map[string]string }
	}
	if err := json.Unmarshal(lines[1].Data.Object, &got); err != nil {
		t.Fatal(err)
	}
	for key, value := range notes {
		if got.Metadata.Annotations[key] != value {
			t.Errorf("%s is %q, want %q", key, got.Metadata.Annotations[key], value)
		}
	}
}
