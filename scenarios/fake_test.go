package scenarios

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.yaml.in/yaml/v3"

	"gameday/clusters"
	"gameday/clusters/upgrade"
	"gameday/faults"
)

// fakeKnown is a small catalogue with one entry of each sort.
func fakeKnown() Known {
	cp := []clusters.Role{clusters.ControlPlane}
	return Known{
		Faults: []faults.Kind{
			{Name: "apiserver.kill", Doc: "kills", Roles: cp, Instant: true, New: func() faults.Fault { return &noParams{} }},
			{Name: "disk.slow-fsync", Doc: "slows", Roles: cp, New: func() faults.Fault { return &slow{Delay: time.Second} }},
			{Name: "network.partition", Doc: "cuts", Roles: []clusters.Role{clusters.ControlPlane, clusters.Worker, clusters.LoadBalancer},
				New: func() faults.Fault { return &cut{From: "apiservers", Peers: []string{"all"}} }},
		},
		Strategies: []upgrade.Kind{
			{Name: "kubeadm", New: func() upgrade.Strategy { return fakeStrategy{} }},
			{Name: "surge", Takes: []string{upgrade.OptionMaxSurge, upgrade.OptionMaxUnavailable, upgrade.OptionDrainExceeded, upgrade.OptionSoak}, New: func() upgrade.Strategy { return fakeStrategy{} }},
			{Name: "by-hand", Takes: []string{upgrade.OptionOrder}, New: func() upgrade.Strategy { return choosy{} }},
			{Name: "blue-green", Takes: []string{upgrade.OptionBatch, upgrade.OptionSoak, upgrade.OptionPoolSoak, upgrade.OptionCanaryLog}, New: func() upgrade.Strategy { return fakeStrategy{} }},
		},
		SLOs: []SLOKind{
			{Name: "cron.start-latency", Doc: "starts", New: func() any { return &latency{P99: time.Minute, Missed: 3} }},
			{Name: "writes.kept", Doc: "keeps", New: func() any { return &struct{}{} }},
		},
	}
}

type inert struct{}

func (inert) Inject(context.Context, faults.Env) error { return nil }
func (inert) Heal(context.Context, faults.Env) error   { return nil }
func (inert) Prove(context.Context, faults.Env) (faults.Effect, error) {
	return faults.Effect{}, nil
}

type noParams struct{ inert }

type slow struct {
	inert
	Delay time.Duration
}

func (s *slow) Validate() []error {
	if s.Delay < time.Millisecond {
		return []error{errors.New("delay must be at least 1ms"), errors.New("and this says so twice")}
	}
	return nil
}

type cut struct {
	inert
	From    string            `yaml:"from"`
	Peers   []string          `yaml:"peers"`
	OneWay  bool              `yaml:"oneWay"`
	Loss    float64           `yaml:"loss"`
	Max     uint16            `yaml:"max"`
	Match   map[string]string `yaml:"match"`
	Inner   *latency          `yaml:"inner"`
	Whom    words             `yaml:"whom"`
	private int               //nolint:unused // the decoder must leave it alone
}

// words are one or several, as a type of a fault may read them itself.
type words []string

func (w *words) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*w = words{n.Value}
		return nil
	}
	return n.Decode((*[]string)(w))
}

type latency struct {
	P99    time.Duration `yaml:"p99"`
	Missed int           `yaml:"missed"`
	More   percentiles   `yaml:",inline"`
}

type percentiles map[string]time.Duration

func (percentiles) KeyPattern() string { return `^p[0-9]{2}\.[0-9]+$` }

type fakeStrategy struct{}

func (fakeStrategy) Steps(places []upgrade.Place, o upgrade.Options) []upgrade.Step {
	var out []upgrade.Step
	for _, p := range places {
		phase := fmt.Sprintf("upgrade/%s[%d]", p.Role, p.Index)
		s := upgrade.Step{Phase: phase, Place: fmt.Sprintf("%s[%d]", p.Role, p.Index)}
		parts := []string{"etcd", "kube-apiserver"}
		if p.Role == clusters.Worker {
			parts = []string{"drain", "kubeadm"}
		}
		for _, part := range parts {
			s.Parts = append(s.Parts, phase+"/"+part)
		}
		out = append(out, s)
	}
	return out
}

// choosy finds fault with every order.
type choosy struct{ fakeStrategy }

func (choosy) Check(_ []upgrade.Place, o upgrade.Options) []error {
	return []error{fmt.Errorf("order: %v is no order", o.Order)}
}

func (fakeStrategy) Run(context.Context, upgrade.Env) error { return errors.New("not here") }
