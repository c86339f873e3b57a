package nodeimage

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
)

// constantsFile is where kubeadm pins the versions of what is not built from
// the Kubernetes repository.
const constantsFile = "cmd/kubeadm/app/constants/constants.go"

// imageRepository is kubeadm's default,
// k8s.io/kubernetes@v1.37.0 cmd/kubeadm/app/apis/kubeadm/v1beta4/defaults.go.
const imageRepository = "registry.k8s.io"

// pins are the image tags that one version of kubeadm asks for.
type pins struct{ Etcd, CoreDNS, Pause string }

// parsePins reads the pins out of kubeadm's constants.go. The etcd version is
// that of the Kubernetes minor in SupportedEtcdVersion, which is what kubeadm
// uses (GetEtcdImageTag in cmd/kubeadm/app/images/images.go); DefaultEtcdVersion
// where the minor is not listed.
func parsePins(src []byte, minor int) (pins, error) {
	file, err := parser.ParseFile(token.NewFileSet(), constantsFile, src, parser.SkipObjectResolution)
	if err != nil {
		return pins{}, fmt.Errorf("parsing kubeadm's constants: %w", err)
	}
	text := map[string]string{}
	supported := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			if i >= len(spec.Values) {
				break
			}
			switch v := spec.Values[i].(type) {
			case *ast.BasicLit:
				if s, err := strconv.Unquote(v.Value); err == nil && v.Kind == token.STRING {
					text[name.Name] = s
				}
			case *ast.CompositeLit:
				if name.Name == "SupportedEtcdVersion" {
					readMap(v, supported)
				}
			}
		}
		return true
	})
	p := pins{Etcd: text["DefaultEtcdVersion"], CoreDNS: text["CoreDNSVersion"], Pause: text["PauseVersion"]}
	if v, ok := supported[strconv.Itoa(minor)]; ok {
		p.Etcd = v
	}
	for name, v := range map[string]string{"DefaultEtcdVersion": p.Etcd, "CoreDNSVersion": p.CoreDNS, "PauseVersion": p.Pause} {
		if v == "" {
			return pins{}, fmt.Errorf("kubeadm's constants name no %s: this Kubernetes version pins it in another way (%s)", name, constantsFile)
		}
	}
	return p, nil
}

// readMap reads a literal of integer keys and string values, such as
// map[uint8]string{36: "3.6.8-0"}.
func readMap(lit *ast.CompositeLit, into map[string]string) {
	for _, e := range lit.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		k, kok := kv.Key.(*ast.BasicLit)
		v, vok := kv.Value.(*ast.BasicLit)
		if !kok || !vok {
			continue
		}
		if s, err := strconv.Unquote(v.Value); err == nil {
			into[k.Value] = s
		}
	}
}

// The components whose images kubeadm asks for.
const (
	compAPIServer  = "kube-apiserver"
	compController = "kube-controller-manager"
	compScheduler  = "kube-scheduler"
	compProxy      = "kube-proxy"
	compCoreDNS    = "coredns"
	compEtcd       = "etcd"
	compPause      = "pause"
)

// imageRefs are the names of `kubeadm config images list`, by component.
func imageRefs(version string, p pins) map[string]string {
	return map[string]string{
		compAPIServer:  imageRepository + "/kube-apiserver:" + version,
		compController: imageRepository + "/kube-controller-manager:" + version,
		compScheduler:  imageRepository + "/kube-scheduler:" + version,
		compProxy:      imageRepository + "/kube-proxy:" + version,
		compCoreDNS:    imageRepository + "/coredns/coredns:" + p.CoreDNS,
		compEtcd:       imageRepository + "/etcd:" + p.Etcd,
		compPause:      imageRepository + "/pause:" + p.Pause,
	}
}

// component is the component of an image name: the last element of its path.
func component(ref string) string {
	name := ref
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		name = name[i+1:]
	}
	name, _, _ = strings.Cut(name, ":")
	return name
}

// tagOf is what stands after the last colon of an image name.
func tagOf(ref string) string {
	i := strings.LastIndexByte(ref, ':')
	if i < 0 || strings.Contains(ref[i:], "/") {
		return ""
	}
	return ref[i+1:]
}

// parseImageList reads the output of `kubeadm config images list` and returns
// the names by component. Every component must be there.
func parseImageList(out string) (map[string]string, error) {
	refs := map[string]string{}
	for _, line := range strings.Fields(out) {
		if tagOf(line) != "" {
			refs[component(line)] = line
		}
	}
	for _, c := range []string{compAPIServer, compController, compScheduler, compProxy, compCoreDNS, compEtcd, compPause} {
		if refs[c] == "" {
			return nil, fmt.Errorf("kubeadm config images list names no image for %s:\n%s", c, out)
		}
	}
	return refs, nil
}

// etcdModuleVersion is the module version behind an etcd image tag: v3.6.8 for
// 3.6.8-0, where the part after the dash counts builds of the image.
func etcdModuleVersion(tag string) string {
	v, _, _ := strings.Cut(tag, "-")
	return "v" + v
}
