package kind

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"gameday/clusters"
	"gameday/clusters/docker"
)

// How a cluster is found again.
//
// kind labels each container with the cluster's name and the node's role, and
// has no option for more; Docker cannot label a container once it is there. But
// a container inherits the labels of its image. So each cluster gets an image of
// its own, made from the node image by `docker commit`: nothing but one small
// layer on top, made in less than a second. It carries the run, the provider,
// the cluster's name and the Kubernetes version, and with it every node does.
// Being made before the first container and removed after the last, it also
// marks what a killed `gameday` leaves half made.
//
// The load balancer alone runs an image whose name kind fixes for all clusters,
// and is known by kind's label with the cluster's name.
//
// The same layer carries files that a node needs before kubeadm runs, which
// keeps clusters free of mounts from this machine but for the disks of etcd, which
// are found again by their place (disk.go).
const (
	labelCluster    = "gameday.cluster"
	labelKubernetes = "gameday.kubernetes"
	// kindCluster and kindRole are kind's own labels:
	// sigs.k8s.io/kind@v0.33.0 pkg/cluster/internal/providers/docker/constants.go.
	kindCluster = "io.x-k8s.kind.cluster"
	kindRole    = "io.x-k8s.kind.role"

	providerName = "kind"
)

// auditPolicyPath is where the policy is on every node.
const auditPolicyPath = "/etc/gameday/audit-policy.yaml"

// clusterImage is the name of a cluster's own image. The host part keeps Docker
// from ever asking a registry for it.
func clusterImage(name string) string { return "gameday.local/kind/" + name + ":node" }

// markImage makes the cluster's own image and returns its name.
func markImage(ctx context.Context, spec clusters.Spec, base string) (image string, err error) {
	labels := map[string]string{
		clusters.LabelRun:      spec.Run,
		clusters.LabelProvider: providerName,
		labelCluster:           spec.Name,
		labelKubernetes:        spec.Version,
	}
	args := []string{"create", "--network=none"}
	for _, k := range []string{clusters.LabelRun, clusters.LabelProvider, labelCluster, labelKubernetes} {
		args = append(args, "--label", k+"="+labels[k])
	}
	out, err := docker.Run(ctx, append(args, base)...)
	if err != nil {
		return "", fmt.Errorf("marking the node image: %w", err)
	}
	id := strings.TrimSpace(out)
	defer func() {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), dockerBound)
		defer cancel()
		_, rmErr := docker.Run(cleanup, "rm", "--force", "--volumes", id)
		err = errors.Join(err, rmErr)
	}()
	files, err := nodeFiles()
	if err != nil {
		return "", err
	}
	if _, err := docker.RunInput(ctx, files, "cp", "-", id+":/"); err != nil {
		return "", fmt.Errorf("marking the node image: %w", err)
	}
	image = clusterImage(spec.Name)
	if _, err := docker.Run(ctx, "commit", id, image); err != nil {
		return "", fmt.Errorf("marking the node image: %w", err)
	}
	return image, nil
}

// nodeFiles is an archive of the files that every node is born with.
func nodeFiles() (io.Reader, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	name := strings.TrimPrefix(auditPolicyPath, "/")
	err := errors.Join(
		w.WriteHeader(&tar.Header{Name: "etc/gameday/", Mode: 0o755, Typeflag: tar.TypeDir}),
		w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(clusters.AuditPolicy)), Typeflag: tar.TypeReg}),
	)
	if err == nil {
		_, err = w.Write(clusters.AuditPolicy)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("packing the files of a node: %w", err)
	}
	return &buf, nil
}

// container is the part of `docker inspect` that is used.
type container struct {
	ID      string `json:"Id"`
	Name    string // with a leading slash
	Created time.Time
	State   struct {
		Running bool
		Pid     int
	}
	// HostsPath is where this machine keeps the container's /etc/hosts.
	HostsPath string
	Config    struct {
		Labels map[string]string
		Env    []string
	}
	HostConfig struct {
		PortBindings map[string][]struct{ HostIP, HostPort string }
		Binds        []string
		UsernsMode   string
		Devices      []struct{ PathOnHost string }
	}
	NetworkSettings struct {
		Networks map[string]struct {
			IPAddress, MacAddress, Gateway string
		}
		Ports map[string][]struct{ HostIP, HostPort string }
	}
}

func (c container) name() string { return strings.TrimPrefix(c.Name, "/") }

// network is the one that kind put the container on; it is there too when the
// container does not run.
func (c container) network() string {
	for name := range c.NetworkSettings.Networks {
		return name
	}
	return ""
}

// address is the container's, as long as it runs.
func (c container) address() netip.Addr {
	for _, n := range c.NetworkSettings.Networks {
		if a, err := netip.ParseAddr(n.IPAddress); err == nil {
			return a
		}
	}
	return netip.Addr{}
}

// containersOf finds all containers of a cluster, ours or not.
func containersOf(ctx context.Context, name string) ([]container, error) {
	return findContainers(ctx, kindCluster+"="+name)
}

// findContainers lists the containers with a label. One that is removed between
// the two questions makes Docker fail the second; then both are asked again.
func findContainers(ctx context.Context, label string) ([]container, error) {
	ctx, cancel := context.WithTimeout(ctx, dockerBound)
	defer cancel()
	var last error
	for range 5 {
		out, err := docker.Run(ctx, "ps", "--all", "--quiet", "--no-trunc", "--filter", "label="+label)
		if err != nil {
			return nil, err
		}
		ids := strings.Fields(out)
		if len(ids) == 0 {
			return nil, nil
		}
		found, err := inspect(ctx, ids...)
		if err == nil {
			return found, nil
		}
		last = err
	}
	return nil, last
}

func inspect(ctx context.Context, ids ...string) ([]container, error) {
	out, err := docker.Run(ctx, append([]string{"inspect", "--type=container"}, ids...)...)
	if err != nil {
		return nil, err
	}
	var found []container
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		return nil, fmt.Errorf("docker inspect gave no JSON: %w", err)
	}
	return found, nil
}

// mark is what an image of ours says about its cluster.
type mark struct {
	image   string // id
	tag     string
	labels  map[string]string
	created time.Time
}

// findMarks lists the clusters' own images, those of one cluster if it is named.
func findMarks(ctx context.Context, cluster string) ([]mark, error) {
	ctx, cancel := context.WithTimeout(ctx, dockerBound)
	defer cancel()
	args := []string{"image", "ls", "--quiet", "--no-trunc", "--filter", "label=" + clusters.LabelProvider + "=" + providerName}
	if cluster != "" {
		args = append(args, "--filter", "label="+labelCluster+"="+cluster)
	}
	out, err := docker.Run(ctx, args...)
	if err != nil {
		return nil, err
	}
	ids := strings.Fields(out)
	if len(ids) == 0 {
		return nil, nil
	}
	out, err = docker.Run(ctx, append([]string{"inspect", "--type=image"}, ids...)...)
	if err != nil {
		return nil, err
	}
	return parseMarks([]byte(out))
}

func parseMarks(inspectJSON []byte) ([]mark, error) {
	var images []struct {
		ID       string `json:"Id"`
		RepoTags []string
		Created  time.Time
		Config   struct{ Labels map[string]string }
	}
	if err := json.Unmarshal(inspectJSON, &images); err != nil {
		return nil, fmt.Errorf("docker inspect gave no JSON: %w", err)
	}
	var out []mark
	for _, i := range images {
		name := i.Config.Labels[labelCluster]
		if name == "" || i.Config.Labels[clusters.LabelProvider] != providerName {
			continue
		}
		m := mark{image: i.ID, labels: i.Config.Labels, created: i.Created}
		for _, t := range i.RepoTags {
			if t == clusterImage(name) {
				m.tag = t
			}
		}
		out = append(out, m)
	}
	return out, nil
}
