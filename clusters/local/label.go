package local

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
)

// How a cluster is found again: by its folder, topDir/CLUSTER, which is made first and
// removed last, and holds a label that says what was made. What runs of it is found
// by the variable labelEnv in the environment of processes. Nothing in the label
// changes as long as the cluster is.
const (
	providerName = "local"
	labelCluster = "gameday.cluster"
	labelFile    = "label.json"
)

// topDir is where clusters have their folders. It is no cache: what is in it is in
// use. Who has a state of his own ($XDG_STATE_HOME), as tests do, has clusters of his
// own, too, and neither sees nor deletes those of others.
func topDir() string {
	if own := os.Getenv("XDG_STATE_HOME"); own != "" {
		return filepath.Join(own, "gameday", "local")
	}
	return "/var/lib/gameday/local"
}

// label of a cluster.
type label struct {
	Run           string            `json:"run"`
	Version       string            `json:"version"`
	Created       time.Time         `json:"created"`
	Subnet        netip.Prefix      `json:"subnet"`
	ControlPlanes int               `json:"controlPlanes"`
	Workers       int               `json:"workers"`
	Groups        map[string]string `json:"groups,omitempty"`
}

func dirOf(cluster string) string { return filepath.Join(topDir(), cluster) }

// readLabel reads the label of a cluster. That there is none, or half of one, is no
// error: a creation was killed.
func readLabel(cluster string) (label, error) {
	var l label
	b, err := os.ReadFile(filepath.Join(dirOf(cluster), labelFile))
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return l, fmt.Errorf("label of cluster %s: %w", cluster, err)
	}
	if err := json.Unmarshal(b, &l); err != nil {
		return label{}, fmt.Errorf("label of cluster %s: %w", cluster, err)
	}
	return l, nil
}

func (l label) write(cluster string) error {
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(dirOf(cluster), labelFile)
	if err := os.WriteFile(file+".tmp", b, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".tmp", file)
}

// names lists the clusters that have a folder.
func names() ([]string, error) {
	entries, err := os.ReadDir(topDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	sort.Strings(out)
	return out, nil
}

// processOf finds the process that has a label, and when it was started (to tell it
// from a later one with its pid); 0 if there is none.
func processOf(what string) (pid int, start string, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, "", err
	}
	want := []byte(labelEnv + "=" + what)
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil {
			continue // it has ended, or is closed to us and none of ours
		}
		for v := range bytes.SplitSeq(env, []byte{0}) {
			if !bytes.Equal(v, want) || !firstProcess(n) {
				continue
			}
			if start, err := startTime(n); err == nil {
				return n, start, nil
			}
		}
	}
	return 0, "", nil
}

// firstProcess says whether a process is the first of its pid namespace: what it is
// about to start looks like it for a moment.
func firstProcess(pid int) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(ids)
			return len(f) > 1 && f[len(f)-1] == "1"
		}
	}
	return false
}

// startTime is field 22 of /proc/PID/stat; the name before it, in parentheses, may
// hold anything: proc(5). A process that has ended and was not waited for is gone.
func startTime(pid int) (string, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", err
	}
	s := string(b)
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	const n = 22 - 3
	if len(fields) <= n || fields[0] == "Z" {
		return "", fs.ErrNotExist
	}
	return fields[n], nil
}
