package preflight

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"gameday/clusters"
)

// kubeadm's places on a node: k8s.io/kubernetes@v1.37.0
// cmd/kubeadm/app/constants/constants.go.
const (
	kubeadmFolder = "/etc/kubernetes"
	kubeletFolder = "/var/lib/kubelet"
	kubeadmFlags  = kubeletFolder + "/kubeadm-flags.env"
)

// flagFiles are where kubeadm's systemd unit of the kubelet takes flags from, on
// Debian's and on Red Hat's: https://github.com/kubernetes/release
// cmd/krel/templates/latest/kubeadm/10-kubeadm.conf.
func flagFiles() []string {
	return []string{kubeadmFlags, "/etc/default/kubelet", "/etc/sysconfig/kubelet"}
}

// kubelet asks the kubelet of a node, through the API, what it runs with.
func (c *collector) kubelet(ctx context.Context, n *Node) {
	proxy := func(path string) ([]byte, error) {
		return c.kube.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes/" + n.Name + "/proxy" + path).DoRaw(ctx)
	}
	data, err := proxy("/configz")
	var configz struct {
		KubeletConfig map[string]any `json:"kubeletconfig"`
	}
	if err == nil {
		err = json.Unmarshal(data, &configz)
	}
	if err != nil {
		c.unread("kubelet", "the settings of a kubelet", err, "", "Node "+n.Name)
	} else {
		c.with(func(f *Facts) {
			f.Settings = append(f.Settings, Settings{Kind: kindKubelet, Where: "kubelet of " + n.Name, Node: n.Name, Values: configz.KubeletConfig})
		})
	}
	if data, err = proxy("/metrics"); err == nil {
		err = n.metrics(data)
	}
	if err != nil {
		c.unread("kubelet", "the metrics of a kubelet", err, "", "Node "+n.Name)
	}
}

func (n *Node) metrics(data []byte) error {
	all, err := metrics(data)
	if err != nil {
		return err
	}
	for _, m := range all["kubelet_cgroup_version"].GetMetric() {
		n.Cgroup = int(m.GetGauge().GetValue())
	}
	for _, m := range all["kubelet_cri_losing_support"].GetMetric() {
		if m.GetGauge().GetValue() > 0 {
			n.RuntimeUntil = "v" + labelsOf(m)["version"]
		}
	}
	return nil
}

// files reads what nodes keep in files: certificates, and settings of kubelets.
func (c *collector) files(ctx context.Context) {
	if c.src.Cluster == nil {
		err := errors.New("files of nodes are not in reach")
		c.unread("certificates", "certificates on nodes", err, "kubeadm certs check-expiration on each control plane")
		c.unread("kubelet", "flags of kubelets on nodes", err, "look at "+strings.Join(flagFiles(), ", ")+" on each node")
		return
	}
	var g errgroup.Group
	g.SetLimit(together)
	for _, n := range c.src.Cluster.Nodes() {
		if n.Role() == clusters.LoadBalancer {
			continue
		}
		g.Go(func() error {
			files, ok := n.(clusters.Files)
			if !ok {
				c.unread("certificates", "certificates and flags on a node", fmt.Errorf("it gives no files (capability %s)", clusters.CapFiles), "", n.Name())
				return nil
			}
			o := onNode{files, n}
			if err := o.certificates(ctx, c); err != nil {
				c.unread("certificates", "certificates on a node", err, "", n.Name())
			}
			if err := o.kubelet(ctx, c); err != nil {
				c.unread("kubelet", "settings of the kubelet on a node", err, "", n.Name())
			}
			return nil
		})
	}
	_ = g.Wait() // each tells of itself
}

// onNode reads files of a node.
type onNode struct {
	files clusters.Files
	node  clusters.Node
}

// names lists a folder; none if it is not there.
func (o onNode) names(ctx context.Context, folder string) ([]string, error) {
	names, err := o.files.ReadDir(ctx, folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

// certificates reads kubeadm's and the kubelet's.
func (o onNode) certificates(ctx context.Context, c *collector) error {
	var errs []error
	count := 0
	add := func(file string, data []byte) {
		certs, err := parse(data)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", file, err))
			return
		}
		for _, x := range certs {
			what := "certificate of " + x.Subject.CommonName
			if x.IsCA {
				what = "certificate authority " + x.Subject.CommonName
			}
			count++
			c.with(func(f *Facts) {
				f.Certificates = append(f.Certificates, Certificate{What: what, Where: o.node.Name() + ":" + file, Until: x.NotAfter, CA: x.IsCA})
			})
		}
	}
	read := func(file string) []byte {
		data, err := o.files.ReadFile(ctx, file)
		if err != nil {
			errs = append(errs, err)
		}
		return data
	}
	for _, folder := range []string{kubeadmFolder + "/pki", kubeadmFolder + "/pki/etcd"} {
		names, err := o.names(ctx, folder)
		errs = append(errs, err)
		for _, name := range names {
			if strings.HasSuffix(name, ".crt") {
				file := path.Join(folder, name)
				if data := read(file); data != nil {
					add(file, data)
				}
			}
		}
	}
	names, err := o.names(ctx, kubeadmFolder)
	errs = append(errs, err)
	for _, name := range names {
		if !strings.HasSuffix(name, ".conf") {
			continue
		}
		file := path.Join(kubeadmFolder, name)
		data := read(file)
		if data == nil {
			continue
		}
		config, err := clientcmd.Load(data)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", file, err))
			continue
		}
		for _, user := range config.AuthInfos {
			if len(user.ClientCertificateData) > 0 {
				add(file, user.ClientCertificateData)
			}
		}
	}
	// kubelet-client-current.pem is a link to the newest of these.
	const folder = kubeletFolder + "/pki"
	names, err = o.names(ctx, folder)
	errs = append(errs, err)
	names = slices.DeleteFunc(names, func(n string) bool {
		return !strings.HasPrefix(n, "kubelet-client-") || n == "kubelet-client-current.pem"
	})
	if len(names) > 0 {
		file := path.Join(folder, names[len(names)-1]) // they have their time in their name
		if data := read(file); data != nil {
			add(file, data)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if count == 0 {
		return errors.New("there are none where kubeadm keeps them")
	}
	return nil
}

// parse reads all certificates of a PEM file.
func parse(data []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		x, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	if len(out) == 0 {
		return nil, errors.New("it holds no certificate")
	}
	return out, nil
}

// kubelet reads the flags and the settings of the node's kubelet.
func (o onNode) kubelet(ctx context.Context, c *collector) error {
	for _, file := range flagFiles() {
		data, err := o.files.ReadFile(ctx, file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		c.with(func(f *Facts) {
			f.Flags = append(f.Flags, Flags{Node: o.node.Name(), File: file, Args: flagsIn(string(data))})
		})
	}
	const file = kubeletFolder + "/config.yaml"
	data, err := o.files.ReadFile(ctx, file)
	if err != nil {
		return err
	}
	var values map[string]any
	if err := yaml.Unmarshal(data, &values); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	c.with(func(f *Facts) {
		f.Settings = append(f.Settings, Settings{Kind: kindKubelet, Where: o.node.Name() + ":" + file, Node: o.node.Name(), Explicit: true, Values: values})
	})
	return nil
}

// flagsIn are the flags in a file of environment variables: NAME="--flag=value ...".
func flagsIn(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if _, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			out = append(out, strings.Fields(strings.Trim(value, `"'`))...)
		}
	}
	return out
}
