package local

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// validity of everything that is signed; a cluster lives for hours.
const validity = 365 * 24 * time.Hour

// authority signs the certificates of one cluster. It is held in memory, and on the
// control planes.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  pair
}

// pair is a certificate and its key, both PEM.
type pair struct {
	Cert []byte `json:"cert"`
	Key  []byte `json:"key"`
}

func newAuthority(now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(validity),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true, DNSNames: []string{"kubernetes"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	keyPEM, err := pemOf(key)
	return &authority{cert: cert, key: key, pem: pair{Cert: certPEM(der), Key: keyPEM}}, err
}

// wish is a certificate that is wanted.
type wish struct {
	name   string
	groups []string
	hosts  []string // names and addresses; with any it is a server's too
}

func (a *authority) sign(w wish, now time.Time) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return pair{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: w.name, Organization: w.groups},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(validity),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, h := range w.hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	if len(w.hosts) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return pair{}, err
	}
	keyPEM, err := pemOf(key)
	return pair{Cert: certPEM(der), Key: keyPEM}, err
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func pemOf(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// serviceAccountKey is the pair that tokens are signed with.
func serviceAccountKey() (public, private []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if private, err = pemOf(key); err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), private, nil
}

// hollowUser is who the hollow kubelets are: a node as far as the limits of the API
// servers (priority and fairness) are concerned, of a group that may do what many
// nodes may.
const (
	hollowUser  = "system:node:hollow"
	hollowGroup = "gameday:hollow"
)

// secrets are what all control planes of a cluster share.
type secrets struct {
	ca                  *authority
	saPublic, saPrivate []byte
	hollow              pair
	now                 time.Time
}

func newSecrets(now time.Time) (*secrets, error) {
	ca, err := newAuthority(now)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	s := &secrets{ca: ca, now: now}
	if s.saPublic, s.saPrivate, err = serviceAccountKey(); err != nil {
		return nil, fmt.Errorf("key of service accounts: %w", err)
	}
	s.hollow, err = ca.sign(wish{name: hollowUser, groups: []string{"system:nodes", hollowGroup}}, now)
	return s, err
}

// files are those of one control plane, where kubeadm has them, by path.
func (s *secrets) files(node string, ip, front netip.Addr) (map[string][]byte, error) {
	own := []string{node, "localhost", "127.0.0.1", ip.String()}
	out := map[string][]byte{
		pkiDir + "/ca.crt": s.ca.pem.Cert, pkiDir + "/ca.key": s.ca.pem.Key,
		pkiDir + "/etcd/ca.crt":        s.ca.pem.Cert,
		pkiDir + "/front-proxy-ca.crt": s.ca.pem.Cert,
		pkiDir + "/sa.pub":             s.saPublic, pkiDir + "/sa.key": s.saPrivate,
	}
	for at, w := range map[string]wish{
		"apiserver": {name: "kube-apiserver", hosts: append([]string{
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
			apiServiceIP, front.String()}, own...)},
		"apiserver-kubelet-client": {name: "kube-apiserver-kubelet-client", groups: []string{"system:masters"}},
		"apiserver-etcd-client":    {name: "kube-apiserver-etcd-client"},
		"front-proxy-client":       {name: "front-proxy-client"},
		"etcd/server":              {name: node, hosts: own},
		"etcd/peer":                {name: node, hosts: own},
		"etcd/healthcheck-client":  {name: "kube-etcd-healthcheck-client"},
	} {
		p, err := s.ca.sign(w, s.now)
		if err != nil {
			return nil, fmt.Errorf("certificate %s of %s: %w", at, node, err)
		}
		out[pkiDir+"/"+at+".crt"], out[pkiDir+"/"+at+".key"] = p.Cert, p.Key
	}
	for file, c := range map[string]struct {
		wish
		server netip.Addr
	}{
		adminConf:                            {wish{name: "kubernetes-admin", groups: []string{"system:masters"}}, front},
		confDir + "/controller-manager.conf": {wish{name: "system:kube-controller-manager"}, ip},
		confDir + "/scheduler.conf":          {wish{name: "system:kube-scheduler"}, ip},
	} {
		p, err := s.ca.sign(c.wish, s.now)
		if err != nil {
			return nil, fmt.Errorf("certificate of %s: %w", c.name, err)
		}
		if out[file], err = kubeconfig(apiURL(c.server), s.ca.pem.Cert, p); err != nil {
			return nil, fmt.Errorf("%s of %s: %w", file, node, err)
		}
	}
	return out, nil
}

func apiURL(ip netip.Addr) string {
	return "https://" + netip.AddrPortFrom(ip, apiServerPort).String()
}

func kubeconfig(server string, ca []byte, p pair) ([]byte, error) {
	c := clientcmdapi.NewConfig()
	c.Clusters["local"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	c.AuthInfos["local"] = &clientcmdapi.AuthInfo{ClientCertificateData: p.Cert, ClientKeyData: p.Key}
	c.Contexts["local"] = &clientcmdapi.Context{Cluster: "local", AuthInfo: "local"}
	c.CurrentContext = "local"
	return clientcmd.Write(*c)
}
