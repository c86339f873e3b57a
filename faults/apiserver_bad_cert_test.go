package faults

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

// certNode is a node with the pair of an API server.
func certNode(t *testing.T) (*world, *fakeNode, string, string) {
	t.Helper()
	_, cert, key := testCert(t)
	w := &world{t: t, left: -1}
	n := &fakeNode{w: w, dir: t.TempDir()}
	w.nodes = []*fakeNode{n}
	n.put(servingCert, cert)
	n.put(servingKey, key)
	return w, n, cert, key
}

func (n *fakeNode) is(t *testing.T, p, want, what string) {
	t.Helper()
	if got, _ := n.get(p); got != want {
		t.Errorf("%s: %s is not what it should be", what, p)
	}
}

func TestBadCertIsPutBack(t *testing.T) {
	w, n, cert, key := certNode(t)
	env := Env{Cluster: w.cluster(), Targets: w.cluster().Nodes(), Tag: "run-1"}
	f := &BadCert{}
	if err := f.Heal(t.Context(), env); err != nil {
		t.Errorf("heal of nothing: %v", err)
	}
	for range 2 {
		if err := f.Inject(t.Context(), env); err != nil {
			t.Fatal(err)
		}
	}
	bad, _ := n.get(servingCert)
	badKey, _ := n.get(servingKey)
	pair, err := tls.X509KeyPair([]byte(bad), []byte(badKey))
	if err != nil {
		t.Fatal(err)
	}
	original, _, err := whose([]byte(cert))
	if err != nil {
		t.Fatal(err)
	}
	if _, by, err := whose([]byte(bad)); err != nil || by != "run-1" || len(pair.Leaf.IPAddresses) != len(original.IPAddresses) {
		t.Errorf("made by %q for %v, %v", by, pair.Leaf.IPAddresses, err)
	}
	other := env
	other.Tag = "run-2"
	if err := f.Inject(t.Context(), other); err == nil || !strings.Contains(err.Error(), "run-1") {
		t.Errorf("another one's: %v", err)
	}
	if err := f.Heal(t.Context(), other); err != nil {
		t.Error(err)
	}
	n.is(t, servingCert, bad, "another's heal")
	for range 2 {
		if err := f.Heal(t.Context(), env); err != nil {
			t.Fatal(err)
		}
	}
	n.is(t, servingCert, cert, "healed")
	n.is(t, servingKey, key, "healed")
	if _, err := n.ReadDir(t.Context(), parking); err == nil {
		t.Error("a copy is left")
	}
}

// Whenever it is interrupted, Heal puts everything back.
func TestBadCertIsInterrupted(t *testing.T) {
	for _, after := range []bool{false, true} {
		for i := range 12 {
			w, n, cert, key := certNode(t)
			env := Env{Cluster: w.cluster(), Targets: w.cluster().Nodes(), Tag: "run-1"}
			w.left, w.after, w.crash = i, after, func() {}
			err := (&BadCert{}).Inject(t.Context(), env)
			if err == nil {
				err = (&BadCert{}).Heal(t.Context(), env)
			}
			w.left, w.dead = -1, false
			if i == 0 && err == nil {
				t.Error("it was not interrupted")
			}
			if err := Unpark(t.Context(), n, env.Tag); err != nil {
				t.Errorf("change %d: %v", i, err)
			}
			if err := (&BadCert{}).Heal(t.Context(), env); err != nil {
				t.Errorf("change %d: %v", i, err)
			}
			n.is(t, servingCert, cert, "healed")
			n.is(t, servingKey, key, "healed")
		}
	}
}

// A renewed pair stays, and is the one that counts if the fault goes on.
func TestRenewedCertStays(t *testing.T) {
	w, n, cert, key := certNode(t)
	env := Env{Cluster: w.cluster(), Targets: w.cluster().Nodes(), Tag: "run-1"}
	f := &BadCert{}
	if err := f.Inject(t.Context(), env); err != nil {
		t.Fatal(err)
	}
	newer := cert + "\n"
	n.put(servingCert, newer)
	n.put(servingKey, key)
	if err := f.Inject(t.Context(), env); err != nil {
		t.Fatal(err)
	}
	if err := f.Heal(t.Context(), env); err != nil {
		t.Fatal(err)
	}
	n.is(t, servingCert, newer, "healed")
	n.put(servingCert, cert)
	if err := f.Heal(t.Context(), env); err != nil {
		t.Fatal(err)
	}
	n.is(t, servingCert, cert, "not ours")
}

func TestHandshakeSeesTheDate(t *testing.T) {
	good, certPEM, _ := testCert(t)
	serve := func(c tls.Certificate) *rest.Config {
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{c}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func(c net.Conn) {
					// A client that does not believe ends it.
					if err := c.(*tls.Conn).HandshakeContext(t.Context()); err != nil {
						t.Log(err)
					}
					c.Close()
				}(c)
			}
		}()
		return &rest.Config{Host: "https://" + l.Addr().String(), TLSClientConfig: rest.TLSClientConfig{CAData: []byte(certPEM)}}
	}
	if err := handshake(t.Context(), serve(good)); err != nil {
		t.Error(err)
	}
	block, _ := pem.Decode([]byte(certPEM))
	like, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	c, k, err := expired(like, "run-1")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(c, k)
	if err != nil {
		t.Fatal(err)
	}
	var invalid x509.CertificateInvalidError
	if err := handshake(t.Context(), serve(pair)); !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
		t.Errorf("got %v", err)
	}
}
