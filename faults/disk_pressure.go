package faults

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"gameday/clusters"
	"gameday/faults/mechanism/ballast"
)

var diskPressure = Kind{
	Name: "disk.pressure",
	Doc:  "Fills the kubelet's file system on the targets until the kubelet reports DiskPressure and evicts pods.",
	Rehearses: "Logs, images or emptyDirs that fill a node's disk: the node is tainted, pods are evicted in order of their use, and " +
		"nothing is scheduled there (https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/).",
	Mechanism: "a ballast file in /var/lib/kubelet (fallocate), only where that is a file system of its own, in an image file. " +
		"Not available on kind: its nodes are on the disk of this machine, and their kubelets do not look at it",
	Undo:        "the guard, or gameday heal, removes the ballast; the kubelet then reports the pressure for 5 min more",
	Roles:       []clusters.Role{clusters.ControlPlane, clusters.Worker},
	Needs:       []clusters.Capability{clusters.CapProcesses, clusters.CapFiles, clusters.CapKubelet},
	Cost:        Cost{Nodes: 1},
	ProveWithin: 3 * time.Minute,
	// k8s.io/kubernetes@v1.37.0 pkg/kubelet/apis/config/v1beta1/defaults.go EvictionPressureTransitionPeriod: 5 min.
	GoneWithin: 8 * time.Minute,
	Trials:     []Trial{{Name: "disk-pressure", Target: Target{Pick: PickOne, Role: "worker"}}},
	New:        func() Fault { return &DiskPressure{Left: 5} },
}

var inodesPressure = Kind{
	Name: "inodes.pressure",
	Doc:  "Uses up the inodes of the kubelet's file system on the targets until the kubelet reports DiskPressure and evicts pods.",
	Rehearses: "A program that makes small files without end: the disk has room, and no file can be made on it. The kubelet counts " +
		"inodes beside bytes (https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#eviction-signals).",
	Mechanism: "empty files in /var/lib/kubelet, only where that is a file system of its own, in an image file. " +
		"Not available on kind: its nodes are on the disk of this machine, and their kubelets do not look at it",
	Undo:        "the guard, or gameday heal, removes the files; the kubelet then reports the pressure for 5 min more",
	Roles:       []clusters.Role{clusters.ControlPlane, clusters.Worker},
	Needs:       []clusters.Capability{clusters.CapProcesses, clusters.CapFiles, clusters.CapKubelet},
	Cost:        Cost{Nodes: 1},
	ProveWithin: 3 * time.Minute,
	GoneWithin:  8 * time.Minute,
	Trials:      []Trial{{Name: "inodes-pressure", Target: Target{Pick: PickOne, Role: "worker"}}},
	New:         func() Fault { return &InodesPressure{Left: 2} },
}

const (
	// kubeletFolder is what the kubelet calls its nodefs, and kubeletConfig where
	// kubeadm puts its configuration: k8s.io/kubernetes@v1.37.0
	// cmd/kubeadm/app/constants/constants.go KubeletRunDirectory.
	kubeletFolder = "/var/lib/kubelet"
	kubeletConfig = kubeletFolder + "/config.yaml"
)

// DiskPressure is the fault disk.pressure.
type DiskPressure struct {
	// Left is how many percent of the bytes stay free. The kubelet evicts below 10:
	// k8s.io/kubernetes@v1.37.0 pkg/kubelet/eviction/defaults_linux.go.
	Left int `yaml:"left" json:"left"`
}

// InodesPressure is the fault inodes.pressure.
type InodesPressure struct {
	// Left is how many percent of the inodes stay free. The kubelet evicts below 5.
	Left int `yaml:"left" json:"left"`
}

// Validate implements Validator.
func (f *DiskPressure) Validate() []error { return checkLeft(f.Left, 9) }

// Validate implements Validator.
func (f *InodesPressure) Validate() []error { return checkLeft(f.Left, 4) }

func checkLeft(left, most int) []error {
	if left < 0 || left > most {
		return []error{fmt.Errorf("left: %d percent is not between 0 and %d, above which the kubelet sees no pressure", left, most)}
	}
	return nil
}

// Describe implements Describer.
func (f *DiskPressure) Describe(targets []string) []string {
	return each(targets, fmt.Sprintf("%%s: fallocate %s/gameday-TAG/ballast until %d%%%% are free", kubeletFolder, f.Left))
}

// Describe implements Describer.
func (f *InodesPressure) Describe(targets []string) []string {
	return each(targets, fmt.Sprintf("%%s: make files in %s/gameday-TAG until %d%%%% of the inodes are free", kubeletFolder, f.Left))
}

// Inject fills up.
func (f *DiskPressure) Inject(ctx context.Context, env Env) error {
	return fill(ctx, env, "nodefs.available", func(folder string, s ballast.Space) error {
		return ballast.Bytes(folder, s.Bytes/100*uint64(f.Left))
	})
}

// Inject uses inodes up.
func (f *InodesPressure) Inject(ctx context.Context, env Env) error {
	return fill(ctx, env, "nodefs.inodesFree", func(folder string, s ballast.Space) error {
		return ballast.Inodes(ctx, folder, s.Inodes/100*uint64(f.Left))
	})
}

// Heal removes the ballast.
func (*DiskPressure) Heal(ctx context.Context, env Env) error { return removeBallast(ctx, env) }

// Heal removes the files.
func (*InodesPressure) Heal(ctx context.Context, env Env) error { return removeBallast(ctx, env) }

// Prove asks the API what the kubelet says of its disk.
func (*DiskPressure) Prove(ctx context.Context, env Env) (Effect, error) {
	return underPressure(ctx, env)
}

// Prove asks the API what the kubelet says of its disk.
func (*InodesPressure) Prove(ctx context.Context, env Env) (Effect, error) {
	return underPressure(ctx, env)
}

// fill fills the kubelet's file system of each target, after all have been seen to
// be fit for it.
func fill(ctx context.Context, env Env, signal string, with func(folder string, s ballast.Space) error) error {
	folders := map[string]string{}
	for _, n := range env.Targets {
		folder, err := seenFromHere(ctx, n, kubeletFolder)
		if err != nil {
			return err
		}
		if err := ballast.Own(folder); err != nil {
			return fmt.Errorf("%s: %s cannot be filled: %w", n.Name(), kubeletFolder, err)
		}
		if err := watches(ctx, n, signal); err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
		folders[n.Name()] = folder
	}
	for _, n := range env.Targets {
		s, err := ballast.Look(folders[n.Name()])
		if err == nil {
			err = with(filepath.Join(folders[n.Name()], "gameday-"+env.Tag), s)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
	}
	return nil
}

// seenFromHere is a folder of a node as a path of this machine.
func seenFromHere(ctx context.Context, n clusters.Node, dir string) (string, error) {
	p, ok := n.(clusters.Processes)
	if !ok {
		return "", fmt.Errorf("%s does not show its processes (capability %s)", n.Name(), clusters.CapProcesses)
	}
	init, err := p.InitPID(ctx)
	return filepath.Join("/proc", strconv.Itoa(init), "root", dir), err
}

// watches says whether a node's kubelet looks at a signal: kind tells its kubelets
// not to (sigs.k8s.io/kind@v0.33.0 pkg/cluster/internal/kubeadm/config.go,
// evictionHard).
func watches(ctx context.Context, n clusters.Node, signal string) error {
	node, err := files(n)
	if err != nil {
		return err
	}
	b, err := node.ReadFile(ctx, kubeletConfig)
	if err != nil {
		return err
	}
	var config struct {
		EvictionHard map[string]string `json:"evictionHard"`
	}
	if err := yaml.Unmarshal(b, &config); err != nil {
		return fmt.Errorf("%s: %w", kubeletConfig, err)
	}
	if at, told := config.EvictionHard[signal]; told && strings.TrimRight(at, "%0.") == "" {
		return fmt.Errorf("its kubelet evicts nothing for want of space (evictionHard %s: %q): %w", signal, at, errors.ErrUnsupported)
	}
	return nil
}

func removeBallast(ctx context.Context, env Env) error {
	var errs []error
	for _, n := range env.Targets {
		node, err := files(n)
		if err == nil {
			err = node.RemoveAll(ctx, path.Join(kubeletFolder, "gameday-"+env.Tag))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// underPressure reads the node's condition.
func underPressure(ctx context.Context, env Env) (Effect, error) {
	conditions := func(ctx context.Context, n clusters.Node) (disk, ready corev1.ConditionStatus, err error) {
		var node *corev1.Node
		err = throughAPI(ctx, env.Cluster, func(ctx context.Context, cli kubernetes.Interface) (err error) {
			node, err = cli.CoreV1().Nodes().Get(ctx, n.Name(), metav1.GetOptions{})
			return err
		})
		if err != nil {
			return "", "", fmt.Errorf("conditions of %s: %w", n.Name(), err)
		}
		for _, c := range node.Status.Conditions {
			switch c.Type {
			case corev1.NodeDiskPressure:
				disk = c.Status
			case corev1.NodeReady:
				ready = c.Status
			}
		}
		return disk, ready, nil
	}
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		disk, ready, err := conditions(ctx, n)
		if err != nil {
			return seen{}, err
		}
		return seen{
			broken: disk == corev1.ConditionTrue, whole: disk == corev1.ConditionFalse && ready == corev1.ConditionTrue,
			evidence: fmt.Sprintf("its kubelet says DiskPressure %s, Ready %s", disk, ready),
		}, nil
	})
	if err != nil {
		return e, err
	}
	if rest := restNodes(env); e.Active && len(rest) > 0 {
		e.Control, err = control(ctx, rest, "says DiskPressure False", func(ctx context.Context, n clusters.Node) error {
			disk, _, err := conditions(ctx, n)
			if err == nil && disk != corev1.ConditionFalse {
				err = fmt.Errorf("%s says DiskPressure %s", n.Name(), disk)
			}
			return err
		})
		if err != nil {
			e.Active = false
			e.Evidence += fmt.Sprintf("; but so do others: %v", err)
		}
	}
	e.At = time.Now()
	return e, nil
}
