package process

import (
	"errors"
	"os"
	"os/exec"
	"testing"
)

func TestInCgroup(t *testing.T) {
	self, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for word, want := range map[string]bool{"/": true, "no-such-group": false, "": false} {
		if in, err := InCgroup(self, []string{word}); err != nil || in != want {
			t.Errorf("%q: got %v, %v", word, in, err)
		}
	}
	c := exec.Command("/proc/self/exe", "-test.run=^$")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ref, err := Of(c.Process.Pid)
	if err := errors.Join(err, c.Wait()); err != nil {
		t.Fatal(err)
	}
	if _, err := InCgroup(ref, []string{"/"}); !errors.Is(err, ErrGone) {
		t.Errorf("one that has ended: got %v", err)
	}
}
