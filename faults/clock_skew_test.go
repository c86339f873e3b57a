package faults

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestClockSkewParameters(t *testing.T) {
	for _, tc := range []struct {
		f   ClockSkew
		bad string
	}{
		{ClockSkew{"etcd", time.Hour}, ""},
		{ClockSkew{"kubelet", -30 * time.Second}, ""},
		{ClockSkew{"nobody", time.Hour}, "component"},
		{ClockSkew{"etcd", 0}, "offset"},
		{ClockSkew{"etcd", time.Second}, "offset"},
		{ClockSkew{"etcd", 100 * 365 * 24 * time.Hour}, "offset"},
	} {
		errs := tc.f.Validate()
		if (len(errs) > 0) != (tc.bad != "") || tc.bad != "" && !strings.HasPrefix(errs[0].Error(), tc.bad) {
			t.Errorf("%+v: %v", tc.f, errs)
		}
	}
}

// TestClockOf reads clocks that are off by less than the second that a date has.
func TestClockOf(t *testing.T) {
	var off atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(time.Duration(off.Load())).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer s.Close()
	for _, d := range []time.Duration{0, 300 * time.Millisecond, -90*time.Minute - 250*time.Millisecond, 24 * time.Hour} {
		off.Store(int64(d))
		got, err := clockOf(t.Context(), http.DefaultTransport, s.URL)
		if err != nil || (got-d).Abs() > 150*time.Millisecond {
			t.Errorf("%s: got %s, %v", d, got, err)
		}
	}
}
