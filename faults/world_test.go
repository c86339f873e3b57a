package faults

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"k8s.io/client-go/rest"

	"gameday/clusters"
)

// world is three control planes made of folders, whose etcd is a list of members
// and whose kubelet is a function. After a number of changes the process that
// makes them crashes.
type world struct {
	t     *testing.T
	nodes []*fakeNode

	mu      sync.Mutex
	members []*etcdserverpb.Member
	nextID  uint64
	killed  map[string]bool // etcd was killed and not started since

	left  int // changes until the crash; negative: none
	after bool
	crash func()
	dead  bool
}

var errCrash = errors.New("the process crashed")

const testManifest = `spec:
  containers:
  - command:
    - etcd
    - --initial-cluster=NAME=https://ADDR:2380
    - --name=NAME
    image: etcd:1
`

// loopback is an address of this machine that no other process of these tests has:
// etcd's ports are fixed.
func loopback(i int) netip.Addr {
	pid := os.Getpid()
	return netip.AddrFrom4([4]byte{127, 64 | byte(pid>>8)&63, byte(pid), byte(i + 1)})
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, nextID: 100, left: -1, killed: map[string]bool{}}
	cert, certPEM, keyPEM := testCert(t)
	root := t.TempDir()
	for i := range 3 {
		n := &fakeNode{w: w, i: i, dir: filepath.Join(root, strconv.Itoa(i)), addr: loopback(i)}
		w.nodes = append(w.nodes, n)
		manifest := strings.NewReplacer("NAME", n.Name(), "ADDR", n.addr.String()).Replace(testManifest)
		for name, data := range map[string]string{
			standing:                          manifest,
			etcdMember + "/id":                strconv.Itoa(i + 1),
			"/etc/kubernetes/pki/etcd/ca.crt": certPEM,
			"/etc/kubernetes/pki/etcd/healthcheck-client.crt":   certPEM,
			"/etc/kubernetes/pki/etcd/healthcheck-client.key":   keyPEM,
			"/etc/kubernetes/manifests/kube-apiserver.yaml":     "x",
			"/etc/kubernetes/manifests/.something-of-an-editor": "x",
		} {
			n.put(name, data)
		}
		w.members = append(w.members, &etcdserverpb.Member{ID: uint64(i + 1), Name: n.Name(), PeerURLs: []string{n.peer()}})
		n.serve(cert)
	}
	return w
}

func (w *world) cluster() clusters.Cluster { return fakeCluster{w} }

func (w *world) env(notes Notes) Env {
	return Env{
		Cluster: w.cluster(), Targets: []clusters.Node{w.nodes[1]}, Tag: "run-x", MaxHold: time.Minute,
		Notes: notes, Log: w.t.Logf,
	}
}

// crashAt lets the process crash at the n-th change from now, before or after
// it takes effect. The returned context ends with the process.
func (w *world) crashAt(n int, after bool) context.Context {
	ctx, cancel := context.WithCancel(w.t.Context())
	w.t.Cleanup(cancel)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left, w.after, w.crash = n, after, cancel
	return ctx
}

// revive starts another process; it says whether the last one had crashed.
func (w *world) revive() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.dead
	w.dead, w.left = false, -1
	return was
}

// change makes a change, if the process lives, and lets the kubelets see it.
func (w *world) change(do func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return errCrash
	}
	crash := w.left == 0
	w.left--
	if crash {
		w.dead = true
		defer w.crash()
		if !w.after {
			return errCrash
		}
	}
	err := do()
	w.check()
	if crash {
		return errCrash
	}
	return err
}

// check is what must hold at any time, and what kubelets and members do.
func (w *world) check() {
	for _, n := range w.nodes {
		i := w.index(n)
		data, hasData := n.data()
		manifest, stands := n.get(standing)
		if stands {
			w.killed[n.Name()] = false
		}
		switch {
		case i >= 0 && w.members[i].Name != "" && !w.members[i].IsLearner && !hasData && stands && !n.blocked():
			w.t.Errorf("%s: voter %x was started without its data", n.Name(), w.members[i].ID)
		case stands && !hasData && !n.blocked() && !strings.Contains(manifest, "--initial-cluster-state=existing"):
			w.t.Errorf("%s: an empty member founded a cluster of its own", n.Name())
		case stands && !hasData && !n.blocked() && i >= 0 && w.members[i].Name == "":
			if !strings.Contains(manifest, n.Name()+"="+n.peer()) || strings.Count(manifest, "=https://") != len(w.members) {
				w.t.Errorf("%s: joins with other members than the list has:\n%s", n.Name(), manifest)
			}
			n.put(etcdMember+"/id", strconv.FormatUint(w.members[i].ID, 10))
			w.members[i].Name = n.Name()
		case stands && hasData && i >= 0 && data != w.members[i].ID:
			w.t.Errorf("%s: member %x was started with the data of %x", n.Name(), w.members[i].ID, data)
		}
	}
}

func (w *world) index(n *fakeNode) int {
	for i, m := range w.members {
		if m.PeerURLs[0] == n.peer() {
			return i
		}
	}
	return -1
}

// runs says whether the member on a node is at work.
func (w *world) runs(n *fakeNode) bool {
	i := w.index(n)
	data, ok := n.data()
	_, stands := n.get(standing)
	return stands && i >= 0 && ok && data == w.members[i].ID
}

func (w *world) quorum() error {
	voters, up := 0, 0
	for _, n := range w.nodes {
		if i := w.index(n); i >= 0 && !w.members[i].IsLearner {
			voters++
			if w.runs(n) {
				up++
			}
		}
	}
	if up < voters/2+1 {
		return status.Error(codes.Unavailable, "etcdserver: no leader")
	}
	return nil
}

// kill is what stands for killEtcd.
func (w *world) kill(_ context.Context, n clusters.Node) error {
	return w.change(func() error { w.killed[n.Name()] = true; return nil })
}

// fakeNode is a node in a folder.
type fakeNode struct {
	w    *world
	i    int
	dir  string
	addr netip.Addr
}

func (n *fakeNode) Name() string       { return "cp" + strconv.Itoa(n.i) }
func (*fakeNode) Role() clusters.Role  { return clusters.ControlPlane }
func (n *fakeNode) Index() int         { return n.i }
func (n *fakeNode) IP() netip.Addr     { return n.addr }
func (n *fakeNode) peer() string       { return "https://" + n.addr.String() + ":2380" }
func (n *fakeNode) at(p string) string { return filepath.Join(n.dir, p) }
func (n *fakeNode) blocked() bool      { _, ok := n.get(etcdMember); return ok }
func (n *fakeNode) put(p, data string) {
	if err := errors.Join(os.MkdirAll(filepath.Dir(n.at(p)), 0o700), os.WriteFile(n.at(p), []byte(data), 0o600)); err != nil {
		n.w.t.Error(err)
	}
}

func (n *fakeNode) get(p string) (string, bool) {
	b, err := os.ReadFile(n.at(p))
	return string(b), err == nil
}

func (n *fakeNode) data() (uint64, bool) {
	s, ok := n.get(etcdMember + "/id")
	id, err := strconv.ParseUint(s, 10, 64)
	return id, ok && err == nil
}

func (n *fakeNode) ReadFile(_ context.Context, p string) ([]byte, error) { return os.ReadFile(n.at(p)) }

func (n *fakeNode) ReadDir(_ context.Context, p string) ([]string, error) {
	entries, err := os.ReadDir(n.at(p))
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, err
}

func (n *fakeNode) WriteFile(_ context.Context, p string, data []byte, mode fs.FileMode) error {
	return n.w.change(func() error {
		return errors.Join(os.MkdirAll(filepath.Dir(n.at(p)), 0o700), os.WriteFile(n.at(p), data, mode))
	})
}

func (n *fakeNode) Rename(_ context.Context, from, to string) error {
	return n.w.change(func() error {
		if _, err := os.Stat(n.at(from)); err != nil {
			return err
		}
		return errors.Join(os.MkdirAll(filepath.Dir(n.at(to)), 0o700), os.Rename(n.at(from), n.at(to)))
	})
}

func (n *fakeNode) RemoveAll(_ context.Context, p string) error {
	return n.w.change(func() error { return os.RemoveAll(n.at(p)) })
}

// serve is the member's client port.
func (n *fakeNode) serve(cert tls.Certificate) {
	l, err := net.Listen("tcp", net.JoinHostPort(n.addr.String(), clusters.EtcdClientPort))
	if err != nil {
		n.w.t.Fatal(err)
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	etcdserverpb.RegisterClusterServer(s, &fakeMember{n: n})
	etcdserverpb.RegisterKVServer(s, &fakeMember{n: n})
	go func() {
		if err := s.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) { // before it began
			n.w.t.Error(err)
		}
	}()
	n.w.t.Cleanup(s.Stop)
}

// fakeMember answers as etcd does.
type fakeMember struct {
	etcdserverpb.UnimplementedClusterServer
	etcdserverpb.UnimplementedKVServer
	n *fakeNode
}

func (m *fakeMember) serves() error {
	if !m.n.w.runs(m.n) {
		return status.Error(codes.Unavailable, "not running")
	}
	return m.n.w.quorum()
}

func (m *fakeMember) Range(context.Context, *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	m.n.w.mu.Lock()
	defer m.n.w.mu.Unlock()
	return &etcdserverpb.RangeResponse{}, m.serves()
}

func (m *fakeMember) list() []*etcdserverpb.Member {
	var out []*etcdserverpb.Member
	for _, x := range m.n.w.members {
		out = append(out, &etcdserverpb.Member{ID: x.ID, Name: x.Name, PeerURLs: x.PeerURLs, IsLearner: x.IsLearner})
	}
	return out
}

func (m *fakeMember) MemberList(context.Context, *etcdserverpb.MemberListRequest) (*etcdserverpb.MemberListResponse, error) {
	m.n.w.mu.Lock()
	defer m.n.w.mu.Unlock()
	return &etcdserverpb.MemberListResponse{Members: m.list()}, m.serves()
}

func (m *fakeMember) MemberAdd(_ context.Context, r *etcdserverpb.MemberAddRequest) (*etcdserverpb.MemberAddResponse, error) {
	resp := &etcdserverpb.MemberAddResponse{}
	err := m.n.w.change(func() error {
		if err := m.serves(); err != nil {
			return err
		}
		for _, x := range m.n.w.members {
			if x.PeerURLs[0] == r.PeerURLs[0] {
				return status.Error(codes.FailedPrecondition, "etcdserver: Peer URLs already exists")
			}
			if x.IsLearner {
				return status.Error(codes.FailedPrecondition, "etcdserver: too many learner members in cluster")
			}
		}
		m.n.w.nextID++
		resp.Member = &etcdserverpb.Member{ID: m.n.w.nextID, PeerURLs: r.PeerURLs, IsLearner: r.IsLearner}
		m.n.w.members = append(m.n.w.members, resp.Member)
		resp.Members = m.list()
		return nil
	})
	return resp, err
}

func (m *fakeMember) MemberRemove(_ context.Context, r *etcdserverpb.MemberRemoveRequest) (*etcdserverpb.MemberRemoveResponse, error) {
	return &etcdserverpb.MemberRemoveResponse{}, m.n.w.change(func() error {
		for i, x := range m.n.w.members {
			if x.ID == r.ID {
				m.n.w.members = append(m.n.w.members[:i:i], m.n.w.members[i+1:]...)
				return m.serves()
			}
		}
		return status.Error(codes.NotFound, "etcdserver: member not found")
	})
}

func (m *fakeMember) MemberPromote(_ context.Context, r *etcdserverpb.MemberPromoteRequest) (*etcdserverpb.MemberPromoteResponse, error) {
	return &etcdserverpb.MemberPromoteResponse{}, m.n.w.change(func() error {
		for _, x := range m.n.w.members {
			if x.ID == r.ID {
				if !x.IsLearner {
					return status.Error(codes.FailedPrecondition, "etcdserver: can only promote a learner member")
				}
				if x.Name == "" {
					return status.Error(codes.FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader")
				}
				x.IsLearner = false
				return nil
			}
		}
		return status.Error(codes.NotFound, "etcdserver: member not found")
	})
}

type fakeCluster struct{ w *world }

func (fakeCluster) Name() string       { return "c" }
func (fakeCluster) Run() string        { return "r" }
func (fakeCluster) Provider() string   { return "fake" }
func (fakeCluster) REST() *rest.Config { return nil }
func (c fakeCluster) Nodes() []clusters.Node {
	var out []clusters.Node
	for _, n := range c.w.nodes {
		out = append(out, n)
	}
	return out
}
func (fakeCluster) Endpoints() []clusters.Endpoint { return nil }
func (fakeCluster) LoadImages(context.Context, clusters.Node, io.Reader) error {
	return errors.ErrUnsupported
}
func (fakeCluster) Collect(context.Context, string) error { return errors.ErrUnsupported }

// memory are notes; saving them is a change too.
type memory struct {
	w *world
	b []byte
}

func (m *memory) Save(v any) error {
	return m.w.change(func() (err error) { m.b, err = json.Marshal(v); return err })
}

func (m *memory) Load(v any) (bool, error) {
	if m.b == nil {
		return false, nil
	}
	return true, json.Unmarshal(m.b, v)
}

var makeCert = sync.OnceValues(func() (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{loopback(0).AsSlice(), loopback(1).AsSlice(), loopback(2).AsSlice(), {127, 0, 0, 1}},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		panic(err)
	}
	c, err = x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return c, key
})

func testCert(t *testing.T) (tls.Certificate, string, string) {
	t.Helper()
	c, key := makeCert()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return pair, string(certPEM), string(keyPEM)
}
