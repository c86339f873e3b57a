package sample

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
)

// How a sample comes by its connection.
const (
	// connReused: HTTP/2 on a pooled connection, as controllers and kubelets
	// use the API. A dead connection is found as said at deadAfter.
	connReused = "reused"
	// connNew: a new TCP connection and a full TLS handshake each time, over
	// HTTP/1.1, as kubectl uses it.
	connNew = "new"
)

// deadAfter: a pooled connection on which nothing came for so long is asked for
// a sign of life, and closed if none comes for as long again. client-go waits
// 30 s and 15 s (k8s.io/apimachinery@v0.37.0 pkg/util/net/http.go,
// configureHTTP2Transport); waiting that long here would stretch an outage of
// a second over many: after a break TCP sends again ever more seldom.
const deadAfter = time.Second

// transport makes a client of one endpoint: net/http with the endpoint's own
// TLS and credentials, without client-go's rate limit and retries. Each series
// has one of its own, so that none waits behind another's requests.
func transport(cfg *rest.Config, conn string) (http.RoundTripper, error) {
	t, err := rest.TLSConfigFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("TLS configuration of %s: %w", cfg.Host, err)
	}
	tr := &http.Transport{TLSClientConfig: t, Proxy: cfg.Proxy, DialContext: cfg.Dial}
	if tr.DialContext == nil {
		tr.DialContext = (&net.Dialer{}).DialContext
	}
	switch conn {
	case connReused:
		tr.ForceAttemptHTTP2 = true
		tr.HTTP2 = &http.HTTP2Config{SendPingTimeout: deadAfter, PingTimeout: deadAfter}
		tr.IdleConnTimeout = time.Minute
	case connNew:
		tr.DisableKeepAlives = true
		tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{} // no HTTP/2
		if t != nil {
			t.NextProtos = []string{"http/1.1"}
			t.ClientSessionCache = nil
		}
	}
	rt, err := rest.HTTPWrappersForConfig(cfg, tr)
	if err != nil {
		return nil, fmt.Errorf("credentials for %s: %w", cfg.Host, err)
	}
	return roundTripper{rt, tr}, nil
}

// roundTripper keeps the transport below the credentials, to close it.
type roundTripper struct {
	http.RoundTripper
	base *http.Transport
}

func (r roundTripper) CloseIdleConnections() { r.base.CloseIdleConnections() }
