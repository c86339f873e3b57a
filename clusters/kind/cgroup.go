package kind

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"gameday/clusters"
)

// Cgroup implements clusters.Cgroups: the control group that Docker made for the
// node's container. What systemd and the kubelet make for services and pods is
// below it.
func (n *localNode) Cgroup(ctx context.Context) (clusters.Cgroup, error) {
	s, err := n.current(ctx)
	if err != nil {
		return clusters.Cgroup{}, err
	}
	of, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", s.pid))
	if err != nil {
		return clusters.Cgroup{}, fmt.Errorf("%s: its control group: %w", n.name, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return clusters.Cgroup{}, fmt.Errorf("mounts of this machine: %w", err)
	}
	g, err := cgroupOf(n.id, string(of), string(mounts))
	if err != nil {
		return g, fmt.Errorf("%s: its control group: %w", n.name, err)
	}
	for _, dir := range g.Controllers {
		_, serr := os.Stat(dir)
		err = errors.Join(err, serr)
	}
	if g.Unified != "" {
		_, serr := os.Stat(g.Unified)
		err = errors.Join(err, serr)
	}
	if err != nil {
		return clusters.Cgroup{}, fmt.Errorf("%s: its control group is not to be seen from here: %w", n.name, err)
	}
	return g, nil
}

// cgroupOf finds the folders of a container in the text of /proc/PID/cgroup of one
// of its processes (cgroups(7)) and of /proc/self/mountinfo. The process may be in
// a group further down, as systemd is.
func cgroupOf(container, procCgroup, mountinfo string) (clusters.Cgroup, error) {
	g := clusters.Cgroup{Controllers: map[string]string{}}
	unified, byController := cgroupMounts(mountinfo)
	for line := range strings.Lines(procCgroup) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			return g, fmt.Errorf("%q is no line of /proc/PID/cgroup", line)
		}
		controllers, in := f[1], f[2]
		if f[0] == "0" {
			// Some machines mount the second version beside the first and put nobody
			// into it.
			if unified.point != "" {
				if dir, err := folder(unified, in, container); err == nil {
					g.Unified = dir
				}
			}
			continue
		}
		for _, c := range strings.Split(controllers, ",") {
			m, ok := byController[c]
			if !ok || strings.HasPrefix(c, "name=") {
				continue // not mounted here, or for bookkeeping only
			}
			dir, err := folder(m, in, container)
			if err != nil {
				return g, err
			}
			g.Controllers[c] = dir
		}
	}
	if g.Unified == "" && len(g.Controllers) == 0 {
		return g, fmt.Errorf("none of its hierarchies is mounted here: %q", procCgroup)
	}
	return g, nil
}

// cgroupMount is where a hierarchy is mounted, and which part of it.
type cgroupMount struct{ root, point string }

// cgroupMounts reads proc_pid_mountinfo(5): the options of a hierarchy of the
// first version name its controllers.
func cgroupMounts(mountinfo string) (unified cgroupMount, byController map[string]cgroupMount) {
	byController = map[string]cgroupMount{}
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		b, a := strings.Fields(before), strings.Fields(after)
		if !ok || len(b) < 5 || len(a) < 3 {
			continue
		}
		m := cgroupMount{root: b[3], point: b[4]}
		switch a[0] {
		case "cgroup2":
			unified = m
		case "cgroup":
			for _, o := range strings.Split(a[2], ",") {
				byController[o] = m
			}
		}
	}
	return unified, byController
}

// folder is where the container's group is in a mount: the part of the path up to
// the name that holds the container's id (docker/ID, or docker-ID.scope).
func folder(m cgroupMount, in, container string) (string, error) {
	parts := strings.Split(in, "/")
	for i, p := range parts {
		if !strings.Contains(p, container) {
			continue
		}
		whole := path.Join("/", path.Join(parts[:i+1]...))
		below, ok := strings.CutPrefix(whole, strings.TrimSuffix(m.root, "/"))
		if !ok || strings.Contains(in, "..") {
			return "", fmt.Errorf("%s is outside of what is mounted at %s", in, m.point)
		}
		return path.Join(m.point, below), nil
	}
	return "", fmt.Errorf("%s is not the group of container %.12s, nor below it", in, container)
}
