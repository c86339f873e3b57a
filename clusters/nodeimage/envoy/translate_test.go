package main

import (
	"flag"
	"os"
	"testing"
	"time"

	"strings"
)

var update = flag.Bool("update", false, "write the golden file")

// What kind v0.33.0 writes for three control planes.
const (
	lds = `
resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: listener_apiserver
  address:
    socket_address:
      address: "0.0.0.0"
      port_value: 6443
  filter_chains:
  - filters:
    - name: envoy.filters.network.tcp_proxy
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
        stat_prefix: ingress_tcp
        cluster: kube_apiservers
`
	cds = `
resources:
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: kube_apiservers
  connect_timeout: 0.25s
  type: STRICT_DNS
  lb_policy: ROUND_ROBIN
  dns_lookup_family: V4_PREFERRED
  health_checks:
  - timeout: 3s
    interval: 2s
    unhealthy_threshold: 2
    healthy_threshold: 1
    initial_jitter: 0s
    no_traffic_interval: 3s
    always_log_health_check_failures: true
    always_log_health_check_success: true
    event_log_path: /dev/stdout
    http_health_check:
      path: /healthz
    transport_socket_match_criteria:
      tls_mode: "true"
  transport_socket_matches:
  - name: "health_check_tls"
    match:
      tls_mode: "true"
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        common_tls_context:
          validation_context:
            trust_chain_verification: ACCEPT_UNTRUSTED
  load_assignment:
    cluster_name: kube_apiservers
    endpoints:
    - lb_endpoints:
      - endpoint:
          address:
            socket_address:
              address: gd-control-plane
              port_value: 6443
      - endpoint:
          address:
            socket_address:
              address: gd-control-plane2
              port_value: 6443
      - endpoint:
          address:
            socket_address:
              address: gd-control-plane3
              port_value: 6443
`
)

func TestParse(t *testing.T) {
	c, ok, err := parse(cds, lds)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if c.listen != "0.0.0.0:6443" || strings.Join(c.backends, " ") != "gd-control-plane:6443 gd-control-plane2:6443 gd-control-plane3:6443" {
		t.Errorf("addresses: %+v", c)
	}
	if c.path != "/healthz" || c.connect != 250*time.Millisecond || c.interval != 2*time.Second ||
		c.timeout != 3*time.Second || c.fall != 2 || c.rise != 1 || c.ipv6 {
		t.Errorf("health check: %+v", c)
	}
}

func TestTranslate(t *testing.T) {
	got, ok, err := translate(cds, lds)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	const golden = "testdata/haproxy.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTranslateWaitsForBothFiles(t *testing.T) {
	for _, files := range [][2]string{{"resources: []", "resources: []"}, {cds, "resources: []"}, {"", lds}} {
		if _, ok, err := translate(files[0], files[1]); ok || err != nil {
			t.Errorf("%q: ok %t, %v", files, ok, err)
		}
	}
}

func TestTranslateRefusesWhatItDoesNotUnderstand(t *testing.T) {
	for what, files := range map[string][2]string{
		"no health check":       {strings.Replace(cds, "path: /healthz", "", 1), lds},
		"no endpoints":          {cds[:strings.Index(cds, "      - endpoint")], lds},
		"no port":               {cds + "              address: x\n", lds},
		"bad port":              {strings.Replace(cds, "port_value: 6443", "port_value: 66443", 1), lds},
		"bad interval":          {strings.Replace(cds, "interval: 2s", "interval: soon", 1), lds},
		"two listeners":         {cds, lds + lds},
		"listener without port": {cds, "resources:\n- name: x\n"},
	} {
		if _, _, err := translate(files[0], files[1]); err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
}

func TestDynamicFiles(t *testing.T) {
	c, l, err := dynamicFiles("dynamic_resources:\n  cds_config:\n    path_config_source:\n      path: /home/envoy/cds.yaml\n  lds_config:\n    path_config_source:\n      path: /home/envoy/lds.yaml\n")
	if err != nil || c != "/home/envoy/cds.yaml" || l != "/home/envoy/lds.yaml" {
		t.Error(c, l, err)
	}
	if _, _, err := dynamicFiles("static_resources: {}"); err == nil {
		t.Error("a file without dynamic resources was accepted")
	}
}

func TestBind(t *testing.T) {
	for in, want := range map[string]string{"0.0.0.0:6443": "0.0.0.0:6443", "[::]:6443": ":::6443 v4v6"} {
		if got := bind(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
