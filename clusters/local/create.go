package local

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"gameday/clusters"
	"gameday/clusters/local/hollow"
	"gameday/clusters/nodeimage"
)

// Create implements clusters.Provider.
func (p *Provider) Create(ctx context.Context, spec clusters.Spec, say clusters.Say) (clusters.Cluster, error) {
	c, err := p.CreateWith(ctx, spec, Settings{}, say)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// CreateWith is Create with more to ask for.
func (*Provider) CreateWith(ctx context.Context, spec clusters.Spec, settings Settings, say clusters.Say) (_ *Cluster, err error) {
	if err := errors.Join(checkSpec(spec), checkMachine()); err != nil {
		return nil, err
	}
	unlock, err := lock(spec.Name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := checkFree(spec.Name); err != nil {
		return nil, err
	}
	binaries, err := nodeimage.EnsureBinaries(ctx, nodeimage.Spec{Version: spec.Version, Replace: spec.Replace}, nodeimage.Log(say))
	if err != nil {
		return nil, err
	}
	// From here on there is something to undo.
	c, err := create(ctx, spec, settings, binaries, say)
	if err != nil {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteBound)
		defer cancel()
		if rmErr := remove(cleanup, spec.Name); rmErr != nil {
			err = fmt.Errorf("%w; and undoing it failed, run `gameday clusters delete %s`: %w", err, spec.Name, rmErr)
		}
		return nil, err
	}
	return c, nil
}

// rootOf is the folder that is the root of a machine.
func rootOf(cluster, machine string) string { return filepath.Join(dirOf(cluster), machine) }

func create(ctx context.Context, spec clusters.Spec, settings Settings, binaries nodeimage.Binaries, say clusters.Say) (*Cluster, error) {
	began := time.Now()
	say("local: creating %s, %d control planes and %d workers of %s, etcd %s (up to %s)", spec.Name, spec.ControlPlanes, spec.Workers, spec.Version, binaries.Etcd, readyBound)
	l, err := claim(spec)
	if err != nil {
		return nil, err
	}
	s, err := newSecrets(time.Now())
	if err != nil {
		return nil, err
	}
	cfg, err := configure(spec, settings, l, s, binaries)
	if err != nil {
		return nil, err
	}
	if err := startKeeper(ctx, cfg); err != nil {
		return nil, err
	}
	c, err := open(ctx, spec.Name, l)
	if err != nil {
		return nil, err
	}
	if err := c.waitReady(ctx, settings, say); err != nil {
		return nil, fmt.Errorf("%w; see the logs: %w", err, c.explain())
	}
	say("local: %s is ready after %s", spec.Name, time.Since(began).Round(100*time.Millisecond))
	return c, nil
}

// claim makes the folder and the control groups of a cluster, and its label.
func claim(spec clusters.Spec) (label, error) {
	unlock, err := lock("") // two must not choose the same network
	if err != nil {
		return label{}, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := os.MkdirAll(dirOf(spec.Name), 0o755); err != nil {
		return label{}, err
	}
	l := label{Run: spec.Run, Version: spec.Version, Created: time.Now().UTC(), ControlPlanes: spec.ControlPlanes, Workers: spec.Workers}
	all, err := names()
	if err != nil {
		return l, err
	}
	var taken []netip.Prefix
	for _, n := range all {
		if other, err := readLabel(n); err == nil {
			taken = append(taken, other.Subnet)
		}
	}
	if l.Subnet, err = freeSubnet(taken); err != nil {
		return l, err
	}
	var machines []string
	for _, n := range layout(spec.Name, l) {
		if n.Role() != clusters.Worker {
			machines = append(machines, n.Name())
		}
	}
	// Before the groups are there the label says where they will be.
	if l.Groups, err = makeGroups(spec.Name, machines); err != nil {
		return l, errors.Join(err, l.write(spec.Name))
	}
	return l, l.write(spec.Name)
}

// podNets are the first bytes of the addresses that pods get: the workers' 10.128/9,
// each control plane's own.
func podNet(controlPlane int) [4]byte {
	if controlPlane < 0 {
		return [4]byte{10, 128, 0, 0}
	}
	return [4]byte{10, byte(100 + controlPlane), 0, 0}
}

// configure writes the files of the machines, and says what the keeper is to do.
func configure(spec clusters.Spec, settings Settings, l label, s *secrets, binaries nodeimage.Binaries) (keeperConfig, error) {
	cfg := keeperConfig{Cluster: spec.Name, Dir: dirOf(spec.Name), Subnet: l.Subnet}
	for _, dir := range l.Groups {
		cfg.Groups = append(cfg.Groups, dir)
	}
	var all []member
	nodes := layout(spec.Name, l)
	for _, n := range clusters.ByRole(nodes, clusters.ControlPlane) {
		all = append(all, member{n.Name(), n.IP()})
	}
	hollowOf := func(server netip.Addr, net [4]byte, nodes ...hollow.Node) *hollowConfig {
		return &hollowConfig{
			Nodes: nodes, Server: apiURL(server), CA: s.ca.pem.Cert, Creds: s.hollow, Version: spec.Version, PodNet: net,
			Renew: settings.NodeLease / hollow.LeaseParts,
		}
	}
	var workers []hollow.Node
	for _, n := range nodes {
		m := machineConfig{Name: n.Name(), IP: n.IP(), Root: rootOf(spec.Name, n.Name()), Binaries: binaries.Dir}
		switch n.Role() {
		case clusters.Worker:
			w := hollow.Node{Name: n.Name(), IP: n.IP().String(), Labels: labelsOf(spec, n)}
			if k := len(settings.WorkerLabels); k > 0 {
				for key, v := range settings.WorkerLabels[n.Index()%k] {
					w.Labels[key] = v
				}
			}
			workers = append(workers, w)
			continue
		case clusters.LoadBalancer:
			m.CA = s.ca.pem.Cert
			for _, o := range all {
				m.Balance = append(m.Balance, api(o))
			}
			if err := writeFiles(m, nil); err != nil {
				return cfg, err
			}
		case clusters.ControlPlane:
			me := all[n.Index()]
			m.Components = []component{
				etcd(me, all, binaries.Etcd), apiServer(me, spec.Version, settings), controllerManager(me, settings), scheduler(me),
			}
			if !settings.NoControlPlaneNodes {
				labels := labelsOf(spec, n)
				labels["node-role.kubernetes.io/control-plane"] = ""
				for k, v := range settings.ControlPlaneLabels {
					labels[k] = v
				}
				// A control plane's kubelet talks to its own API server.
				m.Kubelet = hollowOf(n.IP(), podNet(n.Index()), hollow.Node{
					Name: n.Name(), IP: n.IP().String(), Labels: labels,
					Taints: []corev1.Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule}},
				})
			}
			files, err := s.files(n.Name(), n.IP(), l.front())
			if err != nil {
				return cfg, err
			}
			files[auditFile] = clusters.AuditPolicy
			files[auditDir+"/.keep"], files[output+"/.keep"], files[etcdData+"/.keep"] = nil, nil, nil
			if err := writeFiles(m, files); err != nil {
				return cfg, err
			}
		}
		cfg.Machines = append(cfg.Machines, m)
	}
	if len(workers) > 0 {
		cfg.Workers = hollowOf(l.front(), podNet(-1), workers...)
	}
	return cfg, nil
}

// labelsOf are the labels that every node has.
func labelsOf(spec clusters.Spec, n clusters.Node) map[string]string {
	out := map[string]string{clusters.LabelRun: spec.Run}
	if zone := clusters.Zone(spec.Zones, n.Index()); zone != "" {
		out[corev1.LabelTopologyZone] = zone
	}
	return out
}

// writeFiles fills the folder of a machine.
func writeFiles(m machineConfig, files map[string][]byte) error {
	if files == nil {
		files = map[string][]byte{}
	}
	files["/etc/hosts"] = fmt.Appendf(nil, "127.0.0.1 localhost\n%s %s\n", m.IP, m.Name)
	for name, data := range files {
		at := filepath.Join(m.Root, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if filepath.Base(name) == ".keep" { // only the folder is wanted
			continue
		}
		if err := os.WriteFile(at, data, 0o600); err != nil {
			return err
		}
	}
	// etcd wants its folder to itself.
	if slices.ContainsFunc(m.Components, func(c component) bool { return c.Name == "etcd" }) {
		return os.Chmod(filepath.Join(m.Root, etcdData), 0o700)
	}
	return nil
}

// keeperTime bounds the start of the keeper and all machines: less than a second.
const keeperTime = time.Minute

// startKeeper starts the keeper, gives it its network, and returns when all machines
// run.
func startKeeper(ctx context.Context, cfg keeperConfig) error {
	p, err := startPart(keeperPart, cfg.Cluster+"/"+keeperPart, filepath.Join(cfg.Dir, "keeper.log"))
	if err != nil {
		return err
	}
	if err := connect(cfg.Cluster, cfg.Subnet, p.pid()); err != nil {
		return err
	}
	if err := enter(cfg.Groups, "", p.pid()); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- p.ask(cfg) }()
	select {
	case err := <-done:
		return err
	case <-time.After(keeperTime):
		return fmt.Errorf("the keeper of %s did not start within %s", cfg.Cluster, keeperTime)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
