package faults

import (
	"context"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/intake"
)

var dnsLost = Kind{
	Name: "dns.lost",
	Doc:  "Loses every answer of the cluster's DNS to what runs on the targets, by UDP and by TCP.",
	Rehearses: "A node whose way to CoreDNS is broken: a full or racing conntrack table, or a wrong network policy. Each lookup waits for 5 s and more " +
		"before it fails, and whoever looks up in the path of a request hangs that long (https://github.com/kubernetes/kubernetes/issues/56903).",
	Mechanism: "nftables inet table in the node's namespace that drops the answers of connections begun to the address that the kubelet gives to " +
		"pods (clusterDNS), at input and forward",
	Undo:        "the kernel: the table goes with the process that owns it, and its rules expire 10 s after their last refresh",
	Roles:       machines,
	Needs:       []clusters.Capability{clusters.CapNetwork, clusters.CapProcesses, clusters.CapFiles, clusters.CapKubelet},
	Cost:        Cost{},
	ProveWithin: 15 * time.Second,
	GoneWithin:  30 * time.Second,
	Trials:      []Trial{{Name: "dns-lost", Target: Target{Pick: PickOne, Role: "worker"}}},
	New:         func() Fault { return &DNSLost{} },
}

// DNSLost is the fault dns.lost. It has no parameters.
type DNSLost struct{ rules intakes }

// Describe implements Describer.
func (*DNSLost) Describe(targets []string) []string {
	return each(targets, "%s: nft add rule inet gameday-TAG { input, forward } ct direction reply ct original ip daddr CLUSTER-DNS ct original proto-dst 53 drop")
}

// Inject loses what comes from now on, also in answer to what was asked before.
func (f *DNSLost) Inject(ctx context.Context, env Env) error {
	return f.rules.set(ctx, env, func(ctx context.Context, n clusters.Node) ([]intake.Rule, error) {
		return dnsAnswers(ctx, n, intake.Rule{Lose: 1})
	})
}

// Heal removes the rules.
func (f *DNSLost) Heal(ctx context.Context, env Env) error { return f.rules.heal(ctx, env) }

// Prove asks the DNS from inside the targets.
func (*DNSLost) Prove(ctx context.Context, env Env) (Effect, error) {
	return proveDNS(ctx, env, dnsTime, func(a dnsAsked) (broken, whole bool) {
		return len(a.answers) == 0 && a.err == nil, a.silent == 0 && a.err == nil
	})
}
