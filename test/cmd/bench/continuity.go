package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/encoding/protowire"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// A continuity is what it costs to know what was written, and to go on from there.
type continuity struct {
	Rounds  int
	Pods    int
	Ledgers []ledger
	Saving  comparison
	Repairs []comparison
	// Hash is how long it takes to hash what of a change is hashed; HashShare is that of the CPU that watcher needs for one.
	Hash, HashShare float64
}

// A ledger is what a number of pods take in memory.
type ledger struct {
	Pods         int
	Each         int     // bytes of the heap that are kept
	Plain, Saved float64 // MB, the most that is resident: without --state-dir, and with it
}

// A comparison is what something costs beside the least that it can cost, in medians.
type comparison struct {
	Does                string
	CPU, Floor, Wall    float64 // of one event, or of all: microseconds, or seconds
	CPURatio, WallRatio spread
	Before, Peak        float64 // MB
}

type pair struct{ ours, floor cost }

// compare gives times in units.
func compare(does string, pairs []pair, unit time.Duration) comparison {
	of := func(f func(p pair) float64) spread {
		var values []float64
		for _, p := range pairs {
			values = append(values, f(p))
		}
		return spreadOf(values)
	}
	return comparison{
		Does:      does,
		CPU:       of(func(p pair) float64 { return float64(p.ours.CPU) / float64(unit) }).Median,
		Floor:     of(func(p pair) float64 { return float64(p.floor.CPU) / float64(unit) }).Median,
		Wall:      of(func(p pair) float64 { return float64(p.ours.Wall) / float64(unit) }).Median,
		CPURatio:  of(func(p pair) float64 { return float64(p.ours.CPU) / float64(p.floor.CPU) }),
		WallRatio: of(func(p pair) float64 { return float64(p.ours.Wall) / float64(p.floor.Wall) }),
		Before:    of(func(p pair) float64 { return megabytes(p.ours.Before) }).Median,
		Peak:      of(func(p pair) float64 { return megabytes(p.ours.PeakRSS) }).Median,
	}
}

// continuity measures with the pods of memory. Its rounds are long: there are half as many.
func (b *bench) continuity(ctx context.Context, r *report) error {
	if b.pods == 0 {
		return nil
	}
	c := &continuity{Rounds: (b.rounds + 1) / 2, Pods: b.pods}
	for _, pods := range []int{b.pods, 10 * b.pods} {
		if err := b.ledger(ctx, pods, c); err != nil {
			return fmt.Errorf("measure the ledger of %d pods: %w", pods, err)
		}
	}
	s := newLoadServer(b.pods)
	defer s.Close()
	defer s.CloseClientConnections()
	if err := b.saving(ctx, s, c); err != nil {
		return fmt.Errorf("measure --state-dir: %w", err)
	}
	if err := b.repairs(ctx, s, c); err != nil {
		return fmt.Errorf("measure repairs: %w", err)
	}
	hash, err := s.job(100*ring).run(ctx, hashing)
	if err != nil {
		return fmt.Errorf("measure hashing: %w", err)
	}
	c.Hash = hash.cpuEach() / 1e3
	c.HashShare = 100 * c.Hash / r.Tables[0].Rows[2].CPU
	r.Continuity = c
	return nil
}

// ledger measures what is kept, and what is resident at most, once all pods are listed.
func (b *bench) ledger(ctx context.Context, pods int, c *continuity) error {
	s := newLoadServer(pods)
	s.course.Store(&course{Pace: quiet})
	defer s.Close()
	defer s.CloseClientConnections()
	kept, err := s.job(pods).run(ctx, keep)
	if err != nil {
		return err
	}
	l := ledger{Pods: pods, Each: int(kept.Bytes) / pods}
	for args, peak := range map[string]*float64{"": &l.Plain, b.path("ledger"): &l.Saved} {
		p, err := b.start(ctx, s, nil, "--state-dir", args)
		if err != nil {
			return err
		}
		defer p.kill()
		if err := p.until("synced"); err != nil {
			return err
		}
		n, err := p.settledPeak(ctx, b.settled)
		if err != nil {
			return err
		}
		*peak = megabytes(n)
		p.kill()
	}
	c.Ledgers = append(c.Ledgers, l)
	return os.RemoveAll(b.path("ledger"))
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (s *loadServer) job(events int) *job {
	return &job{Host: s.URL, CA: pemOf(s.Certificate()), Position: strconv.Itoa(s.position()), Span: span{Events: events}}
}

// saving measures what --state-dir adds while each pod changes now and then, 5000 a second. Both write into a file.
func (b *bench) saving(ctx context.Context, s *loadServer, c *continuity) error {
	const pace = 200 * time.Microsecond
	s.course.Store(&course{Pace: pace})
	var pairs []pair
	for round := range c.Rounds {
		var p pair
		for i := range 2 {
			into, dir := &p.floor, ""
			if (round+i)%2 == 1 {
				into, dir = &p.ours, b.path("saving")
			}
			var err error
			if *into, err = b.writing(ctx, s, dir, int(3*time.Second/pace)); err != nil {
				return err
			}
		}
		pairs = append(pairs, p)
		fmt.Fprintf(os.Stderr, "bench: --state-dir, round %d of %d\n", round+1, c.Rounds)
	}
	c.Saving = compare("with --state-dir", pairs, time.Duration(b.events)*time.Microsecond)
	return nil
}

// writing measures watcher while it writes changes into a file, from some seconds after it has listed all pods.
func (b *bench) writing(ctx context.Context, s *loadServer, stateDir string, warm int) (cost, error) {
	s.at.Store(0)
	out, err := os.Create(b.path("events"))
	if err != nil {
		return cost{}, err
	}
	defer os.Remove(out.Name())  //nolint:errcheck // a temporary file
	defer os.RemoveAll(stateDir) //nolint:errcheck // a temporary folder, or none
	defer out.Close()            //nolint:errcheck // watcher has written it
	p, err := b.start(ctx, s, out, "--state-dir", stateDir)
	if err != nil {
		return cost{}, err
	}
	defer p.kill()
	var at [2]*usage
	for i, version := range []int{s.position() + warm, s.position() + warm + b.events} {
		if err := s.reaches(ctx, version); err != nil {
			return cost{}, err
		}
		at[i] = p.used()
	}
	return at[1].since(at[0]), p.stop()
}

// reaches waits until a watch has delivered the version.
func (s *loadServer) reaches(ctx context.Context, version int) error {
	for s.at.Load() < int64(version) {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// gaps are what may have happened to the pods while nobody looked, and the lists that tell it.
var gaps = []struct {
	name, does string
	course
}{
	{"nothing", "nothing has changed", course{}},
	{"some", "1 % have changed, 1 % are gone", course{Changed: 100, Deleted: 100}},
	{"all", "all have changed", course{Changed: 1}},
}

// repairs measures what watcher needs from the gap to synced, with a ledger that an earlier run has saved, beside the
// same requests alone.
func (b *bench) repairs(ctx context.Context, s *loadServer, c *continuity) error {
	s.course.Store(&course{Pace: quiet})
	p, err := b.start(ctx, s, nil, "--state-dir", b.path("saved"))
	if err != nil {
		return err
	}
	defer p.kill()
	if err := errors.Join(p.until("synced"), p.stop()); err != nil {
		return err
	}
	pairs := make([][]pair, len(gaps))
	for round := range c.Rounds {
		for i, g := range gaps {
			g.Pace, g.Expired = quiet, true
			s.course.Store(&g.course)
			var p pair
			var errs [2]error
			for j := range 2 {
				if (round+j)%2 == 0 {
					p.ours, errs[0] = b.repair(ctx, s)
				} else {
					p.floor, errs[1] = s.job(b.pods).run(ctx, bare[i])
				}
			}
			if err := errors.Join(errs[:]...); err != nil {
				return fmt.Errorf("%s: %w", g.does, err)
			}
			pairs[i] = append(pairs[i], p)
		}
		fmt.Fprintf(os.Stderr, "bench: repairs, round %d of %d\n", round+1, c.Rounds)
	}
	for i, g := range gaps {
		c.Repairs = append(c.Repairs, compare(g.does, pairs[i], time.Second))
	}
	return nil
}

// repair measures one.
func (b *bench) repair(ctx context.Context, s *loadServer) (cost, error) {
	dir := b.path("state")
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	if err := os.CopyFS(dir, os.DirFS(b.path("saved"))); err != nil {
		return cost{}, err
	}
	p, err := b.start(ctx, s, nil, "--state-dir", dir, "--kube-api-qps", "1e6", "--kube-api-burst", "1000000")
	if err != nil {
		return cost{}, err
	}
	defer p.kill()
	var at [2]*usage
	for i, event := range []string{"gap", "synced"} {
		if err := p.until(event); err != nil {
			return cost{}, err
		}
		at[i] = p.used()
	}
	return at[1].since(at[0]), nil
}

// bare are the requests that a repair of each of the gaps sends, their answers thrown away.
var bare = func() (all []way) {
	for _, g := range gaps {
		all = append(all, way{"bare-" + g.name, "", func(ctx context.Context, c *rest.Config, position string, m *meter) error {
			goruntime.GOMAXPROCS(1) // as the program does
			client, err := restClient(c)
			if err != nil {
				return err
			}
			// The connection is made before it counts.
			if _, err := readPage(ctx, client, jsonType, &metav1.ListOptions{Limit: 1}); err != nil {
				return err
			}
			m.events(0)
			if err := readList(ctx, client, metadataOnly); err != nil {
				return err
			}
			switch g.Changed {
			case 0:
			case 1:
				err = readList(ctx, client, jsonType)
			default:
				err = inParallel((m.Events+g.Changed-1)/g.Changed, func(i int) error { return readPod(ctx, client, i*g.Changed, position) })
			}
			m.events(m.Events)
			return err
		}})
	}
	return all
}()

// metadataOnly is the Accept header of lists that are compared.
const metadataOnly = protobufType + ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

func readList(ctx context.Context, client *rest.RESTClient, accept string) error {
	o := &metav1.ListOptions{Limit: 500}
	for {
		next, err := readPage(ctx, client, accept, o)
		if o.Continue = next; err != nil || next == "" {
			return err
		}
	}
}

// readPage returns the token of the next one.
func readPage(ctx context.Context, client *rest.RESTClient, accept string, o *metav1.ListOptions) (next string, err error) {
	body, err := client.Get().Resource("pods").VersionedParams(o, scheme.ParameterCodec).SetHeader("Accept", accept).Stream(ctx)
	if err != nil {
		return "", err
	}
	defer body.Close() //nolint:errcheck // it was only read
	in := bufio.NewReaderSize(body, 16<<10)
	head, err := in.Peek(200)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if accept == jsonType {
		_, rest, _ := bytes.Cut(head, []byte(`"continue":"`))
		token, _, _ := bytes.Cut(rest, []byte(`"`))
		next = string(token)
	} else if next, err = nextOf(head); err != nil {
		return "", err
	}
	_, err = io.Copy(io.Discard, in)
	return next, err
}

// nextOf finds the token in the head of a list in protobuf, as the test server writes it.
func nextOf(head []byte) (string, error) {
	b, ok := bytes.CutPrefix(head, []byte("k8s\x00\x12"))
	if !ok {
		return "", fmt.Errorf("no list in protobuf: %.20q", head)
	}
	_, n := protowire.ConsumeVarint(b)
	_, _, m := protowire.ConsumeTag(b[n:])
	raw, _ := protowire.ConsumeBytes(b[n+m:])
	var meta metav1.ListMeta
	err := meta.Unmarshal(raw)
	return meta.Continue, err
}

func readPod(ctx context.Context, client *rest.RESTClient, i int, version string) error {
	p := pod(i)
	body, err := client.Get().Namespace(p.Namespace).Resource("pods").VersionedParams(&metav1.ListOptions{
		FieldSelector: "metadata.name=" + p.Name, ResourceVersion: version, ResourceVersionMatch: metav1.ResourceVersionMatchExact, Limit: 1,
	}, scheme.ParameterCodec).Stream(ctx)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // it was only read
	_, err = io.Copy(io.Discard, body)
	return err
}

// hashing hashes what watcher does of a change: all but managedFields, kind and apiVersion, in some pieces more.
var hashing = way{"hash", "", func(_ context.Context, _ *rest.Config, _ string, m *meter) error {
	var all [][]byte
	for i := range ring {
		p := pod(i)
		p.ManagedFields, p.TypeMeta = nil, metav1.TypeMeta{}
		all = append(all, encode(jsonType, p))
	}
	m.events(0)
	for i := range m.Events {
		xxhash.Sum64(all[i%ring])
		m.events(1)
	}
	return nil
}}
