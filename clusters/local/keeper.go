package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"net/rpc"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"gameday/clusters/local/hollow"
)

// keeperConfig is what the keeper is told at its start.
type keeperConfig struct {
	Cluster string       `json:"cluster"`
	Dir     string       `json:"dir"`
	Subnet  netip.Prefix `json:"subnet"`
	// Groups are the control groups of the cluster, one for each hierarchy.
	Groups   []string        `json:"groups"`
	Machines []machineConfig `json:"machines"`
	// Workers are the hollow kubelets that run in the keeper; nil if there are none.
	Workers *hollowConfig `json:"workers,omitempty"`
}

// controlSocket is where the keeper takes orders, in the folder of the cluster.
const controlSocket = "control"

// endTime is how long the end of a machine may take that was killed.
const endTime = 30 * time.Second

// keeper holds the bridge and the machines.
type keeper struct {
	cfg     keeperConfig
	log     *log.Logger
	workers *hollow.Kubelets

	mu       sync.Mutex
	machines map[string]*part
	// changed are the machines' configurations as their next lives have them, by name;
	// of those that were told nothing since the start there is none.
	changed map[string]machineConfig
}

// configOf is a machine as its next life has it.
func (k *keeper) configOf(name string) (machineConfig, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.configLocked(name)
}

func (k *keeper) configLocked(name string) (machineConfig, error) {
	if m, ok := k.changed[name]; ok {
		return m, nil
	}
	i := k.index(name)
	if i < 0 {
		return machineConfig{}, fmt.Errorf("there is no machine %s", name)
	}
	return k.cfg.Machines[i], nil
}

// runKeeper is the keeper, until it is killed.
func runKeeper(in io.Reader, out io.Writer) error {
	var cfg keeperConfig
	if err := json.NewDecoder(in).Decode(&cfg); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	k := &keeper{cfg: cfg, machines: map[string]*part{}, changed: map[string]machineConfig{}, log: log.New(os.Stderr, "", log.LstdFlags|log.LUTC|log.Lmicroseconds)}
	ctx, stop := context.WithCancel(context.Background()) //nolint:forbidigo // this is the main of the process
	defer stop()
	listener, err := k.begin(ctx)
	if err := answer(out, err); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	server := rpc.NewServer()
	if err := server.RegisterName(controlName, &control{k}); err != nil {
		return err
	}
	server.Accept(listener)
	return errors.New("the control socket was closed")
}

func (k *keeper) begin(ctx context.Context) (net.Listener, error) {
	// Its pid namespace is new, so /proc must be.
	if err := errors.Join(ownMounts(), mountProc("/proc"), makeBridge(k.cfg.Subnet)); err != nil {
		return nil, err
	}
	var errs []error
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, m := range k.cfg.Machines {
		all.Go(func() {
			err := k.on(m)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if k.cfg.Workers != nil {
		var err error
		if k.workers, err = k.cfg.Workers.open(k.log); err != nil {
			return nil, err
		}
		if err := begun(ctx, k.workers, k.log); err != nil {
			return nil, err
		}
	}
	return new(net.ListenConfig).Listen(ctx, "unix", filepath.Join(k.cfg.Dir, controlSocket))
}

// on switches a machine on.
func (k *keeper) on(m machineConfig) error {
	if p := k.running(m.Name); p != nil {
		return nil
	}
	if err := unplug(m.IP); err != nil { // of its last life
		return err
	}
	p, err := startPart(machinePart, k.cfg.Cluster+"/"+m.Name, filepath.Join(k.cfg.Dir, m.Name+".log"))
	if err != nil {
		return err
	}
	err = enter(k.cfg.Groups, m.Name, p.pid())
	if err == nil {
		err = plug(m.IP, k.cfg.Subnet, p.pid())
	}
	if err == nil {
		err = p.ask(m)
	}
	if err != nil {
		return errors.Join(err, p.cmd.Process.Kill())
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.machines[m.Name] = p
	return nil
}

// off switches a machine off.
func (k *keeper) off(name string) error {
	p := k.running(name)
	if p == nil {
		return nil
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(endTime):
		return fmt.Errorf("%s has not ended %s after it was killed: is it frozen?", name, endTime)
	}
	return errors.Join(p.pipe.Close(), unplug(k.cfg.Machines[k.index(name)].IP))
}

func (k *keeper) index(name string) int {
	return slices.IndexFunc(k.cfg.Machines, func(m machineConfig) bool { return m.Name == name })
}

// running is the machine of a name, if it is on.
func (k *keeper) running(name string) *part {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.machines[name]
	if p == nil {
		return nil
	}
	select {
	case <-p.done:
		return nil
	default:
		return p
	}
}

// kubelets gives an order to the hollow kubelets of some nodes.
func (k *keeper) kubelets(names []string, o machineOrder) error {
	var workers []string
	for _, name := range names {
		if k.index(name) < 0 {
			workers = append(workers, name)
			continue
		}
		p := k.running(name)
		if p == nil {
			return fmt.Errorf("%s is off", name)
		}
		if err := p.ask(o); err != nil {
			return err
		}
	}
	switch {
	case len(workers) == 0:
		return nil
	case k.workers == nil:
		return fmt.Errorf("the cluster has no workers, and no node %v", workers)
	case o.Cut:
		return k.workers.Cut(workers...)
	case o.Version != "":
		return k.workers.Replace(o.Version, workers...)
	default:
		return k.workers.Restore(workers...)
	}
}

// component changes one component of a machine, now and for its next lives.
func (k *keeper) component(machine, name string, change func(*component)) error {
	k.mu.Lock()
	m, err := k.configLocked(machine)
	if err != nil {
		k.mu.Unlock()
		return err
	}
	m.Components = slices.Clone(m.Components)
	j := slices.IndexFunc(m.Components, func(c component) bool { return c.Name == name })
	if j < 0 {
		k.mu.Unlock()
		return fmt.Errorf("%s has no %s", machine, name)
	}
	change(&m.Components[j])
	k.changed[machine] = m
	k.mu.Unlock()
	p := k.running(machine)
	if p == nil {
		return nil // it is off: its next life begins so
	}
	return p.ask(machineOrder{Component: &m.Components[j]})
}

// kubelet changes the hollow kubelet of a node, now and, of a machine, for its next
// lives.
func (k *keeper) kubelet(node string, change func(*hollowConfig), o machineOrder) error {
	if k.index(node) < 0 {
		return k.kubelets([]string{node}, o)
	}
	k.mu.Lock()
	m, err := k.configLocked(node)
	if err == nil && m.Kubelet == nil {
		err = fmt.Errorf("%s has no hollow kubelet", node)
	}
	if err != nil {
		k.mu.Unlock()
		return err
	}
	h := *m.Kubelet
	change(&h)
	m.Kubelet = &h
	k.changed[node] = m
	k.mu.Unlock()
	if k.running(node) == nil {
		return nil
	}
	return k.kubelets([]string{node}, o)
}

// members are the control planes.
func (k *keeper) members() []member {
	var out []member
	for _, m := range k.cfg.Machines {
		if len(m.Components) > 0 {
			out = append(out, member{m.Name, m.IP})
		}
	}
	return out
}

// controlName is the service that the keeper offers on its socket.
const controlName = "Keeper"

// control are the orders that the keeper takes, by net/rpc.
type control struct{ k *keeper }

// Nothing is what an order gives back.
type Nothing struct{}

// On switches a machine on.
func (c *control) On(name string, _ *Nothing) error {
	m, err := c.k.configOf(name)
	if err != nil {
		return err
	}
	return c.k.on(m)
}

// Off switches a machine off.
func (c *control) Off(name string, _ *Nothing) error { return c.k.off(name) }

// Cut cuts the hollow kubelets of nodes off.
func (c *control) Cut(names []string, _ *Nothing) error {
	return c.k.kubelets(names, machineOrder{Cut: true})
}

// Restore lets them talk again.
func (c *control) Restore(names []string, _ *Nothing) error {
	return c.k.kubelets(names, machineOrder{Restore: true})
}

// ComponentOrder is about a component of a node.
type ComponentOrder struct {
	Node, Component string
	// Version and Program are of the one to be put in its place; the path is on the
	// machine.
	Version, Program string
}

// StopComponent stops one.
func (c *control) StopComponent(o ComponentOrder, _ *Nothing) error {
	if o.Component == kubeletName {
		return c.k.kubelet(o.Node, func(h *hollowConfig) { h.Stopped = true }, machineOrder{Cut: true})
	}
	return c.k.component(o.Node, o.Component, func(c *component) { c.Stopped = true })
}

// StartComponent starts one.
func (c *control) StartComponent(o ComponentOrder, _ *Nothing) error {
	if o.Component == kubeletName {
		return c.k.kubelet(o.Node, func(h *hollowConfig) { h.Stopped = false }, machineOrder{Restore: true})
	}
	return c.k.component(o.Node, o.Component, func(c *component) { c.Stopped = false })
}

// InstallComponent replaces the program of one.
func (c *control) InstallComponent(o ComponentOrder, _ *Nothing) error {
	if o.Component == kubeletName {
		return c.k.kubelet(o.Node, func(h *hollowConfig) { h.Version = o.Version }, machineOrder{Version: o.Version})
	}
	m, err := c.k.configOf(o.Node)
	if err != nil {
		return err
	}
	all := c.k.members()
	return c.k.component(o.Node, o.Component, func(c *component) {
		*c = c.as(o.Version, member{m.Name, m.IP}, all)
		c.Program = o.Program
	})
}

// tell gives the keeper of a cluster an order.
func tell(ctx context.Context, dir, order string, args any) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, controlSocket))
	if err != nil {
		return fmt.Errorf("the keeper does not answer: %w", err)
	}
	client := rpc.NewClient(conn)
	call := client.Go(controlName+"."+order, args, &Nothing{}, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		return errors.Join(call.Error, client.Close())
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), client.Close())
	}
}
