package nodeimage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Bounds of a pull. A registry that is not there answers at once or never.
const (
	// pullFirst is how long the registry may take to its first sign of life.
	pullFirst = 15 * time.Second
	// pullIdle is how long it may go without a byte of progress after that.
	pullIdle = 45 * time.Second
	// pullTotal bounds the whole, however slowly it trickles: a node image is
	// about 400 MB.
	pullTotal = 20 * time.Minute
)

// errNotPulled is wrapped by every failure of a pull except the caller's own
// cancellation: the image can still be built.
var errNotPulled = errors.New("not pulled")

// pull asks Docker to pull ref. It uses the engine's API and not the docker
// command because only the API shows progress inside a layer, and a node image
// is a single one.
func pull(ctx context.Context, ref string) error {
	client, base, err := engine(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", ref, errNotPulled, err)
	}
	defer client.CloseIdleConnections()
	return pullFrom(ctx, client, base, ref, pullFirst, pullIdle, pullTotal)
}

// pullFrom is pull with an engine and bounds.
func pullFrom(ctx context.Context, client *http.Client, base, ref string, first, idle, total time.Duration) error {
	pctx, cancel := context.WithTimeoutCause(ctx, total, fmt.Errorf("it took longer than %s", total))
	defer cancel()
	pctx, stop := context.WithCancelCause(pctx)
	defer stop(nil)
	watchdog := time.AfterFunc(first, func() {
		stop(fmt.Errorf("the registry did not answer within %s, or stopped for %s", first, idle))
	})
	defer watchdog.Stop()

	err := pullProgress(pctx, client, base, ref, func() { watchdog.Reset(idle) })
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if pctx.Err() != nil {
		err = context.Cause(pctx)
	}
	return fmt.Errorf("%s: %w: %w", ref, errNotPulled, err)
}

// pullProgress does the request and calls alive at each message that shows the
// registry at work.
func pullProgress(ctx context.Context, client *http.Client, base, ref string, alive func()) error {
	i := strings.LastIndexByte(ref, ':')
	q := url.Values{"fromImage": {ref[:i]}, "tag": {ref[i+1:]}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/images/create?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var m struct{ Message string }
		if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&m); err != nil || m.Message == "" {
			return fmt.Errorf("docker answered %s", resp.Status)
		}
		return errors.New(m.Message)
	}
	dec := json.NewDecoder(resp.Body)
	for {
		var m struct{ Error string }
		switch err := dec.Decode(&m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case m.Error != "":
			return errors.New(m.Error)
		}
		alive()
	}
}

// engine finds the API of the Docker engine that the docker command talks to.
func engine(ctx context.Context) (*http.Client, string, error) {
	out, err := docker(ctx, nil, "context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
	if err != nil {
		return nil, "", fmt.Errorf("finding the Docker engine: %w", err)
	}
	host := strings.TrimSpace(string(out))
	path, ok := strings.CutPrefix(host, "unix://")
	if !ok {
		return nil, "", fmt.Errorf("the Docker engine is at %s, not at a local socket: pull the image by hand", host)
	}
	var d net.Dialer
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "unix", path)
	}}
	return &http.Client{Transport: t}, "http://docker", nil
}
