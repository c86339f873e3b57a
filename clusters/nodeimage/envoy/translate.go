package main

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// config is the part of kind's Envoy configuration that matters here.
type config struct {
	listen   string   // address:port
	backends []string // address:port, in order
	ipv6     bool

	connect           time.Duration // to a backend
	path              string        // of the health check
	interval, timeout time.Duration // of the health check
	fall, rise        int           // checks until unhealthy, healthy
}

// suspectInterval is the time from a health check that failed to the next one,
// instead of kind's 2 s: a dead API server is noticed soon after the first.
const suspectInterval = 250 * time.Millisecond

var line = regexp.MustCompile(`^[\s-]*"?([a-z_@]+)"?:\s*"?([^"]*?)"?\s*$`)

// fields lists the "key: value" lines of a file that have a value, in order.
// kind's templates are the only input: one key a line, no flow style but
// "resources: []".
func fields(text string) (out [][2]string) {
	for _, l := range strings.Split(text, "\n") {
		if m := line.FindStringSubmatch(l); m != nil && m[2] != "" {
			out = append(out, [2]string{m[1], m[2]})
		}
	}
	return out
}

// parse reads kind's cluster (cds) and listener (lds) files. ok is false while
// either has no resources: kind starts the container so.
func parse(cds, lds string) (c config, ok bool, err error) {
	if empty(cds) || empty(lds) {
		return config{}, false, nil
	}
	l, err := addresses(fields(lds))
	if err != nil {
		return config{}, false, fmt.Errorf("listener: %w", err)
	}
	if len(l) != 1 {
		return config{}, false, fmt.Errorf("listener: %d addresses, want 1", len(l))
	}
	c = config{listen: l[0], connect: 250 * time.Millisecond, fall: 2, rise: 1}
	f := fields(cds)
	if c.backends, err = addresses(f); err != nil {
		return config{}, false, fmt.Errorf("cluster: %w", err)
	}
	if len(c.backends) == 0 {
		return config{}, false, errors.New("cluster: no endpoint")
	}
	for _, kv := range f {
		switch kv[0] {
		case "connect_timeout":
			c.connect, err = time.ParseDuration(kv[1])
		case "interval":
			c.interval, err = time.ParseDuration(kv[1])
		case "timeout":
			c.timeout, err = time.ParseDuration(kv[1])
		case "unhealthy_threshold":
			c.fall, err = strconv.Atoi(kv[1])
		case "healthy_threshold":
			c.rise, err = strconv.Atoi(kv[1])
		case "path":
			c.path = kv[1]
		case "dns_lookup_family":
			c.ipv6 = kv[1] == "AUTO"
		}
		if err != nil {
			return config{}, false, fmt.Errorf("cluster: %s: %w", kv[0], err)
		}
	}
	if !strings.HasPrefix(c.path, "/") || c.interval <= 0 || c.timeout <= 0 || c.fall < 1 || c.rise < 1 {
		return config{}, false, fmt.Errorf("cluster: no usable health check (path %q, interval %s, timeout %s, thresholds %d and %d)",
			c.path, c.interval, c.timeout, c.fall, c.rise)
	}
	return c, true, nil
}

func empty(text string) bool {
	t := strings.TrimSpace(text)
	return t == "" || t == "resources: []"
}

// addresses pairs each address with the port_value that follows it.
func addresses(f [][2]string) ([]string, error) {
	var out []string
	host := ""
	for _, kv := range f {
		switch kv[0] {
		case "address":
			if host != "" {
				return nil, fmt.Errorf("address %s has no port_value", host)
			}
			host = kv[1]
		case "port_value":
			if _, err := strconv.ParseUint(kv[1], 10, 16); err != nil || host == "" {
				return nil, fmt.Errorf("port_value %q of address %q", kv[1], host)
			}
			out = append(out, net.JoinHostPort(host, kv[1]))
			host = ""
		}
	}
	if host != "" {
		return nil, fmt.Errorf("address %s has no port_value", host)
	}
	return out, nil
}

// translate makes a configuration of haproxy; ok is false if there is nothing to
// serve yet.
func translate(cds, lds string) (cfg string, ok bool, err error) {
	c, ok, err := parse(cds, lds)
	if err != nil || !ok {
		return "", false, err
	}
	prefer := "ipv4"
	if c.ipv6 {
		prefer = "ipv6"
	}
	var b, servers, checks strings.Builder
	for i, a := range c.backends {
		fmt.Fprintf(&servers, "  server apiserver-%d %s track checks/apiserver-%d\n", i, a, i)
		fmt.Fprintf(&checks, "  server apiserver-%d %s\n", i, a)
	}
	fmt.Fprintf(&b, `global
  log stdout format raw local0 notice
  # About 10000 connections. Without a limit haproxy sizes its tables by the
  # container's file limit, which can be a billion.
  fd-hard-limit 20000

# Names are looked up again, as Envoy's STRICT_DNS does: a node that was started
# again may have another address.
resolvers docker
  parse-resolv-conf
  resolve_retries 2
  timeout resolve 1s
  timeout retry 500ms
  hold valid 1s
  hold obsolete 5s

defaults
  mode tcp
  log global
  option dontlognull
  timeout connect %[1]s
  # Watches may be silent for long; TCP keepalive finds the dead ones.
  timeout client 24h
  timeout server 24h
  option clitcpka
  option srvtcpka
  # A connection that one API server refuses goes to the next.
  retries 3
  option redispatch 1

frontend listener_apiserver
  bind %[2]s
  default_backend kube_apiservers

backend kube_apiservers
  balance roundrobin
  default-server resolvers docker resolve-prefer %[3]s init-addr last,libc,none
%[4]s
# The checks have a backend of their own because the time for a TLS handshake is
# that for connecting, and a busy API server must not be taken for a dead one.
backend checks
  timeout connect %[5]s
  timeout check %[5]s
  option httpchk GET %[6]s
  http-check expect status 200
  default-server check check-ssl verify none inter %[7]s fastinter %[8]s fall %[9]d rise %[10]d resolvers docker resolve-prefer %[3]s init-addr last,libc,none
%[11]s`, ms(c.connect), bind(c.listen), prefer, servers.String(), ms(c.timeout), c.path,
		ms(c.interval), ms(suspectInterval), c.fall, c.rise, checks.String())
	return b.String(), true, nil
}

// bind is haproxy's form of an address to listen at.
func bind(address string) string {
	if rest, ok := strings.CutPrefix(address, "[::]:"); ok {
		return ":::" + rest + " v4v6"
	}
	return address
}

func ms(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + "ms" }
