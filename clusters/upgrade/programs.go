package upgrade

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gameday/clusters"
	"gameday/clusters/nodeimage"
)

// Programs are the Targets for nodes whose components are plain programs.
type Programs struct{ from nodeimage.Binaries }

// FromBinaries are the targets that are a folder of programs.
func FromBinaries(b nodeimage.Binaries) Programs { return Programs{from: b} }

// Program is the path, on this machine, of a component of a control plane.
func (p Programs) Program(component string) (string, error) {
	at := filepath.Join(p.from.Dir, component)
	if _, err := os.Stat(at); err != nil {
		return "", fmt.Errorf("targets of the upgrade: %w", err)
	}
	return at, nil
}

// Binaries implements Targets. There are none: such nodes have no kubeadm, and a
// kubelet that is hollow.
func (Programs) Binaries(context.Context) (kubeadm, kubelet, kubectl string, err error) {
	return "", "", "", fmt.Errorf("targets of the upgrade: nodes of plain programs have neither kubeadm nor a kubelet to install")
}

// Images implements Targets: no container is run, and none asks for its image.
func (Programs) Images(context.Context, clusters.Role) (map[string]string, error) { return nil, nil }

// NodeImage implements Targets. There is none.
func (Programs) NodeImage() string { return "" }

// Etcd implements Targets.
func (p Programs) Etcd() string { return strings.TrimPrefix(p.from.Etcd, "v") }
