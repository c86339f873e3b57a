package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeProc is a /proc of our own making.
type fakeProc struct {
	tb  testing.TB
	dir string
}

func newFakeProc(tb testing.TB) fakeProc {
	tb.Helper()
	p := fakeProc{tb, tb.TempDir()}
	p.write("sys/kernel/random/boot_id", "boot-1\n")
	p.write("meminfo", "")
	return p
}

func (p fakeProc) write(name, data string) {
	p.tb.Helper()
	path := filepath.Join(p.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(data), 0o600)); err != nil {
		p.tb.Fatal(err)
	}
}

func (p fakeProc) add(pid int, ns string, start uint64, cmdline ...string) {
	p.tb.Helper()
	dir := strconv.Itoa(pid)
	p.write(dir+"/stat", fmt.Sprintf("%d (a (b) c) S 1 %s%d 0 0", pid, strings.Repeat("0 ", 17), start))
	p.write(dir+"/cmdline", strings.Join(append(cmdline, ""), "\x00"))
	ids := map[string]string{"host": "", "node": "\t1", "node2": "\t1", "container": "\t7\t1"}[ns]
	if ns == "unknown" {
		ids = "\t9"
	}
	p.write(dir+"/status", fmt.Sprintf("Name:\ta\nNSpid:\t%d%s\nThreads:\t1\n", pid, ids))
	link := filepath.Join(p.dir, dir, "ns/pid")
	if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o700), os.Symlink("pid:["+ns+"]", link)); err != nil {
		p.tb.Fatal(err)
	}
}

// finder sees the namespaces host > node > container, host > node2.
func (p fakeProc) finder() finder {
	above := map[string][]string{
		"pid:[host]":      nil,
		"pid:[node]":      {"pid:[host]"},
		"pid:[node2]":     {"pid:[host]"},
		"pid:[container]": {"pid:[node]", "pid:[host]"},
	}
	return finder{proc: p.dir, inside: map[string]bool{}, above: func(link string) ([]string, error) {
		ns, err := os.Readlink(link)
		return above[ns], err
	}}
}

func TestFind(t *testing.T) {
	p := newFakeProc(t)
	p.add(1, "host", 1, "/sbin/init")
	p.add(2, "host", 1) // a kernel thread
	p.add(70, "host", 40, "etcd")
	p.add(100, "node", 50, "/sbin/init")
	p.add(150, "container", 60, "/usr/local/bin/etcd", "--name=a")
	p.add(120, "container", 61, "etcd")
	p.add(121, "container", 62, "etcdctl", "etcd")
	p.add(122, "container", 63)
	p.add(123, "node", 64, "etcd")
	p.add(200, "node2", 50, "/sbin/init")
	p.add(201, "node2", 51, "etcd")

	ref := func(pid int, start uint64) Ref { return Ref{PID: pid, StartTime: start, BootID: "boot-1"} }
	for _, tc := range []struct {
		name string
		init int
		want []Ref
	}{
		{"a node and its containers", 100, []Ref{ref(120, 61), ref(123, 64), ref(150, 60)}},
		{"one container", 121, []Ref{ref(120, 61), ref(150, 60)}},
		{"another node", 200, []Ref{ref(201, 51)}},
		{"the machine", 1, []Ref{ref(70, 40), ref(120, 61), ref(123, 64), ref(150, 60), ref(201, 51)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := p.finder()
			got, err := f.find(tc.init, Named("etcd"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFindProcessesThatVanish(t *testing.T) {
	p := newFakeProc(t)
	p.add(100, "node", 50, "/sbin/init")
	p.add(101, "node", 51, "etcd")
	p.add(102, "node", 52, "etcd")
	p.add(103, "node", 53, "etcd")
	if err := os.RemoveAll(filepath.Join(p.dir, "101/ns")); err != nil { // ended before it was looked at
		t.Fatal(err)
	}
	f := p.finder()
	looks := map[string]int{}
	got, err := f.find(100, func(cmdline []string) bool {
		if cmdline[0] != "etcd" {
			return false
		}
		// The pid of 102 goes to another process while it is being looked at.
		for _, pid := range []string{"102"} {
			if looks[pid]++; looks[pid] == 2 {
				p.write(pid+"/stat", fmt.Sprintf("102 (etcd) S 1 %s%d 0 0", strings.Repeat("0 ", 17), 99))
			}
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 {
		t.Errorf("got %v, want the one process that stayed", got)
	}
}

func TestFindErrors(t *testing.T) {
	p := newFakeProc(t)
	p.add(100, "node", 50, "/sbin/init")
	f := p.finder()
	if _, err := f.find(7, Named("etcd")); !errors.Is(err, ErrGone) {
		t.Errorf("no such first process: got %v, want ErrGone", err)
	}
	p.add(101, "unknown", 51, "etcd")
	f = p.finder()
	f.above = func(string) ([]string, error) { return nil, fs.ErrPermission }
	if _, err := f.find(100, Named("etcd")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a namespace that cannot be seen, of what may be a wanted one: got %v, want ErrPermission", err)
	}
	p.write("101/status", "NSpid:\t101\n")
	if got, err := f.find(100, Named("etcd")); err != nil || len(got) != 0 {
		t.Errorf("a namespace that cannot be seen, of one in no namespace below this one: got %v, %v", got, err)
	}
	p.write("101/status", "NSpid:\t101\t9\n")
	if got, err := f.find(100, Named("kubelet")); err != nil || len(got) != 0 {
		t.Errorf("a namespace that cannot be seen, of something else: got %v, %v", got, err)
	}
	p.write("101/stat", "101 (etcd) S 1")
	p.add(102, "node", 51, "etcd")
	p.write("102/stat", "102 (etcd) S 1")
	f = p.finder()
	if _, err := f.find(100, Named("etcd")); err == nil {
		t.Error("an unknown stat format is no error")
	}
}

// BenchmarkFind shows the cost in user space for a thousand processes in forty namespaces; on a temporary folder, that is
// without what the real /proc costs.
func BenchmarkFind(b *testing.B) {
	p := newFakeProc(b)
	for i := range 1000 {
		p.add(100+i, []string{"node", "container", "host", "node2"}[i%4], 50, "/usr/bin/some-daemon", "--flag")
	}
	p.add(5000, "container", 50, "etcd")
	for b.Loop() {
		f := p.finder()
		if refs, err := f.find(100, Named("etcd")); err != nil || len(refs) != 1 {
			b.Fatal(refs, err)
		}
	}
}
