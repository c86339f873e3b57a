package preflight

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// skewSource is the policy that the numbers here are from.
const skewSource = "https://kubernetes.io/releases/version-skew-policy/"

const (
	// nodeSkew is how many minor versions a kubelet or kube-proxy may be behind an
	// API server, and a kube-proxy before or behind its kubelet.
	nodeSkew = 3
	// managerSkew is how many minor versions controller managers and schedulers may
	// be behind the API server they talk to.
	managerSkew = 1
	// serverSkew is how many minor versions API servers may be apart.
	serverSkew = 1
)

// skew looks at the versions of all components, as they are and at each hop to the
// target: an API server goes up by one minor version at a time.
func skew(f *Facts) []Finding {
	target, _ := minor(f.To)
	servers := f.serverVersions()
	if len(servers) == 0 {
		return nil // that they could not be read is told already
	}
	oldest, newest := span(servers)
	var out []Finding
	add := func(s Severity, where []string, mend, what string, args ...any) {
		out = append(out, Finding{Severity: s, What: fmt.Sprintf(what, args...), Where: where, Mend: mend, Source: skewSource})
	}
	for _, v := range servers {
		if semver.Compare(v.version, f.To) > 0 {
			add(Blocks, []string{v.where}, "choose a target that is not older", "an API server runs %s, newer than the target %s", v.version, f.To)
		}
	}
	switch {
	case newest-oldest > serverSkew:
		add(Blocks, places(servers), "upgrade the oldest first", "API servers run %s to %s, more than one minor version apart", release(oldest), release(newest))
	case newest > oldest:
		add(Warns, places(servers), "end that upgrade before the next", "API servers run both %s and %s: an upgrade is under way", release(oldest), release(newest))
	}
	out = append(out, f.path(oldest, target)...)
	var proxies, managers []versioned
	for _, c := range f.Components {
		v := versioned{c.Version, c.Pod, c.Node}
		switch c.Name {
		case "kube-proxy":
			proxies = append(proxies, v)
		case "kube-controller-manager", "kube-scheduler", "cloud-controller-manager":
			managers = append(managers, v)
		}
	}
	var kubelets []versioned
	for _, n := range f.Nodes {
		kubelets = append(kubelets, versioned{n.Kubelet, n.Name, n.Name})
	}
	out = append(out, behind("kubelet", kubelets, oldest, newest, target, nodeSkew)...)
	out = append(out, behind("kube-proxy", proxies, oldest, newest, target, nodeSkew)...)
	out = append(out, apart(proxies, f.Nodes)...)
	if len(proxies) == 0 && len(f.Pods) > 0 {
		add(Note, nil, "", "no pod of kube-system is kube-proxy: its version was not looked at")
	}
	out = append(out, f.behindOwn(managers, oldest, newest, target)...)
	if x, ok := minor(f.Kubeadm); ok && x != oldest {
		add(Warns, []string{"ConfigMap kube-system/kubeadm-config"}, "kubeadm upgrade apply to the version that runs, or mend kubernetesVersion", "kubeadm's own record says %s, the API servers run %s", f.Kubeadm, release(oldest))
	}
	return out
}

// versioned is something with a version.
type versioned struct{ version, where, node string }

func (v versioned) minor() int {
	x, _ := minor(v.version)
	return x
}

// serverVersions are the versions of all API servers, by their answers and by their
// pods: of those behind a load balancer only one answers.
func (f *Facts) serverVersions() []versioned {
	var out []versioned
	for _, s := range f.Servers {
		out = append(out, versioned{s.Version, s.Name, s.Node})
	}
	for _, c := range f.Components {
		if c.Name == "kube-apiserver" && !slices.ContainsFunc(out, func(v versioned) bool { return v.node == c.Node }) {
			out = append(out, versioned{c.Version, c.Pod, c.Node})
		}
	}
	return out
}

func span(list []versioned) (oldest, newest int) {
	oldest = list[0].minor()
	for _, v := range list {
		oldest, newest = min(oldest, v.minor()), max(newest, v.minor())
	}
	return oldest, newest
}

func places(list []versioned) []string {
	var out []string
	for _, v := range list {
		out = append(out, fmt.Sprintf("%s (%s)", v.where, v.version))
	}
	slices.Sort(out)
	return out
}

// path says which hops lead to the target.
func (f *Facts) path(oldest, target int) []Finding {
	var hops []string
	for x := oldest + 1; x <= target; x++ {
		hops = append(hops, release(x))
	}
	switch {
	case len(hops) > 1:
		return []Finding{{
			Severity: Warns, What: fmt.Sprintf("the target is %d minor versions away, and one is gone at a time: %s, then %s", len(hops), release(oldest), strings.Join(hops, ", then ")),
			Mend: "upgrade to each in turn with the kubeadm of that version, and look again before each", Source: skewSource,
		}}
	case len(hops) == 1:
		return []Finding{{Severity: Note, What: fmt.Sprintf("one hop: %s to %s", release(oldest), hops[0]), Source: skewSource}}
	}
	return []Finding{{Severity: Note, What: "no hop: the API servers run " + release(oldest) + " already"}}
}

// behind looks at what may be some minor versions behind all API servers, and never
// newer than one.
func behind(name string, list []versioned, oldest, newest, target, most int) []Finding {
	by := map[string][]versioned{} // by what is wrong
	mends := map[string]Finding{}
	tell := func(v versioned, s Severity, mend, what string, args ...any) {
		text := fmt.Sprintf(what, args...)
		by[text] = append(by[text], v)
		mends[text] = Finding{Severity: s, Mend: mend}
	}
	for _, v := range list {
		x := v.minor()
		first := x + most + 1 // the first version of an API server that it is too old for
		switch {
		case x > oldest:
			tell(v, Blocks, "upgrade the API servers first", "%s %s is newer than an API server (%s)", name, release(x), release(oldest))
		case newest-x > most:
			tell(v, Blocks, fmt.Sprintf("upgrade it to %s at least", release(newest-most)), "%s %s is more than %d minor versions behind an API server (%s)", name, release(x), most, release(newest))
		case first <= target && first == oldest+1:
			tell(v, Blocks, fmt.Sprintf("upgrade it to %s at least before the API servers", release(first-most)), "%s %s would be more than %d minor versions behind %s", name, release(x), most, release(first))
		case first <= target:
			tell(v, Warns, fmt.Sprintf("upgrade it to %s at least before the hop to %s", release(first-most), release(first)), "%s %s would be more than %d minor versions behind from the hop to %s on", name, release(x), most, release(first))
		}
	}
	var out []Finding
	for what, vs := range by {
		f := mends[what]
		f.What, f.Where, f.Source = what, places(vs), skewSource
		out = append(out, f)
	}
	return out
}

// apart looks at each kube-proxy beside the kubelet of its node.
func apart(proxies []versioned, nodes []Node) []Finding {
	var out []Finding
	for _, p := range proxies {
		for _, n := range nodes {
			k, ok := minor(n.Kubelet)
			if !ok || n.Name != p.node {
				continue
			}
			if d := k - p.minor(); d > nodeSkew || d < -nodeSkew {
				out = append(out, Finding{
					Severity: Blocks, What: fmt.Sprintf("kube-proxy %s and kubelet %s are more than %d minor versions apart", p.version, n.Kubelet, nodeSkew),
					Where: []string{n.Name}, Mend: "upgrade the older", Source: skewSource,
				})
			}
		}
	}
	return out
}

// behindOwn looks at controller managers and schedulers. With kubeadm each talks to
// the API server of its own node; where that is not known, to any.
func (f *Facts) behindOwn(managers []versioned, oldest, newest, target int) []Finding {
	var out []Finding
	for _, m := range managers {
		from, to := oldest, newest
		for _, s := range f.serverVersions() {
			if s.node == m.node && s.node != "" {
				from, to = s.minor(), s.minor()
			}
		}
		name := m.where
		out = append(out, behind(name, []versioned{m}, from, to, min(target, from+1), managerSkew)...)
	}
	return out
}
