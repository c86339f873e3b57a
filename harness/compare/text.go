package compare

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"gameday/harness/slo"
)

// Text writes the comparison as tables for a terminal.
func (d Document) Text(out io.Writer) error {
	w := table(out)
	for _, r := range d.Runs {
		cores := "cores unknown"
		if r.Cores > 0 {
			cores = fmt.Sprintf("%d cores", r.Cores)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\tfaults: %d\t%s\t%s\n", r.Label, r.Dir, versions(r), mark(r.Verdict), r.Faults, cores, r.Gameday)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the comparison: %w", err)
	}
	for _, s := range d.Settings {
		if s.Field == "description" {
			continue
		}
		fmt.Fprintf(out, "set otherwise: %s:", s.Field)
		for i, v := range s.Values {
			fmt.Fprintf(out, " %s %s", d.Runs[i].Label, orNot(clip(v)))
		}
		fmt.Fprintln(out)
	}
	w = table(out)
	for _, t := range d.tables() {
		if len(t.Rows) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s\tBUDGET", strings.ToUpper(t.Name))
		for i, r := range d.Runs {
			fmt.Fprintf(w, "\t%s", r.Label)
			if i > 0 {
				fmt.Fprintf(w, "\t%s - %s", r.Label, d.Runs[0].Label)
			}
		}
		fmt.Fprintln(w)
		for _, r := range t.Rows {
			fmt.Fprintf(w, "%s\t%s", r.title(), r.budget())
			for i, v := range r.Values {
				fmt.Fprintf(w, "\t%s", v.String(r.Unit))
				if i > 0 {
					fmt.Fprintf(w, "\t%s", v.Away(r.Unit))
				}
			}
			fmt.Fprintln(w)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the comparison: %w", err)
	}
	fmt.Fprintln(out, "\n(=): within the error bars. A step's length and a fault's times have none.")
	for _, n := range d.Notes {
		fmt.Fprintln(out, "note:", n)
	}
	return nil
}

// Text writes what the pairs say as a table for a terminal.
func (p Paired) Text(out io.Writer) error {
	for _, l := range p.LeftOut {
		fmt.Fprintln(out, "left out:", l)
	}
	for _, l := range p.Dropped {
		fmt.Fprintln(out, "not in the runs without faults:", l)
	}
	w := table(out)
	fmt.Fprintf(w, "\nPROMISE OR PHASE\tBUDGET\tWITHOUT (RUNS)\tWITH (RUNS)\tDIFFERENCE\t%.0f %% INTERVAL\tSAYS\tVERDICT\n", 100*p.Confidence)
	for _, r := range p.Rows {
		d := r.Difference
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s: %s\t%s\n", r.Title(), r.BudgetText(), side(r.Without, r.Unit), side(r.With, r.Unit),
			r.Shift(), r.Interval(), d.Says, d.Why, strings.TrimSuffix(mark(r.Verdict)+" "+r.Reason, " "))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the comparison: %w", err)
	}
	fmt.Fprintf(out, "\n%s; each row by itself: of twenty rows that do not differ one may look as if it did\n", p.Statistic)
	_, err := fmt.Fprintf(out, "%s (exit %d): %s\n", strings.ToUpper(string(p.Verdict)), p.ExitCode, p.Reason)
	return err
}

// Title of a row.
func (r PairedRow) Title() string { return Row{Name: r.Name, Part: r.Part}.title() }

// BudgetText is the budget with its unit, or nothing.
func (r PairedRow) BudgetText() string { return Row{Budget: r.Budget, Unit: r.Unit}.budget() }

// Shift is the difference of the medians, if there is one to tell.
func (r PairedRow) Shift() string {
	if r.parts || len(r.Without) == 0 || len(r.With) == 0 {
		return "-"
	}
	return signed(r.Difference.Shift, r.Unit)
}

// Interval of the shift, if there is one.
func (r PairedRow) Interval() string {
	i := r.Difference.Interval
	if i == nil {
		return "-"
	}
	return signed(i[0], r.Unit) + " .. " + signed(i[1], r.Unit)
}

// side is the median of one side, and of how many runs.
func side(list []float64, unit string) string {
	if len(list) == 0 {
		return "-"
	}
	return fmt.Sprintf("%s (%d)", amount(median(list), unit), len(list))
}

// group is a table of the comparison.
type group struct {
	Name string
	Rows []Row
}

func (d Document) tables() []group {
	return []group{{"Promise", d.SLOs}, {"Phase", d.Phases}, {"Fault", d.Faults}}
}

func (r Row) title() string {
	if r.Part != "" {
		return r.Name + " (" + r.Part + ")"
	}
	return r.Name
}

func (r Row) budget() string {
	if r.Budget == nil {
		return ""
	}
	return amount(*r.Budget, r.Unit)
}

// String is the value as a cell.
func (v Value) String(unit string) string {
	text := "-"
	if v.Observed != nil {
		text = amount(*v.Observed, unit)
		if v.ErrorBar > 0 {
			text += " ± " + number(v.ErrorBar)
		}
	}
	if v.Verdict == "" {
		return text
	}
	return mark(v.Verdict) + " " + text
}

// Away is the difference as a cell.
func (v Value) Away(unit string) string {
	switch {
	case v.Difference == nil:
		return ""
	case *v.Difference != 0 && !v.Clear:
		return signed(*v.Difference, unit) + " (=)"
	}
	return signed(*v.Difference, unit)
}

func versions(r Run) string {
	if r.To == "" {
		return r.From
	}
	return r.From + " → " + r.To
}

func mark(v slo.Verdict) string {
	return map[slo.Verdict]string{slo.Pass: "✓", slo.Fail: "✗", slo.Inconclusive: "?"}[v]
}

func number(v float64) string { return strconv.FormatFloat(round(v), 'f', -1, 64) }

// amount is a number with its unit; counts have none.
func amount(v float64, unit string) string {
	if unit == "count" {
		unit = ""
	}
	return strings.TrimSpace(number(v) + " " + unit)
}

func signed(v float64, unit string) string {
	if round(v) > 0 {
		return "+" + amount(v, unit)
	}
	return amount(v, unit)
}

func clip(text string) string {
	const most = 100
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "..."
	}
	return text
}

func table(out io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(out, 0, 0, 2, ' ', 0) }
