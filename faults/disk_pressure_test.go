package faults

import (
	"errors"
	"testing"
)

func TestKubeletsThatDoNotLook(t *testing.T) {
	n := &fakeNode{w: &world{t: t, left: -1}, dir: t.TempDir()}
	for config, looks := range map[string]bool{
		"kind: KubeletConfiguration\n":                true,
		"evictionHard:\n  nodefs.available: 0%\n":     false,
		"evictionHard:\n  nodefs.available: \"0\"\n":  false,
		"evictionHard:\n  nodefs.available: 10%\n":    true,
		"evictionHard:\n  nodefs.inodesFree: 0%\n":    true,
		"evictionHard:\n  nodefs.available: 1Gi\n":    true,
		"evictionHard:\n  nodefs.available: 0.000%\n": false,
	} {
		n.put(kubeletConfig, config)
		err := watches(t.Context(), n, "nodefs.available")
		if looks && err != nil || !looks && !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%q: got %v", config, err)
		}
	}
}

func TestPressureParameters(t *testing.T) {
	for _, tc := range []struct {
		f  Validator
		ok bool
	}{
		{&DiskPressure{Left: 5}, true}, {&DiskPressure{Left: 10}, false}, {&DiskPressure{Left: -1}, false},
		{&InodesPressure{Left: 2}, true}, {&InodesPressure{Left: 5}, false},
	} {
		if errs := tc.f.Validate(); (len(errs) == 0) != tc.ok {
			t.Errorf("%+v: %v", tc.f, errs)
		}
	}
}
