package preflight

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"io/fs"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"k8s.io/client-go/tools/clientcmd"

	"gameday/clusters"
)

// What may not be read is told, check by check, and is no finding that blocks.
func TestForbiddenIsUnknown(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := apierrors.NewForbidden(schema.GroupResource{Resource: r.URL.Path}, "", nil)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(err.Status())
	}))
	defer srv.Close()
	f, err := Collect(t.Context(), "v1.37.0", Source{Config: &rest.Config{Host: srv.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}})
	if err != nil {
		t.Fatal(err)
	}
	r := Judge(f)
	seen := map[string]int{}
	for _, found := range r.Findings {
		if found.Severity != Unknown {
			t.Errorf("not unknown: %s", found)
		}
		seen[found.Check]++
	}
	for _, c := range checks() {
		// The gates are in the settings, of which kubelet tells.
		if c.name != "gates" && c.name != "releases" && seen[c.name] == 0 {
			t.Errorf("%s says nothing of what it could not read", c.name)
		}
	}
	if len(f.Certificates) != 1 {
		t.Errorf("%d certificates, want the one that was presented", len(f.Certificates))
	}
}

// Without a cluster only files are looked at.
func TestFilesAlone(t *testing.T) {
	f, err := Collect(t.Context(), "v1.37.0", Source{})
	if err != nil {
		t.Fatal(err)
	}
	if r := Judge(f); len(r.Findings) != 0 || len(r.Looked) != 1 {
		t.Errorf("%+v", r)
	}
	if _, err := Collect(t.Context(), "v1.37.0", Source{Manifests: []string{"testdata/none"}}); err == nil {
		t.Error("a path that is not there is no error")
	}
	if _, err := Collect(t.Context(), "v1.37.0", Source{AuditLogs: []string{"testdata/none"}}); err == nil {
		t.Error("an audit log that is not there is no error")
	}
}

func TestManifests(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.yaml":        "# about\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\n---\n---\nreplicas: 3\n---\n\napiVersion: policy/v1beta1\nkind: PodDisruptionBudget\nmetadata:\n  generateName: g-\n",
		"sub/b.json":    "{\n  \"kind\": \"List\", \"apiVersion\": \"v1\",\n  \"items\": [\n    {\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"metadata\": {\"name\": \"s\"}},\n    {\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"t\"}}]}\n",
		"template.yml":  "apiVersion: v1\nkind: Pod\n---\n{{ if .Values.x }}\n",
		"README.md":     "{{ not read }}",
		"values.yaml":   "image: x\n",
		"not-object.md": "apiVersion: v1",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f := &Facts{}
	if err := f.readManifests([]string{dir}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range f.Documents {
		file, _ := filepath.Rel(dir, d.File)
		got = append(got, place(file, d.Line)+" "+d.GVK.Kind+" "+d.Name)
	}
	want := []string{"a.yaml:2 Pod p", "a.yaml:10 PodDisruptionBudget g-", "sub/b.json:4 Secret s", "sub/b.json:5 Service t", "template.yml:1 Pod "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(f.Unread) != 1 || filepath.Base(f.Unread[0].Where[0]) != "template.yml" {
		t.Errorf("unread %+v, want the template", f.Unread)
	}
	if f.ManifestFiles != 4 || f.NoObjects != 2 {
		t.Errorf("%d files with %d documents that are no objects, want 4 and 2", f.ManifestFiles, f.NoObjects)
	}
}

const (
	plainEvent      = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","stage":"ResponseComplete","verb":"get","user":{"username":"u"},"userAgent":"a/1","objectRef":{"resource":"pods","namespace":"n","name":"p","apiVersion":"v1"},"requestReceivedTimestamp":"2026-11-21T10:00:00.000001Z","annotations":{}}`
	deprecatedEvent = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","stage":"ResponseComplete","verb":"create","user":{"username":"alice"},"userAgent":"kubectl/v1","objectRef":{"resource":"servicecidrs","name":"NAME","apiGroup":"networking.k8s.io","apiVersion":"v1beta1"},"requestReceivedTimestamp":"2026-11-21T1TIME:00:00.000000Z","annotations":{"k8s.io/deprecated":"true","k8s.io/removed-release":"1.37"}}`
	contentEvent    = `{"kind":"Event","objectRef":{"resource":"pods","apiVersion":"v1"},"requestObject":{"metadata":{"annotations":{"k8s.io/deprecated":"true"}}},"requestReceivedTimestamp":"2026-11-21T10:30:00Z","annotations":{}}`
)

func deprecated(name, hour string) string {
	return strings.NewReplacer("NAME", name, "TIME", hour).Replace(deprecatedEvent)
}

func at(hour int) time.Time { return time.Date(2026, 11, 21, hour, 0, 0, 0, time.UTC) }

func TestAuditLog(t *testing.T) {
	text := strings.Join([]string{plainEvent, contentEvent, deprecated("a", "1"), deprecated("b", "2"), `{"kind":"Event","half`}, "\n")
	var a AuditLog
	if err := a.read(t.Context(), strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	want := []Request{{
		Resource: resource("networking.k8s.io", "v1beta1", "servicecidrs"), Removed: "1.37", User: "alice", Agent: "kubectl/v1",
		Object: "servicecidrs/b", Count: 2, Last: at(12),
	}}
	if diff := cmp.Diff(want, a.Deprecated); diff != "" {
		t.Error(diff)
	}
	if a.Requests != 4 || a.First.Hour() != 10 || !a.Last.Equal(at(12)) {
		t.Errorf("%d events from %s to %s", a.Requests, a.First, a.Last)
	}
	if err := a.read(t.Context(), strings.NewReader("no JSON\n")); err == nil {
		t.Error("a file that is no audit log is taken for one")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.read(ended, strings.NewReader(plainEvent+"\n")); err == nil {
		t.Error("a log that was not read to its end is no error")
	}
}

// A log that takes too long is told; one that is none is the caller's mistake.
func TestAuditLogTooLong(t *testing.T) {
	name := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(name, []byte(plainEvent+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	f, err := Collect(ended, "v1.37.0", Source{AuditLogs: []string{name}})
	if err != nil || len(f.Unread) != 1 || f.Unread[0].Where[0] != name {
		t.Errorf("%+v, %v", f, err)
	}
}

// folder is a node whose files are in a folder of this machine.
type folder struct{ dir string }

func (folder) Name() string                                 { return "cp" }
func (folder) Role() clusters.Role                          { return clusters.ControlPlane }
func (folder) Index() int                                   { return 0 }
func (folder) IP() netip.Addr                               { return netip.MustParseAddr("127.0.0.1") }
func (f folder) at(name string) string                      { return filepath.Join(f.dir, name) }
func (folder) Rename(context.Context, string, string) error { return fs.ErrPermission }
func (folder) RemoveAll(context.Context, string) error      { return fs.ErrPermission }
func (f folder) ReadFile(_ context.Context, name string) ([]byte, error) {
	return os.ReadFile(f.at(name))
}
func (folder) WriteFile(context.Context, string, []byte, fs.FileMode) error {
	return fs.ErrPermission // it is only looked at
}
func (f folder) Open(_ context.Context, name string) (io.ReadCloser, error) {
	return os.Open(f.at(name))
}
func (f folder) ReadDir(_ context.Context, name string) ([]string, error) {
	all, err := os.ReadDir(f.at(name))
	var names []string
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names, err
}

func (f folder) put(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(f.at(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.at(name), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestAuditLogOnNode(t *testing.T) {
	n := folder{t.TempDir()}
	n.put(t, "/var/log/k/audit.log", []byte(plainEvent+"\n"))
	n.put(t, "/var/log/k/audit-2026-11-21T09-00-00.000.log", []byte(deprecated("a", "1")+"\n"))
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, deprecated("b", "2")+"\n")
	_ = z.Close()
	n.put(t, "/var/log/k/audit-2026-11-21T08-00-00.000.log.gz", zipped.Bytes())
	n.put(t, "/var/log/k/other.log", []byte("no audit log"))
	a, err := auditOnNode(t.Context(), n, "/var/log/k/audit.log")
	if err != nil {
		t.Fatal(err)
	}
	if a.Requests != 3 || len(a.Deprecated) != 1 || a.Deprecated[0].Count != 2 || a.Where != "cp:/var/log/k/audit.log" {
		t.Errorf("%+v", a)
	}
	if _, err := auditOnNode(t.Context(), n, "/none/audit.log"); err == nil {
		t.Error("a log that is not there is no error")
	}
}

func certificate(t *testing.T, name string, until time.Time, ca bool) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: until, IsCA: ca, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, x, x, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestFilesOnNode(t *testing.T) {
	n := folder{t.TempDir()}
	o := onNode{n, n}
	if err := o.certificates(t.Context(), &collector{f: &Facts{}}); err == nil {
		t.Error("a node without certificates says nothing")
	}
	if err := o.kubelet(t.Context(), &collector{f: &Facts{}}); err == nil {
		t.Error("a node without a kubelet's settings says nothing")
	}
	n.put(t, "/etc/kubernetes/pki/ca.crt", certificate(t, "kubernetes", at(20), true))
	n.put(t, "/etc/kubernetes/pki/ca.key", []byte("secret"))
	n.put(t, "/etc/kubernetes/pki/etcd/peer.crt", certificate(t, "peer", at(21), false))
	n.put(t, "/var/lib/kubelet/pki/kubelet-client-2025-01-01-00-00-00.pem", certificate(t, "old", at(1), false))
	n.put(t, "/var/lib/kubelet/pki/kubelet-client-2026-01-01-00-00-00.pem", certificate(t, "node", at(22), false))
	n.put(t, "/var/lib/kubelet/pki/kubelet-client-current.pem", []byte("a link that cannot be followed"))
	config, err := clientcmd.Write(clientcmdapi.Config{AuthInfos: map[string]*clientcmdapi.AuthInfo{
		"admin": {ClientCertificateData: certificate(t, "admin", at(23), false)},
		"node":  {ClientCertificate: "/var/lib/kubelet/pki/kubelet-client-current.pem"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	n.put(t, "/etc/kubernetes/admin.conf", config)
	n.put(t, kubeadmFlags, []byte("KUBELET_KUBEADM_ARGS=\"--node-ip=1.2.3.4 --pod-infra-container-image=pause\"\n"))
	n.put(t, "/etc/default/kubelet", []byte("# none\nKUBELET_EXTRA_ARGS=--runtime-cgroups=/system.slice\n"))
	n.put(t, "/var/lib/kubelet/config.yaml", []byte("kind: KubeletConfiguration\nfailCgroupV1: false\n"))
	f := &Facts{}
	c := &collector{f: f}
	if err := o.certificates(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := o.kubelet(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	want := []Certificate{
		{"certificate authority kubernetes", "cp:/etc/kubernetes/pki/ca.crt", at(20), true},
		{"certificate of peer", "cp:/etc/kubernetes/pki/etcd/peer.crt", at(21), false},
		{"certificate of admin", "cp:/etc/kubernetes/admin.conf", at(23), false},
		{"certificate of node", "cp:/var/lib/kubelet/pki/kubelet-client-2026-01-01-00-00-00.pem", at(22), false},
	}
	if diff := cmp.Diff(want, f.Certificates); diff != "" {
		t.Error(diff)
	}
	flags := []Flags{
		{"cp", kubeadmFlags, []string{"--node-ip=1.2.3.4", "--pod-infra-container-image=pause"}},
		{"cp", "/etc/default/kubelet", []string{"--runtime-cgroups=/system.slice"}},
	}
	if diff := cmp.Diff(flags, f.Flags); diff != "" {
		t.Error(diff)
	}
	if len(f.Settings) != 1 || f.Settings[0].Values["failCgroupV1"] != false || !f.Settings[0].Explicit {
		t.Errorf("%+v", f.Settings)
	}
	n.put(t, "/etc/kubernetes/pki/broken.crt", []byte("nothing"))
	if err := o.certificates(t.Context(), c); err == nil {
		t.Error("a certificate that cannot be read is no error")
	}
}

func TestUsage(t *testing.T) {
	when := metav1.NewTime(at(3))
	u := &usage{at: map[useKey]*Use{}}
	u.add("ServiceCIDR", metav1.ObjectMeta{
		Name:        "a",
		Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: `{"apiVersion":"networking.k8s.io/v1beta1","kind":"ServiceCIDR"}`},
		ManagedFields: []metav1.ManagedFieldsEntry{
			{Manager: "x", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "networking.k8s.io/v1", Time: &when},
			{Manager: "x", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "networking.k8s.io/v1", Subresource: "status"},
			{Manager: "x", Operation: metav1.ManagedFieldsOperationApply, APIVersion: "networking.k8s.io/v1"},
		},
	})
	for range named {
		u.add("ServiceCIDR", metav1.ObjectMeta{Namespace: "n", Name: "b", ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "x", Operation: metav1.ManagedFieldsOperationApply, APIVersion: "networking.k8s.io/v1"}}})
	}
	if len(u.at) != 3 {
		t.Fatalf("%d uses, want 3", len(u.at))
	}
	v1 := gvk("networking.k8s.io/v1", "ServiceCIDR")
	if got := u.at[useKey{v1, "x", false}]; got.Count != 1 || !got.Last.Equal(at(3)) {
		t.Errorf("%+v", got)
	}
	if got := u.at[useKey{v1, "x", true}]; got.Count != named+1 || len(got.Objects) != named || got.Objects[1] != "ServiceCIDR n/b" {
		t.Errorf("%+v", got)
	}
	if got := u.at[useKey{gvk: gvk("networking.k8s.io/v1beta1", "ServiceCIDR")}]; got == nil || got.Count != 1 {
		t.Errorf("the last applied configuration: %+v", got)
	}
}

func TestNodeMetrics(t *testing.T) {
	var n Node
	err := n.metrics([]byte("# TYPE kubelet_cgroup_version gauge\nkubelet_cgroup_version 1\n# TYPE kubelet_cri_losing_support gauge\nkubelet_cri_losing_support{version=\"1.38.0\"} 1\n"))
	if err != nil || n.Cgroup != 1 || n.RuntimeUntil != "v1.38.0" {
		t.Errorf("%+v, %v", n, err)
	}
}

func TestTagged(t *testing.T) {
	for image, want := range map[string]string{
		"registry.k8s.io/kube-apiserver:v1.36.1":             "v1.36.1",
		"registry.k8s.io/etcd:3.6.8-0":                       "v3.6.8",
		"localhost:5000/kube-proxy:v1.36.1-eks.3@sha256:123": "v1.36.1",
		"localhost:5000/kube-proxy":                          "",
		"kube-proxy:latest":                                  "",
	} {
		if got := tagged(image); got != want {
			t.Errorf("%s: %q, want %q", image, got, want)
		}
	}
}

// heldMinor must be what is really built in.
func TestHeldMinor(t *testing.T) {
	data, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`\tk8s.io/api v0\.(\d+)\.`).FindSubmatch(data)
	if m == nil || release(ofAnnotation(string(m[1]))) != release(heldMinor) {
		t.Errorf("go.mod has k8s.io/api v0.%s, heldMinor is %d: look through goneGroups and gates.txt too", m[1], heldMinor)
	}
}

func TestGateList(t *testing.T) {
	fates, err := gateFates()
	if err != nil {
		t.Fatal(err)
	}
	// From the release notes: kubernetes v1.37 CHANGELOG, and k8s.io/kubernetes v1.36.1.
	if got := fates["SidecarContainers"]; got != (gateFate{gone: 37, locked: 33, to: "true"}) {
		t.Errorf("SidecarContainers: %+v", got)
	}
	for gate, f := range fates {
		if f.gone > heldMinor || f.locked > heldMinor || f.locked != 0 && !slices.Contains([]string{"true", "false"}, f.to) {
			t.Errorf("%s: %+v", gate, f)
		}
	}
}
