package nodeimage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestPull(t *testing.T) {
	const long = time.Minute
	for _, tc := range []struct {
		name               string
		first, idle, total time.Duration
		serve              func(w http.ResponseWriter, r *http.Request)
		want               string // in the error; empty for none
	}{
		{"good", long, long, long, func(w http.ResponseWriter, r *http.Request) {
			if got := r.URL.Query().Get("fromImage") + "|" + r.URL.Query().Get("tag"); got != "kindest/node|v1.36.1" {
				t.Errorf("asked for %s", got)
			}
			fmt.Fprintln(w, `{"status":"Pulling from kindest/node"}`)
			fmt.Fprintln(w, `{"status":"Status: Downloaded newer image"}`)
		}, ""},
		{"refused", long, long, long, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"message":"manifest unknown"}`)
		}, "manifest unknown"},
		{"fails on the way", long, long, long, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, `{"status":"Downloading"}`)
			fmt.Fprintln(w, `{"error":"unexpected EOF"}`)
		}, "unexpected EOF"},
		{"never answers", 20 * time.Millisecond, long, long, func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		}, "did not answer"},
		{"stops", long, 20 * time.Millisecond, long, func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, `{"status":"Downloading"}`)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "stopped"},
		{"trickles", long, long, 100 * time.Millisecond, func(w http.ResponseWriter, r *http.Request) {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-r.Context().Done():
					return
				case <-tick.C:
					fmt.Fprintln(w, `{"status":"Downloading"}`)
					w.(http.Flusher).Flush()
				}
			}
		}, "longer than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(tc.serve))
			defer srv.Close()
			err := pullFrom(t.Context(), srv.Client(), srv.URL, "kindest/node:v1.36.1", tc.first, tc.idle, tc.total)
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, errNotPulled) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("err = %v, want one that says %q and wraps errNotPulled", err, tc.want)
			}
		})
	}
}

// A cancelled run is not a registry that cannot be reached: nothing is built.
func TestPullCancelled(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := pullFrom(ctx, srv.Client(), srv.URL, "kindest/node:v1.36.1", time.Minute, time.Minute, time.Minute)
	if err == nil || errors.Is(err, errNotPulled) {
		t.Errorf("err = %v, want the context's own", err)
	}
}
