package faults

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"gameday/clusters"
)

// met is how a server meets a client.
type met int

const (
	// speaks: it answers, whatever it says.
	speaks met = iota + 1
	// refusing: nobody listens, and the kernel says so.
	refusing
	// mute: the kernel takes the connection, and nobody says anything.
	mute
	// cutOff: the connection is taken, and ended without an answer.
	cutOff
	// absent: there is not even a kernel that answers.
	absent
)

func (m met) String() string {
	return map[met]string{speaks: "answers", refusing: "refuses connections", mute: "takes connections and says nothing",
		cutOff: "takes connections and ends them", absent: "is not there"}[m]
}

// dialer opens a connection.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// meet asks a server one question by HTTP, on a new connection. Whose certificate it
// has does not matter: that it is alive is asked, not who it is. The error says that
// ctx ended, so that nothing is known.
func meet(ctx context.Context, dial dialer, url string) (met, string, error) {
	within, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var connected atomic.Bool
	t := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dial(ctx, network, address)
			connected.Store(err == nil)
			return c, err
		},
	}
	defer t.CloseIdleConnections()
	req, err := http.NewRequestWithContext(within, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := t.RoundTrip(req)
	if err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
		if cerr := resp.Body.Close(); err == nil {
			err = cerr
		}
		if err == nil {
			return speaks, resp.Status, nil
		}
	}
	if ctx.Err() != nil {
		return 0, "", context.Cause(ctx)
	}
	return judge(err, connected.Load(), within.Err() != nil), err.Error(), nil
}

// judge tells from an error how a server met us.
func judge(err error, connected, timeout bool) met {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return refusing
	case !connected:
		return absent
	case timeout:
		return mute
	}
	return cutOff
}

// fromHere dials as a process of this machine.
func fromHere(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// fromInside dials as a process of the node does, which reaches its 127.0.0.1.
func fromInside(n clusters.Node) dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return clusters.DialInside(ctx, n, network, address)
	}
}

// listenInside listens on the node's own address, as a process of it does.
func listenInside(ctx context.Context, n clusters.Node) (net.Listener, error) {
	return clusters.Inside(ctx, n, func() (net.Listener, error) {
		return new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(n.IP().String(), "0"))
	})
}

// initPID is the first process of a node, on this machine.
func initPID(ctx context.Context, n clusters.Node) (int, error) {
	p, ok := n.(clusters.Processes)
	if !ok {
		return 0, fmt.Errorf("%s does not show its processes (capability %s)", n.Name(), clusters.CapProcesses)
	}
	return p.InitPID(ctx)
}

// at is a URL on the node's own address.
func at(scheme string, n clusters.Node, port, path string) string {
	return scheme + "://" + net.JoinHostPort(n.IP().String(), port) + path
}

// containerdSocket is where kind's nodes, and the packages of containerd, have it:
// github.com/containerd/containerd/v2 defaults/defaults_unix.go.
const containerdSocket = "/run/containerd/containerd.sock"

// meetContainerd asks containerd for its health, through its socket.
func meetContainerd(ctx context.Context, n clusters.Node) (met, string, error) {
	pid, err := initPID(ctx, n)
	if err != nil {
		return 0, "", err
	}
	return meetGRPC(ctx, fmt.Sprintf("/proc/%d/root%s", pid, containerdSocket))
}

// meetGRPC asks a gRPC server on a unix socket for its health.
func meetGRPC(ctx context.Context, socket string) (met, string, error) {
	within, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	conn, err := fromHere(within, "unix", socket)
	if err != nil {
		if ctx.Err() != nil {
			return 0, "", context.Cause(ctx)
		}
		if errors.Is(err, os.ErrNotExist) { // removed when it ended
			return refusing, err.Error(), nil
		}
		if errors.Is(err, syscall.EAGAIN) || within.Err() != nil { // its queue of connections is full
			return mute, err.Error(), nil
		}
		return judge(err, false, false), err.Error(), nil
	}
	// The one connection that was made goes to the library; it closes it.
	made := make(chan net.Conn, 1)
	made <- conn
	cli, err := grpc.NewClient("passthrough:///unix", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			select {
			case c := <-made:
				return c, nil
			default:
				return fromHere(ctx, "unix", socket)
			}
		}))
	if err != nil {
		return 0, "", errors.Join(err, conn.Close())
	}
	_, err = healthpb.NewHealthClient(cli).Check(within, &healthpb.HealthCheckRequest{})
	if cerr := cli.Close(); cerr != nil {
		return 0, "", cerr
	}
	if ctx.Err() != nil {
		return 0, "", context.Cause(ctx)
	}
	switch status.Code(err) {
	case codes.OK, codes.NotFound, codes.Unimplemented:
		return speaks, "health check answered", nil
	case codes.DeadlineExceeded:
		return mute, err.Error(), nil
	}
	return cutOff, err.Error(), nil
}
