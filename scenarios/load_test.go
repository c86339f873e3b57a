package scenarios

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gameday/faults"
)

const whole = `apiVersion: gameday/v1alpha1
kind: Scenario
name: a-b
description: words
cluster: {version: v1.36.1, controlPlanes: 3, workers: 2}
workload:
  cronJobs: {count: 4}
  deployments: {count: 2, replicas: 3}
  statefulSets: {count: 1, replicas: 2, minAvailable: 0}
  jobs: {parallel: 2, duration: 3m}
upgrade:
  to: v1.37.0
  expect:
    - {phase: "upgrade/worker[1]", outcome: blocked, because: it is cut off}
faults:
  - id: one
    fault: apiserver.kill
    target: {pick: one}
    begin: {phase: "upgrade/control-plane[1]/kube-apiserver", after: 2s}
  - id: two
    fault: disk.slow-fsync
    target: {pick: leader}
    with: {delay: 500ms}
    begin: {phase: "upgrade/control-plane[2]"}
    end: {phase: "upgrade/control-plane[2]/etcd"}
  - id: three
    fault: network.partition
    target: {nodes: ["worker[1]"]}
    with: {whom: me, oneWay: true, loss: 0.5, max: 9, match: {a: b, "5": "true"}, inner: {p99: 1ms}}
    begin: {phase: upgrade}
    end: {for: 30s}
allow: [etcdQuorumLoss]
maxUnavailable: 0
slos:
  - cron.start-latency: {p99: 90s}
  - writes.kept
`

func load(t *testing.T, text string) (*Scenario, error) {
	t.Helper()
	return Load([]byte(text), "s.yaml", fakeKnown())
}

// aside are the fields that say where in a file something stood.
func aside() cmp.Option {
	return cmp.Options{
		cmpopts.IgnoreFields(Scenario{}, "File"), cmpopts.IgnoreFields(Fault{}, "Line"),
		cmpopts.IgnoreFields(Expect{}, "Line"), cmpopts.IgnoreFields(SLO{}, "Line"),
		cmpopts.IgnoreUnexported(cut{}, slow{}, noParams{}),
	}
}

func TestLoadFillsDefaults(t *testing.T) {
	got, err := load(t, whole)
	if err != nil {
		t.Fatal(err)
	}
	want := &Scenario{
		APIVersion: APIVersion, Kind: Kind, Name: "a-b", Description: "words",
		Cluster: Cluster{Version: "v1.36.1", ControlPlanes: 3, Workers: 2},
		Workload: Workload{
			CronJobs:     &CronJobs{Count: 4, Schedule: "* * * * *", Duration: 2 * time.Second, Policy: "Allow", TimeZone: "Etc/UTC"},
			Deployments:  &Deployments{Count: 2, Replicas: 3, MinAvailable: 2},
			StatefulSets: &Stateful{Count: 1, Replicas: 2, MinAvailable: 0},
			Jobs:         &Jobs{Parallel: 2, Duration: 3 * time.Minute},
		},
		Upgrade: &Upgrade{
			To: "v1.37.0", Strategy: "kubeadm", Drain: "workers", DrainTimeout: 2 * time.Minute, Timeout: 30 * time.Minute,
			Expect: []Expect{{Phase: "upgrade/worker[1]", Outcome: "blocked", Because: "it is cut off"}},
		},
		Faults: []Fault{
			{ID: "one", Fault: "apiserver.kill", Target: faults.Target{Pick: "one"}, With: &noParams{},
				Begin: Begin{Phase: "upgrade/control-plane[1]/kube-apiserver", After: 2 * time.Second}, MaxHold: time.Minute},
			{ID: "two", Fault: "disk.slow-fsync", Target: faults.Target{Pick: "leader"}, With: &slow{Delay: 500 * time.Millisecond},
				Begin: Begin{Phase: "upgrade/control-plane[2]"}, End: End{Phase: "upgrade/control-plane[2]/etcd"}, MaxHold: 3 * time.Minute},
			{ID: "three", Fault: "network.partition", Target: faults.Target{Nodes: []string{"worker[1]"}},
				With: &cut{From: "apiservers", Peers: []string{"all"}, Whom: words{"me"}, OneWay: true, Loss: 0.5, Max: 9,
					Match: map[string]string{"a": "b", "5": "true"}, Inner: &latency{P99: time.Millisecond}},
				Begin: Begin{Phase: "upgrade"}, End: End{For: 30 * time.Second}, MaxHold: time.Minute},
		},
		Allow: []string{"etcdQuorumLoss"}, MaxUnavailable: 0,
		SLOs: []SLO{
			{Name: "cron.start-latency", With: &latency{P99: 90 * time.Second, Missed: 3}},
			{Name: "writes.kept", With: &struct{}{}},
		},
		Steady: 20 * time.Second, Converge: 3 * time.Minute,
	}
	if diff := cmp.Diff(want, got, aside()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got.Faults[1].Line != 20 || got.SLOs[1].Line != 36 || got.Upgrade.Expect[0].Line != 14 {
		t.Errorf("lines: fault %d, SLO %d, expectation %d", got.Faults[1].Line, got.SLOs[1].Line, got.Upgrade.Expect[0].Line)
	}
}

// TestSurgeDefaults: one more, unless fewer may be there.
func TestSurgeDefaults(t *testing.T) {
	for given, want := range map[string]Upgrade{
		"":                      {MaxSurge: 1},
		"\n  maxSurge: 3":       {MaxSurge: 3},
		"\n  maxUnavailable: 2": {MaxUnavailable: 2},
		"\n  maxSurge: 1\n  maxUnavailable: 1\n  soak: 9s": {MaxSurge: 1, MaxUnavailable: 1, Soak: 9 * time.Second},
	} {
		s, err := load(t, strings.Replace(whole, "to: v1.37.0", "to: v1.37.0\n  strategy: surge"+given, 1))
		if err != nil {
			t.Fatal(err)
		}
		o := s.Upgrade.Options()
		if o.MaxSurge != want.MaxSurge || o.MaxUnavailable != want.MaxUnavailable || o.Soak != want.Soak {
			t.Errorf("%q: %+v", given, o)
		}
	}
}

func TestMarshalReadsBackTheSame(t *testing.T) {
	for _, text := range []string{
		whole,
		strings.Replace(whole, "to: v1.37.0", "to: v1.37.0\n  strategy: surge\n  maxUnavailable: 2\n  soak: 3s", 1),
		// What differs from a default must be written, zero or not.
		strings.NewReplacer("{p99: 90s}", "{p99: 90s, missed: 0}", "oneWay: true", "peers: [], from: '007'", "words", "'yes'").Replace(whole),
	} {
		first, err := load(t, text)
		if err != nil {
			t.Fatal(err)
		}
		out, err := first.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		second, err := load(t, string(out))
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if diff := cmp.Diff(first, second, aside()); diff != "" {
			t.Errorf("-first +second:\n%s\n%s", diff, out)
		}
	}
}

// TestLoadRefuses changes one thing of a good scenario at a time.
func TestLoadRefuses(t *testing.T) {
	for _, tc := range []struct{ name, old, new, want string }{
		{"unknown field", "maxUnavailable", "maxUnavailble", `s.yaml:33:1: unknown field "maxUnavailble"; did you mean "maxUnavailable"?`},
		{"unknown fault", "fault: disk.slow-fsync", "fault: disk.slow-fsnyc", `s.yaml:21:12: faults[1].fault: unknown fault "disk.slow-fsnyc"; did you mean "disk.slow-fsync"?`},
		{"fault far from any", "fault: disk.slow-fsync", "fault: meteor", `unknown fault "meteor"; valid: apiserver.kill, disk.slow-fsync, network.partition`},
		{"unknown parameter", "delay: 500ms", "dealy: 500ms", `s.yaml:23:12: faults[1].with: unknown field "dealy"; did you mean "delay"?`},
		{"field of a fault", "    with: {delay", "    wth: {delay", `unknown field "wth"; did you mean "with"?`},
		{"no unit", "for: 30s", "for: 30", `s.yaml:31:16: faults[2].end.for: 30 has no unit; write 30s, 30ms or 30m`},
		{"bad duration", "for: 30s", "for: 30 s", `"30 s" is not a duration; units are ms, s, m, h: 1m30s`},
		{"negative duration", "for: 30s", "for: -30s", `"-30s" is negative`},
		{"validate speaks", "delay: 500ms", "delay: 1us", `faults[1].with: delay must be at least 1ms`},
		{"validate speaks of all", "delay: 500ms", "delay: 1us", `faults[1].with: and this says so twice`},
		{"enum", "outcome: blocked", "outcome: block", `upgrade.expect[0].outcome: unknown value "block"; did you mean "blocked"?`},
		{"enum far from any", "outcome: blocked", "outcome: perhaps", `unknown value "perhaps"; valid: proceed, blocked, roll back`},
		{"phase", "control-plane[1]/kube-apiserver", "control-plane[1]/kube-apiservr", `did you mean "upgrade/control-plane[1]/kube-apiserver"?`},
		{"expected phase", `phase: "upgrade/worker[1]"`, `phase: "upgrade/worker[7]"`, `there is no phase "upgrade/worker[7]"`},
		{"end before begin", `end: {phase: "upgrade/control-plane[2]/etcd"}`, `end: {phase: "upgrade/control-plane[1]/etcd"}`, `comes before upgrade/control-plane[2]`},
		{"place", `nodes: ["worker[1]"]`, `nodes: ["worker[2]"]`, `there is no worker[2]: the cluster has 2 of role worker; worker[0] to worker[1]`},
		{"no place", `nodes: ["worker[1]"]`, `nodes: ["worker1"]`, `"worker1" is not a place; places are control-plane[N], worker[N]`},
		{"role", "pick: one", `nodes: ["worker[0]"]`, `worker[0] cannot be hit or upgraded here; places are control-plane[N]`},
		{"pick", "pick: one", "pick: some", `unknown value "some"; valid: one, minority`},
		{"nobody", "pick: one", "role: worker", `nobody is hit`},
		{"two targets", "pick: one", `pick: one, nodes: ["control-plane[0]"]`, `nodes and pick cannot both be given`},
		{"except without pick", `nodes: ["worker[1]"]`, `nodes: ["worker[1]"], except: ["worker[0]"]`, `narrow pick, which is not given`},
		{"leader among workers", "pick: leader", "pick: leader, role: worker", `unknown value "worker"; valid: control-plane`},
		{"no end", "    end: {for: 30s}\n", "", `s.yaml:26:5: faults[2].end: it is not said when the fault ends`},
		{"two ends", "end: {for: 30s}", "end: {for: 30s, phase: upgrade}", `phase and for cannot both be given`},
		{"end of a kill", `/kube-apiserver", after: 2s}`, `/kube-apiserver"}` + "\n    end: {for: 2s}", `apiserver.kill has no length of its own`},
		{"hold", "end: {for: 30s}", "end: {for: 30s}\n    maxHold: 10s", `30s is more than maxHold 10s`},
		{"same id", "id: two", "id: one", `faults[1].id: "one" is given twice, first in line 16`},
		{"bad id", "id: two", "id: Two", `"Two" cannot be a name`},
		{"no id", "id: two\n    ", "", `s.yaml:20:5: faults[1].id: is missing`},
		{"version", "version: v1.36.1", "version: v1.36", `"v1.36" is not a version of Kubernetes; write v1.X.Y`},
		{"not text", "version: v1.36.1", "version: 1.36", `must be text, not a number; put it in quotes: "1.36"`},
		{"skips a minor", "to: v1.37.0", "to: v1.38.0", `from v1.36.1 to v1.38.0 skips a minor version, which Kubernetes does not support; go to v1.37 first`},
		{"backwards", "to: v1.37.0", "to: v1.36.1", `v1.36.1 is not later than cluster.version v1.36.1`},
		{"strategy", "to: v1.37.0", "to: v1.37.0\n  strategy: kubadm", `unknown value "kubadm"; did you mean "kubeadm"?`},
		{"surge in place", "to: v1.37.0", "to: v1.37.0\n  maxSurge: 2", `upgrade.maxSurge: strategy kubeadm does not take it; remove it`},
		{"soak in place", "to: v1.37.0", "to: v1.37.0\n  soak: 2s", `upgrade.soak: strategy kubeadm does not take it; remove it`},
		{"no surge at all", "to: v1.37.0", "to: v1.37.0\n  strategy: surge\n  maxSurge: 0", `maxSurge and maxUnavailable are 0: no worker could ever be replaced`},
		{"surge of too many", "to: v1.37.0", "to: v1.37.0\n  strategy: surge\n  maxUnavailable: 21", `upgrade.maxUnavailable: must be 0 to 20, not 21`},
		{"surge without drain", "to: v1.37.0", "to: v1.37.0\n  strategy: surge\n  drain: none", `workers are drained before they are replaced`},
		{"drain exceeded", "to: v1.37.0", "to: v1.37.0\n  strategy: surge\n  drainExceeded: removed", `unknown value "removed"; did you mean "remove"?`},
		{"an option of others", "to: v1.37.0", "to: v1.37.0\n  command: [make]", `upgrade.command: strategy kubeadm does not take it; remove it`},
		{"another option of others", "to: v1.37.0", "to: v1.37.0\n  strategy: by-hand\n  order: [etcd]\n  stopFirst: [etcd]", `upgrade.stopFirst: strategy by-hand does not take it`},
		{"what the strategy says", "to: v1.37.0", "to: v1.37.0\n  strategy: by-hand\n  order: [etcd]", `upgrade.order: [etcd] is no order`},
		{"batch of a surge", "to: v1.37.0", "to: v1.37.0\n  strategy: surge\n  batch: 2", `upgrade.batch: strategy surge does not take it`},
		{"batch of none", "to: v1.37.0", "to: v1.37.0\n  strategy: blue-green\n  batch: 0", `upgrade.batch: must be 1 to 20, not 0`},
		{"canary's log", "to: v1.37.0", "to: v1.37.0\n  strategy: blue-green\n  canaryLog: '['", `upgrade.canaryLog: error parsing regexp`},
		{"upgraded node", "to: v1.37.0", "to: v1.37.0\n  nodes: [control-plane[3]]", `not YAML`},
		{"upgraded nowhere", "to: v1.37.0", `to: v1.37.0` + "\n" + `  nodes: ["control-plane[3]", "worker[0]", "worker[0]"]`, `there is no control-plane[3]`},
		{"upgraded twice", "to: v1.37.0", `to: v1.37.0` + "\n" + `  nodes: ["worker[0]", "worker[0]"]`, `upgrade.nodes[1]: worker[0] is given twice`},
		{"run and upgrade", "allow:", "run: 5m\nallow:", `with an upgrade, the upgrade sets the length`},
		{"too long steady", "allow:", "steady: 9m1s\nallow:", `steady: must be more than 0s and at most 9m0s, not 9m1s`},
		{"allow", "etcdQuorumLoss", "etcdQuorum", `did you mean "etcdQuorumLoss"?`},
		{"no SLO", "slos:\n  - cron.start-latency: {p99: 90s}\n  - writes.kept\n", "", `slos: at least one SLO must be judged`},
		{"unknown SLO", "writes.kept", "writes.keptt", `s.yaml:36:5: slos[1]: unknown SLO "writes.keptt"; did you mean "writes.kept"?`},
		{"SLO's parameter", "{p99: 90s}", "{p98: 90s}", `unknown field "p98"; did you mean "p99"?`},
		{"SLO without indent", "cron.start-latency: {p99: 90s}", "cron.start-latency:\n    p99: 90s", `must be one name, or one name with its parameters`},
		{"same SLO", "writes.kept", "cron.start-latency", `"cron.start-latency" is given twice, first in line 35`},
		{"every", "{count: 4}", `{count: 4, schedule: "@every 1m"}`, `@every has no slots on the clock`},
		{"schedule", "{count: 4}", `{count: 4, schedule: "* * * *"}`, `"* * * *" is not a schedule`},
		{"blocked drain", "replicas: 3", "replicas: 3, minAvailable: 3", `a budget that allows no disruption blocks every drain; at most 2 of 3`},
		{"no worker", "workers: 2", "workers: 0", `there is no worker to run it`},
		{"count", "{count: 4}", "{count: 0}", `workload.cronJobs.count: must be 1 to 1000, not 0`},
		{"time zone", "{count: 4}", "{count: 4, timeZone: Local}", `workload.cronJobs.timeZone: "Local" is no time zone`},
		{"starting deadline", "{count: 4}", "{count: 4, startingDeadline: 1500ms}", `workload.cronJobs.startingDeadline: 1.5s is not a number of whole seconds`},
		{"missing count", "{count: 4}", "{}", `workload.cronJobs.count: is missing`},
		{"word for number", "{count: 4}", "{count: four}", `must be a whole number, not text`},
		{"hexadecimal", "{count: 4}", "{count: 0x10}", `"0x10" is not a decimal number`},
		{"overflow", "max: 9", "max: 70000", `"70000" is not a decimal number from 0 that fits`},
		{"infinite", "loss: 0.5", "loss: .inf", `".inf" is not a finite number`},
		{"list for mapping", "cluster: {version: v1.36.1, controlPlanes: 3, workers: 2}", "cluster: [v1.36.1]", `cluster: must be a mapping (field: value), not a list`},
		{"no zones", "target: {pick: leader}", "target: {pick: leader, zone: a}", `target.zone: the cluster has no zones; give cluster.zones: [...]`},
		{"a zone twice", "workers: 2}", "workers: 2, zones: [a, a]}", `cluster.zones[1]: "a" is given twice`},
		{"no label", "workers: 2}", "workers: 2, zones: [a b]}", `"a b" is no value of a label`},
		{"word for list", "[etcdQuorumLoss]", "etcdQuorumLoss", `must be a list, not text; write "- " before each entry`},
		{"nothing", "description: words", "description:", `description: has no value; give it one or remove the field`},
		{"twice", "kind: Scenario", "kind: Scenario\nkind: Scenario", `s.yaml:3:1: kind: given twice, first in line 2`},
		{"alias", "kind: Scenario\nname: a-b", "kind: &k Scenario\nname: *k", `aliases are not supported; write the value out`},
		{"other kind", "kind: Scenario", "kind: Pod", `unknown value "Pod"; valid: Scenario`},
		{"other version", "gameday/v1alpha1", "gameday/v1", `did you mean "gameday/v1alpha1"?`},
		{"alias in a type of its own", "whom: me", "from: &x me, whom: [*x]", `faults[2].with.whom: aliases are not supported`},
		{"wrong in a type of its own", "whom: me", "whom: {a: b}", `faults[2].with.whom: `},
		{"second document", "allow:", "---\nallow:", `a second document begins here`},
		{"not YAML", "kind: Scenario", "kind: [", `s.yaml:`},
		{"tab", "  cronJobs:", "\tcronJobs:", `not YAML: found character that cannot start any token`},
		{"long hold", "maxUnavailable: 0", "maxUnavailable: -1", `maxUnavailable: must be 0 to`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := strings.Replace(whole, tc.old, tc.new, 1)
			if text == whole {
				t.Fatalf("%q is not in the scenario", tc.old)
			}
			_, err := load(t, text)
			var inv *Invalid
			if !errors.As(err, &inv) {
				t.Fatalf("error is %v", err)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got:\n%v\nwant: %s", err, tc.want)
			}
			for _, p := range inv.Problems {
				if p.Line == 0 && tc.name != "not YAML" {
					t.Errorf("no line: %v", p)
				}
			}
		})
	}
}

func TestEveryErrorAtOnceInOrder(t *testing.T) {
	_, err := load(t, strings.NewReplacer("a-b", "A B", "v1.37.0", "v2", "disk.slow-fsync", "x", "for: 30s", "for: 30", "writes.kept", "y").Replace(whole))
	var inv *Invalid
	if !errors.As(err, &inv) {
		t.Fatal(err)
	}
	var got []string
	for _, p := range inv.Problems {
		got = append(got, fmt.Sprintf("%d %s", p.Line, p.Field))
	}
	want := []string{"3 name", "12 upgrade.to", "21 faults[1].fault", "31 faults[2].end.for", "36 slos[1]"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s\n%v", diff, err)
	}
}

func TestWithoutUpgrade(t *testing.T) {
	text := `apiVersion: gameday/v1alpha1
kind: Scenario
name: quiet
description: words
cluster: {version: v1.36.1, controlPlanes: 1, workers: 0}
run: 2m
faults:
  - {id: a, fault: apiserver.kill, target: {pick: all}}
  - {id: b, fault: disk.slow-fsync, target: {pick: all}, begin: {after: 1s}, end: {phase: run}}
slos: [writes.kept]
`
	s, err := load(t, text)
	if err != nil {
		t.Fatal(err)
	}
	if s.Faults[0].Begin.Phase != PhaseRun || s.Faults[1].Begin.Phase != PhaseRun || s.Workload.CronJobs != nil {
		t.Errorf("got %+v", s)
	}
	for old, want := range map[string]string{
		"run: 2m\n":               "run: is missing",
		"begin: {after: 1s}, ":    "",
		"{phase: run}":            `there is no phase "upgrade"`,
		"faults:\n":               "",
		"fault: apiserver.kill, ": "faults[0].fault: is missing",
	} {
		if want == "" {
			continue
		}
		_, err := load(t, strings.Replace(text, old, map[string]string{"{phase: run}": "{phase: upgrade}"}[old], 1))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without %q: %v", old, err)
		}
	}
}

// fussy fits only clusters of three control planes that are upgraded.
type fussy struct{}

func (*fussy) Fits(run Shape) []error {
	if run.ControlPlanes == 3 && slices.Contains(run.Phases, PhaseUpgrade) {
		return nil
	}
	return []error{fmt.Errorf("it cannot be judged with %d control planes and %d phases", run.ControlPlanes, len(run.Phases))}
}

func TestAnSLOMustFitTheRun(t *testing.T) {
	known := fakeKnown()
	known.SLOs = append(known.SLOs, SLOKind{Name: "fussy", Doc: "fits", New: func() any { return &fussy{} }})
	text := `apiVersion: gameday/v1alpha1
kind: Scenario
name: quiet
description: words
cluster: {version: v1.36.1, controlPlanes: 1, workers: 0}
run: 2m
slos: [fussy]
`
	_, err := Load([]byte(text), "test.yaml", known)
	if err == nil || !strings.Contains(err.Error(), "slos[0].fussy: it cannot be judged with 1 control planes and 1 phases") {
		t.Errorf("got %v", err)
	}
	text = strings.NewReplacer("controlPlanes: 1", "controlPlanes: 3", "run: 2m", "upgrade: {to: v1.37.0}").Replace(text)
	if _, err := Load([]byte(text), "test.yaml", known); err != nil {
		t.Error(err)
	}
}

func TestTooManyFaults(t *testing.T) {
	more := strings.Repeat("  - {id: x, fault: apiserver.kill, target: {pick: one}, begin: {phase: upgrade}}\n", maxFaults+1)
	_, err := load(t, strings.Replace(whole, "allow:", more+"allow:", 1))
	if err == nil || !strings.Contains(err.Error(), "at most 100 are planned") {
		t.Errorf("got %v", err)
	}
}

func TestEmptyAndHuge(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "the file is empty",
		"# only words\n":                  "the file is empty",
		"- a\n":                           "must hold a mapping",
		"{}":                              "apiVersion: is missing",
		strings.Repeat("a", maxSize+1):    "at most 1048576 are read",
		"a: &a [x]\nb: [*a, *a]":          `unknown field "a"`,
		"? [x]\n: y":                      "the name of a field must be a word",
		"<<: {name: x}":                   `unknown field "<<"`,
		strings.Repeat("[", 20_000) + "]": "not YAML",
	} {
		if _, err := load(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(whole))
	entries, err := Library()
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		f.Add(e.Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Load(data, "f.yaml", fakeKnown())
		if err != nil {
			var inv *Invalid
			if !errors.As(err, &inv) || len(inv.Problems) == 0 {
				t.Fatalf("error is %T: %v", err, err)
			}
			return
		}
		out, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Load(out, "f.yaml", fakeKnown())
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if diff := cmp.Diff(s, again, aside()); diff != "" {
			t.Fatalf("-first +second:\n%s\n%s", diff, out)
		}
	})
}

func drawn(random string) string {
	head, _, _ := strings.Cut(whole, "upgrade:")
	return head + "run: 4m\nfaults:\n  random: " + random + "\nslos: [writes.kept]\n"
}

func TestRandomFaults(t *testing.T) {
	s, err := load(t, drawn("{meanGap: 20s, from: [apiserver.kill, network.partition], until: 3m}"))
	if err != nil {
		t.Fatal(err)
	}
	want := &Random{MeanGap: 20 * time.Second, Budget: 1, From: []string{"apiserver.kill", "network.partition"},
		Hold: 15 * time.Second, Until: 3 * time.Minute, Line: 13}
	if diff := cmp.Diff(want, s.Random); diff != "" || s.Faults != nil {
		t.Errorf("faults %v, -want +got:\n%s", s.Faults, diff)
	}
	out, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := load(t, string(out))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if diff := cmp.Diff(s, again, aside(), cmpopts.IgnoreFields(Random{}, "Line")); diff != "" {
		t.Errorf("-first +second:\n%s\n%s", diff, out)
	}

	for _, tc := range []struct{ random, want string }{
		{"{}", `s.yaml:13:11: faults.random.meanGap: is missing`},
		{"{meanGap: 20}", `faults.random.meanGap: 20 has no unit; write 20s`},
		{"{meanGap: 20s, form: [apiserver.kill]}", `s.yaml:13:26: faults.random: unknown field "form"; did you mean "from"?`},
		{"{meanGap: 20s, from: [apiserver.kil]}", `s.yaml:13:33: faults.random.from[0]: unknown fault "apiserver.kil"; did you mean "apiserver.kill"?`},
		{"{meanGap: 20s, from: [apiserver.kill, apiserver.kill]}", `faults.random.from[1]: "apiserver.kill" is given twice; remove one`},
		{"{meanGap: 20s, from: []}", `faults.random.from: names no fault; remove the field to draw from all`},
		{"{meanGap: 20s, budget: 0}", `faults.random.budget: must be 1 to 100, not 0`},
		{"{meanGap: 20s, hold: 0s}", `faults.random.hold: must be more than 0s`},
		{"{meanGap: 20s, count: 0}", `faults.random.count: must be 1 to 100, not 0`},
		{"{meanGap: 20s, until: 5m}", `faults.random.until: 5m0s is more than run 4m0s: what is drawn for later would not begin; raise run`},
		{"{meanGap: 20s, seed: -1}", `faults.random.seed: "-1" is not a decimal number from 0`},
		{"[]", `faults.random: must be a mapping`},
	} {
		if _, err := load(t, drawn(tc.random)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s:\n%v\nwant: %s", tc.random, err, tc.want)
		}
	}
	for _, tc := range []struct{ text, want string }{
		{strings.Replace(drawn("{meanGap: 20s}"), "random:", "randon:", 1), `faults: unknown field "randon"; did you mean "random"?`},
		{strings.Replace(drawn("{}"), "faults:\n  random: {}", "faults: {}", 1), `faults: names no fault; write a list, or random: {meanGap: 20s}`},
		{strings.Replace(drawn("{}"), "faults:\n  random: {}", "faults: some", 1), `or say random: {meanGap: 20s}`},
	} {
		if _, err := load(t, tc.text); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s:\n%v\nwant: %s", tc.text, err, tc.want)
		}
	}
}

func TestParameters(t *testing.T) {
	k, err := fakeKnown().Fault("disk.slow-fsync")
	if err != nil {
		t.Fatal(err)
	}
	if f, err := Parameters(k, "{delay: 20ms}", "trial"); err != nil || f.(*slow).Delay != 20*time.Millisecond {
		t.Errorf("%v, %v", f, err)
	}
	k2, err := fakeKnown().Fault("network.partition")
	if err != nil {
		t.Fatal(err)
	}
	// A fault says itself what may be negative.
	if f, err := Parameters(k2, "{inner: {p99: -5m}}", "trial"); err != nil || f.(*cut).Inner.P99 != -5*time.Minute {
		t.Errorf("%v, %v", f, err)
	}
	if s, err := load(t, strings.Replace(whole, "inner: {p99: 1ms}", "inner: {p99: -1ms}", 1)); err != nil || s.Faults[2].With.(*cut).Inner.P99 != -time.Millisecond {
		t.Errorf("negative: %v", err)
	}
	if f, err := Parameters(k, "", "trial"); err != nil || f.(*slow).Delay != time.Second {
		t.Errorf("%v, %v", f, err)
	}
	for text, want := range map[string]string{
		"{dealy: 20ms}": `trial:1:2: with: unknown field "dealy"; did you mean "delay"?`,
		"{delay: 1us}":  "delay must be at least 1ms",
		"- a":           "must hold a mapping",
	} {
		if _, err := Parameters(k, text, "trial"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A map may take fields by a pattern of their names.
func TestFieldsByPattern(t *testing.T) {
	with := func(params string) string {
		return strings.Replace(whole, "cron.start-latency: {p99: 90s}", "cron.start-latency: "+params, 1)
	}
	s, err := load(t, with("{p99.99: 20m, p99.9: 100s}"))
	if err != nil {
		t.Fatal(err)
	}
	got := s.SLOs[0].With.(*latency)
	if got.P99 != time.Minute || len(got.More) != 2 || got.More["p99.99"] != 20*time.Minute || got.More["p99.9"] != 100*time.Second {
		t.Errorf("%+v", got)
	}
	out, err := s.Marshal()
	if err != nil || !strings.Contains(string(out), "p99.9: 1m40s\n      p99.99: 20m0s") {
		t.Errorf("%v\n%s", err, out)
	}
	if again, err := load(t, string(out)); err != nil || !reflect.DeepEqual(again.SLOs[0].With, s.SLOs[0].With) {
		t.Errorf("read back: %v", err)
	}
	for params, want := range map[string]string{
		"{p9.99: 20m}":              `unknown field "p9.99"`,
		"{p99.99: 20}":              "20 has no unit",
		"{p99.99: 2s, p99.99: 20m}": "given twice",
	} {
		if _, err := load(t, with(params)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", params, err)
		}
	}
}
