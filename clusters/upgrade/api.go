package upgrade

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"gameday/clusters"
)

const (
	// callBound is how long one request to the API may take.
	callBound = 5 * time.Second
	// apiBound is how long a run waits for any endpoint to answer: longer than
	// the restart of an API server, which takes some 10 s.
	apiBound = time.Minute
	// callEvery is the pause between two rounds through all endpoints.
	callEvery = 500 * time.Millisecond
)

// api is a client of the API by whichever endpoint answers: during an upgrade
// under fire any of them may be down, the load balancer included.
type api struct {
	names   []string
	clients []kubernetes.Interface

	mu sync.Mutex
	at int // the endpoint that answered last
}

func openAPI(c clusters.Cluster) (*api, error) {
	a := &api{}
	for _, e := range c.Endpoints() {
		cfg := rest.CopyConfig(e.Config)
		cfg.QPS = -1 // this client counts its requests itself
		cfg.Timeout = callBound
		h, err := client(cfg, false)
		if err != nil {
			return nil, fmt.Errorf("client of endpoint %s: %w", e.Name, err)
		}
		k, err := kubernetes.NewForConfigAndClient(cfg, h)
		if err != nil {
			return nil, fmt.Errorf("client of endpoint %s: %w", e.Name, err)
		}
		a.names, a.clients = append(a.names, e.Name), append(a.clients, k)
	}
	if len(a.clients) == 0 {
		return nil, fmt.Errorf("cluster %s has no endpoint of its API", c.Name())
	}
	return a, nil
}

// client is an HTTP/1.1 client with connections of its own: client-go's would
// be shared, multiplexed over one connection, and held on to for 45 s after the
// other side was cut off. With fresh, each request has a new one.
func client(cfg *rest.Config, fresh bool) (*http.Client, error) {
	t, err := rest.TLSConfigFor(cfg)
	if err != nil {
		return nil, err
	}
	dial := cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: probeBound}).DialContext
	}
	tr := &http.Transport{
		TLSClientConfig:     t,
		TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{}, // no HTTP/2
		DialContext:         dial,
		TLSHandshakeTimeout: probeBound,
		DisableKeepAlives:   fresh,
		IdleConnTimeout:     10 * time.Second,
	}
	rt, err := rest.HTTPWrappersForConfig(cfg, tr)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: rt, Timeout: cfg.Timeout}, nil
}

// once asks each endpoint in turn, beginning with the one that answered last,
// until one answers. One that hangs until ctx ends is not the first to be asked
// the next time. An answer that is an error about the object (not found,
// forbidden, conflict, too many requests) is an answer.
func (a *api) once(ctx context.Context, do func(context.Context, kubernetes.Interface) error) error {
	a.mu.Lock()
	start := a.at
	a.mu.Unlock()
	var errs []error
	for i := range a.clients {
		n := (start + i) % len(a.clients)
		cctx, cancel := context.WithTimeout(ctx, callBound)
		err := do(cctx, a.clients[n])
		cancel()
		a.mu.Lock()
		if err == nil || answered(err) {
			a.at = n
			a.mu.Unlock()
			return err
		}
		a.at = (n + 1) % len(a.clients)
		a.mu.Unlock()
		errs = append(errs, fmt.Errorf("%s: %w", a.names[n], err))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// until repeats once until an endpoint answers, for apiBound at most.
func (a *api) until(ctx context.Context, what string, do func(context.Context, kubernetes.Interface) error) error {
	var last error
	err := poll(ctx, apiBound, callEvery, func(ctx context.Context) bool {
		err := a.once(ctx, do)
		if ctx.Err() == nil || last == nil {
			last = err // what fails because the wait is over says nothing
		}
		return err == nil || answered(err)
	})
	if err != nil {
		return fmt.Errorf("%s: no endpoint of the API answered within %s: %w", what, apiBound, errors.Join(err, last))
	}
	if last != nil {
		return fmt.Errorf("%s: %w", what, last)
	}
	return nil
}

// answered tells an answer from a failure. Forbidden is none: an API server that
// has just started says so until it has read its roles.
func answered(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.IsConflict(err) ||
		apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsTooManyRequests(err)
}

func (a *api) node(ctx context.Context, name string) (*corev1.Node, error) {
	var n *corev1.Node
	err := a.once(ctx, func(ctx context.Context, c kubernetes.Interface) (err error) {
		n, err = c.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		return err
	})
	return n, err
}

func ready(n *corev1.Node) string {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return string(c.Status)
		}
	}
	return string(corev1.ConditionUnknown)
}

// errBound is the cause of a wait that waited in vain.
var errBound = errors.New("the wait is over")

// poll calls ok now and then until it is true. It returns why it gave up: the
// end of ctx, or errBound.
func poll(ctx context.Context, bound, every time.Duration, ok func(context.Context) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bound, errBound)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if ok(ctx) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
