package faults

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func TestMeet(t *testing.T) {
	forbidding := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	t.Cleanup(forbidding.Close)
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	silent, closing, gone := listen(), listen(), listen()
	gone.Close()
	go func() {
		for {
			c, err := closing.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	for _, tc := range []struct {
		name string
		dial dialer
		url  string
		want met
		text string
	}{
		{"an answer, whatever it is", fromHere, forbidding.URL, speaks, "401"},
		{"nobody listens", fromHere, "https://" + gone.Addr().String(), refusing, "refused"},
		{"a paused process", fromHere, "https://" + silent.Addr().String(), mute, ""},
		{"one that ends connections", fromHere, "http://" + closing.Addr().String(), cutOff, ""},
		{"no machine", func(context.Context, string, string) (net.Conn, error) { return nil, syscall.EHOSTUNREACH }, "http://10.0.0.1", absent, "no route"},
		{"nobody answers at all", func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }, "http://10.0.0.1", absent, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			got, text, err := meet(t.Context(), tc.dial, tc.url)
			if err != nil || got != tc.want || !strings.Contains(text, tc.text) || got.String() == "" {
				t.Errorf("got %v %q, %v; want %v", got, text, err, tc.want)
			}
			if d := time.Since(began); d > 10*askTime {
				t.Errorf("it took %s", d)
			}
		})
	}
	t.Run("the question was called off", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
		if _, _, err := meet(ctx, fromHere, "https://"+silent.Addr().String()); !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
	})
}

func TestMeetGRPC(t *testing.T) {
	dir := t.TempDir()
	serve := func(name string) net.Listener {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, health.NewServer())
	go s.Serve(serve("well"))
	defer s.Stop()
	plain := grpc.NewServer()
	go plain.Serve(serve("plain"))
	defer plain.Stop()
	defer serve("mute").Close()
	left := serve("left")
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	left.Close()
	for name, want := range map[string]met{"well": speaks, "plain": speaks, "mute": mute, "left": refusing, "none": refusing} {
		got, text, err := meetGRPC(t.Context(), filepath.Join(dir, name))
		if err != nil || got != want {
			t.Errorf("%s: got %v %q, %v; want %v", name, got, text, err, want)
		}
	}
}
