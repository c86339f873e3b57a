package faults

import (
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"gameday/faults/mechanism/intake"
	"gameday/faults/mechanism/reach"
)

func TestParametersOfTheNetwork(t *testing.T) {
	for _, tc := range []struct {
		kind Kind
		with string
		errs int
	}{
		{networkDelay, "{delay: 1ms}", 1}, {networkDelay, "{delay: 50ms, jitter: 60ms}", 1}, {networkDelay, "{from: workers, delay: 5ms}", 0},
		{networkDelay, "{from: us}", 1},
		{networkLoss, "{percent: 0}", 1}, {networkLoss, "{percent: 100}", 1}, {networkLoss, "{percent: .nan}", 1}, {networkLoss, "{percent: 1}", 0},
		{networkReorder, "{percent: 80}", 1}, {networkReorder, "{delay: 1ms}", 1}, {networkReorder, "{percent: 50}", 0},
		{networkFlap, "{down: 1ms, up: 1h}", 2}, {networkFlap, "{down: 2s, up: 2s}", 0},
		{dnsSlow, "{delay: 1ms}", 1}, {dnsSlow, "{delay: 2s}", 0},
	} {
		f := tc.kind.New()
		if err := yaml.Unmarshal([]byte(tc.with), f); err != nil {
			t.Errorf("%s %s: %v", tc.kind.Name, tc.with, err)
			continue
		}
		if got := f.(Validator).Validate(); len(got) != tc.errs {
			t.Errorf("%s %s: got %v, want %d problems", tc.kind.Name, tc.with, got, tc.errs)
		}
	}
}

func TestRulesAreAboutThePeersOnly(t *testing.T) {
	c := testLinks()
	env := Env{Cluster: c, Targets: c.nodes[3:4]}
	rules, err := Peers{"nodes"}.sent(t.Context(), env, intake.Rule{Lose: 1})
	if err != nil || len(rules) != 1 {
		t.Fatal(rules, err)
	}
	var got string
	for _, m := range rules[0].From {
		got += string('0' + m[5])
	}
	if got != "1235" { // not the target, 4, and not the load balancer, 6
		t.Errorf("peers %s", got)
	}
	if _, err := (Peers{"worker[0]"}).sent(t.Context(), env, intake.Rule{}); err == nil {
		t.Error("a target was taken for its own peer")
	}
}

func TestWayToTheWorstPeer(t *testing.T) {
	rtts := func(d time.Duration) reach.Series {
		return reach.Series{Sent: 2, Answered: 1, Overtaken: 1, RTTs: []time.Duration{d}}
	}
	w := way{peers: []reach.Series{rtts(50 * time.Millisecond), rtts(44 * time.Millisecond), rtts(53 * time.Millisecond)}}
	if got := w.median(50 * time.Millisecond); got != 44*time.Millisecond {
		t.Errorf("got %v", got)
	}
	if sent, answered, overtaken := w.sum(); sent != 6 || answered != 3 || overtaken != 3 {
		t.Errorf("got %d, %d, %d", sent, answered, overtaken)
	}
}
