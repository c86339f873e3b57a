package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"gameday/clusters"
)

// processes looks at the components of a node that are plain processes: what program
// each runs, and what it answers.
type processes struct {
	*probes
	// versions that programs were seen to say, by their files.
	versions map[file]string
}

// file tells a program from another one under the same name.
type file struct {
	device, inode uint64
	changed       int64
}

func newProcesses(c clusters.Cluster, n clusters.Node, a *api) (prober, error) {
	if n.Role() != clusters.ControlPlane { // nothing of it but a kubelet, which the API is asked about
		return &processes{probes: &probes{cluster: c, node: n, api: a}}, nil
	}
	p, err := newProbes(c, n, a)
	if err != nil {
		return nil, err
	}
	return &processes{probes: p, versions: map[file]string{}}, nil
}

// probe finds a component well if the program that its process runs, and what it
// answers if it tells its version, are of one version.
func (p *processes) probe(ctx context.Context, component string) (sighting, error) {
	if component == kubelet {
		return p.reported(ctx)
	}
	version, err := p.runs(ctx, component)
	if err != nil {
		return sighting{}, err
	}
	if version == "" {
		return sighting{seen: "no process of it"}, nil
	}
	s := sighting{version: version}
	switch component {
	case etcd:
		s, err = p.member(ctx)
	case apiServer:
		s, err = p.server(ctx)
	default:
		if s.well, s.seen = p.healthy(ctx, component), "it is not healthy yet"; s.well {
			s.seen = "/healthz ok"
		}
	}
	if err != nil {
		return sighting{version: version}, fmt.Errorf("process runs %s; %w", version, err)
	}
	s.well = s.well && s.version == version
	s.version, s.seen = version, "process runs "+version+"; "+s.seen
	return s, nil
}

// runs is the version of the program that the component's process runs; empty without
// a process.
func (p *processes) runs(ctx context.Context, component string) (string, error) {
	init, err := p.node.(clusters.Processes).InitPID(ctx)
	if err != nil {
		return "", err
	}
	exe, err := executable("/proc", init, component)
	if err != nil || exe == "" {
		return "", err
	}
	fi, err := os.Stat(exe)
	if err != nil {
		return "", gone(err)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("%s: what file it is cannot be told", exe)
	}
	key := file{device: st.Dev, inode: st.Ino, changed: fi.ModTime().UnixNano()}
	if v, ok := p.versions[key]; ok {
		return v, nil
	}
	v, err := says(ctx, exe)
	if err != nil {
		return "", gone(err)
	}
	p.versions[key] = v
	return v, nil
}

// gone makes nothing of the error that a process is no more.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// executable is the path, on this machine, of the very file that a process runs which
// is in the pid namespace of another one and has a name; empty if there is none.
func executable(proc string, init int, name string) (string, error) {
	ns, err := os.Readlink(filepath.Join(proc, strconv.Itoa(init), "ns/pid"))
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(proc)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		// One that ends meanwhile has no links any more.
		if in, err := os.Readlink(filepath.Join(proc, e.Name(), "ns/pid")); err != nil || in != ns {
			continue
		}
		exe := filepath.Join(proc, e.Name(), "exe")
		target, err := os.Readlink(exe)
		if err == nil && filepath.Base(strings.TrimSuffix(target, " (deleted)")) == name {
			return exe, nil
		}
	}
	return "", nil
}

// says is the version that a program of Kubernetes or etcd prints: v1.37.0, 3.7.0.
func says(ctx context.Context, program string) (string, error) {
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", program, err)
	}
	return versionIn(string(out))
}

func versionIn(out string) (string, error) {
	for _, begin := range []string{"Kubernetes ", "etcd Version: "} {
		if v, ok := strings.CutPrefix(out, begin); ok {
			v, _, _ = strings.Cut(v, "\n")
			return strings.TrimSpace(v), nil
		}
	}
	return "", fmt.Errorf("%.80q names no version", out)
}
