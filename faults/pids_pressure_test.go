package faults

import (
	"errors"
	"testing"
)

func TestResourceParameters(t *testing.T) {
	for _, tc := range []struct {
		f  Validator
		ok bool
	}{
		{&CPUSteal{Share: 0.5}, true}, {&CPUSteal{Share: 0}, false}, {&CPUSteal{Share: 1}, false}, {&CPUSteal{Share: 50}, false},
		{&MemoryPressure{Left: 64}, true}, {&MemoryPressure{Left: 0}, false}, {&MemoryPressure{Left: -5}, false},
		{&PIDsPressure{Left: 0}, true}, {&PIDsPressure{Left: -1}, false}, {&PIDsPressure{Left: 1_000_000}, false},
	} {
		if errs := tc.f.Validate(); (len(errs) == 0) != tc.ok {
			t.Errorf("%+v: %v", tc.f, errs)
		}
	}
}

func TestCountedProcesses(t *testing.T) {
	for out, want := range map[string]struct {
		got int
		all bool
	}{
		"":                        {0, false},
		"1\n2\n3\ndone\n":         {3, true},
		"1\n2\n":                  {2, false},
		"1\n2\n3":                 {3, false},
		"1\nsh: 0: Cannot fork\n": {1, false},
	} {
		if got, all := counted(out); got != want.got || all != want.all {
			t.Errorf("%q: got %d, %v", out, got, all)
		}
	}
	for text, want := range map[string]bool{
		"sh: 0: Cannot fork": true,
		"OCI runtime exec failed: exec failed: unable to start container process: read init-p: ... pthread_create failed: Resource temporarily unavailable": true,
		"runtime: failed to create new OS thread (have 5 already; errno=11)":                                                                                true,
		"No such container": false,
	} {
		if lacksProcesses(errors.New(text)) != want {
			t.Errorf("%q", text)
		}
	}
}

func TestSettled(t *testing.T) {
	seen := []int64{300, 250, 180, 181, 179, 185, 183, 184, 190, 200}
	i := 0
	got, err := settled(t.Context(), func() (int64, error) { i++; return seen[i-1], nil })
	if err != nil || got != 179 || i != len(seen) {
		t.Errorf("got %d after %d looks, %v", got, i, err)
	}
}
