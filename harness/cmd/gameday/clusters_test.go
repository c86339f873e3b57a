package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gameday/clusters"
)

func TestNamed(t *testing.T) {
	a, b := clusters.Found{Name: "a"}, clusters.Found{Name: "b"}
	got, err := named([]clusters.Found{a, b}, []string{"b", "b"})
	if d := cmp.Diff([]clusters.Found{b}, got); d != "" || err != nil {
		t.Errorf("%v, (-want +got):\n%s", err, d)
	}
	// Every name that is wrong is told.
	_, err = named([]clusters.Found{a, b}, []string{"a", "x", "y"})
	if err == nil || !strings.Contains(err.Error(), "no cluster x ") || !strings.Contains(err.Error(), "no cluster y ") {
		t.Errorf("%v", err)
	}
}
