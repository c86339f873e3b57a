// Command runcwrapper is an OCI runtime for machines that may not hand out
// CAP_SYS_RESOURCE: it takes from the container (and from a process that joins
// one) what the machine does not have, and becomes runc.
//
// "docker run --privileged" asks for every capability, and runc fails where one
// of them is not in the machine's bounding set ("unable to apply caps"). Two
// things need CAP_SYS_RESOURCE there: the capability itself, and lowering
// oom_score_adj below where it is (proc(5)). Both are only preferences of a
// container, never what it is for, so that they are dropped.
//
// It is built at run time from this embedded source, with the standard library
// only.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const missing = "CAP_SYS_RESOURCE"

func main() {
	if err := run(os.Args[1:]); err != nil {
		// Docker shows the runtime's stderr to the user.
		fmt.Fprintln(os.Stderr, "gameday-runc:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	for _, f := range files(args) {
		if err := rewrite(f); err != nil {
			return err
		}
	}
	runc, err := findRunc()
	if err != nil {
		return err
	}
	return syscall.Exec(runc, append([]string{"runc"}, args...), os.Environ())
}

// file is a JSON file that runc is about to read. path names the place of the
// process in it: a bundle's config.json has it under "process", a --process
// file is one.
type file struct {
	path      string
	isProcess bool
}

// files finds the files in runc's command line: "--bundle DIR" of create and
// run, "--process FILE" of exec, each also as -b / -p and with "=".
func files(args []string) []file {
	var out []file
	for i := 0; i < len(args); i++ {
		name, value, hasValue := strings.Cut(args[i], "=")
		switch name {
		case "--bundle", "-bundle", "-b", "--process", "-process", "-p":
		default:
			continue
		}
		if !hasValue {
			if i+1 == len(args) {
				break
			}
			i++
			value = args[i]
		}
		if strings.Contains(name, "b") {
			out = append(out, file{path: filepath.Join(value, "config.json")})
		} else {
			out = append(out, file{path: value, isProcess: true})
		}
	}
	return out
}

// rewrite changes the file in place where there is something to change.
func rewrite(f file) error {
	in, err := os.ReadFile(f.path)
	if err != nil {
		return err
	}
	out, err := restrict(in, f.isProcess)
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	if out == nil {
		return nil
	}
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	tmp := f.path + ".gameday"
	if err := os.WriteFile(tmp, out, info.Mode().Perm()); err != nil {
		return err
	}
	return os.Rename(tmp, f.path)
}

// restrict removes the missing capability from a process and lifts its
// negative OOM score. All else is kept as it is, numbers to the last digit. It
// returns nil when there is nothing to change.
func restrict(in []byte, isProcess bool) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(in))
	dec.UseNumber()
	var doc map[string]any
	if err := dec.Decode(&doc); err != nil {
		return nil, err
	}
	process := doc
	if !isProcess {
		process, _ = doc["process"].(map[string]any)
	}
	changed := false
	if caps, ok := process["capabilities"].(map[string]any); ok {
		for set, v := range caps {
			list, ok := v.([]any)
			if !ok {
				continue
			}
			kept := make([]any, 0, len(list))
			for _, c := range list {
				if c != missing {
					kept = append(kept, c)
				}
			}
			changed = changed || len(kept) != len(list)
			caps[set] = kept
		}
	}
	if n, ok := process["oomScoreAdj"].(json.Number); ok && strings.HasPrefix(n.String(), "-") {
		process["oomScoreAdj"] = 0
		changed = true
	}
	if !changed {
		return nil, nil
	}
	return json.Marshal(doc)
}

// findRunc looks on PATH and where distributions install it: Docker gives its
// runtimes a PATH without the sbin folders on some of them.
func findRunc() (string, error) {
	if p, err := exec.LookPath("runc"); err == nil {
		return p, nil
	}
	places := []string{"/usr/bin/runc", "/usr/sbin/runc", "/usr/local/bin/runc", "/usr/local/sbin/runc", "/sbin/runc"}
	for _, p := range places {
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
			return p, nil
		}
	}
	return "", fmt.Errorf("runc is not on PATH nor at %s: %w", strings.Join(places, ", "), fs.ErrNotExist)
}
