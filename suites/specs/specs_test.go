package specs

import (
	"strings"
	"testing"

	"github.com/onsi/ginkgo/v2/types"
)

func TestTold(t *testing.T) {
	long := strings.Repeat("é", most+1)
	got := told(types.SpecReports{
		{LeafNodeText: "good", State: types.SpecStatePassed},
		{LeafNodeText: "bad", State: types.SpecStateFailed, Failure: types.Failure{Message: "api.read: down for 9 s\n"}},
		{LeafNodeText: "hung", State: types.SpecStateTimedout, Failure: types.Failure{Message: long}},
	})
	if len(got) != 2 {
		t.Fatalf("%d texts, want those of the two that failed: %q", len(got), got)
	}
	if !strings.Contains(got[0], "bad") || !strings.HasSuffix(got[0], "down for 9 s") {
		t.Errorf("the failure's own words are missing: %q", got[0])
	}
	if !strings.Contains(got[1], "hung") || !strings.HasSuffix(got[1], "é ...") {
		t.Errorf("a long message is not cut between characters: %q", got[1][len(got[1])-20:])
	}
}
