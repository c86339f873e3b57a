package faults

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"gameday/clusters"
)

// askTime bounds one question to an API server or an etcd member. Both answer in
// milliseconds; what does not in this time does not serve.
const askTime = time.Second

// readyz asks the API server on a node whether it serves: itself, not through the
// load balancer, and on a new connection. The error says why it does not.
func readyz(ctx context.Context, c clusters.Cluster, n clusters.Node) error {
	return readyzWithin(ctx, c, n, askTime)
}

// readyzWithin is readyz with another bound.
func readyzWithin(ctx context.Context, c clusters.Cluster, n clusters.Node, bound time.Duration) error {
	for _, e := range c.Endpoints() {
		if e.Node != nil && e.Node.Name() == n.Name() {
			ctx, cancel := context.WithTimeout(ctx, bound)
			defer cancel()
			return askReadyz(ctx, e.Config)
		}
	}
	return fmt.Errorf("no endpoint leads to the API server on %s", n.Name())
}

func readyzAt(ctx context.Context, cfg *rest.Config) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return askReadyz(ctx, cfg)
}

func askReadyz(ctx context.Context, cfg *rest.Config) error {
	tls, err := rest.TLSConfigFor(cfg)
	if err != nil {
		return fmt.Errorf("credentials for %s: %w", cfg.Host, err)
	}
	var d net.Dialer
	t := &http.Transport{TLSClientConfig: tls, DialContext: d.DialContext, DisableKeepAlives: true}
	defer t.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, cfg.Host+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if cerr := resp.Body.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz: %s: %s", resp.Status, failedChecks(string(body)))
	}
	return nil
}

// failedChecks are the lines of /readyz that name what fails: [-]etcd failed.
func failedChecks(body string) string {
	var out []string
	for line := range strings.Lines(body) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "[-]"); ok {
			out = append(out, name)
		}
	}
	return strings.Join(out, ", ")
}
