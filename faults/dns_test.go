package faults

import "testing"

func TestClusterDNSIn(t *testing.T) {
	for in, want := range map[string]string{
		"clusterDNS:\n- 10.96.0.10\nclusterDomain: cluster.local\n": "10.96.0.10",
		"clusterDNS: [\"fd00::a\", \"10.96.0.10\"]":                 "10.96.0.10",
		"clusterDNS: [\"fd00::a\"]":                                 "",
		"clusterDNS: []":                                            "",
		"{":                                                         "",
	} {
		a, err := clusterDNSIn([]byte(in))
		if want == "" && err == nil || want != "" && (err != nil || a.String() != want) {
			t.Errorf("%q: got %v, %v", in, a, err)
		}
	}
}
