package local

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"gameday/clusters"
)

// worker is a node that is only a Node object.
type worker struct {
	name    string
	cluster string
	index   int
	ip      netip.Addr
}

func (w *worker) Name() string        { return w.name }
func (w *worker) Role() clusters.Role { return clusters.Worker }
func (w *worker) Index() int          { return w.index }
func (w *worker) IP() netip.Addr      { return w.ip }

// balancerNode is the load balancer: it has a link, and no process of its own that
// could be broken apart from its machine.
type balancerNode struct{ m *machine }

func (b *balancerNode) Name() string        { return b.m.name }
func (b *balancerNode) Role() clusters.Role { return clusters.LoadBalancer }
func (b *balancerNode) Index() int          { return 0 }
func (b *balancerNode) IP() netip.Addr      { return b.m.ip }

// Link implements clusters.Network.
func (b *balancerNode) Link(ctx context.Context) (clusters.Link, error) { return b.m.Link(ctx) }

// Cgroup implements clusters.Cgroups.
func (b *balancerNode) Cgroup(ctx context.Context) (clusters.Cgroup, error) { return b.m.Cgroup(ctx) }

// PowerOff implements clusters.Power.
func (b *balancerNode) PowerOff(ctx context.Context) error { return b.m.PowerOff(ctx) }

// PowerOn implements clusters.Power.
func (b *balancerNode) PowerOn(ctx context.Context) error { return b.m.PowerOn(ctx) }

// machine is a control plane.
type machine struct {
	name    string
	cluster string
	index   int
	ip      netip.Addr
	groups  map[string]string
	own     *process // the machine's first
	keeper  *process
}

// process is one that is found by its label; it is remembered as long as it lives.
type process struct {
	what string

	mu    sync.Mutex
	pid   int
	start string
}

func (p *process) current() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid != 0 {
		if start, err := startTime(p.pid); err == nil && start == p.start {
			return p.pid, nil
		}
	}
	var err error
	p.pid, p.start, err = processOf(p.what)
	if err == nil && p.pid == 0 {
		err = fmt.Errorf("%s does not run", p.what)
	}
	return p.pid, err
}

func newMachine(cluster, name string, index int, ip netip.Addr, groups map[string]string, keeper *process) *machine {
	return &machine{
		name: name, cluster: cluster, index: index, ip: ip, groups: groups,
		own: &process{what: cluster + "/" + name}, keeper: keeper,
	}
}

func (m *machine) Name() string        { return m.name }
func (m *machine) Role() clusters.Role { return clusters.ControlPlane }
func (m *machine) Index() int          { return m.index }
func (m *machine) IP() netip.Addr      { return m.ip }

// InitPID implements clusters.Processes.
func (m *machine) InitPID(context.Context) (int, error) { return m.own.current() }

// Link implements clusters.Network.
func (m *machine) Link(context.Context) (clusters.Link, error) {
	pid, err := m.own.current()
	if err != nil {
		return clusters.Link{}, err
	}
	keeper, err := m.keeper.current()
	if err != nil {
		return clusters.Link{}, err
	}
	return clusters.Link{
		NetNS: fmt.Sprintf("/proc/%d/ns/net", pid), Interface: machineLink, MAC: hardware(m.ip),
		IPs: []netip.Addr{m.ip}, BridgeNetNS: fmt.Sprintf("/proc/%d/ns/net", keeper),
	}, nil
}

// Cgroup implements clusters.Cgroups.
func (m *machine) Cgroup(context.Context) (clusters.Cgroup, error) {
	return groupOf(m.groups, m.name), nil
}

// PowerOff implements clusters.Power: the machine's first process is killed, and the
// kernel ends all others of its pid namespace with it. Its files stay.
func (m *machine) PowerOff(ctx context.Context) error {
	if err := tell(ctx, dirOf(m.cluster), "Off", m.name); err != nil {
		return fmt.Errorf("%s: switching it off: %w", m.name, err)
	}
	return nil
}

// PowerOn implements clusters.Power.
func (m *machine) PowerOn(ctx context.Context) error {
	if err := tell(ctx, dirOf(m.cluster), "On", m.name); err != nil {
		return fmt.Errorf("%s: switching it on: %w", m.name, err)
	}
	return nil
}

// outputKept is how much of what a command says goes into an error.
const outputKept = 4 << 10

// Exec implements clusters.Execer, with nsenter(1). The command has the machine's
// files and network; it is not in its pid namespace, so that it ends when it is
// killed here.
func (m *machine) Exec(ctx context.Context, c clusters.Command) error {
	if len(c.Argv) == 0 {
		return fmt.Errorf("%s: a command without words", m.name)
	}
	pid, err := m.own.current()
	if err != nil {
		return err
	}
	args := append([]string{"--target", fmt.Sprint(pid), "--mount", "--net", "--uts", "--"}, c.Argv...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, c.Env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, &stdout, &stderr
	if c.Stdout != nil {
		cmd.Stdout = c.Stdout
	}
	if c.Stderr != nil {
		cmd.Stderr = io.MultiWriter(c.Stderr, &stderr)
	}
	// Its own process group, so that what it started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %q: %w", m.name, strings.Join(c.Argv, " "), context.Cause(ctx))
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("%s: %q could not be run: %w", m.name, strings.Join(c.Argv, " "), err)
	}
	said := stderr.String()
	if said == "" {
		said = stdout.String()
	}
	return &clusters.ExitError{Node: m.name, Argv: c.Argv, Code: exit.ExitCode(), Output: said[max(0, len(said)-outputKept):]}
}

// Files are those in the machine's folder, which is there whether it is on or not.

func (m *machine) within(do func(*os.Root) error) error {
	r, err := os.OpenRoot(rootOf(m.cluster, m.name))
	if err != nil {
		return fmt.Errorf("%s: its files: %w", m.name, err)
	}
	if err := errors.Join(do(r), r.Close()); err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	return nil
}

// ReadFile implements clusters.Files.
func (m *machine) ReadFile(_ context.Context, name string) (data []byte, err error) {
	err = m.within(func(r *os.Root) error {
		rel, err := relative(name)
		if err == nil {
			data, err = r.ReadFile(rel)
		}
		return err
	})
	return data, err
}

// WriteFile implements clusters.Files.
func (m *machine) WriteFile(_ context.Context, name string, data []byte, mode fs.FileMode) error {
	return m.within(func(r *os.Root) error {
		rel, err := relative(name)
		if err != nil {
			return err
		}
		dir := path.Dir(rel)
		if err := r.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		tmp := path.Join(dir, ".gameday-"+rand.Text())
		f, err := r.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()) // Chmod: the umask does not count
		if err == nil {
			err = r.Rename(tmp, rel)
		}
		if err != nil {
			return errors.Join(err, r.Remove(tmp))
		}
		return nil
	})
}

// Rename implements clusters.Files.
func (m *machine) Rename(_ context.Context, from, to string) error {
	return m.within(func(r *os.Root) error {
		relFrom, err := relative(from)
		if err != nil {
			return err
		}
		relTo, err := relative(to)
		if err != nil {
			return err
		}
		if err := r.MkdirAll(path.Dir(relTo), 0o755); err != nil {
			return err
		}
		return r.Rename(relFrom, relTo)
	})
}

// RemoveAll implements clusters.Files.
func (m *machine) RemoveAll(_ context.Context, name string) error {
	return m.within(func(r *os.Root) error {
		rel, err := relative(name)
		if err != nil {
			return err
		}
		if rel == "." {
			return errors.New("removing the whole node is refused")
		}
		return r.RemoveAll(rel)
	})
}

// ReadDir implements clusters.Files.
func (m *machine) ReadDir(_ context.Context, name string) (out []string, err error) {
	err = m.within(func(r *os.Root) error {
		rel, err := relative(name)
		if err != nil {
			return err
		}
		d, err := r.Open(rel)
		if err != nil {
			return err
		}
		out, err = d.Readdirnames(-1)
		slices.Sort(out)
		return errors.Join(err, d.Close())
	})
	return out, err
}

// relative is an absolute path of a node as a path inside its folder.
func relative(name string) (string, error) {
	if !path.IsAbs(name) {
		return "", fmt.Errorf("%q is not an absolute path", name)
	}
	if name = strings.TrimPrefix(path.Clean(name), "/"); name == "" {
		return ".", nil
	}
	return name, nil
}

var (
	_ clusters.Execer    = (*machine)(nil)
	_ clusters.Files     = (*machine)(nil)
	_ clusters.Processes = (*machine)(nil)
	_ clusters.Network   = (*machine)(nil)
	_ clusters.Cgroups   = (*machine)(nil)
	_ clusters.Power     = (*machine)(nil)
	_ clusters.Network   = (*balancerNode)(nil)
	_ clusters.Cgroups   = (*balancerNode)(nil)
	_ clusters.Power     = (*balancerNode)(nil)
)
