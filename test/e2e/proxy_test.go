package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// A proxy stands between watcher and the API server, to which it speaks with the credentials that it was given. It
// counts requests, ends watches in the middle, and plays an API server that is gone.
type proxy struct {
	addr    string
	server  *http.Server
	forward *httputil.ReverseProxy
	cut     cut

	mu       sync.Mutex
	down     bool
	conns    map[net.Conn]bool
	requests []request
}

// A cut says, frame by frame, where a watch is to end: behind so many bytes of this frame, with io.EOF if the server ends
// it, else as if the network had. nil: not here. It may be called concurrently. A nil cut ends none.
type cut func(path string, frame []byte) (bytes int, end error)

type request struct {
	path string
	at   time.Time
}

// newProxy starts a proxy at the address, or anywhere if that is "". It stops at the end of the test.
func newProxy(t *testing.T, addr string, config *rest.Config, cut cut) *proxy {
	t.Helper()
	backend, err := rest.HTTPClientFor(config)
	must(t, backend, err)
	target, err := url.Parse(config.Host)
	must(t, target, err)
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	must(t, l, err)
	p := &proxy{addr: l.Addr().String(), cut: cut, conns: map[net.Conn]bool{}}
	p.forward = &httputil.ReverseProxy{
		Transport: backend.Transport, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: p.modify,
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, _ error) { hangUp(w) },
	}
	p.server = &http.Server{Handler: p, ConnState: p.note, ErrorLog: log.New(io.Discard, "", 0)}
	stop := background(t, func(context.Context) error {
		_ = p.server.Serve(l) // until Close
		return nil
	})
	t.Cleanup(func() {
		_ = p.server.Close()
		p.hangUpAll()
		stop()
		backend.CloseIdleConnections()
	})
	return p
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.requests = append(p.requests, request{r.URL.Path, time.Now()})
	down := p.down
	p.mu.Unlock()
	if down {
		hangUp(w)
		return
	}
	p.forward.ServeHTTP(w, r)
}

// hangUp ends the connection without an answer.
func hangUp(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}

func (p *proxy) note(c net.Conn, state http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch state {
	case http.StateNew:
		p.conns[c] = true
	case http.StateClosed, http.StateHijacked:
		delete(p.conns, c)
	}
}

// hangUpAll ends all connections. New ones are welcome.
func (p *proxy) hangUpAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// goDown ends all connections, and from now on each request without an answer.
func (p *proxy) goDown() {
	p.mu.Lock()
	p.down = true
	p.mu.Unlock()
	p.hangUpAll()
}

func (p *proxy) comeUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

// asked returns when that path was asked for, oldest first.
func (p *proxy) asked(path string) (at []time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.requests {
		if r.path == path {
			at = append(at, r.at)
		}
	}
	return at
}

func (p *proxy) modify(r *http.Response) error {
	if p.cut != nil && r.Request.URL.Query().Get("watch") != "" && r.StatusCode == http.StatusOK {
		r.Body = &cutBody{Closer: r.Body, frames: bufio.NewReader(r.Body), path: r.Request.URL.Path, cut: p.cut}
	}
	return nil
}

// A cutBody passes the frames of a watch one by one, until cut ends it.
type cutBody struct {
	io.Closer
	frames *bufio.Reader
	path   string
	cut    cut
	rest   []byte
	end    error
}

// Read implements io.Reader.
func (b *cutBody) Read(to []byte) (int, error) {
	for len(b.rest) == 0 {
		if b.end != nil {
			return 0, b.end
		}
		var err error
		if b.rest, err = b.frames.ReadBytes('\n'); err != nil {
			b.end = err
			continue
		}
		var n int
		if n, b.end = b.cut(b.path, b.rest); b.end != nil {
			b.rest = b.rest[:n]
		}
	}
	n := copy(to, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// kubeconfig returns the path of one that leads to the proxy.
func (p *proxy) kubeconfig(t *testing.T) string { return kubeconfig(t, "http://"+p.addr) }

// kubeconfig returns the path of one for the cluster dev at that URL, without credentials.
func kubeconfig(t *testing.T, server string) string {
	t.Helper()
	c := clientcmdapi.NewConfig()
	c.Clusters["dev"] = &clientcmdapi.Cluster{Server: server}
	c.Contexts["dev"] = &clientcmdapi.Context{Cluster: "dev"}
	c.CurrentContext = "dev"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// freeAddr returns an address at which nobody listens, below the ports that the kernel gives to outgoing connections.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 20 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(22_000))
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}
