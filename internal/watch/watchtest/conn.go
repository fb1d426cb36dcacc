package watchtest

import (
	"encoding/base64"
	"net"
	"sync/atomic"
	"syscall"
)

// A conn is the server's end of a connection, which can be frozen.
type conn struct {
	net.Conn
	frozen atomic.Bool
	forget func(*conn)
}

// serve takes a connection into the books, or refuses it.
func (s *Server) serve(c net.Conn) (*conn, error) {
	s.wires.Lock()
	defer s.wires.Unlock()
	if s.refuse {
		_ = c.Close() // refused
		return nil, &net.OpError{Op: "dial", Net: "memory", Err: syscall.ECONNREFUSED}
	}
	out := &conn{Conn: c, forget: s.forgetConn}
	s.conns[out] = struct{}{}
	return out, nil
}

func (s *Server) forgetConn(c *conn) {
	s.wires.Lock()
	defer s.wires.Unlock()
	delete(s.conns, c)
}

// Read drops what comes in on a frozen connection, but notices its end: that is the test's way to clean up.
func (c *conn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.frozen.Load() {
			return n, err
		}
	}
}

// Write swallows what goes out on a frozen connection.
func (c *conn) Write(p []byte) (int, error) {
	if c.frozen.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// Close lets the client of a frozen connection wait: it stays until the client goes, or the server is closed.
func (c *conn) Close() error {
	if c.frozen.Load() {
		return nil
	}
	c.forget(c)
	return c.Conn.Close()
}

// A memoryListener yields the connections that clients dial in memory.
type memoryListener struct{ s *Server }

func (l memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.s.dialed:
		return c, nil
	case <-l.s.closed:
		return nil, net.ErrClosed
	}
}

func (l memoryListener) Close() error   { return nil }
func (l memoryListener) Addr() net.Addr { return memoryAddr{} }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "watchtest" }

// A tcpListener books the connections that it accepts, and breaks them at once while the server is down.
type tcpListener struct {
	net.Listener
	s *Server
}

func (l tcpListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if served, err := l.s.serve(c); err == nil {
			return served, nil
		}
	}
}

func base64Text(raw []byte) string { return base64.StdEncoding.EncodeToString(raw) }
