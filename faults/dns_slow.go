package faults

import (
	"context"
	"fmt"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/intake"
	"gameday/faults/mechanism/late"
)

var dnsSlow = Kind{
	Name: "dns.slow",
	Doc:  "Delays every answer of the cluster's DNS to what runs on the targets.",
	Rehearses: "A CoreDNS that is short of CPU, or waits for a slow server above it: lookups are answered, late, and with the search path of a pod each " +
		"name costs several of them (https://kubernetes.io/docs/tasks/administer-cluster/dns-debugging-resolution/#known-issues).",
	Mechanism:   "the answers that dns.lost would drop wait in a netfilter queue, whose listener is a process of its own",
	Undo:        "the kernel: the nftables table goes with the listening process and that with gameday; without a listener packets pass",
	Roles:       machines,
	Needs:       []clusters.Capability{clusters.CapNetwork, clusters.CapProcesses, clusters.CapFiles, clusters.CapKubelet},
	Cost:        Cost{},
	ProveWithin: 30 * time.Second,
	GoneWithin:  30 * time.Second,
	Trials:      []Trial{{Name: "dns-slow", Target: Target{Pick: PickOne, Role: "worker"}}},
	New:         func() Fault { return &DNSSlow{Delay: time.Second} },
}

// DNSSlow is the fault dns.slow.
type DNSSlow struct {
	// Delay of each packet of an answer.
	Delay time.Duration `yaml:"delay" json:"delay"`

	held holding
}

// Validate implements Validator.
func (f *DNSSlow) Validate() []error {
	if f.Delay < 50*time.Millisecond || f.Delay > 10*time.Second {
		return []error{fmt.Errorf("delay: %s is not between 50ms and 10s", f.Delay)}
	}
	return nil
}

// Describe implements Describer.
func (f *DNSSlow) Describe(targets []string) []string {
	return each(targets, "%s: nft add rule inet gameday-TAG { input, forward } ct direction reply ct original ip daddr CLUSTER-DNS ct original proto-dst 53 queue bypass; verdict after "+f.Delay.String())
}

// Inject begins to delay, or changes by how much.
func (f *DNSSlow) Inject(ctx context.Context, env Env) error {
	return f.held.hold(ctx, env, late.Shape{Delay: f.Delay}, func(ctx context.Context, n clusters.Node) ([]intake.Rule, error) {
		return dnsAnswers(ctx, n, intake.Rule{})
	})
}

// Heal ends the process that holds answers back.
func (f *DNSSlow) Heal(ctx context.Context, env Env) error { return f.held.heal(ctx, env) }

// Prove asks the DNS from inside the targets, and looks at the quickest answers: by TCP
// an answer is late twice, once for the connection.
func (f *DNSSlow) Prove(ctx context.Context, env Env) (Effect, error) {
	var fig figure
	e, err := proveDNS(ctx, env, 2*f.Delay+dnsTime, func(a dnsAsked) (broken, whole bool) {
		if len(a.answers) == 0 || a.err != nil {
			return false, false
		}
		quickest, all := a.answers[0], a.silent == 0
		fig.add(ms(f.Delay), ms(quickest), "")
		slow := a.answers[len(a.answers)-1]
		return quickest >= f.Delay && quickest < f.Delay+f.Delay/10+50*time.Millisecond, all && slow < f.Delay/2
	})
	e.Asked, e.Measured, e.Unit = fig.asked, fig.measured, "ms"
	return e, err
}
