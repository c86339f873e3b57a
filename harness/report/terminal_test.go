package report

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"gameday/harness/history"
	"gameday/harness/sample"
	"gameday/harness/slo"
)

func TestTerminal(t *testing.T) {
	var out bytes.Buffer
	term := NewTerminal(&out, false)
	h := load(t, events()...)
	for _, e := range events() {
		term.Event(e)
	}
	// The time of the last lines is the time at which they are shown.
	term.began = time.Now()
	term.Verdict(slo.Make(h, results()), "runs/example-1a2b3c", h.Run.Rerun)
	golden(t, "terminal", out.Bytes())
	if strings.Contains(out.String(), "\x1b") {
		t.Error("colour into what is no terminal")
	}
}

func TestTerminalSay(t *testing.T) {
	var out bytes.Buffer
	term := NewTerminal(&out, true)
	term.Say("waiting <= %s for %s", time.Minute, "Ready") // before the run has begun
	term.Flush()
	if want := "  0:00           waiting <= 1m0s for Ready\n"; out.String() != want {
		t.Errorf("%q, want %q", &out, want)
	}
	out.Reset()
	term.Event(history.Event{Run: &history.Run{ID: "x", Began: time.Now()}})
	term.Flush()
	if !strings.Contains(out.String(), "\x1b[1mrun     \x1b[0m") {
		t.Errorf("no colour on a terminal: %q", &out)
	}
}

// Samples come in the order of their ends, not of their starts.
func TestTerminalOutages(t *testing.T) {
	const period = 50
	type s struct {
		ms   int
		ok   bool
		late time.Duration
		err  string
	}
	good := func(from, to int) []s {
		var out []s
		for ms := from; ms < to; ms += period {
			out = append(out, s{ms: ms, ok: true})
		}
		return out
	}
	bad := func(from, to int) []s {
		out := good(from, to)
		for i := range out {
			out[i].ok = false
		}
		return out
	}
	join := func(lists ...[]s) []s {
		var out []s
		for _, l := range lists {
			out = append(out, l...)
		}
		return out
	}
	for _, tc := range []struct {
		name, endpoint string
		samples        []s
		running        []string
		want           []string
	}{
		{"none", "lb", good(0, 5000), nil, nil},
		{"one", "lb", join(good(0, 1000), bad(1000, 2000), good(2000, 5000)), nil, []string{"  0:02  outage   write new via LB 1.0 s (+-50 ms)"}},
		{"during faults, in a stable order", "lb", join(good(0, 1000), bad(1000, 2000), good(2000, 5000)), []string{"b", "a", "c"}, []string{"  0:02  outage   write new via LB 1.0 s (+-50 ms) during a, b, c"}},
		// Not sharp, but right: the good ones before it are not kept.
		{"a bad sample that ends after good ones", "lb", join(good(0, 1000), good(1050, 1500), bad(1000, 1050), good(1500, 5000)), nil, []string{"  0:02  outage   write new via LB 250 ms (+-250 ms)"}},
		{"not of the load balancer", "gd-cp", join(good(0, 1000), bad(1000, 2000), good(2000, 5000)), nil, nil},
		{"on and off", "lb", join(good(0, 1000), bad(1000, 1500), good(1500, 2000), bad(2000, 2500), good(2500, 5000)), nil, []string{"  0:03  outage   write new via LB on and off for 1.6 s"}},
		{"from the beginning, and never over", "lb", bad(0, 3000), nil, []string{"  0:05  outage   write new via LB since 0:00.00, not seen to be over"}},
		{"over when sampling ended", "lb", join(good(0, 1000), bad(1000, 2000), good(2000, 2200)), nil, []string{"  0:05  outage   write new via LB since 0:01.00, over at 0:02.00, if no later answer is missing"}},
		{"the harness's own", "lb", join(good(0, 1000), []s{{ms: 1000, err: sample.NotSent}, {ms: 1050, late: time.Second}}, good(1100, 5000)), nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			term := NewTerminal(&out, false)
			term.Event(history.Event{Series: &history.Series{ID: 1, Verb: "write", Conn: "new", Endpoint: tc.endpoint, Deadline: time.Second}})
			for _, id := range tc.running {
				term.running[id] = true
			}
			for _, s := range tc.samples {
				term.Event(after(s.ms, history.Event{Sample: &history.Sample{Series: 1, OK: s.ok, Late: s.late, Err: s.err}}))
			}
			term.Event(after(5000, history.Event{End: &history.End{}}))
			term.Flush()
			want := strings.Join(tc.want, "\n")
			if got := strings.TrimSuffix(out.String(), "\n"); got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}
