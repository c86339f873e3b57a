package sample

import (
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/harness/history"
)

// Lines as kube-apiserver v1.37 writes them, shortened.
const (
	auditEviction = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"a1","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/ns/pods/web-00-x/eviction","verb":"create","user":{"username":"kubernetes-admin","groups":["system:masters"]},"sourceIPs":["172.18.0.1"],"userAgent":"kubectl/v1.37.0","objectRef":{"resource":"pods","namespace":"ns","name":"web-00-x","apiVersion":"v1","subresource":"eviction"},"responseStatus":{"metadata":{},"code":201},"requestObject":{"kind":"Eviction","deleteOptions":{"preconditions":{"uid":"u1"}}},"responseObject":{"kind":"Status","metadata":{},"status":"Success","code":201},"requestReceivedTimestamp":"2026-01-02T03:04:05.000001Z","stageTimestamp":"2026-01-02T03:04:05.010001Z"}`
	auditDelete   = `{"kind":"Event","level":"RequestResponse","auditID":"a2","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/ns/pods/web-00-y","verb":"delete","user":{"username":"system:serviceaccount:kube-system:replicaset-controller"},"userAgent":"kube-controller-manager/v1.37.0","objectRef":{"resource":"pods","namespace":"ns","name":"web-00-y","apiVersion":"v1"},"responseStatus":{"code":200},"responseObject":{"kind":"Pod","metadata":{"name":"web-00-y","uid":"u2"}},"requestReceivedTimestamp":"2026-01-02T03:04:06Z","stageTimestamp":"2026-01-02T03:04:06.5Z"}`
	auditJob      = `{"kind":"Event","auditID":"a3","stage":"ResponseComplete","requestURI":"/apis/batch/v1/namespaces/ns/jobs","verb":"create","user":{"username":"system:serviceaccount:kube-system:cronjob-controller"},"objectRef":{"resource":"jobs","namespace":"ns","name":"cron-00-1","uid":"u3","apiGroup":"batch"},"responseStatus":{"code":201},"requestReceivedTimestamp":"2026-01-02T03:05:00Z","stageTimestamp":"2026-01-02T03:05:00.1Z"}`
	auditBinding  = `{"kind":"Event","auditID":"a4","stage":"ResponseComplete","verb":"create","user":{"username":"system:kube-scheduler"},"objectRef":{"resource":"pods","namespace":"ns","name":"cron-00-1-z","subresource":"binding"},"responseStatus":{"code":201},"requestReceivedTimestamp":"2026-01-02T03:05:00Z","stageTimestamp":"2026-01-02T03:05:00.1Z"}`
	auditOther    = `{"kind":"Event","auditID":"a5","stage":"ResponseComplete","verb":"delete","user":{"username":"x"},"objectRef":{"resource":"pods","namespace":"kube-system","name":"p"},"responseStatus":{"code":200},"requestReceivedTimestamp":"2026-01-02T03:00:00Z","stageTimestamp":"2026-01-02T03:00:00Z"}`
	auditGet      = `{"kind":"Event","auditID":"a6","stage":"ResponseComplete","verb":"get","user":{"username":"x"},"objectRef":{"resource":"pods","namespace":"ns","name":"p"},"responseStatus":{"code":200},"requestReceivedTimestamp":"2026-01-02T03:00:00Z","stageTimestamp":"2026-01-02T03:00:00Z"}`
	auditPanic    = `{"kind":"Event","auditID":"a7","stage":"RequestReceived","verb":"delete","user":{"username":"x"},"objectRef":{"resource":"pods","namespace":"ns","name":"p"},"requestReceivedTimestamp":"2026-01-02T03:00:00Z","stageTimestamp":"2026-01-02T03:00:00Z"}`
)

func TestReadAudit(t *testing.T) {
	when := func(text string) time.Time {
		v, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	dir := t.TempDir()
	for name, lines := range map[string][]string{
		"audit-2026-01-02T03-05-00.000.log": {auditOther, auditEviction, auditDelete, auditGet},
		"audit.log":                         {auditJob, auditBinding, auditPanic},
		"notes.txt":                         {"not an audit log"},
	} {
		write(t, filepath.Join(dir, name), strings.Join(lines, "\n")+"\n")
	}
	// The script runs on a node; a shell is the same everywhere.
	cmd := exec.CommandContext(t.Context(), "sh", "-c", auditScript, "sh", dir, "ns")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var got []history.Audit
	res := readAudit(out, "ns", func(a history.Audit) { got = append(got, a) })
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	want := []history.Audit{
		{ID: "a1", User: "kubernetes-admin", Verb: "create", Resource: "pods", Subresource: "eviction", Namespace: "ns", Name: "web-00-x",
			UID: "u1", Code: 201, Time: when("2026-01-02T03:04:05.010001Z"), Agent: "kubectl/v1.37.0"},
		{ID: "a2", User: "system:serviceaccount:kube-system:replicaset-controller", Verb: "delete", Resource: "pods", Namespace: "ns", Name: "web-00-y",
			UID: "u2", Code: 200, Time: when("2026-01-02T03:04:06.5Z"), Agent: "kube-controller-manager/v1.37.0"},
		{ID: "a3", User: "system:serviceaccount:kube-system:cronjob-controller", Verb: "create", Resource: "jobs", Namespace: "ns", Name: "cron-00-1",
			UID: "u3", Code: 201, Time: when("2026-01-02T03:05:00.1Z")},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if !errors.Is(res.err, io.EOF) || res.broken != 0 || !res.oldest.Equal(when("2026-01-02T03:00:00Z")) {
		t.Errorf("result %+v", res)
	}

	// Nothing there, and nothing that matters, are two things.
	if err := exec.CommandContext(t.Context(), "sh", "-c", auditScript, "sh", t.TempDir(), "ns").Run(); err == nil {
		t.Error("a folder without logs is no error")
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", auditScript, "sh", dir, "elsewhere").Output(); err != nil || strings.Count(string(out), "\n") != 3 {
		t.Errorf("no line that matters: %v, %s", err, out)
	}
	res = readAudit(strings.NewReader("--\n"+auditJob[:100]+"\n"), "ns", func(history.Audit) { t.Error("a torn line was taken") })
	if res.broken != 1 || !res.oldest.IsZero() {
		t.Errorf("a torn line: %+v", res)
	}
}
