package nodeimage

import (
	"os"
	"runtime/debug"
	"strings"
	"testing"
)

func TestVerifyDeps(t *testing.T) {
	kube := func(v string) *debug.Module { return &debug.Module{Path: "k8s.io/kubernetes", Version: v} }
	staging := func(v string) *debug.Module {
		return &debug.Module{Path: "k8s.io/api", Version: "v0.0.0", Replace: &debug.Module{Path: "k8s.io/api", Version: v}}
	}
	in := func(m *debug.Module, dir string) *debug.Module {
		c := *m
		c.Replace = &debug.Module{Path: dir}
		return &c
	}
	for _, tc := range []struct {
		name    string
		deps    []*debug.Module
		replace map[string]string
		want    string // in the error; empty for none
	}{
		{"right", []*debug.Module{kube("v1.36.1"), staging("v0.36.1")}, nil, ""},
		{"another version", []*debug.Module{kube("v1.37.0")}, nil, "v1.37.0"},
		{"not in it", []*debug.Module{staging("v0.36.1")}, nil, "no package"},
		{"another staging version", []*debug.Module{kube("v1.36.1"), staging("v0.37.0")}, nil, "v0.37.0"},
		{"staging not replaced", []*debug.Module{kube("v1.36.1"), {Path: "k8s.io/api", Version: "v0.0.0"}}, nil, "placeholder"},
		{"a directory nobody asked for", []*debug.Module{in(kube("v1.36.1"), "/src")}, nil, "/src"},
		{"a fork", []*debug.Module{{Path: "k8s.io/kubernetes", Version: "v1.36.1", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.36.1"}}}, nil, "fork"},
		{"replaced", []*debug.Module{in(kube("v1.36.1"), "/src")}, map[string]string{"k8s.io/kubernetes": "/src"}, ""},
		{"not replaced", []*debug.Module{kube("v1.36.1")}, map[string]string{"k8s.io/kubernetes": "/src"}, "/src"},
		{"replaced by another", []*debug.Module{in(kube("v1.36.1"), "/other")}, map[string]string{"k8s.io/kubernetes": "/src"}, "/src"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := verifyDeps(tc.deps, "k8s.io/kubernetes", "v1.36.1", tc.replace)
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("err = %v, want it to name %q", err, tc.want)
			}
		})
	}
}

func TestVerifyReadsTheBinary(t *testing.T) {
	// A Go binary, and not Kubernetes.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(self, "k8s.io/kubernetes", "v1.36.1", nil); err == nil || !strings.Contains(err.Error(), "no package") {
		t.Errorf("a test binary as Kubernetes gives %v", err)
	}
	if err := Verify("verify_test.go", "k8s.io/kubernetes", "v1.36.1", nil); err == nil {
		t.Error("a text file passes as Kubernetes")
	}
}

func TestVerifyReplacedMissesWhatIsInNoBinary(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	err = verifyReplaced([]string{self}, map[string]string{"k8s.io/sample-controller": "/src"})
	if err == nil || !strings.Contains(err.Error(), "k8s.io/sample-controller") {
		t.Errorf("err = %v", err)
	}
}
