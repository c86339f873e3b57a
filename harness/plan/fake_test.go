package plan

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gameday/clusters"
	"gameday/clusters/upgrade"
	"gameday/faults"
	"gameday/scenarios"
)

type inert struct{}

func (inert) Inject(context.Context, faults.Env) error { return nil }
func (inert) Heal(context.Context, faults.Env) error   { return nil }
func (inert) Prove(context.Context, faults.Env) (faults.Effect, error) {
	return faults.Effect{}, nil
}
func (inert) Describe(targets []string) []string { return []string{fmt.Sprintf("touch %v", targets)} }

// fakeFacts are a catalogue with one fault for each cost.
func fakeFacts() Facts {
	cp := []clusters.Role{clusters.ControlPlane}
	kind := func(name string, roles []clusters.Role, cost faults.Cost, instant bool) faults.Kind {
		return faults.Kind{
			Name: name, Roles: roles, Cost: cost, Instant: instant, Needs: []clusters.Capability{clusters.CapExec},
			New:    func() faults.Fault { return inert{} },
			Trials: []faults.Trial{{Name: strings.ReplaceAll(name, ".", "-"), Target: faults.Target{Pick: faults.PickOne, Role: string(roles[0])}}},
		}
	}
	lbKill := kind("lb.kill", []clusters.Role{clusters.LoadBalancer}, faults.Cost{LoadBalancers: 1}, false)
	lbKill.Needs = nil
	return Facts{
		Provider: "fake",
		Capabilities: map[clusters.Role][]clusters.Capability{
			clusters.ControlPlane: {clusters.CapExec, clusters.CapNetwork}, clusters.Worker: {clusters.CapExec},
		},
		Known: scenarios.Known{
			Faults: []faults.Kind{
				kind("api.kill", cp, faults.Cost{APIServers: 1}, true),
				kind("etcd.stop", cp, faults.Cost{EtcdMembers: 1, APIServers: 1}, false),
				kind("disk.slow", cp, faults.Cost{}, false),
				kind("api.roll", cp, faults.Cost{APIServers: 1, InTurn: true}, true),
				kind("kubelet.stop", []clusters.Role{clusters.ControlPlane, clusters.Worker}, faults.Cost{Kubelets: 1}, false),
				lbKill,
				kind("node.cut", []clusters.Role{clusters.ControlPlane, clusters.Worker, clusters.LoadBalancer}, faults.Cost{Nodes: 1}, false),
			},
			Strategies: []upgrade.Kind{{Name: "kubeadm", New: func() upgrade.Strategy { return fakeStrategy{} }}},
			SLOs:       []scenarios.SLOKind{{Name: "kept", New: func() any { return &struct{}{} }}},
		},
	}
}

type fakeStrategy struct{}

func (fakeStrategy) Steps(places []upgrade.Place, _ upgrade.Options) []upgrade.Step {
	var out []upgrade.Step
	for _, p := range places {
		place := fmt.Sprintf("%s[%d]", p.Role, p.Index)
		parts := []string{"preflight", "etcd", "kube-apiserver", "kube-scheduler"}
		if p.Role == clusters.Worker {
			parts = []string{"drain", "kubeadm"}
		}
		s := upgrade.Step{Phase: "upgrade/" + place, Place: place, Commands: []string{"kubeadm upgrade " + place}}
		for _, part := range parts {
			s.Parts = append(s.Parts, s.Phase+"/"+part)
		}
		out = append(out, s)
	}
	return out
}

func (fakeStrategy) Run(context.Context, upgrade.Env) error { return errors.New("not here") }
