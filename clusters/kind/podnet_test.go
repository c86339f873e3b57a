package kind

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPodNetScript(t *testing.T) {
	known := []podNode{
		{"a", netip.MustParseAddr("172.18.0.3"), netip.MustParsePrefix("10.244.0.0/24")},
		{"b", netip.MustParseAddr("172.18.0.4"), netip.MustParsePrefix("10.244.1.0/24")},
		{"c", netip.MustParseAddr("172.18.0.5"), netip.MustParsePrefix("10.244.2.0/24")},
	}
	self, got, err := podNetScript("b", known)
	if err != nil {
		t.Fatal(err)
	}
	if self != known[1] {
		t.Errorf("self is %v", self)
	}
	want := `# Routes to the pods of the other nodes, and address translation for pods that
# talk to something that is no pod. Can be run again.
ip route replace 10.244.0.0/24 via 172.18.0.3 dev eth0  # a
ip route replace 10.244.2.0/24 via 172.18.0.5 dev eth0  # c
nft -f - <<'RULES'
table ip gameday-podnet
delete table ip gameday-podnet
table ip gameday-podnet {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 10.244.1.0/24 ip daddr != 10.244.0.0/16 oifname "eth0" masquerade
  }
}
RULES
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if _, _, err := podNetScript("x", known); err == nil {
		t.Error("a node that is not there passed")
	}
}

func TestCNIConfig(t *testing.T) {
	raw, err := cniConfig(netip.MustParsePrefix("10.244.1.0/24"), 1450)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Name    string
		Plugins []struct {
			Type string
			MTU  int
			IPAM struct{ Ranges [][]struct{ Subnet string } }
		}
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if got.Name != "gameday" || len(got.Plugins) != 2 || got.Plugins[0].MTU != 1450 ||
		got.Plugins[0].IPAM.Ranges[0][0].Subnet != "10.244.1.0/24" {
		t.Errorf("got %s", raw)
	}
}

func TestRulesWritten(t *testing.T) {
	if err := rulesWritten("v1.33.0", "n", []byte(`{"lastUpdated":"2026-11-21T02:53:32Z","status":{"IPv4":{"lastUpdated":"2026-11-21T02:51:13Z","healthy":true}}}`)); err != nil {
		t.Error(err)
	}
	if err := rulesWritten("v1.32.13", "n", []byte(`{"lastUpdated":"2026-11-21T02:53:32Z"}`)); err != nil {
		t.Error(err)
	}
	for _, not := range []string{`{"lastUpdated":"2026-11-21T02:53:32Z","status":{}}`, `{"status":{"IPv4":{}}}`, `{"lastUpdated":"2026-11-21T02:53:32Z"}`, ``} {
		if rulesWritten("v1.33.0", "n", []byte(not)) == nil {
			t.Errorf("%s passed", not)
		}
	}
}
