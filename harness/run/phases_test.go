package run

import (
	"testing"

	"gameday/clusters/upgrade"
)

func TestPhases(t *testing.T) {
	p := newPhases()
	early := p.gate("upgrade/worker[0]/kubelet", upgrade.Ended)
	other := p.gate("upgrade/worker[1]/kubelet", upgrade.Ended)
	began := p.gate("upgrade/worker[0]", upgrade.Began)
	p.publish("upgrade/worker[0]", upgrade.Began)
	p.publish("upgrade/worker[0]", upgrade.Began) // run again after a block
	if !closed(began) || closed(early) {
		t.Fatal("only the beginning was published")
	}
	p.publish("upgrade/worker[0]", upgrade.Ended)
	if !closed(early) {
		t.Error("the end of a step must end its parts: a fault bound to one would be held on")
	}
	if !closed(p.gate("upgrade/worker[0]/drain", upgrade.Ended)) {
		t.Error("a part that is asked for later has ended too")
	}
	if closed(other) || closed(p.gate("upgrade/worker[1]", upgrade.Began)) {
		t.Error("another step was touched")
	}
	if closed(p.gate("upgrade/worker[0]/drain", upgrade.Began)) {
		t.Error("an end is not a beginning")
	}
}
