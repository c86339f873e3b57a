package faults

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"path"
	"slices"
	"time"

	"k8s.io/client-go/rest"

	"gameday/clusters"
)

var apiserverBadCert = Kind{
	Name: "apiserver.bad-cert",
	Doc:  "Gives the API server of the targets a serving certificate that has expired; new connections to it are refused by every client.",
	Rehearses: "The certificates of kubeadm end after a year, and a cluster that was not upgraded in that time is locked out of " +
		"its own API (https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-certs/). A load balancer that does " +
		"not verify certificates goes on sending clients there.",
	Mechanism: "apiserver.crt and apiserver.key on the node are replaced by an expired pair of a throwaway key; the API server reads them anew by itself",
	Undo:      "the guard, or gameday heal, puts the pair back from its copy on the node; a newer one that stands there stays",
	Roles:     []clusters.Role{clusters.ControlPlane},
	Needs:     []clusters.Capability{clusters.CapFiles},
	Cost:      Cost{APIServers: 1},
	// It looks at its files at once (inotify), or after a minute:
	// k8s.io/apiserver@v0.37.0 pkg/server/dynamiccertificates/dynamic_serving_content.go.
	ProveWithin: 100 * time.Second,
	GoneWithin:  3 * time.Minute,
	Trials:      []Trial{{Name: "bad-cert", Target: Target{Pick: PickOne}}},
	New:         func() Fault { return &BadCert{} },
}

const (
	// servingCert and servingKey are where kubeadm puts them:
	// k8s.io/kubernetes@v1.37.0 cmd/kubeadm/app/constants/constants.go.
	servingCert = "/etc/kubernetes/pki/apiserver.crt"
	servingKey  = "/etc/kubernetes/pki/apiserver.key"
	// badCertOrg marks a certificate of ours; the organisational unit is the tag.
	badCertOrg = "gameday apiserver.bad-cert"
	// parkedPair is the folder of the copies.
	parkedPair = "serving"
)

// BadCert is the fault apiserver.bad-cert. It has no parameters.
type BadCert struct{}

// Describe implements Describer.
func (*BadCert) Describe(targets []string) []string {
	return append(each(targets, "%s: cp "+servingCert+" "+servingKey+" "+parkedServing("TAG", "")),
		each(targets, "%s: write an expired pair over "+servingCert+" and "+servingKey)...)
}

// parkedServing is where the copy of a file is, or with no name their folder.
func parkedServing(tag, name string) string {
	if name == "" {
		return path.Join(parking, tag, parkedPair)
	}
	return path.Join(parking, tag, parkedPair, path.Base(name))
}

// Inject copies the pair, and then replaces it. A pair that somebody put there
// since (an upgrade renews it) is copied anew: the newest counts.
func (f *BadCert) Inject(ctx context.Context, env Env) error {
	for _, n := range env.Targets {
		if err := f.spoil(ctx, n, env.Tag); err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
	}
	return nil
}

func (f *BadCert) spoil(ctx context.Context, n clusters.Node, tag string) error {
	node, err := files(n)
	if err != nil {
		return err
	}
	cert, err := node.ReadFile(ctx, servingCert)
	if err != nil {
		return err
	}
	leaf, by, err := whose(cert)
	if err != nil {
		return err
	}
	switch by {
	case "":
		key, err := node.ReadFile(ctx, servingKey)
		if err != nil {
			return err
		}
		if _, err := tls.X509KeyPair(cert, key); err != nil {
			return fmt.Errorf("%s and %s are no pair (is somebody renewing them?): %w", servingCert, servingKey, err)
		}
		if err := errors.Join(node.WriteFile(ctx, parkedServing(tag, servingKey), key, 0o600),
			node.WriteFile(ctx, parkedServing(tag, servingCert), cert, 0o644)); err != nil {
			return err
		}
	case tag: // again, or the first time was interrupted between the two files
	default:
		return fmt.Errorf("%s was replaced already, by %s", servingCert, by)
	}
	badCert, badKey, err := expired(leaf, tag)
	if err != nil {
		return err
	}
	// The certificate first: by it Heal sees that there is something to put back.
	return errors.Join(node.WriteFile(ctx, servingCert, badCert, 0o644), node.WriteFile(ctx, servingKey, badKey, 0o600))
}

// whose reads the first certificate of a file, and says by which tag it was made;
// none: it is not ours.
func whose(file []byte) (*x509.Certificate, string, error) {
	block, _ := pem.Decode(file)
	if block == nil {
		return nil, "", fmt.Errorf("%s holds no certificate", servingCert)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", servingCert, err)
	}
	if slices.Equal(c.Subject.Organization, []string{badCertOrg}) && len(c.Subject.OrganizationalUnit) == 1 {
		return c, c.Subject.OrganizationalUnit[0], nil
	}
	return c, "", nil
}

// expired makes a pair for the same names that was valid until yesterday. It is
// signed by its own key: that of the cluster's authority is left alone, and the
// date is what clients look at first (crypto/x509, Certificate.Verify).
func expired(like *x509.Certificate, tag string) (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	yesterday := time.Now().Add(-24 * time.Hour)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: like.Subject.CommonName, Organization: []string{badCertOrg}, OrganizationalUnit: []string{tag}},
		NotBefore:    yesterday.AddDate(-1, 0, 0), NotAfter: yesterday,
		DNSNames: like.DNSNames, IPAddresses: like.IPAddresses,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate: %w", err)
	}
	keyDER, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), nil
}

// Heal puts the pair back.
func (*BadCert) Heal(ctx context.Context, env Env) error {
	var errs []error
	for _, n := range env.Targets {
		errs = append(errs, restoreServing(ctx, n, env.Tag))
	}
	return errors.Join(errs...)
}

// restoreServing puts back the pair that was copied for the tag, unless a newer one
// stands there, and removes the copy.
func restoreServing(ctx context.Context, n clusters.Node, tag string) error {
	node, err := files(n)
	if err != nil {
		return err
	}
	standing, err := node.ReadFile(ctx, servingCert)
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name(), err)
	}
	_, by, err := whose(standing)
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name(), err)
	}
	if by == tag {
		cert, err := node.ReadFile(ctx, parkedServing(tag, servingCert))
		if err != nil {
			return fmt.Errorf("%s: the copy of %s: %w", n.Name(), servingCert, err)
		}
		key, err := node.ReadFile(ctx, parkedServing(tag, servingKey))
		if err != nil {
			return fmt.Errorf("%s: the copy of %s: %w", n.Name(), servingKey, err)
		}
		if _, err := tls.X509KeyPair(cert, key); err != nil {
			return fmt.Errorf("%s: the copies in %s are no pair: %w", n.Name(), parkedServing(tag, ""), err)
		}
		// The certificate last: until it stands there this is done again.
		if err := node.WriteFile(ctx, servingKey, key, 0o600); err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
		if err := node.WriteFile(ctx, servingCert, cert, 0o644); err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
	}
	return removeParking(ctx, node, tag)
}

// Prove shakes hands with the API server, as any client does.
func (*BadCert) Prove(ctx context.Context, env Env) (Effect, error) {
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		cfg, err := endpointOf(env.Cluster, n)
		if err != nil {
			return seen{}, err
		}
		shake := handshake(ctx, cfg)
		if shake != nil && ctx.Err() != nil {
			return seen{}, ctx.Err()
		}
		var invalid x509.CertificateInvalidError
		if errors.As(shake, &invalid) && invalid.Reason == x509.Expired {
			ours := slices.Equal(invalid.Cert.Subject.Organization, []string{badCertOrg})
			return seen{broken: ours, evidence: fmt.Sprintf("handshake: %v", shake)}, nil
		}
		if shake != nil {
			return seen{evidence: shake.Error()}, nil
		}
		if err := readyz(ctx, env.Cluster, n); err != nil {
			return seen{evidence: err.Error()}, nil //nolint:nilerr // that is what was seen
		}
		return seen{whole: true, evidence: "handshake and /readyz ok"}, nil
	})
	if err != nil {
		return e, err
	}
	if rest := others(env); e.Active && len(rest) > 0 {
		e.Control, err = control(ctx, rest, "has a certificate that is believed", func(ctx context.Context, n clusters.Node) error {
			cfg, err := endpointOf(env.Cluster, n)
			if err != nil {
				return err
			}
			return handshake(ctx, cfg)
		})
		if err != nil {
			e.Active = false
			e.Evidence += fmt.Sprintf("; but no other one is believed either: %v", err)
		}
	}
	e.At = time.Now()
	return e, nil
}

// endpointOf is the way to the API server on a node.
func endpointOf(c clusters.Cluster, n clusters.Node) (*rest.Config, error) {
	for _, e := range c.Endpoints() {
		if e.Node != nil && e.Node.Name() == n.Name() {
			return e.Config, nil
		}
	}
	return nil, fmt.Errorf("no endpoint leads to the API server on %s", n.Name())
}

// handshake connects as a client does, and sends nothing.
func handshake(ctx context.Context, cfg *rest.Config) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	conf, err := rest.TLSConfigFor(cfg)
	if err != nil {
		return fmt.Errorf("credentials for %s: %w", cfg.Host, err)
	}
	u, err := url.Parse(cfg.Host)
	if err != nil {
		return fmt.Errorf("address %s: %w", cfg.Host, err)
	}
	if conf.ServerName == "" {
		conf.ServerName = u.Hostname()
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return err
	}
	t := tls.Client(conn, conf)
	return errors.Join(t.HandshakeContext(ctx), conn.Close())
}
