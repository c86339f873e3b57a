package faults

import (
	"errors"
	"testing"
	"time"

	"gameday/clusters"
)

// What a node cannot do is said by its name, and nothing is done.
func TestNodesThatCannot(t *testing.T) {
	w := &world{t: t}
	w.nodes = []*fakeNode{{w: w, i: 0}}
	env := Env{Cluster: w.cluster(), Targets: w.cluster().Nodes(), Tag: "run-x", MaxHold: time.Minute, Notes: &kept{}, Log: t.Logf}
	for _, f := range []Fault{&NodeFreeze{}, &NodePowerOff{}, &KubeletStop{}, &LoadBalancerKill{}, nodeHang.New(), kubeletKill.New(), controllerManagerCrashLoop.New()} {
		env.Notes = &kept{}
		if err := f.Heal(t.Context(), env); err != nil {
			t.Errorf("%T: healing what was never injected: %v", f, err)
		}
		if err := f.Inject(t.Context(), env); err == nil {
			t.Errorf("%T was injected", f)
		}
	}
}

func TestAtOnce(t *testing.T) {
	w := &world{t: t}
	w.nodes = []*fakeNode{{w: w, i: 0}, {w: w, i: 1}}
	there := make(chan string, 2)
	bad := errors.New("bad")
	err := atOnce(w.cluster().Nodes(), func(n clusters.Node) error {
		there <- n.Name()
		soon(t, 10*time.Second, "the other one is on the way too", func() bool { return len(there) == 2 })
		if n.Index() == 1 {
			return bad
		}
		return nil
	})
	if !errors.Is(err, bad) || err.Error() != "bad" {
		t.Errorf("got %v", err)
	}
}

func TestKillInTurn(t *testing.T) {
	f := &APIServerKillInTurn{Gap: -1}
	if f.Validate() == nil {
		t.Error("a gap below nothing")
	}
	f.Gap = time.Minute
	if errs := f.Validate(); errs != nil {
		t.Error(errs)
	}
	got := f.Describe([]string{"control-plane[0]", "control-plane[1]"})
	want := "control-plane[1]: pidfd_send_signal(kube-apiserver, SIGKILL), when control-plane[0] serves again, and no sooner than 1m0s after its kill"
	if len(got) != 2 || got[1] != want {
		t.Errorf("%q", got)
	}
}
