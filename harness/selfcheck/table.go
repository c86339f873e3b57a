package selfcheck

import (
	"fmt"
	"io"
	"text/tabwriter"

	"gameday/harness/history"
)

// Table writes what was tried, asked, made and seen.
func Table(out io.Writer, c history.SelfCheck) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KIND\tSERIES\tPERIOD\tASKED\tMADE\tSEEN\tERROR BAR\tBOUND\tOFF BY\tLATE\tVERDICT\tFIRST SAID")
	for _, t := range c.Trials {
		seen, bar, bound, off := "-", "-", ms(t.Bound), "-"
		if t.Seen > 0 {
			seen, bar, off = ms(t.Seen), "+-"+ms(t.ErrorBar), ms(t.Seen-t.Made)
		}
		if t.Kind == kindNone {
			off, bound = "-", "-"
		}
		fmt.Fprintf(w, "%s\t%s %s, %s\t%s/%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.Kind, t.Verb, t.Conn, t.Where, t.Period, t.Fast,
			t.Asked, ms(t.Made), seen, bar, bound, off, ms(t.Late), t.Verdict, short(t.Cause))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, t := range c.Trials {
		if t.Reason != "" {
			fmt.Fprintf(out, "%s: %s: %s\n", t.Verdict, name(t), t.Reason)
		}
	}
	_, err := fmt.Fprintf(out, "%s: %s (%.1f s)\n", c.Verdict, c.Reason, c.Took.Seconds())
	return err
}

// short is the beginning of what an error said.
func short(text string) string {
	const most = 48
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}
