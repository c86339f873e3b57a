package faults

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"gameday/clusters"
)

// linked is a node that has nothing but a link.
type linked struct {
	role   clusters.Role
	i      int
	mac    byte
	bridge string
}

func (n linked) Name() string        { return clusters.Place(n) }
func (n linked) Role() clusters.Role { return n.role }
func (n linked) Index() int          { return n.i }
func (n linked) IP() netip.Addr      { return netip.AddrFrom4([4]byte{10, 0, 0, n.mac}) }
func (n linked) Link(context.Context) (clusters.Link, error) {
	return clusters.Link{MAC: net.HardwareAddr{2, 0, 0, 0, 0, n.mac}, BridgeNetNS: n.bridge}, nil
}

// links is a cluster of them.
type links struct {
	fakeCluster
	nodes []clusters.Node
}

func (c links) Nodes() []clusters.Node { return c.nodes }

func testLinks() links {
	return links{nodes: []clusters.Node{
		linked{clusters.ControlPlane, 0, 1, ""}, linked{clusters.ControlPlane, 1, 2, ""}, linked{clusters.ControlPlane, 2, 3, ""},
		linked{clusters.Worker, 0, 4, ""}, linked{clusters.Worker, 1, 5, ""}, linked{clusters.LoadBalancer, 0, 6, ""},
	}}
}

func TestPairs(t *testing.T) {
	c := testLinks()
	for _, tc := range []struct {
		from      Peers
		direction string
		targets   []int
		want      string // last bytes of the addresses
	}{
		{Peers{"apiservers"}, "both", []int{3}, "1>4 2>4 3>4 4>1 4>2 4>3 4>6 6>4"},
		{Peers{"control-plane"}, "out", []int{3}, "4>1 4>2 4>3"},
		{Peers{"control-plane"}, "in", []int{3}, "1>4 2>4 3>4"},
		{Peers{"worker[1]", "control-plane[0]"}, "both", []int{3}, "1>4 4>1 4>5 5>4"},
		// Two on one side stay together.
		{Peers{"control-plane"}, "both", []int{0, 1}, "1>3 2>3 3>1 3>2"},
		{Peers{"all"}, "out", []int{0}, "1>2 1>3 1>4 1>5 1>6"},
		{Peers{"nodes"}, "out", []int{5}, "6>1 6>2 6>3 6>4 6>5"},
		{Peers{"workers"}, "in", []int{0}, "4>1 5>1"},
	} {
		f := &Partition{From: tc.from, Direction: tc.direction}
		env := Env{Cluster: c}
		for _, i := range tc.targets {
			env.Targets = append(env.Targets, c.nodes[i])
		}
		pairs, _, err := f.pairs(t.Context(), env)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range pairs {
			got = append(got, string('0'+p.Src[5])+">"+string('0'+p.Dst[5]))
		}
		slices.Sort(got)
		if diff := cmp.Diff(tc.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%v %s (-want +got):\n%s", tc.from, tc.direction, diff)
		}
	}
	f := &Partition{From: Peers{"worker[0]"}, Direction: "both"}
	if _, _, err := f.pairs(t.Context(), Env{Cluster: c, Targets: c.nodes[3:4]}); err == nil {
		t.Error("a node was cut off from itself")
	}
	c.nodes[0] = linked{clusters.ControlPlane, 0, 1, "/proc/1/ns/net"}
	f = &Partition{From: Peers{"control-plane"}, Direction: "both"}
	if _, _, err := f.pairs(t.Context(), Env{Cluster: c, Targets: c.nodes[3:4]}); err == nil {
		t.Error("two bridges were taken for one")
	}
}

func TestPartitionParameters(t *testing.T) {
	for in, want := range map[string]struct {
		from Peers
		errs int
	}{
		"from: nodes":                {Peers{"nodes"}, 0},
		"from: [worker[1]]":          {nil, -1}, // YAML needs quotes here
		"from: [\"worker[1]\", all]": {Peers{"worker[1]", "all"}, 0},
		"direction: in":              {Peers{"apiservers"}, 0},
		"direction: sideways":        {Peers{"apiservers"}, 1},
		"from: apiserver":            {Peers{"apiserver"}, 1},
		"from: []":                   {Peers{}, 1},
		"{from: [\"worker[x]\", us], direction: here}": {Peers{"worker[x]", "us"}, 3},
		"from: {a: b}": {nil, -1},
	} {
		f := networkPartition.New().(*Partition)
		err := yaml.Unmarshal([]byte(in), f)
		if want.errs < 0 {
			if err == nil {
				t.Errorf("%s: no error", in)
			}
			continue
		}
		if err != nil || !slices.Equal(f.From, want.from) || len(f.Validate()) != want.errs {
			t.Errorf("%s: got %v, %v, %v", in, f.From, err, f.Validate())
		}
	}
}

func TestArrived(t *testing.T) {
	for _, tc := range []struct {
		direction string
		n         int
		want      bool
	}{{"in", 9, true}, {"in", 7, true}, {"in", 0, false}, {"out", 0, true}, {"out", 9, false}, {"both", 0, true}, {"both", 9, false}} {
		if got := (&Partition{Direction: tc.direction}).arrived(tc.n, 9); got != tc.want {
			t.Errorf("%s, %d of 9 arrived: %v", tc.direction, tc.n, got)
		}
	}
}

func TestLifeOfPairs(t *testing.T) {
	if d := life(time.Now().Add(time.Hour)); d != cutTTL {
		t.Errorf("long before the end: %v", d)
	}
	if d := life(time.Now().Add(time.Second)); d > time.Second || d < time.Second/2 {
		t.Errorf("a second before the end: %v", d)
	}
	if d := life(time.Now().Add(-time.Hour)); d != time.Millisecond { // less would be for ever
		t.Errorf("after the end: %v", d)
	}
}

func TestProcNet(t *testing.T) {
	dir := t.TempDir()
	write := func(name, data string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	route := write("route", "Iface\tDestination\tGateway \tFlags\neth0\t000014AC\t00000000\t0001\neth0\t00000000\t010014AC\t0003\n")
	if a, err := gateway(route); err != nil || a.String() != "172.20.0.1" {
		t.Errorf("got %v, %v", a, err)
	}
	if _, err := gateway(write("none", "Iface\tDestination\tGateway\n")); err == nil {
		t.Error("a gateway was found where none is")
	}
	snmp := write("snmp", "Ip: Forwarding\nIp: 1\nIcmp: InMsgs InErrors InEchos OutMsgs\nIcmp: 7 0 5 9\nUdp: InDatagrams\nUdp: 3\n")
	if n, err := inEchos(snmp); err != nil || n != 5 {
		t.Errorf("got %d, %v", n, err)
	}
	if _, err := inEchos(write("half", "Icmp: InMsgs\nIcmp: 1\n")); err == nil {
		t.Error("echo requests were counted where none are told")
	}
	if got := procFile("/proc/12/ns/net", "snmp"); got != "/proc/12/net/snmp" {
		t.Errorf("got %s", got)
	}
}
