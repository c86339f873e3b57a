package slo

import (
	"testing"
	"time"

	"gameday/harness/history"
)

func TestLogs(t *testing.T) {
	const oops = "oops"
	only := func(p ...LogPattern) *Logs { return &Logs{MustNot: p} }
	for _, c := range []struct {
		name   string
		make   func(b *book)
		logs   *Logs
		want   Verdict
		reason string
	}{
		{"nothing by default", func(*book) {}, newLogs().(*Logs), Pass, "22 logs were looked through"},
		{"a data race", func(b *book) { b.line(40, "w0", compKubelet, PanicPattern, "WARNING: DATA RACE") }, newLogs().(*Logs), Fail, "is on 1 line"},
		{"whatever the fault", func(b *book) {
			b.breaks("disk.full", "cp0", 39, 45, nil).line(40, "cp0", compEtcd, PanicPattern, "panic: disk")
		}, newLogs().(*Logs), Fail, "is on 1 line"},
		{"allowed during the fault", func(b *book) {
			b.breaks("disk.full", "cp0", 39, 45, nil).line(40, "cp0", compEtcd, PanicPattern, "panic: disk")
		}, only(LogPattern{Pattern: PanicPattern, During: []LogDuring{{Faults: []string{"f"}, AtMost: 1}}}), Pass, "looked through"},
		{"more than during the fault", func(b *book) {
			b.breaks("disk.full", "cp0", 30, 35, nil).line(34, "cp0", compEtcd, PanicPattern, "panic: disk").line(45, "cp0", compEtcd, PanicPattern, "panic: disk")
		}, only(LogPattern{Pattern: PanicPattern, During: []LogDuring{{Faults: []string{"f"}, AtMost: 1, After: time.Second}}}), Fail, "is on 1 line"},
		{"so many times", func(b *book) { b.line(40, "w0", compKubelet, PanicPattern, "panic: 1") }, only(LogPattern{Pattern: PanicPattern, AtMost: 1}), Pass, "looked through"},
		{"in other logs", func(b *book) { b.line(40, "w0", compKubelet, PanicPattern, "panic: 1") }, only(LogPattern{Pattern: PanicPattern, In: []string{compEtcd}}), Pass, "3 logs were looked through"},
		{"without a time", func(b *book) {
			b.line(40, "w0", compKubelet, PanicPattern, "panic: 1")
			b.h.LogLines[0].V.Time = time.Time{}
		}, newLogs().(*Logs), Fail, "is on 1 line"},
		{"more than is told", func(b *book) { b.h.Logs[0].V.Found = map[string]int{PanicPattern: 7} }, newLogs().(*Logs), Inconclusive, "is on 7 lines more than are told"},
		{"not sought when the run was made", func(*book) {}, only(LogPattern{Pattern: oops}), Inconclusive, "22 logs were not looked through for it"},
		{"a log that was cut", func(b *book) { b.h.Logs[12].V.Missing = "it begins only at noon" }, newLogs().(*Logs), Inconclusive, "the log of kubelet on control-plane[0] is not whole: it begins only at noon"},
		{"found in spite of a log that was cut", func(b *book) {
			b.line(40, "w0", compKubelet, PanicPattern, "panic: 1").h.Logs[0].V.Missing = "half"
		}, newLogs().(*Logs), Fail, "is on 1 line"},
		{"no log of that name", func(*book) {}, only(LogPattern{Pattern: PanicPattern, In: []string{"kernel"}}), Inconclusive, "no log"},
		{"no log at all", func(b *book) { b.h.Logs = nil }, newLogs().(*Logs), Inconclusive, "no log is in the record"},
		{"it must be there, and is", func(b *book) {
			b.line(40, "w0", compKubelet, unitPattern, "Started kubelet.service").h.Logs[0].V.Missing = "half"
		}, &Logs{Must: []LogPattern{{Pattern: unitPattern}}}, Pass, "is on 1 line"},
		{"it must be there, and is not", func(*book) {}, &Logs{Must: []LogPattern{{Pattern: unitPattern, In: []string{compKubelet}}}}, Fail, "was not found in 5 logs"},
		{"it may be where nobody looked", func(b *book) { b.h.Logs[12].V.Missing = "half" }, &Logs{Must: []LogPattern{{Pattern: unitPattern}}}, Inconclusive, "not whole"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(60).system(60)
			c.make(b)
			list := c.logs.Check(b.h)
			if len(list) != 1 {
				t.Fatalf("%+v", list)
			}
			want(t, list[0], c.want, c.reason)
		})
	}
	bad := Logs{
		MustNot: []LogPattern{{}, {Pattern: "(", AtMost: -1, During: []LogDuring{{}, {Phases: []string{"x"}}}}},
		Must:    []LogPattern{{Pattern: "x", AtMost: 1}},
	}
	if errs := bad.Validate(); len(errs) != 6 {
		t.Errorf("%d problems: %v", len(errs), errs)
	}
	if errs := (&Logs{}).Validate(); len(errs) != 1 {
		t.Errorf("no pattern: %v", errs)
	}
	if n := len(newLogs().(*Logs).Patterns()); n != 1 {
		t.Errorf("%d patterns", n)
	}
	if v := newLogView(&history.History{}, oops); v.looked != 0 {
		t.Errorf("%+v", v)
	}
}
