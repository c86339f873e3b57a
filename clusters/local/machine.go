package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"

	"gameday/clusters/local/hollow"
)

// machineConfig is what a machine is told at its start.
type machineConfig struct {
	Name string     `json:"name"`
	IP   netip.Addr `json:"ip"`
	// Root is its folder, Binaries that of the programs.
	Root     string `json:"root"`
	Binaries string `json:"binaries"`
	// Components of a control plane.
	Components []component `json:"components,omitempty"`
	// Kubelet is its hollow one.
	Kubelet *hollowConfig `json:"kubelet,omitempty"`
	// Balance are the API servers that a load balancer leads to.
	Balance []string `json:"balance,omitempty"`
	CA      []byte   `json:"ca,omitempty"`
}

// hollowConfig is what hollow kubelets are told.
type hollowConfig struct {
	Nodes   []hollow.Node `json:"nodes"`
	Server  string        `json:"server"`
	CA      []byte        `json:"ca"`
	Creds   pair          `json:"creds"`
	Version string        `json:"version"`
	PodNet  [4]byte       `json:"podNet"`
	// Renew is how often they renew their leases; 0 is hollow.Renew.
	Renew time.Duration `json:"renew,omitempty"`
	// Stopped keeps that of a machine from being heard of.
	Stopped bool `json:"stopped,omitempty"`
}

func (h hollowConfig) open(l *log.Logger) (*hollow.Kubelets, error) {
	return hollow.New(hollow.Config{
		API: &rest.Config{
			Host: h.Server, UserAgent: "kubelet/" + h.Version + " (hollow)",
			TLSClientConfig: rest.TLSClientConfig{CAData: h.CA, CertData: h.Creds.Cert, KeyData: h.Creds.Key},
			ContentConfig:   rest.ContentConfig{ContentType: "application/json"},
		},
		Nodes: h.Nodes, Version: h.Version, PodNet: h.PodNet, Renew: h.Renew, Log: l,
	})
}

// machineOrder is a later message to a machine.
type machineOrder struct {
	// Cut or Restore the hollow kubelet.
	Cut     bool `json:"cut,omitempty"`
	Restore bool `json:"restore,omitempty"`
	// Version is what the hollow kubelet says from its next start on.
	Version string `json:"version,omitempty"`
	// Component is one of the machine's as it is from now on.
	Component *component `json:"component,omitempty"`
}

// running is what a machine runs.
type running struct {
	cfg        machineConfig
	kubelet    *hollow.Kubelets
	components map[string]*supervisor
}

// runMachine is a machine: the first process of its node. Its link is up when its
// configuration comes.
func runMachine(in io.Reader, out io.Writer) error {
	orders := json.NewDecoder(in)
	var cfg machineConfig
	if err := orders.Decode(&cfg); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background()) //nolint:forbidigo // this is the main of the process
	defer stop()
	r := &running{cfg: cfg, components: map[string]*supervisor{}}
	err := r.begin(ctx)
	if err := answer(out, err); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	for {
		var o machineOrder
		err := orders.Decode(&o)
		if errors.Is(err, io.EOF) { // the keeper is gone
			return nil
		}
		if err != nil {
			return fmt.Errorf("order: %w", err)
		}
		if err := answer(out, r.obey(o)); err != nil {
			return err
		}
	}
}

// obey does what an order says.
func (r *running) obey(o machineOrder) error {
	name := r.cfg.Name
	switch {
	case o.Component != nil && r.components[o.Component.Name] == nil:
		return fmt.Errorf("%s has no %s", name, o.Component.Name)
	case o.Component != nil:
		return r.components[o.Component.Name].tell(*o.Component)
	case r.kubelet == nil:
		return fmt.Errorf("%s has no hollow kubelet", name)
	case o.Cut:
		return r.kubelet.Cut(name)
	case o.Restore:
		return r.kubelet.Restore(name)
	case o.Version != "":
		return r.kubelet.Replace(o.Version, name)
	}
	return errors.New("an order that says nothing")
}

// begin starts all that a machine does.
func (r *running) begin(ctx context.Context) (err error) {
	cfg := r.cfg
	if err := unix.Sethostname([]byte(cfg.Name)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	if err := enterRoot(cfg.Root, cfg.Binaries); err != nil {
		return err
	}
	if err := os.MkdirAll(output, 0o755); err != nil {
		return err
	}
	for _, c := range cfg.Components {
		s := newSupervisor(c)
		r.components[c.Name] = s
		go s.run(ctx)
	}
	l := log.New(os.Stderr, "", log.LstdFlags|log.LUTC|log.Lmicroseconds)
	if len(cfg.Balance) > 0 {
		if err := balance(ctx, apiServerPort, cfg.Balance, cfg.CA, l); err != nil {
			return err
		}
	}
	if cfg.Kubelet == nil {
		return nil
	}
	if r.kubelet, err = cfg.Kubelet.open(l); err != nil {
		return err
	}
	if err := begun(ctx, r.kubelet, l); err != nil || !cfg.Kubelet.Stopped {
		return err
	}
	return r.kubelet.Cut(cfg.Name)
}

// begun runs hollow kubelets beside, and returns when they can be cut off.
func begun(ctx context.Context, k *hollow.Kubelets, l *log.Logger) error {
	go func() {
		if err := k.Run(ctx); err != nil {
			l.Printf("hollow kubelets: %v", err)
		}
	}()
	select {
	case <-k.Started():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
