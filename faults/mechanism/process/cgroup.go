package process

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// InCgroup says whether the name of one of the process's control groups holds one of these words, as the id of a
// container: /proc/PID/cgroup, cgroups(7). The error wraps ErrGone if the process has ended.
func InCgroup(ref Ref, words []string) (bool, error) {
	p, err := Open(ref)
	if err != nil {
		return false, err
	}
	dir := filepath.Join(procfs, strconv.Itoa(ref.PID))
	b, err := os.ReadFile(filepath.Join(dir, "cgroup"))
	if err != nil {
		err = gone(dir, err)
	}
	// What was read was this process only if it is still there.
	alive, aliveErr := p.Alive()
	if err = errors.Join(err, aliveErr, p.Close()); err != nil {
		return false, err
	}
	if !alive {
		return false, ErrGone
	}
	for _, w := range words {
		if w != "" && strings.Contains(string(b), w) {
			return true, nil
		}
	}
	return false, nil
}
