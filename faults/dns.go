package faults

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/net/dns/dnsmessage"

	"gameday/clusters"
	"gameday/faults/mechanism/intake"
)

// What the faults of the cluster's DNS have in common: where it is, and asking it.

const (
	dnsPort = 53
	// dnsTime is how long an answer may take that is not delayed. It takes about a
	// millisecond.
	dnsTime = 1500 * time.Millisecond
	// dnsName is answered by every cluster's DNS:
	// https://github.com/kubernetes/dns/blob/master/docs/specification.md.
	dnsName = "kubernetes.default.svc.cluster.local."
)

// clusterDNS is the address that a node's kubelet gives to its pods.
func clusterDNS(ctx context.Context, n clusters.Node) (netip.AddrPort, error) {
	f, ok := n.(clusters.Files)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%s cannot read files (capability %s)", n.Name(), clusters.CapFiles)
	}
	b, err := f.ReadFile(ctx, kubeletConfig)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%s: %w", n.Name(), err)
	}
	a, err := clusterDNSIn(b)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%s: %s: %w", n.Name(), kubeletConfig, err)
	}
	return netip.AddrPortFrom(a, dnsPort), nil
}

func clusterDNSIn(config []byte) (netip.Addr, error) {
	var c struct {
		ClusterDNS []string `yaml:"clusterDNS"`
	}
	if err := yaml.Unmarshal(config, &c); err != nil {
		return netip.Addr{}, err
	}
	for _, s := range c.ClusterDNS {
		if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("clusterDNS %v has no IPv4 address", c.ClusterDNS)
}

// dnsAnswers is a rule about the answers of the DNS to what runs on a node.
func dnsAnswers(ctx context.Context, n clusters.Node, r intake.Rule) ([]intake.Rule, error) {
	a, err := clusterDNS(ctx, n)
	r.AnswersOf = a
	return []intake.Rule{r}, err
}

// resolved asks the DNS from inside a node, as a pod in the host's network does, and says
// how long the answer took. The error is a timeout if there was none within limit.
func resolved(ctx context.Context, n clusters.Node, network string, limit time.Duration) (time.Duration, error) {
	server, err := clusterDNS(ctx, n)
	if err != nil {
		return 0, err
	}
	name, err := dnsmessage.NewName(dnsName)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := fromInside(n)(ctx, network, server.String())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(began.Add(limit)); err != nil {
		return 0, err
	}
	q := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: uint16(began.UnixNano()), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	msg, err := q.Pack()
	if err != nil {
		return 0, err
	}
	if network == "tcp" { // RFC 1035 section 4.2.2
		msg = append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)
	}
	if _, err := conn.Write(msg); err != nil {
		return 0, err
	}
	buf := make([]byte, 1500)
	size := 0
	if network == "tcp" {
		if _, err := io.ReadFull(conn, buf[:2]); err != nil {
			return 0, err
		}
		size = min(int(binary.BigEndian.Uint16(buf)), len(buf))
		_, err = io.ReadFull(conn, buf[:size])
	} else {
		size, err = conn.Read(buf)
	}
	took := time.Since(began)
	if err != nil {
		return took, err
	}
	var answer dnsmessage.Message
	if err := answer.Unpack(buf[:size]); err != nil {
		return took, fmt.Errorf("answer of the cluster's DNS: %w", err)
	}
	if answer.RCode != dnsmessage.RCodeSuccess || len(answer.Answers) == 0 {
		return took, fmt.Errorf("the cluster's DNS says %s about %s", answer.RCode, dnsName)
	}
	return took, nil
}

// dnsAsked is what some questions from one node got.
type dnsAsked struct {
	answers []time.Duration // sorted
	silent  int
	err     error // another one than silence
}

func (a dnsAsked) String() string {
	s := fmt.Sprintf("%d questions without an answer", a.silent)
	if len(a.answers) > 0 {
		s += fmt.Sprintf(", %d answered in %.1f ms", len(a.answers), ms(a.answers[len(a.answers)/2]))
	}
	if a.err != nil {
		s += ", " + a.err.Error()
	}
	return s
}

// askDNS asks by UDP three times and by TCP once, all at the same time.
func askDNS(ctx context.Context, n clusters.Node, limit time.Duration) (dnsAsked, error) {
	type result struct {
		took time.Duration
		err  error
	}
	ways := []string{"udp", "udp", "udp", "tcp"}
	results := make(chan result, len(ways))
	for _, w := range ways {
		go func() {
			took, err := resolved(ctx, n, w, limit)
			results <- result{took, err}
		}()
	}
	var out dnsAsked
	for range ways {
		r := <-results
		var silent net.Error
		switch {
		case r.err == nil:
			out.answers = append(out.answers, r.took)
		case errors.As(r.err, &silent) && silent.Timeout():
			out.silent++
		default:
			out.err = r.err
		}
	}
	slices.Sort(out.answers)
	return out, ctx.Err()
}

// dnsElsewhere is the control: another node is answered at once.
func dnsElsewhere(ctx context.Context, env Env) (string, error) {
	var rest []clusters.Node
	for _, n := range env.Cluster.Nodes() {
		if slices.Contains(machines, n.Role()) && !isTarget(env, n) {
			rest = append(rest, n)
		}
	}
	if len(rest) == 0 {
		return "", nil
	}
	return control(ctx, rest, "is answered by the cluster's DNS", func(ctx context.Context, n clusters.Node) error {
		_, err := resolved(ctx, n, "udp", dnsTime)
		return err
	})
}

// proveDNS asks from all targets, and from somebody else if they are broken.
func proveDNS(ctx context.Context, env Env, limit time.Duration, judge func(dnsAsked) (broken, whole bool)) (Effect, error) {
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		a, err := askDNS(ctx, n, limit)
		s := seen{evidence: a.String()}
		s.broken, s.whole = judge(a)
		return s, err
	})
	if err != nil {
		return e, err
	}
	if e.Active {
		if e.Control, err = dnsElsewhere(ctx, env); err != nil {
			e.Active = false
			e.Evidence += "; but nobody else is answered either: " + strings.ReplaceAll(err.Error(), "\n", ", ")
		}
	}
	e.At = time.Now()
	return e, nil
}
