// Package preflight says what stands in the way of an upgrade before it is begun.
//
// Collect reads once, in parallel, and changes nothing: what it saw is in Facts.
// Each check is a pure function of the facts. What could not be read is a finding
// of its own: that a check found nothing means that it looked.
package preflight

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// Severity says what a finding means for the upgrade.
type Severity string

// The severities, worst first.
const (
	// Blocks: the upgrade is refused, fails, or breaks who uses the cluster.
	Blocks Severity = "blocks"
	// Unknown: it could not be looked at, so nothing can be said.
	Unknown Severity = "unknown"
	// Warns: it can go wrong, or will in a later upgrade.
	Warns Severity = "warns"
	// Note: to be known.
	Note Severity = "note"
)

func severities() []Severity { return []Severity{Blocks, Unknown, Warns, Note} }

// Finding is one thing that was found.
type Finding struct {
	Severity Severity `json:"severity"`
	// Check is the name of the check that found it.
	Check string `json:"check"`
	What  string `json:"what"`
	// Where are the objects, nodes or places in files that it is about.
	Where []string `json:"where,omitempty"`
	// More is how many places there are beyond those in Where.
	More int `json:"more,omitempty"`
	// Removed is the version that takes it away.
	Removed string `json:"removedIn,omitempty"`
	Mend    string `json:"mend,omitempty"`
	// Source is where Kubernetes or etcd says so.
	Source string `json:"source,omitempty"`
}

// shown is how many places a line names; all that are known are in the JSON.
const shown = 3

// String is one line.
func (f Finding) String() string {
	where := f.Where[:min(shown, len(f.Where))]
	s := f.What
	if len(where) > 0 {
		s += ": " + strings.Join(where, ", ")
	}
	if more := len(f.Where) - len(where) + f.More; more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	for _, part := range [][2]string{{"removed in", f.Removed}, {"mend:", f.Mend}, {"see", f.Source}} {
		if part[1] != "" {
			s += "; " + part[0] + " " + part[1]
		}
	}
	return fmt.Sprintf("%-7s  %-12s  %s", f.Severity, f.Check, oneLine(s))
}

// Report is what was found, and what was looked at.
type Report struct {
	Target string `json:"target"`
	// Findings are sorted, the worst first.
	Findings []Finding `json:"findings"`
	// Looked says what was read, one line for each kind of thing.
	Looked []string `json:"lookedAt"`
}

// Count is how many findings there are of a severity.
func (r Report) Count(s Severity) int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// Write prints one finding a line, then what was looked at.
func (r Report) Write(w io.Writer) error {
	for _, f := range r.Findings {
		if _, err := fmt.Fprintln(w, f); err != nil {
			return err
		}
	}
	var counts []string
	for _, s := range severities() {
		counts = append(counts, fmt.Sprintf("%d %s", r.Count(s), s))
	}
	_, err := fmt.Fprintf(w, "upgrade to %s: %s; looked at %s\n", r.Target, strings.Join(counts, ", "), strings.Join(r.Looked, ", "))
	return err
}

// check is one question to the facts.
type check struct {
	name string
	find func(*Facts) []Finding
}

// checks lists all there are.
func checks() []check {
	return []check{
		{"releases", releases},
		{"skew", skew},
		{"apis", apis},
		{"storage", storage},
		{"drain", drain},
		{"certificates", certificates},
		{"kubelet", kubelets},
		{"gates", gates},
		{"etcd", etcd},
	}
}

// oldestListed is the first release whose changes are listed here; heldMinor is the
// last.
const oldestListed = 33

// releases says which hops this program knows too little of.
func releases(f *Facts) []Finding {
	target, _ := minor(f.To)
	present := f.present()
	found := Finding{Severity: Unknown}
	switch {
	case target > heldMinor:
		found.What = fmt.Sprintf("releases are known here up to %s: which settings and flags later ones refuse, and which etcd they bring, is not", release(heldMinor))
		found.Mend = "read their release notes, or take a gameday that is made with them"
	case present != 0 && present < oldestListed-1:
		found.What = fmt.Sprintf("releases are known here from %s on: which feature gates and flags went before is not", release(oldestListed))
		found.Mend = "read the release notes up to it"
	default:
		return nil
	}
	return []Finding{found}
}

// Judge asks all checks.
func Judge(f *Facts) Report {
	r := Report{Target: f.To, Findings: []Finding{}, Looked: f.looked()}
	for _, u := range f.Unread {
		r.Findings = append(r.Findings, Finding{
			Severity: Unknown, Check: u.Check, What: u.What + " could not be read: " + u.Why, Where: u.Where, Mend: u.Mend,
		})
	}
	for _, c := range checks() {
		for _, found := range c.find(f) {
			found.Check = c.name
			r.Findings = append(r.Findings, found)
		}
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(slices.Index(severities(), a.Severity), slices.Index(severities(), b.Severity)),
			cmp.Compare(a.Check, b.Check), cmp.Compare(a.What, b.What), slices.Compare(a.Where, b.Where),
		)
	})
	return r
}

// CheckTarget says why a version cannot be the target.
func CheckTarget(to string) error {
	if !semver.IsValid(to) || semver.Canonical(to) != to || semver.Major(to) != "v1" {
		return fmt.Errorf("%q is not a version of the form v1.X.Y", to)
	}
	return nil
}

// minor is the X of v1.X.Y; it is false if v is no such version.
func minor(v string) (int, bool) {
	var x int
	if !semver.IsValid(v) || semver.Major(v) != "v1" {
		return 0, false
	}
	_, err := fmt.Sscanf(semver.MajorMinor(v), "v1.%d", &x)
	return x, err == nil
}

// release is a minor version as people write it.
func release(x int) string { return fmt.Sprintf("v1.%d", x) }

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// plural is "1 node", "2 nodes".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
