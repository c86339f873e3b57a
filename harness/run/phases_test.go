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

// A step that was blocked is run again: a fault that opens in its second attempt
// is held until the end of that one.
func TestPhasesAgain(t *testing.T) {
	const step, part = "upgrade/worker[1]", "upgrade/worker[1]/kubelet"
	p := newPhases()
	p.publish("upgrade/worker[0]", upgrade.Began)
	p.publish("upgrade/worker[0]", upgrade.Ended)
	p.publish(step, upgrade.Began)
	p.publish(step, upgrade.Ended) // blocked, before its part came
	first := p.gate(part, upgrade.Ended)
	p.publish(step, upgrade.Began)
	again := p.gate(part, upgrade.Ended)
	p.publish(part, upgrade.Began)
	if !closed(first) {
		t.Error("who waited for the end of the first attempt waits on")
	}
	if closed(again) || closed(p.gate(part, upgrade.Ended)) {
		t.Error("the part has begun anew, and counts as ended")
	}
	if !closed(p.gate(step, upgrade.Began)) || !closed(p.gate("upgrade/worker[0]", upgrade.Ended)) {
		t.Error("a beginning stays, and so do other steps")
	}
	p.publish(part, upgrade.Ended)
	if !closed(again) || closed(p.gate(step, upgrade.Ended)) {
		t.Error("the part ended, its step did not")
	}
}
