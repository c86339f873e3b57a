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
}

// runKeeper is the keeper, until it is killed.
func runKeeper(in io.Reader, out io.Writer) error {
	var cfg keeperConfig
	if err := json.NewDecoder(in).Decode(&cfg); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	k := &keeper{cfg: cfg, machines: map[string]*part{}, log: log.New(os.Stderr, "", log.LstdFlags|log.LUTC|log.Lmicroseconds)}
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
		if err := k.order(p, o); err != nil {
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
	default:
		return k.workers.Restore(workers...)
	}
}

// order gives one order to a machine at a time.
func (k *keeper) order(p *part, o machineOrder) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return p.ask(o)
}

// controlName is the service that the keeper offers on its socket.
const controlName = "Keeper"

// control are the orders that the keeper takes, by net/rpc.
type control struct{ k *keeper }

// Nothing is what an order gives back.
type Nothing struct{}

// On switches a machine on.
func (c *control) On(name string, _ *Nothing) error {
	i := c.k.index(name)
	if i < 0 {
		return fmt.Errorf("there is no machine %s", name)
	}
	return c.k.on(c.k.cfg.Machines[i])
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
