package compare

import (
	"fmt"
	"math"
	"slices"

	"github.com/aclements/go-moremath/stats"
)

// Confidence with which a difference is said to be more than chance.
const Confidence = 0.95

// Statistic names how differences are judged.
const Statistic = "difference of the medians; Mann-Whitney U test, exact, two-sided; interval of the shift by Hodges and Lehmann, exact"

// Difference is between two sets of runs, in the unit of what was measured.
type Difference struct {
	// N are how many runs there are on each side.
	N [2]int `json:"n"`
	// Medians of each side, and how far the second is above the first.
	Medians [2]float64 `json:"medians"`
	Shift   float64    `json:"shift"`
	// P is how likely ranks at least so uneven are if nothing differs. It is null if
	// that cannot be said: all values are equal, or one side has a single run.
	P *float64 `json:"p"`
	// Interval holds the true shift with Confidence; null with too few runs.
	Interval *[2]float64 `json:"interval"`
	// LeastP is the least P that so many runs can give at all, without ties: above
	// 1 - Confidence, and they cannot tell any difference from chance.
	LeastP float64 `json:"leastP"`
	// Says is worse, better, "no difference seen" or "cannot tell"; Why says why.
	Says string `json:"says"`
	Why  string `json:"why"`
}

// What a difference says. Of every measure less is better.
const (
	Worse      = "worse"
	Better     = "better"
	NoneSeen   = "no difference seen"
	CannotTell = "cannot tell"
)

// Differ compares two samples of a measure of which less is better: without (the
// first) and with. Nothing is assumed of how the values are distributed but that
// they are independent and that a difference would shift them.
func Differ(without, with []float64) Difference {
	d := Difference{N: [2]int{len(without), len(with)}, LeastP: leastP(len(without), len(with)), Says: CannotTell}
	if len(without) == 0 || len(with) == 0 {
		d.Why = "one side has no run"
		return d
	}
	d.Medians = [2]float64{median(without), median(with)}
	d.Shift = d.Medians[1] - d.Medians[0]
	alpha := 1 - Confidence
	if min(d.N[0], d.N[1]) == 1 {
		d.Why = "one run is not enough for any confidence: this is only a difference"
		return d
	}
	if u, err := stats.MannWhitneyUTest(with, without, stats.LocationDiffers); err == nil {
		d.P = &u.P
	}
	d.Interval = shiftWithin(without, with)
	switch {
	case d.LeastP > alpha:
		d.Why = fmt.Sprintf("%d and %d runs give p = %.3g at best: no difference can be told from chance at %.0f %%", d.N[0], d.N[1], d.LeastP, 100*Confidence)
	case d.P == nil:
		d.Says, d.Why = NoneSeen, "all values are equal"
	case *d.P >= alpha:
		d.Says, d.Why = NoneSeen, fmt.Sprintf("p = %.3g: that is not to say that there is none", *d.P)
	case d.Shift > 0:
		d.Says, d.Why = Worse, fmt.Sprintf("p = %.3g", *d.P)
	case d.Shift < 0:
		d.Says, d.Why = Better, fmt.Sprintf("p = %.3g", *d.P)
	default: // the medians are equal, and the rest is not
		d.Says, d.Why = NoneSeen, fmt.Sprintf("p = %.3g, but the medians are equal", *d.P)
	}
	return d
}

// leastP is the two-sided p of the most uneven order of n and m values: one order
// of all that there are, and its mirror.
func leastP(n, m int) float64 {
	if n == 0 || m == 0 {
		return 1
	}
	orders := 1.0
	for i := 1; i <= m; i++ {
		orders = orders * float64(n+i) / float64(i)
	}
	return min(1, 2/orders)
}

func median(list []float64) float64 {
	s := slices.Sorted(slices.Values(list))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// shiftWithin is the interval that holds the shift between two samples with
// Confidence at least: between the k-th least and the k-th greatest of all pairwise
// differences, where k is the largest for which U < k is rare enough (Hollander and
// Wolfe, Nonparametric Statistical Methods, 4.3). With ties it is wider than need
// be. It is nil if there are too few runs.
func shiftWithin(without, with []float64) *[2]float64 {
	u := stats.UDist{N1: len(without), N2: len(with)}
	k := 0
	for k < u.N1*u.N2/2 && 2*u.CDF(float64(k)) <= 1-Confidence+1e-12 {
		k++
	}
	if k == 0 {
		return nil
	}
	var all []float64
	for _, b := range with {
		for _, a := range without {
			all = append(all, b-a)
		}
	}
	slices.Sort(all)
	return &[2]float64{all[k-1], all[len(all)-k]}
}

// round keeps what a table can show.
func round(v float64) float64 { return math.Round(v*1000) / 1000 }
