package preflight

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/mod/semver"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// way is a way to an API server.
type way struct {
	name, node string
	cfg        *rest.Config
}

// get asks for a path that is not of an object.
func (w way) get(ctx context.Context, path string) ([]byte, error) {
	cfg := rest.CopyConfig(w.cfg)
	cfg.QPS, cfg.Timeout, cfg.UserAgent = -1, callBound, agent
	kube, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return kube.Discovery().RESTClient().Get().AbsPath(path).DoRaw(ctx)
}

func (w way) version(ctx context.Context) (string, error) {
	data, err := w.get(ctx, "/version")
	if err != nil {
		return "", err
	}
	var info version.Info
	if err := json.Unmarshal(data, &info); err != nil {
		return "", fmt.Errorf("its answer: %w", err)
	}
	if !semver.IsValid(info.GitVersion) {
		return "", fmt.Errorf("it says %q", info.GitVersion)
	}
	return info.GitVersion, nil
}

// requested are the deprecated APIs that it was asked for since it started.
func (w way) requested(ctx context.Context) ([]Requested, error) {
	data, err := w.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	all, err := metrics(data)
	if err != nil {
		return nil, err
	}
	var out []Requested
	for _, m := range all["apiserver_requested_deprecated_apis"].GetMetric() {
		if m.GetGauge().GetValue() == 0 {
			continue
		}
		l := labelsOf(m)
		r := Requested{
			Server: w.name, Node: w.node, Removed: l["removed_release"],
			Resource: schema.GroupVersionResource{Group: l["group"], Version: l["version"], Resource: l["resource"]},
		}
		if !slices.Contains(out, r) { // it counts subresources apart
			out = append(out, r)
		}
	}
	return out, nil
}

func metrics(data []byte) (map[string]*dto.MetricFamily, error) {
	p := expfmt.NewTextParser(model.UTF8Validation)
	all, err := p.TextToMetricFamilies(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return all, nil
}

func labelsOf(m *dto.Metric) map[string]string {
	out := map[string]string{}
	for _, l := range m.GetLabel() {
		out[l.GetName()] = l.GetValue()
	}
	return out
}

// certificates are what it presents. It is not verified: one that has ended is to be
// seen too, and nothing is sent to whoever presents it.
func (w way) certificates(ctx context.Context) (certs []Certificate, err error) {
	u, err := url.Parse(w.cfg.Host)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "https" {
		return nil, fmt.Errorf("%s is not served over TLS", w.cfg.Host)
	}
	t, err := rest.TLSConfigFor(w.cfg)
	if err != nil {
		return nil, err
	}
	if t == nil {
		t = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	t.InsecureSkipVerify = true
	if t.ServerName == "" {
		t.ServerName = u.Hostname()
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	dial := w.cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	ctx, cancel := context.WithTimeout(ctx, callBound)
	defer cancel()
	raw, err := dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, t)
	// The connection below: TLS would wait for the other side to hear of the end.
	defer func() { err = errors.Join(err, raw.Close()) }()
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	chain := conn.ConnectionState().PeerCertificates
	if len(chain) == 0 {
		return nil, errors.New("it presents none")
	}
	return []Certificate{{What: "the serving certificate", Where: "API server " + w.name, Until: chain[0].NotAfter}}, nil
}
