package scenarios

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// Problem is one thing that is wrong with a scenario, and what mends it.
type Problem struct {
	File      string
	Line, Col int // from 1; 0 if not known
	// Field is the path of the field: faults[2].begin.phase.
	Field string
	// Text says what is wrong.
	Text string
	// Mend says what to do about it; may be empty.
	Mend string
}

func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
		if p.Col > 0 {
			fmt.Fprintf(&b, ":%d", p.Col)
		}
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(p.Text)
	if p.Mend != "" {
		b.WriteString("; " + p.Mend)
	}
	return b.String()
}

// Invalid is the error of a scenario that cannot be run: everything that is
// wrong with it, in the order of the file.
type Invalid struct {
	Problems []Problem
}

func (e *Invalid) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// invalid is nil if there are no problems.
func invalid(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return &Invalid{Problems: problems}
}

// Suggest is the end of a message about an unknown word: the nearest valid one,
// else all of them.
func Suggest(word string, valid []string) string { return suggest(word, valid) }

func suggest(word string, valid []string) string {
	if len(valid) == 0 {
		return "; there are none"
	}
	best, nearest := "", 0
	if len(word) <= 200 { // the distance takes len(word) x len(valid) steps
		for _, v := range valid {
			a, b := strings.ToLower(word), strings.ToLower(v)
			d := levenshtein.ComputeDistance(a, b)
			near := d <= max(1, min(len(b)/2, 1+len(b)/4)) || len(a) >= 3 && strings.HasPrefix(b, a)
			if near && (best == "" || d < nearest) {
				best, nearest = v, d
			}
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	const most = 12
	if len(valid) > most {
		return fmt.Sprintf("; valid: %s and %d more", strings.Join(valid[:most], ", "), len(valid)-most)
	}
	return "; valid: " + strings.Join(valid, ", ")
}
