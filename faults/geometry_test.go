package faults

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGeometry(t *testing.T) {
	three, five := []string{"a", "b", "c"}, []string{"a", "b", "c", "d", "e"}
	for _, tc := range []struct {
		name string
		got  []lost[string]
		want string
	}{
		{"isolate one of three", isolated(three[1:2], three), "a>b b>a b>c c>b"},
		{"isolate two of three: nobody is left together", isolated(three[:2], three), "a>b a>c b>a b>c c>a c>b"},
		{"split two of five", split(five[:2], five), "a>c a>d a>e b>c b>d b>e c>a c>b d>a d>b e>a e>b"},
		{"split nobody", split(nil, three), ""},
		{"split all", split(three, three), ""},
		{"bridge of three", bridged(three[1:2], three), "a>c c>a"},
		{"bridge of five", bridged(five[2:3], five), "a>d a>e b>d b>e d>a d>b e>a e>b"},
		{"bridge with halves that differ", bridged(five[:2], five), "c>d c>e d>c e>c"},
		{"all from all", allApart(three), "a>b a>c b>a b>c c>a c>b"},
		{"all of one", allApart(three[:1]), ""},
		// a hears b, b hears c, c hears a.
		{"ring of three", ringOfMajorities(three), "a>b b>c c>a"},
		// a hears b and c, and so on.
		{"ring of five", ringOfMajorities(five), "a>b a>c b>c b>d c>d c>e d>a d>e e>a e>b"},
		{"ring of nobody", ringOfMajorities[string](nil), ""},
		{"ring of one", ringOfMajorities(three[:1]), ""},
	} {
		var got []string
		for _, l := range tc.got {
			got = append(got, l.from+">"+l.to)
		}
		slices.Sort(got)
		if diff := cmp.Diff(tc.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

// In a ring of any size each hears a majority, and no two hear the same one.
func TestRingIsOfMajorities(t *testing.T) {
	for n := 3; n < 12; n++ {
		var all []int
		for i := range n {
			all = append(all, i)
		}
		cut := ringOfMajorities(all)
		seen := map[string]bool{}
		for _, x := range all {
			var hears []string
			for _, y := range all {
				if !slices.Contains(cut, lost[int]{y, x}) {
					hears = append(hears, string(rune('a'+y)))
				}
			}
			if len(hears) != n/2+1 || seen[strings.Join(hears, "")] {
				t.Errorf("of %d, %d hears %v", n, x, hears)
			}
			seen[strings.Join(hears, "")] = true
		}
	}
}
