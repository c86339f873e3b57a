package kind

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gameday/clusters"
)

func TestFreeBelow(t *testing.T) {
	network := func(used ...string) []byte {
		var cs []string
		for i, a := range used {
			cs = append(cs, fmt.Sprintf(`"%d":{"IPv4Address":"%s/16","IPv6Address":"fc00::%d/64"}`, i, a, i))
		}
		return []byte(`[{"IPAM":{"Config":[{"Subnet":"172.18.0.0/16","Gateway":"172.18.0.1"},{"Subnet":"fc00::/64"}]},"Containers":{` + strings.Join(cs, ",") + `}}]`)
	}
	for _, tc := range []struct {
		name, ip string
		used     []string
		want     int
		err      string
	}{
		{"the lowest", "172.18.0.2", []string{"172.18.0.3"}, 0, ""},
		{"all below are there", "172.18.0.4", []string{"172.18.0.2", "172.18.0.3", "172.18.0.5"}, 0, ""},
		{"two below are off too", "172.18.0.6", []string{"172.18.0.2", "172.18.0.4"}, 2, ""},
		{"taken", "172.18.0.3", []string{"172.18.0.2", "172.18.0.3"}, 0, "somebody else has its address"},
		{"too many", "172.18.0.40", nil, 0, "more than 16"},
		{"another subnet", "10.0.0.2", nil, 0, "none of its subnets"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := freeBelow(network(tc.used...), netip.MustParseAddr(tc.ip))
			if tc.err == "" && (err != nil || got != tc.want) {
				t.Errorf("got %d, %v, want %d", got, err, tc.want)
			}
			if tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("got %v, want %q", err, tc.err)
			}
		})
	}
	if _, err := freeBelow([]byte("no"), netip.MustParseAddr("10.0.0.2")); err == nil {
		t.Error("what is no JSON was read")
	}
}

// A cluster is opened with nodes that are off: otherwise nobody could switch them
// on but the process that switched them off.
func TestNodesThatAreOff(t *testing.T) {
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1\tlocalhost\nfc00::2\tgd-control-plane\n172.18.0.2\tgd-control-plane\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	raw := fmt.Sprintf(`[
	 {"Id":"1","Name":"/gd-control-plane","HostsPath":%q,"Config":{"Labels":{"io.x-k8s.kind.role":"control-plane"}},"NetworkSettings":{"Networks":{"kind":{"IPAddress":""}},"Ports":{}}},
	 {"Id":"2","Name":"/gd-external-load-balancer","HostsPath":"/no/such","Config":{"Labels":{"io.x-k8s.kind.role":"external-load-balancer"}},
	  "HostConfig":{"PortBindings":{"6443/tcp":[{"HostIp":"127.0.0.1","HostPort":"40000"}]}},"NetworkSettings":{"Networks":{"kind":{"IPAddress":""}},"Ports":{}}},
	 {"Id":"3","Name":"/gd-worker","Config":{"Labels":{"io.x-k8s.kind.role":"worker"}},"NetworkSettings":{"Networks":{"kind":{"IPAddress":"172.18.0.3","Gateway":"172.18.0.1"}}}}]`, hosts)
	var cs []container
	if err := json.Unmarshal([]byte(raw), &cs); err != nil {
		t.Fatal(err)
	}
	nodes, err := nodesOf("gd", cs, true)
	if err != nil {
		t.Fatal(err)
	}
	cp, lb := kindNode(nodes[0]), kindNode(nodes[2])
	if cp.ip.String() != "172.18.0.2" || cp.gateway.String() != "172.18.0.1" {
		t.Errorf("control plane: %s by %s", cp.ip, cp.gateway)
	}
	if lb.published != "127.0.0.1:40000" || lb.ip.IsValid() {
		t.Errorf("load balancer: %s, %s", lb.published, lb.ip)
	}
	if !clusters.Has(nodes[0], clusters.CapPower) || !clusters.Has(nodes[0], clusters.CapCgroup) {
		t.Error("a node on this machine has no power or no control group")
	}
	if _, err := lastAddress(hosts, "gd-worker"); err == nil {
		t.Error("an address was found that nobody wrote")
	}
}
