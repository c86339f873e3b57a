package faults

import (
	"testing"
	"time"
)

func TestLastSaid(t *testing.T) {
	const log = `2026-11-21T11:00:00.000000001Z stderr F {"level":"fatal","msg":"an old one","error":"input/output error"}
2026-11-21T11:50:00.123456789Z stderr F {"level":"info","msg":"fine"}
2026-11-21T11:50:01.123456789Z stderr F {"level":"fatal","ts":"x","caller":"etcdserver/raft.go:258","msg":"failed to save Raft hard state and entries","error":"input/output error"}
not a line
2026-11-21T11:50:02.1Z stderr F panic: something else: input/output error
`
	since := time.Date(2026, 11, 21, 11, 50, 0, 0, time.UTC)
	for want, c := range map[string]struct {
		since time.Time
		text  string
		log   string
	}{
		"stderr F panic: something else: input/output error":             {since, "input/output error", log},
		"failed to save Raft hard state and entries: input/output error": {since, "input/output error", log[:len(log)-len("not a line\n2026-11-21T11:50:02.1Z stderr F panic: something else: input/output error\n")]},
		"": {since.Add(time.Hour), "input/output error", log},
	} {
		if got := lastSaid(c.log, c.since, c.text); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := lastSaid(log, since, "no space left on device"); got != "" {
		t.Errorf("got %q", got)
	}
}
