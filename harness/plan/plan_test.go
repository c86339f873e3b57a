package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gameday/clusters"
	"gameday/scenarios"
)

// head is a scenario but for its faults.
func head(controlPlanes, workers int, upgraded bool, more string) string {
	body := "run: 5m\n"
	if upgraded {
		body = "upgrade: {to: v1.37.0}\n"
	}
	return fmt.Sprintf("apiVersion: gameday/v1alpha1\nkind: Scenario\nname: s\ndescription: words\nslos: [kept]\n"+
		"cluster: {version: v1.36.1, controlPlanes: %d, workers: %d}\n%s%s", controlPlanes, workers, body, more)
}

func load(t *testing.T, text string, f Facts) *scenarios.Scenario {
	t.Helper()
	s, err := scenarios.Load([]byte(text), "s.yaml", f.Known)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return s
}

const cp, w = "control-plane", "worker"

// fault writes one fault of a scenario.
func fault(id, name, target, begin, end string) string {
	out := fmt.Sprintf("  - {id: %s, fault: %s, target: {%s}, begin: {%s}", id, name, target, begin)
	if end != "" {
		out += ", end: {" + end + "}"
	}
	return out + "}\n"
}

func node(role string, i int) string { return fmt.Sprintf(`nodes: ["%s[%d]"]`, role, i) }
func phase(role string, i int, p string) string {
	return fmt.Sprintf(`phase: "upgrade/%s[%d]%s"`, role, i, p)
}

func TestBudget(t *testing.T) {
	upgraded := head(3, 2, true, "")
	zoned := strings.Replace(head(3, 2, false, ""), "workers: 2}", "workers: 2, zones: [a, b]}", 1)
	for _, tc := range []struct {
		name, head, faults string
		want               []string // of the error; none: accepted
	}{
		{"after the etcd phase of another", upgraded,
			fault("a", "etcd.stop", node(cp, 0), phase(cp, 1, "/kube-apiserver"), "for: 30s"), nil},
		{"with the etcd phase of another", upgraded,
			fault("a", "etcd.stop", node(cp, 0), phase(cp, 1, "/etcd"), "for: 30s"),
			[]string{`s.yaml:9: faults.a: during upgrade/control-plane[1]/etcd 2 of 3 etcd members may be away at once, 1 may be: a on control-plane[0]; the upgrade itself on control-plane[1]`, "allow: [etcdQuorumLoss]"}},
		{"with the etcd phase of the same", upgraded,
			fault("a", "etcd.stop", node(cp, 1), phase(cp, 1, "/etcd"), "for: 30s"), nil},
		{"before it, even if it is to end in time", upgraded,
			fault("a", "etcd.stop", node(cp, 0), phase(cp, 1, "/preflight"), phase(cp, 1, "/preflight")),
			[]string{"during upgrade/control-plane[1]/etcd 2 of 3"}},
		{"into the next step", upgraded,
			fault("a", "etcd.stop", node(cp, 0), phase(cp, 1, "/kube-scheduler"), phase(cp, 2, "/preflight")),
			[]string{"during upgrade/control-plane[2]/etcd 2 of 3"}},
		{"the whole upgrade long", upgraded,
			fault("a", "etcd.stop", node(cp, 0), "phase: upgrade", "phase: upgrade"),
			[]string{"during upgrade/control-plane[1]/etcd 2 of 3", "during upgrade/control-plane[2]/etcd 2 of 3"}},
		{"some time into the upgrade", upgraded,
			fault("a", "etcd.stop", node(cp, 0), "phase: upgrade, after: 1m", "for: 30s"),
			[]string{"during upgrade/control-plane[1]/etcd 2 of 3"}},
		{"while it is prepared", upgraded,
			fault("a", "etcd.stop", node(cp, 0), "phase: upgrade", "for: 30s"), nil},
		{"allowed", upgraded + "allow: [etcdQuorumLoss]\n",
			fault("a", "etcd.stop", node(cp, 0), phase(cp, 1, "/etcd"), "for: 30s"), nil},
		{"the leader may be another one", upgraded,
			fault("a", "etcd.stop", "pick: leader", phase(cp, 1, "/etcd"), "for: 30s"),
			[]string{"a on the etcd leader; the upgrade itself"}},
		{"the leader after it", upgraded,
			fault("a", "etcd.stop", "pick: leader", phase(cp, 1, "/kube-apiserver"), "for: 30s"), nil},
		{"a node that is cut off takes its member along", upgraded,
			fault("a", "node.cut", node(cp, 2), phase(cp, 1, "/etcd"), "for: 30s"),
			[]string{"2 of 3 etcd members"}},
		{"what is rolled back restarts etcd again", strings.Replace(upgraded, "{to: v1.37.0}", `{to: v1.37.0, expect: [{phase: "upgrade/control-plane[1]", outcome: roll back, because: so}]}`, 1),
			fault("a", "etcd.stop", node(cp, 0), phase(cp, 1, "/kube-scheduler"), "for: 30s"),
			[]string{"during upgrade/control-plane[1]/kube-scheduler 2 of 3"}},
		{"two members in one step", upgraded,
			fault("a", "etcd.stop", node(cp, 0), phase(w, 0, "/drain"), "for: 30s") +
				fault("b", "etcd.stop", node(cp, 1), phase(w, 0, "/kubeadm"), "for: 30s"),
			[]string{"s.yaml:10: faults.b: during upgrade/worker[0]/kubeadm 2 of 3 etcd members", "a on control-plane[0]; b on control-plane[1]"}},
		{"two members, one after the other by phases", upgraded,
			fault("a", "etcd.stop", node(cp, 0), phase(w, 0, "/drain"), phase(w, 0, "/drain")) +
				fault("b", "etcd.stop", node(cp, 1), phase(w, 0, "/kubeadm"), "for: 30s"), nil},
		{"two members in two steps", upgraded,
			fault("a", "etcd.stop", node(cp, 0), phase(w, 0, ""), "for: 30s") +
				fault("b", "etcd.stop", node(cp, 1), phase(w, 1, ""), "for: 30s"), nil},
		{"one member twice", upgraded,
			fault("a", "etcd.stop", node(cp, 0), phase(w, 0, ""), "for: 30s") +
				fault("b", "etcd.stop", node(cp, 0), phase(w, 0, "/kubeadm"), "for: 30s"), nil},
		{"two nodes", upgraded,
			fault("a", "node.cut", node(w, 0), phase(cp, 0, ""), "for: 30s") +
				fault("b", "node.cut", node(w, 1), phase(cp, 0, "/etcd"), "for: 30s"),
			[]string{"during upgrade/control-plane[0]/etcd 2 of 5 nodes may be away at once, 1 may be", "raise maxUnavailable"}},
		{"two nodes allowed", upgraded + "maxUnavailable: 2\n",
			fault("a", "node.cut", node(w, 0), phase(cp, 0, ""), "for: 30s") +
				fault("b", "node.cut", node(w, 1), phase(cp, 0, "/etcd"), "for: 30s"), nil},
		{"none allowed", upgraded + "maxUnavailable: 0\n",
			fault("a", "node.cut", node(w, 0), phase(cp, 0, ""), "for: 30s"), []string{"1 of 5 nodes may be away at once, 0 may be"}},
		{"load balancer is no node", upgraded + "maxUnavailable: 0\n",
			fault("a", "node.cut", node("load-balancer", 0), phase(cp, 0, ""), "for: 30s"), []string{"exec on a load-balancer"}},
		{"all API servers", head(3, 0, false, ""), fault("a", "api.kill", "pick: all", "phase: run", ""),
			[]string{"during run 3 of 3 API servers may be away at once, 2 may be: a on control-plane[0], control-plane[1], control-plane[2]", "allow: [allAPIServersDown]"}},
		{"all API servers allowed", head(3, 0, false, "allow: [allAPIServersDown]\n"), fault("a", "api.kill", "pick: all", "phase: run", ""), nil},
		{"all API servers, one after the other", head(3, 0, false, ""), fault("a", "api.roll", "pick: all", "phase: run", ""), nil},
		{"one after the other, with one more", head(3, 0, false, ""),
			fault("a", "api.roll", "pick: all", "phase: run", "") + fault("b", "api.kill", `nodes: ["control-plane[0]", "control-plane[1]"]`, "phase: run", ""),
			[]string{"during run 3 of 3 API servers may be away at once"}},
		{"the load balancer takes all API servers away", head(3, 0, false, ""), fault("a", "lb.kill", "pick: one", "phase: run", "for: 3s"),
			[]string{"during run 3 of 3 API servers may be away at once, 2 may be: a on load-balancer[0]", "allow: [allAPIServersDown]"}},
		{"the load balancer allowed", head(3, 0, false, "allow: [allAPIServersDown]\n"), fault("a", "lb.kill", "pick: one", "phase: run", "for: 3s"), nil},
		{"a kubelet takes no member along", upgraded,
			fault("a", "kubelet.stop", node(cp, 2), phase(cp, 1, "/etcd"), "for: 30s"), nil},
		{"two kubelets", upgraded,
			fault("a", "kubelet.stop", node(cp, 2), phase(w, 0, ""), "for: 30s") +
				fault("b", "kubelet.stop", node(w, 1), phase(w, 0, ""), "for: 30s"),
			[]string{"2 of 5 nodes may be away at once, 1 may be"}},
		{"the last API server by the upgrade", upgraded,
			fault("a", "api.kill", `nodes: ["control-plane[0]", "control-plane[2]"]`, phase(cp, 1, "/preflight"), ""),
			[]string{"during upgrade/control-plane[1]/etcd 3 of 3 API servers"}},
		{"the only member", head(1, 0, false, ""), fault("a", "etcd.stop", node(cp, 0), "phase: run", "for: 3s"),
			[]string{"1 of 1 etcd members may be away at once, 0 may be", "1 of 1 API servers"}},
		{"the upgrade of the only one is its own doing", head(1, 0, true, ""), fault("a", "disk.slow", node(cp, 0), phase(cp, 0, "/etcd"), "for: 3s"), nil},
		{"one after the other by the clock", head(3, 0, false, ""),
			fault("a", "etcd.stop", node(cp, 0), "after: 10s", "for: 30s") + fault("b", "etcd.stop", node(cp, 1), "after: 71s", "for: 30s"), nil},
		{"too close by the clock", head(3, 0, false, ""),
			fault("a", "etcd.stop", node(cp, 0), "after: 10s", "for: 30s") + fault("b", "etcd.stop", node(cp, 1), "after: 60s", "for: 30s"),
			[]string{"during run 2 of 3 etcd members"}},
		{"a minority", head(5, 0, false, ""), fault("a", "etcd.stop", "pick: minority", "phase: run", "for: 3s"), nil},
		{"a majority", head(5, 0, false, ""), fault("a", "etcd.stop", "pick: majority", "phase: run", "for: 3s"), []string{"3 of 5 etcd members"}},
		{"a minority by label", head(5, 0, false, ""), fault("a", "etcd.stop", "pick: minority, labels: {zone: a}", "phase: run", "for: 3s"), nil},
		{"all by label may be all", head(5, 0, false, ""), fault("a", "etcd.stop", "pick: all, labels: {zone: a}", "phase: run", "for: 3s"), []string{"5 of 5 etcd members"}},
		{"all of a zone are known", zoned, fault("a", "etcd.stop", "pick: all, zone: b", "phase: run", "for: 3s"), nil},
		{"a zone with the majority", zoned, fault("a", "etcd.stop", "pick: all, zone: a", "phase: run", "for: 3s"), []string{"2 of 3 etcd members may be away at once, 1 may be: a on control-plane[0], control-plane[2]"}},
		{"nobody", head(2, 0, false, ""), fault("a", "etcd.stop", "pick: minority", "phase: run", "for: 3s"),
			[]string{"s.yaml:9: faults.a: etcd.stop on minority: the target matches no node; the cluster has 2 control planes and 0 workers"}},
		{"no follower", head(1, 0, false, ""), fault("a", "disk.slow", "pick: follower", "phase: run", "for: 3s"), []string{"has no follower"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := fakeFacts()
			s := load(t, tc.head+"faults:\n"+tc.faults, f)
			p, err := Make(s, 7, f)
			if len(tc.want) == 0 {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				if p.Budget.Etcd.Most > p.Budget.Etcd.May && !p.Budget.Etcd.Allowed && s.Cluster.ControlPlanes > 1 {
					t.Errorf("accepted over budget: %+v", p.Budget)
				}
				return
			}
			var inv *scenarios.Invalid
			if !errors.As(err, &inv) {
				t.Fatalf("error is %v", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got:\n%v\nwant: %s", err, want)
				}
			}
		})
	}
}

func TestNeeds(t *testing.T) {
	f := fakeFacts()
	text := head(3, 2, true, "faults:\n"+fault("a", "node.cut", "pick: one", phase(w, 0, ""), "for: 3s"))
	f.Capabilities = map[clusters.Role][]clusters.Capability{clusters.ControlPlane: {}, clusters.Worker: {}, clusters.LoadBalancer: {}}
	if _, err := Make(load(t, text, f), 1, f); err == nil || !strings.Contains(err.Error(), "needs exec on a") || !strings.Contains(err.Error(), "provider fake does not offer") {
		t.Errorf("got %v", err)
	}
	f.Capabilities = nil // not known yet: the run looks
	if _, err := Make(load(t, text, f), 1, f); err != nil {
		t.Error(err)
	}
}

// A scenario that was made in Go, not loaded, is held to the same.
func TestImpossible(t *testing.T) {
	f := fakeFacts()
	s := load(t, head(3, 2, true, "faults:\n"+fault("a", "etcd.stop", node(cp, 0), phase(cp, 1, "/kube-apiserver"), "for: 30s")), f)
	s.Faults[0].Begin.Phase = "upgrade/control-plane[1]/kube-apisrver"
	if _, err := Make(s, 1, f); err == nil || !strings.Contains(err.Error(), `did you mean "upgrade/control-plane[1]/kube-apiserver"?`) {
		t.Errorf("phase: %v", err)
	}
	s.Faults[0].Begin.Phase, s.Faults[0].Target.Nodes = "upgrade", []string{"control-plane[7]"}
	if _, err := Make(s, 1, f); err == nil || !strings.Contains(err.Error(), "the target matches no node; the cluster has 3 control planes") {
		t.Errorf("place: %v", err)
	}
	s.Faults[0].Fault = "etcd.stp"
	if _, err := Make(s, 1, f); err == nil || !strings.Contains(err.Error(), `did you mean "etcd.stop"?`) {
		t.Errorf("fault: %v", err)
	}
	s.Upgrade.Strategy = "magic"
	if _, err := Make(s, 1, f); err == nil || !strings.Contains(err.Error(), `unknown strategy "magic"`) {
		t.Errorf("strategy: %v", err)
	}
	s = load(t, head(3, 2, false, ""), f)
	s.Run = maxBound
	if _, err := Make(s, 1, f); err == nil || !strings.Contains(err.Error(), "at most 48h is run") {
		t.Errorf("length: %v", err)
	}
}

func TestWaitsAndGone(t *testing.T) {
	f := fakeFacts()
	s := load(t, head(3, 2, true, "faults:\n"+
		fault("early", "disk.slow", node(cp, 0), phase(cp, 0, ""), phase(cp, 0, "/preflight"))+
		fault("late", "disk.slow", node(cp, 0), phase(cp, 0, "/kube-scheduler"), "for: 30s")+
		fault("across", "disk.slow", node(cp, 0), phase(cp, 0, "/etcd"), phase(cp, 1, "/preflight"))+
		fault("next", "disk.slow", node(cp, 0), phase(cp, 1, "/etcd"), "for: 1s")), f)
	p, err := Make(s, 1, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		what      string
		got, want []string
	}{
		{"late waits", p.Waits("late"), []string{"early"}},
		{"next waits", p.Waits("next"), []string{"across"}},
		{"early waits", p.Waits("early"), nil},
		{"gone after the first", p.Gone("upgrade/control-plane[0]"), []string{"early", "late"}},
		{"gone after the second", p.Gone("upgrade/control-plane[1]"), []string{"across", "next"}},
		{"gone after preparing", p.Gone("upgrade/prepare"), nil},
	} {
		if diff := cmp.Diff(tc.want, tc.got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", tc.what, diff)
		}
	}
}

// TestLinger: a worker's upgrade goes on beside a fault of a control plane that takes
// its time to be gone, but not beside one of another worker.
func TestLinger(t *testing.T) {
	for _, c := range []struct {
		role         string
		first, later []string // gone before the next worker, and at the end
	}{
		{cp, nil, []string{"stop"}},
		{w, []string{"stop"}, nil},
	} {
		f := fakeFacts()
		s := load(t, head(3, 3, true, "faults:\n"+fault("stop", "kubelet.stop", node(c.role, 2), phase(w, 0, ""), "for: 10s")), f)
		p, err := Make(s, 1, f)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.first, p.Gone("upgrade/worker[0]")); diff != "" {
			t.Errorf("%s: gone before the next worker, -want +got:\n%s", c.role, diff)
		}
		if diff := cmp.Diff(c.later, p.Gone("upgrade/worker[2]")); diff != "" {
			t.Errorf("%s: gone after the last worker, -want +got:\n%s", c.role, diff)
		}
	}
}

func TestSameSeedSamePlan(t *testing.T) {
	f := fakeFacts()
	s := load(t, head(5, 3, false, "faults:\n"+fault("a", "etcd.stop", "pick: minority", "phase: run", "for: 3s")+
		fault("b", "node.cut", "pick: one, role: worker", "after: 50s", "for: 3s")), f)
	seen := map[string]bool{}
	for seed := range uint64(50) {
		t.Logf("seed %d", seed)
		first, err := Make(s, seed, f)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Make(s, seed, f)
		if err != nil {
			t.Fatal(err)
		}
		a, err := first.JSON()
		if err != nil {
			t.Fatal(err)
		}
		b, err := again.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if string(a) != string(b) || first.String() != again.String() {
			t.Fatalf("seed %d gave two plans", seed)
		}
		var back Plan
		if err := json.Unmarshal(a, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first, &back); diff != "" {
			t.Fatalf("seed %d: read back -want +got:\n%s", seed, diff)
		}
		first.Each(func(st *Step) {
			if st.Fault != nil && st.Fault.ID == "a" {
				seen[st.Fault.Target] = true
			}
		})
	}
	if len(seen) < 5 { // of 10 pairs
		t.Errorf("50 seeds chose only %v", seen)
	}
	// One step's draws do not depend on another's.
	if Rand(1, "x").Uint64() == Rand(1, "y").Uint64() || Rand(1, "x").Uint64() != Rand(1, "x").Uint64() {
		t.Error("Rand does not follow its id")
	}
}
