package verify

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// APIVersion of the JSON form.
const APIVersion = "gameday/v1alpha1"

// Verdict of a row.
type Verdict string

// The verdicts. What was not measured never passes.
const (
	Pass         Verdict = "pass"
	Fail         Verdict = "fail"
	Stuck        Verdict = "stuck" // it could not be undone
	Inconclusive Verdict = "inconclusive"
	NotAvailable Verdict = "not available" // this cluster or machine cannot do it
)

// Table is what a verification found.
type Table struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"` // FaultVerification
	Gameday    string    `json:"gameday"`
	Seed       uint64    `json:"seed"`
	Began      time.Time `json:"began"`
	Seconds    float64   `json:"seconds"`
	Cluster    Cluster   `json:"cluster"`
	Machine    Machine   `json:"machine"`
	// Verdict is the worst of all rows; what is not available does not count, but
	// there must be something that passed.
	Verdict Verdict `json:"verdict"`
	// Trials, Kills and Sequences are in the order of the catalogue, and of their
	// numbers.
	Trials    []Row      `json:"trials"`
	Kills     []Kill     `json:"kills,omitempty"`
	Sequences []Sequence `json:"sequences,omitempty"`
}

// Cluster that faults were tried on.
type Cluster struct {
	Name          string `json:"name"`
	Provider      string `json:"provider"`
	Version       string `json:"version"`
	ControlPlanes int    `json:"controlPlanes"`
	Workers       int    `json:"workers"`
}

// Machine is where it ran.
type Machine struct {
	Kernel string `json:"kernel"`
	CPUs   int    `json:"cpus"`
}

// Row is a trial. Times are milliseconds; one that was not seen is null.
type Row struct {
	Fault  string   `json:"fault"`
	Trial  string   `json:"trial"`
	Asked  string   `json:"target"`
	Places []string `json:"places,omitempty"`
	// Instant faults have no heal: from their injection until they are gone is the
	// cluster's own time.
	Instant bool    `json:"instant,omitempty"`
	Verdict Verdict `json:"verdict"`
	// Reason says why it did not pass.
	Reason string `json:"reason,omitempty"`
	// ProvenFromArmed is from the moment before Inject was called until the effect
	// was seen, ProvenFromInjected from Inject's return.
	ProvenFromArmed    *float64 `json:"provenFromArmedMs"`
	ProvenFromInjected *float64 `json:"provenFromInjectedMs"`
	// Heal is how long Heal took; Gone from its beginning (of an instant fault:
	// from the injection) until it was seen to be gone; Whole from gone until the
	// cluster was.
	Heal    *float64 `json:"healMs"`
	Gone    *float64 `json:"goneMs"`
	Whole   *float64 `json:"wholeMs"`
	Measure *Measure `json:"measure,omitempty"`
	// Proof and Control are what was seen.
	Proof   string `json:"proof,omitempty"`
	Control string `json:"control,omitempty"`
	// Looks is how often the proof said no while nothing was injected.
	Looks int `json:"looksBefore"`
	// SideEffects are what differed from before at the end.
	SideEffects []string `json:"sideEffects,omitempty"`
}

// Measure compares what was asked for with what was seen.
type Measure struct {
	Asked    float64 `json:"asked"`
	Measured float64 `json:"measured"`
	Unit     string  `json:"unit"`
	// Off is by how much what was seen differs, in percent; null if zero was asked
	// for.
	Off *float64 `json:"offPercent"`
}

func (m *Measure) String() string {
	if m == nil {
		return "-"
	}
	s := fmt.Sprintf("%s / %s %s", number(m.Asked), number(m.Measured), m.Unit)
	if m.Off != nil {
		s += fmt.Sprintf(" (%+.2f %%)", *m.Off)
	}
	return s
}

// Kill is a trial in a process that was killed.
type Kill struct {
	Fault   string   `json:"fault"`
	Trial   string   `json:"trial"`
	Places  []string `json:"places,omitempty"`
	Verdict Verdict  `json:"verdict"`
	Reason  string   `json:"reason,omitempty"`
	// Moment is when it was killed; the state that it had come to then is State.
	Moment string `json:"moment"`
	State  string `json:"state,omitempty"`
	// Healed is from SIGKILL until the journal said that nothing was open.
	Healed      *float64 `json:"healedMs"`
	Whole       *float64 `json:"wholeMs"`
	SideEffects []string `json:"sideEffects,omitempty"`
}

// Sequence is several faults that overlapped.
type Sequence struct {
	Number  int      `json:"number"`
	Verdict Verdict  `json:"verdict"`
	Reason  string   `json:"reason,omitempty"`
	Members []Member `json:"members"`
	// Whole is from the end of the last one until the cluster was whole.
	Whole       *float64 `json:"wholeMs"`
	SideEffects []string `json:"sideEffects,omitempty"`
}

// Member is a fault of a sequence.
type Member struct {
	Trial  string   `json:"trial"`
	Places []string `json:"places"`
	// Begin and End are since the sequence began; Proven says whether its effect
	// was seen: beside another fault it may not be, or not alone.
	Begin  float64 `json:"beginMs"`
	End    float64 `json:"endMs"`
	Proven bool    `json:"proven"`
	Note   string  `json:"note,omitempty"`
}

func (m Member) String() string { return m.Trial + " on " + strings.Join(m.Places, ", ") }

// rank orders verdicts, worst last.
func rank(v Verdict) int {
	return slices.Index([]Verdict{NotAvailable, Pass, Inconclusive, Fail, Stuck}, v)
}

// verdicts of all rows.
func (t *Table) verdicts() []Verdict {
	var out []Verdict
	for _, r := range t.Trials {
		out = append(out, r.Verdict)
	}
	for _, k := range t.Kills {
		out = append(out, k.Verdict)
	}
	for _, s := range t.Sequences {
		out = append(out, s.Verdict)
	}
	return out
}

// Finish puts the rows in order, and judges the whole. order are the names of the
// trials as in the catalogue.
func (t *Table) Finish(order []Trial, took time.Duration) {
	at := map[string]int{}
	for i, o := range order {
		at[o.Name] = i
	}
	slices.SortStableFunc(t.Trials, func(a, b Row) int { return cmp.Compare(at[a.Trial], at[b.Trial]) })
	slices.SortStableFunc(t.Kills, func(a, b Kill) int { return cmp.Compare(at[a.Trial], at[b.Trial]) })
	slices.SortStableFunc(t.Sequences, func(a, b Sequence) int { return cmp.Compare(a.Number, b.Number) })
	t.APIVersion, t.Kind, t.Seconds = APIVersion, "FaultVerification", took.Round(100*time.Millisecond).Seconds()
	t.Verdict = NotAvailable
	for _, v := range t.verdicts() {
		if rank(v) > rank(t.Verdict) {
			t.Verdict = v
		}
	}
	if t.Verdict == NotAvailable { // nothing was measured
		t.Verdict = Inconclusive
	}
}

// JSON is the table for other programs.
func (t *Table) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the table: %w", err)
	}
	return append(b, '\n'), nil
}

// ms shows milliseconds: short ones to a tenth, long ones in seconds.
func ms(f *float64) string {
	switch {
	case f == nil:
		return "-"
	case *f >= 10_000:
		return fmt.Sprintf("%.1f s", *f/1000)
	case *f >= 100:
		return fmt.Sprintf("%.0f ms", *f)
	}
	return fmt.Sprintf("%.1f ms", *f)
}

// number shows what was asked for or measured: three digits behind the point of a
// small one, one of others.
func number(f float64) string {
	digits := 10.0
	if math.Abs(f) < 10 {
		digits = 1000
	}
	return strconv.FormatFloat(math.Round(f*digits)/digits, 'f', -1, 64)
}

// heads and cells are the columns of a table of trials.
func heads() []string {
	return []string{"fault", "trial", "target", "effect after armed", "after injected", "heal", "gone after", "whole after", "asked / measured", "side effects", "verdict"}
}

func (r Row) cells() []string {
	side := "none"
	switch {
	case len(r.SideEffects) > 0:
		side = fmt.Sprintf("%d, see below", len(r.SideEffects))
	case r.Whole == nil:
		side = "-"
	}
	target := r.Asked
	if p := strings.Join(r.Places, ", "); p != "" && p != target {
		target += ": " + p
	}
	heal := ms(r.Heal)
	if r.Instant {
		heal = "by itself"
	}
	return []string{r.Fault, r.Trial, target, ms(r.ProvenFromArmed), ms(r.ProvenFromInjected), heal, ms(r.Gone), ms(r.Whole), r.Measure.String(), side, string(r.Verdict)}
}

func killHeads() []string {
	return []string{"fault", "trial", "target", "killed when", "healed after", "whole after", "side effects", "verdict"}
}

func (k Kill) cells() []string {
	side := "none"
	switch {
	case len(k.SideEffects) > 0:
		side = fmt.Sprintf("%d, see below", len(k.SideEffects))
	case k.Whole == nil:
		side = "-"
	}
	return []string{k.Fault, k.Trial, strings.Join(k.Places, ", "), k.Moment, ms(k.Healed), ms(k.Whole), side, string(k.Verdict)}
}

func sequenceHeads() []string {
	return []string{"sequence", "faults (since its beginning)", "whole after", "side effects", "verdict"}
}

func (s Sequence) cells() []string {
	var who []string
	for _, m := range s.Members {
		text := fmt.Sprintf("%s %.1f-%.1f s", m, m.Begin/1000, m.End/1000)
		if !m.Proven {
			text += " (unproven)"
		}
		who = append(who, text)
	}
	side := "none"
	switch {
	case len(s.SideEffects) > 0:
		side = fmt.Sprintf("%d, see below", len(s.SideEffects))
	case s.Whole == nil:
		side = "-"
	}
	return []string{fmt.Sprint(s.Number), strings.Join(who, "; "), ms(s.Whole), side, string(s.Verdict)}
}

// section is a table of cells with what is to be said of its rows.
type section struct {
	title string
	heads []string
	rows  [][]string
	notes []string
}

func (t *Table) sections() []section {
	trials := section{heads: heads()}
	for _, r := range t.Trials {
		trials.rows = append(trials.rows, r.cells())
		trials.note(r.Trial, r.Verdict, r.Reason, r.SideEffects)
	}
	kills := section{title: "Killed at a drawn moment", heads: killHeads()}
	for _, k := range t.Kills {
		kills.rows = append(kills.rows, k.cells())
		kills.note(k.Trial+" killed", k.Verdict, k.Reason, k.SideEffects)
	}
	sequences := section{title: "Overlapping faults", heads: sequenceHeads()}
	for _, s := range t.Sequences {
		sequences.rows = append(sequences.rows, s.cells())
		sequences.note(fmt.Sprintf("sequence %d", s.Number), s.Verdict, s.Reason, s.SideEffects)
	}
	return []section{trials, kills, sequences}
}

func (s *section) note(who string, v Verdict, reason string, side []string) {
	if reason != "" {
		s.notes = append(s.notes, fmt.Sprintf("%s: %s: %s", who, v, reason))
	}
	for _, e := range side {
		s.notes = append(s.notes, fmt.Sprintf("%s: differs from before: %s", who, e))
	}
}

// summary is the table in a line.
func (t *Table) summary() string {
	n := map[Verdict]int{}
	for _, v := range t.verdicts() {
		n[v]++
	}
	s := fmt.Sprintf("%s: %d passed", t.Verdict, n[Pass])
	for _, v := range []Verdict{Fail, Stuck, Inconclusive, NotAvailable} {
		if n[v] > 0 {
			s += fmt.Sprintf(", %d %s", n[v], v)
		}
	}
	return fmt.Sprintf("%s; %.0f s, seed %d", s, t.Seconds, t.Seed)
}

// Text writes the table for a terminal.
func (t *Table) Text(out io.Writer) error {
	for _, s := range t.sections() {
		if len(s.rows) == 0 {
			continue
		}
		if s.title != "" {
			fmt.Fprintf(out, "\n%s\n", s.title)
		}
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, strings.ToUpper(strings.Join(s.heads, "\t")))
		for _, r := range s.rows {
			fmt.Fprintln(w, strings.Join(r, "\t"))
		}
		if err := w.Flush(); err != nil {
			return fmt.Errorf("write the table: %w", err)
		}
		for _, n := range s.notes {
			fmt.Fprintln(out, "  "+n)
		}
	}
	_, err := fmt.Fprintln(out, t.summary())
	return err
}

// Markdown writes the table for a page.
func (t *Table) Markdown() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n%s %s, %d control planes and %d workers, Kubernetes %s; Linux %s, %d CPUs; gameday %s; %s.\n",
		t.summary(), "Provider", t.Cluster.Provider, t.Cluster.ControlPlanes, t.Cluster.Workers, t.Cluster.Version,
		t.Machine.Kernel, t.Machine.CPUs, t.Gameday, t.Began.UTC().Format(time.DateOnly))
	for _, s := range t.sections() {
		if len(s.rows) == 0 {
			continue
		}
		if s.title != "" {
			fmt.Fprintf(&b, "\n### %s\n", s.title)
		}
		fmt.Fprintf(&b, "\n%s%s", line(s.heads), line(slices.Repeat([]string{"---"}, len(s.heads))))
		for _, r := range s.rows {
			b.WriteString(line(r))
		}
		for i, n := range s.notes {
			if i == 0 {
				b.WriteString("\n")
			}
			fmt.Fprintf(&b, "- %s\n", escape(n))
		}
	}
	return []byte(b.String())
}

func line(cells []string) string {
	var out []string
	for _, c := range cells {
		out = append(out, escape(c))
	}
	return "| " + strings.Join(out, " | ") + " |\n"
}

// escape keeps a cell in its cell.
func escape(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(s)
}
