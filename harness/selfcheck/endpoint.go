package selfcheck

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"

	"gameday/clusters"
)

// The kinds of outages.
const (
	// kindNone breaks nothing.
	kindNone = "none"
	// kindRefused closes the listener and resets every connection, as the kernel
	// does for a process that was killed.
	kindRefused = "refused"
	// kindReset resets every connection, the old ones and each new one.
	kindReset = "reset"
	// kindBlackHoled never answers what it is asked meanwhile, on the connections
	// from before either; new connections are accepted and hear nothing.
	kindBlackHoled = "black-holed"
	// kindSlow answers what it is asked meanwhile, later than an answer is good.
	kindSlow = "slow"
)

// endpoint is a TLS server on the loopback, HTTP/2 and HTTP/1.1, that answers as
// much of the API as the samplers ask for and can be broken in known ways.
type endpoint struct {
	addr string
	tls  *tls.Config
	ca   []byte
	http *http.Server
	slow time.Duration // how late slow answers are

	revision atomic.Int64
	answers  chan struct{} // one for each of the first requests that were answered

	mu     sync.Mutex
	listen net.Listener
	conns  map[*conn]bool
	broken string // the kind, while it is broken
}

// warm is how many answers show that a series is under way.
const warm = 3

func newEndpoint(slow time.Duration) (*endpoint, error) {
	cert, ca, err := certificate()
	if err != nil {
		return nil, fmt.Errorf("certificate of the endpoint: %w", err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	e := &endpoint{
		addr: l.Addr().String(), ca: ca, slow: slow, answers: make(chan struct{}, warm), conns: map[*conn]bool{},
		tls: &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12},
	}
	// Broken connections are what it is for: nobody needs to be told of them.
	e.http = &http.Server{Handler: e, TLSConfig: e.tls, ErrorLog: log.New(io.Discard, "", 0)}
	e.serve(l)
	return e, nil
}

// certificate is self-signed, for 127.0.0.1 and an hour.
func certificate() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	now := time.Now()
	form := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// as is the endpoint as the samplers know one.
func (e *endpoint) as() clusters.Endpoint {
	return clusters.Endpoint{Name: e.addr, Config: &rest.Config{
		Host: "https://" + e.addr, TLSClientConfig: rest.TLSClientConfig{CAData: e.ca},
	}}
}

func (e *endpoint) serve(l net.Listener) {
	e.listen = l
	go e.http.ServeTLS(listener{l, e}, "", "") //nolint:errcheck // it ends with the listener, which is closed on purpose
}

// ServeHTTP answers reads with an object and writes with one that was created.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch e.state() {
	case kindBlackHoled:
		<-r.Context().Done()
		return
	case kindSlow:
		select {
		case <-time.After(e.slow):
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodPost {
		w.WriteHeader(http.StatusCreated)
	}
	fmt.Fprintf(w, `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"resourceVersion":"%d"}}`, e.revision.Add(1))
	select {
	case e.answers <- struct{}{}:
	default: // enough were counted
	}
}

// ready waits until the series that samples the endpoint is under way.
func (e *endpoint) ready(ctx context.Context) error {
	for range warm {
		select {
		case <-e.answers:
		case <-ctx.Done():
			return fmt.Errorf("the samplers did not begin: %w", context.Cause(ctx))
		}
	}
	return nil
}

func (e *endpoint) state() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.broken
}

// breakIt makes an outage of the kind begin.
func (e *endpoint) breakIt(kind string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var err error
	e.broken = kind
	if kind == kindRefused {
		err = e.listen.Close()
	}
	if kind == kindRefused || kind == kindReset {
		for c := range e.conns {
			c.reset()
		}
	}
	return err
}

// mend ends the outage.
func (e *endpoint) mend() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.broken == kindRefused {
		l, err := net.Listen("tcp4", e.addr)
		if err != nil {
			return fmt.Errorf("listen again: %w", err)
		}
		e.serve(l)
	}
	e.broken = ""
	return nil
}

// close ends the server and all its connections.
func (e *endpoint) close() error {
	e.mu.Lock()
	for c := range e.conns {
		c.reset()
	}
	e.mu.Unlock()
	return e.http.Close()
}

// listener accepts for an endpoint.
type listener struct {
	net.Listener
	e *endpoint
}

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := raw.(*net.TCPConn)
		if !ok {
			return nil, errors.Join(fmt.Errorf("a %T is no TCP connection", raw), raw.Close())
		}
		c := &conn{TCPConn: tcp, e: l.e, closed: make(chan struct{})}
		l.e.mu.Lock()
		state := l.e.broken
		c.deaf = state == kindBlackHoled
		l.e.conns[c] = true
		l.e.mu.Unlock()
		// One that the kernel had accepted before its listener was closed is reset,
		// too.
		if state == kindReset || state == kindRefused {
			c.reset()
			l.e.forget(c)
			continue
		}
		return c, nil
	}
}

func (e *endpoint) forget(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
}

// conn is a connection that may hear nothing of what it is told.
type conn struct {
	*net.TCPConn
	e      *endpoint
	deaf   bool
	once   sync.Once
	closed chan struct{}
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	if c.deaf {
		<-c.closed
		return 0, net.ErrClosed
	}
	return c.TCPConn.Read(b)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.e.forget(c)
	c.once.Do(func() { close(c.closed) })
	return c.TCPConn.Close()
}

// reset closes the connection with an RST: SO_LINGER of 0, tcp(7) and socket(7).
// Close comes later, from the server.
func (c *conn) reset() {
	c.once.Do(func() { close(c.closed) })
	if err := c.SetLinger(0); err == nil {
		c.TCPConn.Close() //nolint:errcheck // closed already, and then by the other side
	}
}
