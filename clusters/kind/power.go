package kind

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gameday/clusters"
	"gameday/clusters/cache"
	"gameday/clusters/docker"
)

// A node is switched off by `docker kill` and on by `docker start` of its
// container. Its files stay, and with them what kubeadm wrote; /run and /tmp are
// empty afterwards, and its first process, its network namespace, and with newer
// versions of Docker its hardware address are others: what is known of them
// (state) is asked for anew when the process that it was read from has ended.
//
// Docker takes the address of a container that does not run back, and gives it the
// lowest free one when it starts (github.com/moby/moby libnetwork/ipam; an address
// of one's own choice needs a network with a subnet of one's own choice, and
// kind's has none). A control plane is lost under another address: etcd's peers,
// the load balancer and the certificates know the old one. So what is free below
// it is taken by containers that do nothing, for the second that it takes to start.

const (
	// powerBound is for one switch: a second, or several on a loaded machine.
	powerBound = 2 * time.Minute
	// mostHolders is how many addresses are held back at most; more are free only
	// if something other than nodes was on the network.
	mostHolders = 16
	// holderLife ends a container that holds an address if nobody removes it, in
	// seconds.
	holderLife = "60"
)

// PowerOff implements clusters.Power.
func (n *localNode) PowerOff(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, powerBound)
	defer cancel()
	if on, err := n.on(ctx); err != nil || !on {
		return err
	}
	// That it was asked for keeps Docker from restarting it
	// (github.com/moby/moby daemon/kill.go HasBeenManuallyStopped).
	_, killErr := docker.Run(ctx, "kill", n.id)
	err := poll(ctx, func(ctx context.Context) error {
		on, err := n.on(ctx)
		if err == nil && on {
			err = errors.Join(errors.New("its container still runs"), killErr)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: switching it off: %w", n.name, err)
	}
	n.state.mu.Lock()
	n.state.pid = 0
	n.state.mu.Unlock()
	return nil
}

// PowerOn implements clusters.Power.
func (n *localNode) PowerOn(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, powerBound)
	defer cancel()
	if on, err := n.on(ctx); err != nil || on {
		return err
	}
	if !n.ip.IsValid() {
		return fmt.Errorf("%s: switching it on: it is not known which address it had", n.name)
	}
	// Two at a time could get each other's address, whoever starts them.
	unlock, err := lockPower(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	release, err := n.holdLower(ctx)
	if err == nil {
		err = n.start(ctx)
	}
	if err = errors.Join(err, release(ctx)); err != nil {
		return fmt.Errorf("%s: switching it on: %w", n.name, err)
	}
	return nil
}

// on says whether the container runs.
func (n *localNode) on(ctx context.Context) (bool, error) {
	found, err := inspect(ctx, n.id)
	if err != nil {
		return false, fmt.Errorf("%s: %w", n.name, err)
	}
	return found[0].State.Running, nil
}

// start starts the container, and sees that it has its address.
func (n *localNode) start(ctx context.Context) error {
	if _, err := docker.Run(ctx, "start", n.id); err != nil {
		return err
	}
	found, err := inspect(ctx, n.id)
	if err != nil {
		return err
	}
	got := found[0].address()
	if got == n.ip {
		_, err := n.current(ctx)
		return err
	}
	// Nothing on it may take the wrong address for its own.
	_, err = docker.Run(context.WithoutCancel(ctx), "kill", n.id)
	return errors.Join(fmt.Errorf("it got the address %s from Docker instead of %s", got, n.ip), err)
}

// holdLower takes the free addresses below the node's. The containers that hold
// them are of the cluster's own image, carry its labels with that, and end by
// themselves.
func (n *localNode) holdLower(ctx context.Context) (release func(context.Context) error, err error) {
	var held []string
	release = func(ctx context.Context) error {
		if len(held) == 0 {
			return nil
		}
		_, err := docker.Run(context.WithoutCancel(ctx), append([]string{"rm", "--force", "--volumes"}, held...)...)
		return err
	}
	found, err := inspect(ctx, n.id)
	if err != nil {
		return release, err
	}
	network, image := found[0].network(), found[0].Config.Labels[labelCluster]
	if image == "" {
		image = found[0].Config.Labels[kindCluster] // the load balancer carries no label of ours
	}
	out, err := docker.Run(ctx, "network", "inspect", network)
	if err != nil {
		return release, err
	}
	free, err := freeBelow([]byte(out), n.ip)
	if err != nil {
		return release, fmt.Errorf("network %s: %w", network, err)
	}
	for range free {
		id, err := docker.Run(ctx, "run", "--detach", "--rm", "--network", network, "--entrypoint", "/bin/sleep", clusterImage(image), holderLife)
		if err != nil {
			return release, fmt.Errorf("holding an address: %w", err)
		}
		held = append(held, strings.TrimSpace(id))
	}
	return release, nil
}

// freeBelow counts the addresses below one that nobody has, in the answer of
// `docker network inspect`.
func freeBelow(inspectJSON []byte, ip netip.Addr) (int, error) {
	var networks []struct {
		IPAM struct {
			Config []struct{ Subnet, Gateway string }
		}
		Containers map[string]struct{ IPv4Address string }
	}
	if err := json.Unmarshal(inspectJSON, &networks); err != nil {
		return 0, fmt.Errorf("docker network inspect gave no JSON: %w", err)
	}
	for _, network := range networks {
		used := map[netip.Addr]bool{}
		for _, c := range network.Containers {
			if p, err := netip.ParsePrefix(c.IPv4Address); err == nil { // none: a network of IPv6
				used[p.Addr()] = true
			}
		}
		for _, c := range network.IPAM.Config {
			subnet, err := netip.ParsePrefix(c.Subnet)
			if err != nil || !subnet.Contains(ip) {
				continue
			}
			if gw, err := netip.ParseAddr(c.Gateway); err == nil {
				used[gw] = true
			}
			free := 0
			for a := subnet.Masked().Addr().Next(); a.Less(ip); a = a.Next() {
				if used[a] {
					continue
				}
				if free++; free > mostHolders {
					return 0, fmt.Errorf("more than %d addresses below %s are free, so that it cannot be had again", mostHolders, ip)
				}
			}
			if used[ip] {
				return 0, fmt.Errorf("somebody else has its address %s", ip)
			}
			return free, nil
		}
	}
	return 0, fmt.Errorf("none of its subnets holds %s", ip)
}

// lockPower lets one process at a time switch nodes on.
func lockPower(ctx context.Context) (unlock func() error, err error) {
	dir, err := cache.Dir("kind", "locks")
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, ".power.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking the power of nodes: %w", err)
	}
	if err := poll(ctx, func(context.Context) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", f.Name(), err), f.Close())
	}
	return f.Close, nil // which unlocks
}

// lastAddress is the address that a container had when it ran last: Docker writes
// it into the file that it mounts as the container's /etc/hosts, when it starts.
func lastAddress(hostsPath, name string) (netip.Addr, error) {
	b, err := os.ReadFile(hostsPath)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("the address that %s had: %w", name, err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[1] != name {
			continue
		}
		if a, err := netip.ParseAddr(f[0]); err == nil && a.Is4() {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("the address that %s had: %s does not say", name, hostsPath)
}

var _ clusters.Power = (*localNode)(nil)
