package docker

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMergeRuntime(t *testing.T) {
	const ours = `"gameday-runc": {
      "path": "/usr/local/libexec/gameday/runc"
    }`
	for _, c := range []struct{ name, old, want, err string }{
		{name: "no file", old: "", want: `{
  "default-runtime": "gameday-runc",
  "runtimes": {
    ` + ours + `
  }
}
`},
		{name: "others kept", old: `{"log-level":"debug","max-concurrent-downloads":18446744073709551615,"runtimes":{"kata":{"path":"/k","runtimeArgs":["a"]}},"default-runtime":"runc"}`, want: `{
  "default-runtime": "gameday-runc",
  "log-level": "debug",
  "max-concurrent-downloads": 18446744073709551615,
  "runtimes": {
    ` + ours + `,
    "kata": {
      "path": "/k",
      "runtimeArgs": [
        "a"
      ]
    }
  }
}
`},
		{name: "there already", old: `{"runtimes":{"gameday-runc":{ "path":"/usr/local/libexec/gameday/runc" }},"default-runtime":"gameday-runc"}`},
		{name: "foreign default", old: `{"default-runtime":"nvidia"}`, err: `default-runtime is "nvidia"`},
		{name: "no JSON", old: `{`, err: "not valid JSON"},
		{name: "runtimes no object", old: `{"runtimes":[]}`, err: "runtimes is not an object"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := mergeRuntime([]byte(c.old))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error is %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestRegisterRuntimeKeepsTheFirstFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "docker", "daemon.json")
	changed, err := registerRuntime(path) // no file, no folder
	if err != nil || !changed {
		t.Fatalf("changed %v, error %v", changed, err)
	}
	if _, err := os.Stat(path + ".before-gameday"); !os.IsNotExist(err) {
		t.Errorf("a backup of nothing was made (%v)", err)
	}
	if changed, err := registerRuntime(path); err != nil || changed {
		t.Errorf("second time: changed %v, error %v", changed, err)
	}
	const mine = `{"debug":true}`
	if err := os.WriteFile(path, []byte(mine), 0o644); err != nil {
		t.Fatal(err)
	}
	if changed, err := registerRuntime(path); err != nil || !changed {
		t.Errorf("changed %v, error %v", changed, err)
	}
	backup, err := os.ReadFile(path + ".before-gameday")
	if err != nil || string(backup) != mine {
		t.Errorf("backup is %q, %v", backup, err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".gameday-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("temporary files left: %v, %v", left, err)
	}
}

func TestParseInfo(t *testing.T) {
	const restricted, full = "Name:\tx\nCapBnd:\t000001fffeffffff\n", "CapBnd:\t000001ffffffffff\n"
	info := func(cgroup, host, security string) string {
		return `{"ServerVersion":"20.10.24","CgroupVersion":"` + cgroup + `","Name":"` + host + `","DockerRootDir":"/d","DefaultRuntime":"runc","Runtimes":{"runc":{}},"SecurityOptions":[` + security + `]}`
	}
	base := Facts{ServerVersion: "20.10.24", RootDir: "/d", DefaultRuntime: "runc", Runtimes: []string{"runc"}}
	with := func(change func(*Facts)) Facts { f := base; change(&f); return f }
	for _, c := range []struct {
		name, info, status string
		want               Facts
	}{
		{"local, restricted, v1", info("1", "here", `"name=seccomp,profile=default"`), restricted, with(func(f *Facts) { f.Local = true })},
		{"local, full, v2", info("2", "here", ""), full, with(func(f *Facts) { f.Local, f.CgroupV2, f.SysResource = true, true, true })},
		{"rootless", info("2", "here", `"name=rootless"`), restricted, with(func(f *Facts) { f.Local, f.CgroupV2, f.SysResource, f.Rootless = true, true, true, true })},
		{"remote", info("2", "there", ""), restricted, with(func(f *Facts) { f.CgroupV2, f.SysResource = true, true })},
		{"no Linux", info("2", "here", ""), "", with(func(f *Facts) { f.CgroupV2, f.SysResource = true, true })},
	} {
		got, err := parseInfo(c.info, "here", c.status)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	for name, in := range map[string]string{
		"no server": `{"ServerErrors":["Cannot connect"]}`, "empty": `{}`, "no JSON": `WARNING`,
	} {
		if _, err := parseInfo(in, "here", full); err == nil {
			t.Errorf("%s passed", name)
		}
	}
	if _, err := parseInfo(info("1", "here", ""), "here", "Name:\tx\n"); err == nil {
		t.Error("a /proc/self/status without CapBnd passed")
	}
}

func TestCheckDisk(t *testing.T) {
	if err := checkDisk(Facts{Local: true, RootDir: filepath.Join(t.TempDir(), "gone")}); err != nil {
		t.Error(err)
	}
	if err := checkDisk(Facts{Local: true, RootDir: "/proc"}); err == nil { // has 0 bytes
		t.Error("a full disk passed")
	}
}

func TestParseStat(t *testing.T) {
	comm, state, start, err := parseStat("42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20\n")
	if comm != "a) b (c" || state != "S" || start != "777" || err != nil {
		t.Errorf("got %q %q %q %v", comm, state, start, err)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 1 2"} {
		if _, _, _, err := parseStat(bad); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
	me, _, err := lookProcess(os.Getpid())
	if err != nil || !me.alive() {
		t.Errorf("this process is not alive: %v", err)
	}
	if (process{os.Getpid(), "1"}).alive() {
		t.Error("another process of this pid is alive")
	}
}

func TestStopOursWithoutRecord(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := StopOurs(ctx); err != nil {
		t.Error(err)
	}
	record, err := startedPath()
	if err != nil {
		t.Fatal(err)
	}
	// A record of a process that is another one by now: nothing is signalled.
	if err := os.WriteFile(record, []byte(`{"pid":1,"start":"0-gone"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := StopOurs(ctx); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(record); !os.IsNotExist(err) {
		t.Errorf("the record is still there (%v)", err)
	}
}
