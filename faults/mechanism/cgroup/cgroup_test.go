package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// folderWith is a group made of ordinary files, which take what is written.
func folderWith(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func says(t *testing.T, dir, file, want string) {
	t.Helper()
	got, err := read(dir, file)
	if err != nil || got != want {
		t.Errorf("%s: got %q, %v, want %q", file, got, err, want)
	}
}

func TestCPULimits(t *testing.T) {
	v1 := folderWith(t, map[string]string{"cpu.cfs_quota_us": "150000\n", "cpu.cfs_period_us": "100000\n"})
	v2 := folderWith(t, map[string]string{"cpu.max": "max 100000\n"})
	for _, g := range []Group{{Controllers: map[string]string{"cpu": v1}}, {Unified: v2}} {
		l, err := g.Read(CPU)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Restore(t.Context(), "a"); err != nil {
			t.Errorf("restored though it was never lowered: %v", err)
		}
		for range 2 {
			if err := errors.Join(l.Mark("a"), l.LowerCPU(0.5)); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Mark("b"); !errors.Is(err, ErrTaken) {
			t.Errorf("another owner: %v", err)
		}
		if l.V2 {
			says(t, v2, "cpu.max", "10000 20000")
		} else {
			says(t, v1, "cpu.cfs_quota_us", "10000")
			says(t, v1, "cpu.cfs_period_us", "20000")
		}
		for range 2 {
			if err := l.Restore(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		}
		if l.Marked("a") {
			t.Error("the mark is left")
		}
	}
	says(t, v1, "cpu.cfs_period_us", "100000")
}

func TestNobodyIsGivenMore(t *testing.T) {
	for name, tc := range map[string]struct {
		l  Limit
		do func(Limit) error
		ok bool
	}{
		"cpu, none":   {Limit{Resource: CPU, Old: "-1", OldPeriod: "100000"}, func(l Limit) error { return l.LowerCPU(1) }, true},
		"cpu, more":   {Limit{Resource: CPU, Old: "200000", OldPeriod: "100000"}, func(l Limit) error { return l.LowerCPU(1) }, true},
		"cpu, less":   {Limit{Resource: CPU, Old: "50000", OldPeriod: "100000"}, func(l Limit) error { return l.LowerCPU(1) }, false},
		"cpu v2 none": {Limit{Resource: CPU, V2: true, Old: "max 100000"}, func(l Limit) error { return l.LowerCPU(1) }, true},
		"cpu v2 less": {Limit{Resource: CPU, V2: true, Old: "50000 100000"}, func(l Limit) error { return l.LowerCPU(1) }, false},
		"pids, none":  {Limit{Resource: PIDs, Old: "max"}, func(l Limit) error { return l.Lower(10) }, true},
		"pids, less":  {Limit{Resource: PIDs, Old: "5"}, func(l Limit) error { return l.Lower(10) }, false},
	} {
		tc.l.Folder = folderWith(t, map[string]string{limitFile(tc.l.Resource, tc.l.V2): "", periodFile: ""})
		if err := tc.do(tc.l); (err == nil) != tc.ok || !tc.ok && !errors.Is(err, ErrLower) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAccounts(t *testing.T) {
	v1 := Group{Controllers: map[string]string{
		"cpu":     folderWith(t, map[string]string{"cpu.cfs_quota_us": "-1", "cpu.stat": "nr_periods 5\nnr_throttled 3\n"}),
		"cpuacct": folderWith(t, map[string]string{"cpuacct.usage": "5000000\n"}),
		"memory": folderWith(t, map[string]string{
			"memory.limit_in_bytes": "9223372036854771712", "memory.usage_in_bytes": "1000\n", "memory.failcnt": "7\n",
			"memory.stat": "inactive_file 1\ntotal_inactive_file 300\n", "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
		}),
		"pids": folderWith(t, map[string]string{"pids.max": "max\n", "pids.current": "42\n"}),
	}}
	v2 := Group{Unified: folderWith(t, map[string]string{
		"cpu.max": "max 100000", "cpu.stat": "usage_usec 5000\nnr_throttled 3\n",
		"memory.high": "max", "memory.current": "1000", "memory.stat": "inactive_file 300\nworkingset_refault_file 9\n",
		"memory.events": "low 0\nhigh 7\nmax 1\noom 0\noom_kill 2\n", "pids.max": "max", "pids.current": "42",
	})}
	for _, g := range []Group{v1, v2} {
		if u, err := g.CPUUse(); err != nil || u != (CPUUse{5000, 3}) {
			t.Errorf("CPU: got %+v, %v", u, err)
		}
		u, err := g.MemoryUse()
		u.Refaults = 0
		if err != nil || u != (MemoryUse{Bytes: 1000, WorkingSet: 700, Hit: 7, Killed: 2}) {
			t.Errorf("memory: got %+v, %v", u, err)
		}
		if n, err := g.Processes(); err != nil || n != 42 {
			t.Errorf("processes: got %d, %v", n, err)
		}
		l, err := g.Read(PIDs)
		if err != nil || l.Old != "max" {
			t.Fatalf("got %+v, %v", l, err)
		}
		if err := errors.Join(l.Mark("a"), l.Lower(50)); err != nil {
			t.Fatal(err)
		}
		says(t, l.Folder, "pids.max", "50")
		if err := l.Restore(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
}

// Nothing is written where there is no limit: a group that is gone, or a controller that is elsewhere.
func TestMissingGroups(t *testing.T) {
	if _, err := (Group{Unified: t.TempDir()}).Read(CPU); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	l := Limit{Resource: PIDs, Folder: filepath.Join(t.TempDir(), "gone"), Old: "max"}
	if err := l.Restore(t.Context(), "a"); err != nil {
		t.Errorf("a group that is gone: %v", err)
	}
	dir := t.TempDir()
	if err := (Limit{Resource: PIDs, Folder: dir}).Lower(1); err == nil {
		t.Error("a file was made")
	}
}
