package reach

import (
	"testing"
	"time"
)

func TestSeries(t *testing.T) {
	addrs, probes := history("AAx.AA")
	probes[0][1].back = probes[0][5].back.Add(time.Millisecond) // overtaken by all that followed
	s := series(addrs[0], probes[0])
	if s.Sent != 5 || s.Answered != 4 || s.Refused != 1 || s.Overtaken != 1 {
		t.Errorf("got %+v", s)
	}
	if s.Lost() < 0.19 || s.Lost() > 0.21 || s.Quantile(0.5) != 100*time.Microsecond || s.Quantile(1) < 6*time.Millisecond {
		t.Errorf("lost %v, median %v, most %v", s.Lost(), s.Quantile(0.5), s.Quantile(1))
	}
	if want := "10.0.0.0: 4 of 5 probes answered, median 100µs, 1 overtaken, 1 refused"; s.String() != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	if none := series(addrs[0], nil); none.Lost() != 0 || none.Quantile(0.5) != 0 {
		t.Errorf("of nothing: %+v", none)
	}
}
