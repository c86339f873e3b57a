package sample

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/harness/history"
)

func place(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestScan(t *testing.T) {
	sought := map[string]*regexp.Regexp{"^panic: ": regexp.MustCompile("^panic: "), "secret": regexp.MustCompile("secret")}
	long := strings.Repeat("x", maxLine+10)
	for _, c := range []struct {
		name, text string
		journal    bool
		lines      int
		panics     []int // lines
		missing    string
	}{
		{"a container's", "2026-01-02T10:00:00.123456789Z stderr F I0102 fine\n2026-01-02T10:00:01Z stderr F panic: oops\n", false, 2, []int{2}, ""},
		{"not at its beginning", "2026-01-02T10:00:00Z stderr F err: panic: oops\n2026-01-02T10:00:00Z stderr F \tpanic: oops\n", false, 2, nil, ""},
		{"the second part of a line", "2026-01-02T10:00:00Z stderr P begins\n2026-01-02T10:00:00Z stderr F panic: oops\n2026-01-02T10:00:00Z stderr F panic: 2\n", false, 3, []int{3}, ""},
		{"without its end", "2026-01-02T10:00:00Z stderr F fine\n2026-01-02T10:00:01Z stderr F panic: oops", false, 2, []int{2}, ""},
		{"a journal", "2026-01-02T10:00:00.123456+00:00 cp kubelet[12]: panic: oops\n  and more of it\n2026-01-02T10:00:00.123456+0000 cp systemd[1]: panic: 2\n", true, 3, []int{1, 3}, ""},
		{"a journal that dropped lines", "2026-01-02T10:00:00.1+00:00 cp systemd-journald[9]: Suppressed 30 messages from kubelet.service\n", true, 1, nil, "line 1: the journal dropped lines: Suppressed 30 messages from kubelet.service"},
		{"a line without end", "2026-01-02T10:00:00Z stderr F " + long + "\n2026-01-02T10:00:01Z stderr F panic: oops\n", false, 2, []int{2}, "1 lines are longer than"},
		{"nothing at all", "", false, 0, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			place(t, filepath.Join(dir, "a.log"), c.text)
			var found []int
			l := scan(dir, logFile{node: "cp", source: "etcd", name: "a.log", journal: c.journal}, sought, func(f history.LogLine) {
				found = append(found, f.Line)
				if f.Time.IsZero() || f.File != "a.log" || f.Source != "etcd" || f.Node != "cp" || !strings.HasPrefix(f.Text, "panic: ") {
					t.Errorf("%+v", f)
				}
			})
			if d := cmp.Diff(c.panics, found); d != "" {
				t.Error(d)
			}
			if l.Lines != c.lines || l.Bytes != int64(len(c.text)) || l.Found["^panic: "] != len(c.panics) || !strings.Contains(l.Missing, c.missing) || c.missing == "" && l.Missing != "" {
				t.Errorf("%+v", l)
			}
			if n, ok := l.Found["secret"]; !ok || n != 0 {
				t.Error("it does not say what was sought and not found")
			}
		})
	}
	if l := scan(t.TempDir(), logFile{name: "none.log"}, sought, nil); l.Missing == "" || l.File != "" {
		t.Errorf("a log that is not there: %+v", l)
	}
	dir := t.TempDir()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte("2026-01-02T10:00:00Z stderr F panic: oops\n")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	place(t, filepath.Join(dir, "0.log.20260102-100000.gz"), packed.String())
	tell := func(history.LogLine) {}
	if l := scan(dir, logFile{name: "0.log.20260102-100000.gz"}, sought, tell); l.Found["^panic: "] != 1 || l.Missing != "" {
		t.Errorf("packed: %+v", l)
	}
	place(t, filepath.Join(dir, "0.log.20260102-100000.gz"), packed.String()[:packed.Len()-9])
	if l := scan(dir, logFile{name: "0.log.20260102-100000.gz"}, sought, tell); l.Missing == "" {
		t.Errorf("packed and torn: %+v", l)
	}
}

// What the kubelet removes in the meantime is in the collection nevertheless.
func TestLogsAreKeptFromTheirStart(t *testing.T) {
	node, dir := t.TempDir(), t.TempDir()
	k := newLogKeeper(func(_, path string) (io.ReadCloser, error) { return os.Open(filepath.Join(node, path)) })
	of := func(n string) string {
		return filepath.Join(node, podLogs, "kube-system_etcd-cp_hash", "etcd", n+".log")
	}
	state := func(restarts int32) history.Component {
		return history.Component{Pod: "etcd-cp", UID: "u", Manifest: "hash", Node: "cp", Containers: []history.Container{{Name: "etcd", ID: "x", Restarts: restarts}}}
	}
	place(t, of("0"), "first\n")
	k.see(state(0))
	place(t, of("0"), "first\nand more\n")
	if err := os.RemoveAll(filepath.Dir(of("0"))); err != nil {
		t.Fatal(err)
	}
	place(t, of("2"), "third\n") // of the second nobody saw anything
	k.see(state(2))
	place(t, filepath.Join(dir, "cp", "pods", "kube-system_etcd-cp_hash", "etcd", "2.log"), "third\n")
	missing := k.save(dir)
	kept, err := os.ReadFile(filepath.Join(dir, "cp", "pods", "kube-system_etcd-cp_hash", "etcd", "0.log"))
	if err != nil || string(kept) != "first\nand more\n" {
		t.Errorf("kept %q, %v", kept, err)
	}
	if len(missing) != 1 || missing[0].Node != "cp" || missing[0].Source != "etcd" || !strings.Contains(missing[0].Missing, "etcd/1.log was removed before it was collected") {
		t.Errorf("missing: %+v", missing)
	}

	// Of a pod that is new all lives are to be there, of one that was there before
	// the present one.
	for name, c := range map[string]history.Container{
		"new": {Name: "x", ID: "i", Restarts: 1, Started: time.Now().Add(time.Minute)},
		"old": {Name: "x", ID: "i", Restarts: 1, Started: time.Now().Add(time.Hour), Ended: &history.Termination{Started: time.Now().Add(-time.Hour)}},
	} {
		k := newLogKeeper(func(string, string) (io.ReadCloser, error) { return nil, os.ErrNotExist })
		k.see(history.Component{Pod: name, UID: "u", Node: "cp", Containers: []history.Container{c}})
		if n, want := len(k.save(dir)), map[string]int{"new": 2, "old": 1}[name]; n != want {
			t.Errorf("%s: %d lives are missing, not %d", name, n, want)
		}
	}
	files := logFiles(dir, "cp")
	if len(files) != 4 || files[2].source != "etcd" || !files[0].journal {
		t.Errorf("%+v", files)
	}
}

func TestRotatedLogsAreCounted(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"0.log", "0.log.20260102-100000", "0.log.20260101-100000.gz", "1.log"} {
		place(t, filepath.Join(dir, "cp", "pods", "kube-system_x_u", "x", n), "")
	}
	got := map[string]int{}
	for _, f := range logFiles(dir, "cp")[2:] {
		got[filepath.Base(f.name)] = f.rotated
	}
	want := map[string]int{"0.log": 2, "0.log.20260102-100000": 0, "0.log.20260101-100000.gz": 0, "1.log": 0}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if at := journalTime("2026-01-02T10:00:00.5+0000"); !at.Equal(time.Date(2026, 1, 2, 10, 0, 0, 5e8, time.UTC)) {
		t.Error(at)
	}
}
