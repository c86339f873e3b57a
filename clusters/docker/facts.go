package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// answerBound is how long a Docker daemon may take to answer a question about
// itself before it counts as not usable. A loaded one takes about a second.
const answerBound = 15 * time.Second

// MinFreeBytes is the free space that a cluster needs on Docker's disk: node
// images of about 1 GB for two versions, five nodes that write up to 1 GB each
// (container images that are loaded into them, etcd, audit logs).
const MinFreeBytes = 8 << 30

// Facts are what matters about the Docker engine of this machine.
type Facts struct {
	ServerVersion string
	// CgroupV2 says that containers see the unified hierarchy only.
	CgroupV2 bool
	// SysResource says that a container may be given CAP_SYS_RESOURCE.
	SysResource bool
	// Rootless says that the daemon itself runs in a user namespace.
	Rootless bool
	// Local says that the daemon runs on this machine, so that its containers'
	// processes and networks can be reached from here (not so with Docker
	// Desktop or a remote DOCKER_HOST).
	Local          bool
	RootDir        string
	DefaultRuntime string
	Runtimes       []string
}

// dockerInfo is the part of `docker info --format '{{json .}}'` that is used.
type dockerInfo struct {
	ServerVersion   string
	CgroupVersion   string
	SecurityOptions []string
	DockerRootDir   string
	DefaultRuntime  string
	Runtimes        map[string]json.RawMessage
	Name            string
	KernelVersion   string
	ServerErrors    []string
}

// Inspect asks the engine for its facts.
func Inspect(ctx context.Context) (Facts, error) {
	ctx, cancel := context.WithTimeout(ctx, answerBound)
	defer cancel()
	out, err := Run(ctx, "info", "--format", "{{json .}}")
	if err != nil {
		return Facts{}, err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return Facts{}, fmt.Errorf("the name of this machine: %w", err)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // no /proc: not Linux, so the daemon is not local
		return Facts{}, fmt.Errorf("the capabilities of this process: %w", err)
	}
	return parseInfo(out, hostname, string(status))
}

func parseInfo(out, hostname, procStatus string) (Facts, error) {
	var info dockerInfo
	if err := json.Unmarshal([]byte(out), &info); err != nil {
		return Facts{}, fmt.Errorf("docker info gave no JSON: %w", err)
	}
	// The docker command exits 0 without a server: the error is in the JSON.
	if len(info.ServerErrors) > 0 {
		return Facts{}, fmt.Errorf("docker info: %s", strings.Join(info.ServerErrors, "; "))
	}
	if info.ServerVersion == "" {
		return Facts{}, errors.New("docker info names no server version")
	}
	f := Facts{
		ServerVersion:  info.ServerVersion,
		CgroupV2:       info.CgroupVersion == "2",
		RootDir:        info.DockerRootDir,
		DefaultRuntime: info.DefaultRuntime,
		// A daemon on this machine reports this machine's name.
		Local:       procStatus != "" && info.Name == hostname,
		SysResource: true,
	}
	for name := range info.Runtimes {
		f.Runtimes = append(f.Runtimes, name)
	}
	for _, o := range info.SecurityOptions {
		for _, kv := range strings.Split(o, ",") {
			f.Rootless = f.Rootless || kv == "name=rootless"
		}
	}
	// A remote daemon's capabilities cannot be seen; the normal case is assumed.
	if f.Local && !f.Rootless {
		has, err := hasSysResource(procStatus)
		if err != nil {
			return Facts{}, err
		}
		f.SysResource = has
	}
	return f, nil
}

// capSysResource is the number of CAP_SYS_RESOURCE: linux/capability.h.
const capSysResource = 24

// hasSysResource reads the bounding set in the text of /proc/self/status. What
// is not in it, no process started from here can ever have. (That of the daemon
// could differ only if something outside this machine's container started it.)
func hasSysResource(procStatus string) (bool, error) {
	for line := range strings.Lines(procStatus) {
		if v, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
			if err != nil {
				return false, fmt.Errorf("CapBnd in /proc/self/status: %w", err)
			}
			return set&(1<<capSysResource) != 0, nil
		}
	}
	return false, errors.New("/proc/self/status has no line CapBnd")
}

// checkDisk says, as an obstacle, that Docker's disk is too full.
func checkDisk(f Facts) error {
	if !f.Local || f.RootDir == "" {
		return nil // not visible from here; Docker itself will complain
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(f.RootDir, &st); err != nil {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
			return nil // rootless or behind a mount: not visible
		}
		return fmt.Errorf("free space of %s: %w", f.RootDir, err)
	}
	free := st.Bavail * uint64(st.Bsize)
	if free < MinFreeBytes {
		return fmt.Errorf("the disk of Docker (%s) has %.1f GB free and a cluster needs %d GB: free some, for example with `docker system prune`",
			f.RootDir, float64(free)/(1<<30), MinFreeBytes>>30)
	}
	return nil
}
