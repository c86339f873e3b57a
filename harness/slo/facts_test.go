package slo

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestPhases(t *testing.T) {
	const path = "upgrade/control-plane[1]"
	for _, c := range []struct {
		name     string
		make     func(b *book)
		outcome  string
		attempts string
		want     Verdict
		departed string
	}{
		{"proceeded", func(b *book) { b.step(20, 30, path, "cp1", "proceeded", "proceed") }, "proceeded", "", Pass, ""},
		{"expected blocked, proceeded", func(b *book) { b.step(20, 30, path, "cp1", "proceeded", "blocked") }, "proceeded", "", Fail, "expected blocked, proceeded"},
		{"expected proceed, blocked", func(b *book) {
			b.step(20, 30, path, "cp1", "blocked", "proceed").step(40, 50, path, "cp1", "proceeded", "proceed")
		}, "blocked", "blocked proceeded", Fail, "expected proceed, blocked"},
		{"blocked as expected, run again", func(b *book) {
			b.step(20, 30, path, "cp1", "blocked", "blocked").step(40, 50, path, "cp1", "proceeded", "blocked")
		}, "blocked", "blocked proceeded", Pass, ""},
		{"rolled back as expected, skipped in the end", func(b *book) {
			b.step(20, 30, path, "cp1", "rolled back", "roll back").step(40, 50, path, "cp1", "skipped", "roll back")
		}, "rolled back", "rolled back skipped", Pass, ""},
		{"blocked as expected, never again", func(b *book) { b.step(20, 30, path, "cp1", "blocked", "blocked") }, "blocked", "", Fail, "never went through after the heal: blocked"},
		{"blocked as expected, then cut off", func(b *book) {
			b.step(20, 30, path, "cp1", "blocked", "blocked").phase(40, path, "cp1", "began", "", "blocked")
		}, "blocked", "blocked did not end", Inconclusive, "its last attempt is not in the record"},
		{"no end", func(b *book) { b.phase(20, path, "cp1", "began", "", "proceed") }, "did not end", "", Inconclusive, "its end is not in the record"},
		{"first end lost", func(b *book) {
			b.phase(20, path, "cp1", "began", "", "proceed").step(30, 40, path, "cp1", "proceeded", "proceed")
		}, "did not end", "did not end proceeded", Inconclusive, "its end is not in the record"},
		{"no outcome", func(b *book) { b.step(20, 30, path, "cp1", "", "proceed") }, "not said", "", Inconclusive, "its end is not in the record"},
		{"nothing to do", func(b *book) { b.step(20, 30, path, "cp1", "skipped", "proceed") }, "skipped", "", Inconclusive, "there was nothing to do"},
		{"nothing to do, nothing declared", func(b *book) { b.step(20, 30, path, "cp1", "skipped", "") }, "skipped", "", Pass, ""},
		{"nothing declared", func(b *book) { b.step(20, 30, path, "cp1", "failed", "") }, "failed", "", Fail, "expected proceed, failed"},
		{"a part is judged by its step", func(b *book) { b.step(20, 30, path+"/etcd", "cp1", "failed", "") }, "failed", "", Pass, ""},
		{"a part with an expectation", func(b *book) { b.step(20, 30, path+"/etcd", "cp1", "failed", "proceed") }, "failed", "", Fail, "expected proceed, failed"},
		{"an unknown expectation", func(b *book) { b.step(20, 30, path, "cp1", "failed", "explode") }, "failed", "", Inconclusive, `expected "explode"`},
		{"an end alone", func(b *book) { b.phase(20, path, "cp1", "ended", "proceeded", "proceed") }, "proceeded", "", Pass, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(60)
			c.make(b)
			list := Phases(b.h)
			if len(list) != 1 {
				t.Fatalf("%+v", list)
			}
			p := list[0]
			if p.Outcome != c.outcome || strings.Join(p.Attempts, " ") != c.attempts || p.Verdict != c.want || !strings.Contains(p.Departed, c.departed) || (c.departed == "") != (p.Departed == "") {
				t.Errorf("%+v", p)
			}
			if p.Place != "control-plane[1]" || p.Node != "cp1" || p.Began != 20000 {
				t.Errorf("%+v", p)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	const path = "upgrade/worker[0]"
	for _, c := range []struct {
		name   string
		make   func(b *book)
		want   Verdict
		reason string
		check  func(t *testing.T, f FaultFact)
	}{
		{"proven and gone", func(b *book) { b.fault("f", path, "w0", 25, 29) }, Pass, "", func(t *testing.T, f FaultFact) {
			t.Helper()
			if f.RequestedAt != 24000 || *f.ProvenAt != 25000 || *f.HealedAt != 28900 || *f.GoneAt != 29000 {
				t.Errorf("%+v", f)
			}
			if f.EffectMs != 200 || f.HealMs != 200 || f.OverlapMs != 3900 || f.Measured != 510 || f.Asked != 500 || f.Unit != "ms" {
				t.Errorf("%+v", f)
			}
			if f.Fault != "network.partition" || f.Target != "worker[0]" || f.Proof == "" || f.Control == "" || f.State != "gone" {
				t.Errorf("%+v", f)
			}
		}},
		{"overlaps in part", func(b *book) { b.fault("f", path, "w0", 28, 40) }, Pass, "", func(t *testing.T, f FaultFact) {
			t.Helper()
			if f.OverlapMs != 2000 {
				t.Errorf("overlap %v", f.OverlapMs)
			}
		}},
		{"lost for a while", func(b *book) {
			b.inject("f", path, "w0", "requested", 20, "armed", 20, "injected", 20, "proven", 21, "reproven", 22, "lost", 23, "rearmed", 26, "healing", 28, "healed", 28, "gone", 29)
		}, Pass, "", func(t *testing.T, f FaultFact) {
			t.Helper()
			if f.OverlapMs != 4000 || f.Lost != 1 {
				t.Errorf("%+v", f)
			}
		}},
		{"lost and never back", func(b *book) {
			b.inject("f", path, "w0", "requested", 20, "armed", 20, "injected", 20, "proven", 21, "lost", 23, "healing", 28, "healed", 28, "gone", 29)
		}, Inconclusive, "its effect was lost and did not come back: for the last 5.00 s nothing was broken", nil},
		{"lost at the end", func(b *book) {
			b.inject("f", path, "w0", "requested", 20, "armed", 20, "injected", 20, "proven", 21, "lost", 27, "healing", 28, "healed", 28, "gone", 29)
		}, Pass, "", nil},
		{"the cluster heals it", func(b *book) { b.inject("f", path, "w0", "requested", 20, "armed", 20, "proven", 21, "gone", 25) }, Pass, "", func(t *testing.T, f FaultFact) {
			t.Helper()
			if f.OverlapMs != 4000 || f.HealMs != 4000 || f.HealedAt != nil {
				t.Errorf("%+v", f)
			}
		}},
		{"beside its phase", func(b *book) { b.fault("f", path, "w0", 31, 40) }, Inconclusive, "it was proven at 0:31.00, at no moment of " + path, nil},
		{"phase unknown", func(b *book) { b.fault("f", "upgrade/worker[9]", "w0", 25, 29) }, Inconclusive, "its phase upgrade/worker[9] is not in the record", nil},
		{"no phase", func(b *book) { b.fault("f", "", "w0", 25, 29) }, Pass, "", nil},
		{"during the run", func(b *book) {
			b.stage(20, "run", "began", "").stage(30, "run", "ended", "").fault("f", "run", "w0", 25, 29)
		}, Pass, "", func(t *testing.T, f FaultFact) {
			t.Helper()
			if f.OverlapMs != 3900 {
				t.Errorf("overlap %v", f.OverlapMs)
			}
		}},
		{"not proven", func(b *book) {
			b.inject("f", path, "w0", "requested", 20, "armed", 20, "injected", 20, "unproven", 21, "healing", 21, "healed", 22, "gone", 22)
		}, Inconclusive, "it was not proven: because of f", func(t *testing.T, f FaultFact) {
			t.Helper()
			if f.ProvenAt != nil || f.OverlapMs != 0 {
				t.Errorf("%+v", f)
			}
		}},
		{"the record ends", func(b *book) { b.inject("f", path, "w0", "requested", 20, "armed", 20) }, Inconclusive, "it was not proven: the record ends in state armed", nil},
		{"skipped", func(b *book) { b.inject("f", path, "w0", "skipped", 20) }, Inconclusive, "it was skipped: because of f", nil},
		{"not seen to be gone", func(b *book) {
			b.inject("f", path, "w0", "requested", 20, "armed", 20, "proven", 21, "healing", 22, "healed", 23)
		}, Inconclusive, "it was not seen to be gone", nil},
		{"stuck", func(b *book) { b.inject("f", path, "w0", "requested", 20, "proven", 21, "healing", 22, "stuck", 40) }, Fail, "it could not be undone: because of f", nil},
		{"stuck, then gone", func(b *book) {
			b.inject("f", path, "w0", "requested", 20, "proven", 21, "healing", 22, "stuck", 40, "healing", 41, "gone", 42)
		}, Pass, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(60).step(20, 30, path, "w0", "proceeded", "proceed")
			c.make(b)
			list := Faults(b.h)
			if len(list) != 1 {
				t.Fatalf("%+v", list)
			}
			f := list[0]
			if f.Verdict != c.want || f.Reason != c.reason {
				t.Errorf("%s: %q, want %s: %q", f.Verdict, f.Reason, c.want, c.reason)
			}
			if c.check != nil {
				c.check(t, f)
			}
			text, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"name", "target", "phase", "requestedAt", "provenAt", "healedAt", "goneAt", "effectMs", "healMs", "overlapMs", "measured", "proof"} {
				if !strings.Contains(string(text), `"`+key+`":`) {
					t.Errorf("no key %s in %s", key, text)
				}
			}
		})
	}
}
