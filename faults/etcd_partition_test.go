package faults

import "testing"

func TestShapesOfEtcdPartition(t *testing.T) {
	all := []string{"a", "b", "c"}
	for _, tc := range []struct {
		shape   string
		targets []string
		want    int // directions, -1 for an error
	}{
		{"isolate", all[:1], 4}, {"split", all[:1], 4}, {"bridge", all[1:2], 2}, {"ring", all, 3}, {"all", all, 6},
		{"split", all, -1}, {"ring", all[:1], -1}, {"all", all[:1], -1}, {"bridge", all[:2], -1},
	} {
		got, err := (&EtcdPartition{Shape: tc.shape}).lost(tc.targets, all)
		if tc.want < 0 && err == nil || tc.want >= 0 && (err != nil || len(got) != tc.want) {
			t.Errorf("%s of %v: got %v, %v", tc.shape, tc.targets, got, err)
		}
	}
	if len((&EtcdPartition{Shape: "star"}).Validate()) == 0 {
		t.Error("an unknown shape was taken")
	}
}
