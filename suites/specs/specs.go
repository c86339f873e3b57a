// Package specs runs a suite so that its last lines say why it failed. Ginkgo's
// own summary names only the places of failures; their messages stand thousands
// of lines above it, where the end of a log that CI keeps does not reach.
package specs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
)

// most is how many characters of each failure are told again.
const most = 1500

// Run is RunSpecs, and tells the failures once more when all is over.
func Run(t *testing.T, description string, args ...any) {
	t.Helper()
	var failures []string
	ginkgo.ReportAfterSuite("failures", func(r ginkgo.Report) { failures = told(r.SpecReports) })
	if ginkgo.RunSpecs(t, description, args...) {
		return
	}
	for _, f := range failures {
		t.Log(f)
	}
}

// told is a text for each spec that failed.
func told(reports types.SpecReports) []string {
	var out []string
	for _, s := range reports {
		if !s.Failed() {
			continue
		}
		message := strings.TrimSpace(s.Failure.Message)
		if runes := []rune(message); len(runes) > most {
			message = string(runes[:most]) + " ..."
		}
		out = append(out, fmt.Sprintf("%s: %s: %s\n%s", s.State, strings.TrimSpace(s.FullText()+" "+s.LeafNodeType.String()), s.FailureLocation(), message))
	}
	return out
}
