package faultcheck

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"gameday/faults"
	"gameday/harness/inject"
	"gameday/harness/verify"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// conclude makes a spec's end of a verdict. What is not available fails, too: what
// is known not to be is named by absent.
func conclude(v verify.Verdict, reason string, side []string) {
	GinkgoHelper()
	if v != verify.Pass {
		Fail(strings.Join(append([]string{string(v) + ": " + reason}, side...), "\n"))
	}
}

// absent says why a trial cannot be made on a kind cluster. It is tried all the same,
// and must say so itself.
func absent(t verify.Trial) string {
	switch {
	case t.Kind.Name == "disk.pressure" || t.Kind.Name == "inodes.pressure":
		return "the kubelet's folder is on this machine's own disk"
	case t.Kind.Name == "clock.skew" && runtime.GOARCH != "amd64":
		return "the stub is written for amd64"
	}
	return ""
}

func figure(what string, ms *float64) string {
	if ms == nil {
		return ""
	}
	return fmt.Sprintf("%s %.1f ms; ", what, *ms)
}

// bound of a spec: waiting for a whole cluster before and after, and the fault's own bounds.
const bound = 30 * time.Minute

var _ = Describe("A fault", Serial, Ordered, ContinueOnFailure, func() {
	order := verify.Shuffle(trials(), seedOf())

	for _, t := range order {
		It(fmt.Sprintf("%s (%s) keeps its contract", t.Name, t.Kind.Name), func(ctx SpecContext) {
			r := verifier.Try(ctx, t)
			table.Trials = append(table.Trials, r)
			AddReportEntry(t.Name, figure("proven after", r.ProvenFromInjected)+figure("heal", r.Heal)+figure("gone after", r.Gone)+
				figure("whole after", r.Whole)+r.Measure.String())
			if why := absent(t); why != "" {
				Expect(r.Verdict).To(Equal(verify.NotAvailable), "%s", r.Reason)
				Skip(why + ": " + r.Reason)
			}
			conclude(r.Verdict, r.Reason, r.SideEffects)
		}, NodeTimeout(bound))
	}

	kinds := faults.Catalogue()
	slices.SortFunc(kinds, func(a, b faults.Kind) int { // in the order of their first trials
		at := func(k faults.Kind) int {
			return slices.IndexFunc(order, func(t verify.Trial) bool { return t.Kind.Name == k.Name })
		}
		return at(a) - at(b)
	})
	kills := 0
	for _, k := range kinds {
		if *drawn && !slices.Contains(alwaysKilled, k.Name) {
			if kills++; kills > drawnKills {
				continue
			}
		}
		It(k.Name+" is left by nobody when its process is killed", func(ctx SpecContext) {
			t, ok := victim(k.Name)
			if !ok {
				Skip("none of its trials passed") // and has failed for that, or is absent
			}
			killed := verifier.Kill(ctx, t)
			table.Kills = append(table.Kills, killed)
			AddReportEntry(t.Name+" killed when "+killed.Moment, figure("healed after", killed.Healed)+figure("whole after", killed.Whole))
			conclude(killed.Verdict, killed.Reason, killed.SideEffects)
		}, NodeTimeout(bound))
	}

	// What holds the others is not the run.
	for _, name := range []string{"partition", "slow-fsync"} {
		It(name+" is lost to the guard when its run hangs, and not taken up again", func(ctx SpecContext) {
			all, err := verify.Select(faults.Catalogue(), []string{name})
			Expect(err).NotTo(HaveOccurred())
			hung := verifier.Hang(ctx, all[0], 3*time.Second)
			AddReportEntry(name+" of a run that hangs", figure("gone after", hung.Healed))
			conclude(hung.Verdict, hung.Reason, hung.SideEffects)
		}, NodeTimeout(bound))
	}

	// What the kernel takes back by itself, and what only the journal knows.
	for _, name := range []string{"partition", "bad-cert"} {
		It(name+" is healed from the journal when its guard was killed with its run", func(ctx SpecContext) {
			all, err := verify.Select(faults.Catalogue(), []string{name})
			Expect(err).NotTo(HaveOccurred())
			killed := verifier.KillWithGuard(ctx, all[0], func(ctx context.Context, journal string) error {
				r, err := inject.HealAll(ctx, journal, open, say)
				return errors.Join(err, r.Err())
			})
			AddReportEntry(name+" of a run without a guard", figure("healed after", killed.Healed))
			conclude(killed.Verdict, killed.Reason, killed.SideEffects)
		}, NodeTimeout(bound))
	}

	for n := 1; n <= *sequences; n++ {
		It(fmt.Sprintf("beside others leaves nothing (sequence %d)", n), func(ctx SpecContext) {
			quick := verify.Quick(order, table.Trials)
			if len(quick) < 2 {
				Skip("fewer than two trials passed that are over soon")
			}
			s := verifier.Sequence(ctx, n, quick)
			table.Sequences = append(table.Sequences, s)
			var who []string
			for _, m := range s.Members {
				who = append(who, m.String())
			}
			AddReportEntry(fmt.Sprintf("sequence %d", n), strings.Join(who, "; "))
			conclude(s.Verdict, s.Reason, s.SideEffects)
		}, NodeTimeout(bound))
	}
})

// victim is the trial of a fault that is killed: of those that passed, or where none was tried (a run of some specs only)
// its first.
func victim(fault string) (verify.Trial, bool) {
	var of []verify.Trial
	tried := false
	for _, t := range trials() {
		if t.Kind.Name == fault {
			of = append(of, t)
			tried = tried || slices.ContainsFunc(table.Trials, func(r verify.Row) bool { return r.Trial == t.Name })
		}
	}
	if !tried && len(of) > 0 {
		return of[0], true
	}
	chosen := verify.Victims(of, table.Trials)
	if len(chosen) == 0 {
		return verify.Trial{}, false
	}
	return chosen[0], true
}
