package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"k8s.io/client-go/rest"
)

// A job is what a child process has to read.
type job struct {
	Host          string
	CA, Cert, Key []byte
	Position      string
	Span          span
}

func (j *job) config() *rest.Config {
	return &rest.Config{Host: j.Host, QPS: -1, TLSClientConfig: rest.TLSClientConfig{CAData: j.CA, CertData: j.Cert, KeyData: j.Key}}
}

// newJob measures how long the stream is, since io.Copy cannot tell where an event ends.
func newJob(ctx context.Context, c *rest.Config, position string, warm, events int) (*job, error) {
	j := &job{Host: c.Host, CA: c.CAData, Cert: c.CertData, Key: c.KeyData, Position: position, Span: span{Warm: warm, Events: events}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body, err := stream(ctx, j.config(), position)
	if err != nil {
		return nil, err
	}
	defer body.Close() //nolint:errcheck // it was only read
	in := bufio.NewReaderSize(body, 1<<20)
	for n, size := 1, 0; n <= warm+events; n++ {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return nil, fmt.Errorf("event %d of %d: %w", n, warm+events, err)
		}
		if size += len(line); n == warm {
			j.Span.WarmBytes = size
		}
		j.Span.AllBytes = size
	}
	return j, nil
}

// run measures one way in a process of its own.
func (j *job) run(ctx context.Context, w way) (cost, error) {
	self, err := os.Executable()
	if err != nil {
		return cost{}, err
	}
	in, err := json.Marshal(j)
	if err != nil {
		return cost{}, err
	}
	cmd := exec.CommandContext(ctx, self, "way", w.name)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return cost{}, fmt.Errorf("%s: %w", w.name, err)
	}
	var c cost
	return c, json.Unmarshal(out, &c)
}

// rounds measures all ways in turn, the first of each round being another one, and returns the costs by way and round.
func (j *job) rounds(ctx context.Context, rounds int) (map[string][]cost, error) {
	costs := map[string][]cost{}
	for r := range rounds {
		for i := range ways {
			w := ways[(r+i)%len(ways)]
			c, err := j.run(ctx, w)
			if err != nil {
				return nil, err
			}
			costs[w.name] = append(costs[w.name], c)
		}
		fmt.Fprintf(os.Stderr, "bench: round %d of %d\n", r+1, rounds)
	}
	return costs, nil
}

// fake measures with the test server.
func (b *bench) fake(ctx context.Context, r *report) error {
	s := newLoadServer(0)
	defer s.Close()
	defer s.CloseClientConnections()
	return b.speed(ctx, r, "A test server over TLS and HTTP/2", s.config(), strconv.Itoa(s.position()), b.events)
}

// speed measures all ways with one server, which delivers so many events after position, and a quarter more.
func (b *bench) speed(ctx context.Context, r *report, server string, c *rest.Config, position string, events int) error {
	j, err := newJob(ctx, c, position, events/4, events)
	if err != nil {
		return err
	}
	costs, err := j.rounds(ctx, b.rounds)
	if err != nil {
		return err
	}
	r.add(server, j.Span, costs)
	return nil
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
