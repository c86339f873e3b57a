package local

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// The load balancer passes connections on to API servers that are well, in turn, and
// judges them as that of kind does: sigs.k8s.io/kind@v0.33.0
// pkg/cluster/internal/loadbalancer/config.go (interval, timeout, thresholds 2 and
// 1, /healthz). A connection that is open stays. It is kinder than kind's in two
// ways: who refuses a connection is passed over, and if nobody is well all are
// tried.
const (
	balanceEvery  = 2 * time.Second
	balanceCheck  = 3 * time.Second
	balanceMisses = 2
	balanceDial   = time.Second
)

type backend struct {
	address string
	ready   atomic.Bool
}

type balancer struct {
	backends []*backend
	next     atomic.Uint32
	log      *log.Logger
}

// balance serves until ctx ends; it returns when it listens.
func balance(ctx context.Context, port int, to []string, ca []byte, l *log.Logger) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return errors.Join(errors.New("the balancer was given no certificate authority"), listener.Close())
	}
	b := &balancer{log: l}
	for _, a := range to {
		one := &backend{address: a}
		b.backends = append(b.backends, one)
		go b.watch(ctx, one, pool)
	}
	context.AfterFunc(ctx, func() { shut(listener) })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				if ctx.Err() == nil {
					l.Printf("balancer: %v", err)
				}
				return
			}
			go b.serve(ctx, c)
		}
	}()
	return nil
}

// watch asks one API server whether it is well.
func (b *balancer) watch(ctx context.Context, one *backend, ca *x509.CertPool) {
	client := http.Client{Timeout: balanceCheck, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: ca, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
	}}
	every, misses := awaitEvery, 0 // until it is well for the first time
	for ctx.Err() == nil {
		err := askReady(ctx, &client, "https://"+one.address+"/healthz")
		was := one.ready.Load()
		if err == nil {
			every, misses = balanceEvery, 0
			one.ready.Store(true)
		} else if misses++; misses >= balanceMisses {
			one.ready.Store(false)
		}
		if now := one.ready.Load(); now != was {
			b.log.Printf("balancer: %s is well: %t %v", one.address, now, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(every):
		}
	}
}

func askReady(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return errors.Join(err, resp.Body.Close())
}

// serve joins a client with the first of them that takes the connection.
func (b *balancer) serve(ctx context.Context, client net.Conn) {
	defer client.Close()
	for _, one := range b.turn() {
		d := net.Dialer{Timeout: balanceDial}
		server, err := d.DialContext(ctx, "tcp", one.address)
		if err != nil {
			continue
		}
		join(client.(*net.TCPConn), server.(*net.TCPConn))
		return
	}
}

// turn are those to be tried, in order.
func (b *balancer) turn() []*backend {
	first := int(b.next.Add(1))
	var all, well []*backend
	for i := range b.backends {
		one := b.backends[(first+i)%len(b.backends)]
		all = append(all, one)
		if one.ready.Load() {
			well = append(well, one)
		}
	}
	if len(well) == 0 {
		return all
	}
	return well
}

// join copies both ways until both ends are done, or one breaks.
func join(a, b *net.TCPConn) {
	var both sync.WaitGroup
	pass := func(to, from *net.TCPConn) {
		if _, err := io.Copy(to, from); err != nil {
			shut(a)
			shut(b)
			return
		}
		if err := to.CloseWrite(); err != nil { // it is gone already
			shut(to)
		}
	}
	both.Go(func() { pass(a, b) })
	both.Go(func() { pass(b, a) })
	both.Wait()
	shut(b)
}

// shut closes what nobody reads or writes any more: an error of it is no news.
func shut(c io.Closer) { c.Close() }
