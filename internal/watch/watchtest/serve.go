package watchtest

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"k8s.io/client-go/rest"
)

// serving is how the server is reached: in memory, over TLS, or both.
type serving struct {
	wg     sync.WaitGroup // the goroutine of the in-memory server, and every connection
	closed chan struct{}
	shut   sync.Once

	wires   sync.Mutex // guards what follows; never held together with Server.mu
	conns   map[*conn]struct{}
	refuse  bool
	memory  *http.Server
	dialed  chan net.Conn
	client  *http.Transport
	overTLS *httptest.Server
}

func (v *serving) init() {
	v.closed = make(chan struct{})
	v.conns = map[*conn]struct{}{}
	v.dialed = make(chan net.Conn)
}

// Config reaches the server in memory: HTTP/1.1 over net.Pipe, fit for a synctest bubble. A net.Pipe has no buffer: a
// client that does not read stops the server's writing at once. Every request has a connection of its own, since
// net/http repeats one by itself that meets a Reset on a connection that was used before.
func (s *Server) Config() *rest.Config {
	s.wires.Lock()
	defer s.wires.Unlock()
	if s.memory == nil {
		s.memory = &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0), ConnState: s.connState}
		s.client = &http.Transport{DialContext: s.dial, DisableKeepAlives: true}
		s.wg.Go(func() { _ = s.memory.Serve(memoryListener{s}) }) // ends with the listener
	}
	return &rest.Config{Host: "http://watchtest", Transport: s.client}
}

// TLSConfig reaches the server over TCP and TLS, as a real one: HTTP/2, or HTTP/1.1 for a client that wants it.
func (s *Server) TLSConfig() *rest.Config {
	s.wires.Lock()
	defer s.wires.Unlock()
	if s.overTLS == nil {
		s.overTLS = httptest.NewUnstartedServer(s)
		s.overTLS.Listener = tcpListener{s.overTLS.Listener, s}
		s.overTLS.EnableHTTP2 = true
		s.overTLS.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.overTLS.Config.ConnState = s.connState
		s.overTLS.StartTLS()
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.overTLS.Certificate().Raw})
	return &rest.Config{Host: s.overTLS.URL, BearerToken: "watchtest", TLSClientConfig: rest.TLSClientConfig{CAData: ca}}
}

// WriteKubeconfig writes a kubeconfig for the server over TLS into a directory, and returns its path.
func (s *Server) WriteKubeconfig(dir string) string {
	s.tb.Helper()
	cfg := s.TLSConfig()
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: watchtest
contexts:
- name: watchtest
  context: {cluster: watchtest, user: watchtest}
clusters:
- name: watchtest
  cluster: {server: %q, certificate-authority-data: %s}
users:
- name: watchtest
  user: {token: %s}
`, cfg.Host, base64Text(cfg.CAData), cfg.BearerToken)
	path := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.tb.Fatalf("write the kubeconfig: %v", err)
	}
	return path
}

// Down breaks all connections and lets none be made until Up.
func (s *Server) Down() {
	s.setRefuse(true)
	s.dropConns(false)
}

// Up takes Down back.
func (s *Server) Up() { s.setRefuse(false) }

func (s *Server) setRefuse(refuse bool) {
	s.wires.Lock()
	defer s.wires.Unlock()
	s.refuse = refuse
}

// Freeze makes every connection that is open now half-open: nothing comes through any more, in either direction, not
// even the answer to an HTTP/2 ping or the end, and nobody is told. New connections are as usual.
func (s *Server) Freeze() {
	s.wires.Lock()
	defer s.wires.Unlock()
	for c := range s.conns {
		c.frozen.Store(true)
	}
}

// dropConns breaks all connections; of those that are frozen nobody would notice.
func (s *Server) dropConns(frozen bool) {
	s.wires.Lock()
	defer s.wires.Unlock()
	for c := range s.conns {
		if frozen || !c.frozen.Load() {
			_ = c.Conn.Close() // its owner closes it again, and forgets it
		}
	}
}

// Close ends all connections and waits for all that was started. It may be called more than once.
func (s *Server) Close() {
	s.shut.Do(func() {
		close(s.closed)
		s.setRefuse(true)
		s.dropConns(true)
		s.wires.Lock()
		memory, client, overTLS := s.memory, s.client, s.overTLS
		s.wires.Unlock()
		if memory != nil {
			client.CloseIdleConnections()
			_ = memory.Close()
		}
		if overTLS != nil {
			overTLS.Close()
		}
		s.wg.Wait()
	})
}

// connState counts connections, so that Close can wait for the goroutines that serve them.
func (s *Server) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.wg.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.wg.Done()
	default:
	}
}

// dial connects a client in memory.
func (s *Server) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	served, err := s.serve(ours)
	if err != nil {
		return nil, err
	}
	select {
	case s.dialed <- served:
		return theirs, nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-s.closed:
		err = syscall.ECONNREFUSED
	}
	_ = served.Close() // it was never used
	return nil, &net.OpError{Op: "dial", Net: "memory", Err: err}
}
