package slo

import (
	"testing"

	"gameday/harness/history"
)

func TestContainersThatAreOnlySaidToRun(t *testing.T) {
	for _, c := range []struct {
		id, name      string
		verdict, want Verdict
		says          string
	}{
		{"containerd://1", "pods.restarts", Pass, Pass, "fine"},
		{"hollow://1/c", "pods.restarts", Pass, Inconclusive, "none was measured; fine"},
		{"hollow://1/c", "cron.start-latency", Pass, Inconclusive, "none was measured"},
		{"hollow://1/c", "pods.below-budget", Pass, Inconclusive, "none was measured"},
		{"hollow://1/c", "cron.start-latency", Fail, Fail, "fine"},
		{"hollow://1/c", "pods.unexplained", Pass, Pass, "fine"},
		{"hollow://1/c", "writes.kept", Pass, Pass, "fine"},
	} {
		h := newBook(60).h
		h.Pods = []history.Timed[history.Pod]{{V: history.Pod{Name: "p", Containers: []string{c.id}}}}
		got := Judge(h, []Named{{c.name, fixed{{Name: c.name, Verdict: c.verdict, Reason: "fine"}}}})[0]
		want(t, got, c.want, c.says)
	}
}
