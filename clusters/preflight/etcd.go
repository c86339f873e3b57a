package preflight

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// crossing is a minor version of etcd that one of Kubernetes' brings, and what etcd's
// own guides ask of the members before it.
type crossing struct {
	// since is the minor version of Kubernetes whose kubeadm brings the minor version
	// to of etcd: k8s.io/kubernetes cmd/kubeadm/app/constants/constants.go,
	// DefaultEtcdVersion, of v1.33.13 (3.5.24), v1.34.9 (3.6.5), v1.36.4 (3.6.8),
	// v1.37.0 (3.7.0).
	since    int
	from, to string
	least    string
	severity Severity
	why      string
	source   string
}

func crossings() []crossing {
	return []crossing{
		{
			since: 34, from: "v3.5", to: "v3.6", least: "v3.5.26", severity: Blocks,
			why:    "members can be learners again, or removed ones come back",
			source: "https://etcd.io/docs/v3.6/upgrades/upgrade_3_6/ https://etcd.io/blog/2025/zombie_members_upgrade/",
		},
		// No failure is known of this one, and kubeadm v1.36 and before bring older.
		{
			since: 37, from: "v3.6", to: "v3.7", least: "v3.6.11", severity: Warns,
			why:    "etcd does not promise that older ones can be upgraded one by one",
			source: "https://etcd.io/docs/v3.7/upgrades/upgrade_3_7/",
		},
	}
}

// etcd looks at the versions of its members: which are unsafe to start from, and
// which minor version would be skipped.
func etcd(f *Facts) []Finding {
	const source = "https://etcd.io/docs/v3.7/upgrades/upgrading-etcd/"
	target, _ := minor(f.To)
	var out []Finding
	seen := map[string]bool{}
	for _, m := range f.Etcd {
		seen[semver.MajorMinor(m.Version)] = true
	}
	if len(seen) > 1 {
		var where []string
		for _, m := range f.Etcd {
			where = append(where, m.Name+" ("+m.Version+")")
		}
		slices.Sort(where)
		out = append(out, Finding{Severity: Warns, What: "etcd's members differ by a minor version: an upgrade is under way", Where: where, Mend: "end that upgrade before the next", Source: source})
	}
	for _, c := range crossings() {
		if target < c.since {
			continue
		}
		var where []string
		for _, m := range f.Etcd {
			if semver.MajorMinor(m.Version) == c.from && semver.Compare(m.Version, c.least) < 0 {
				where = append(where, m.Name+" ("+m.Version+")")
			}
		}
		if len(where) > 0 {
			slices.Sort(where)
			out = append(out, Finding{
				Severity: c.severity, What: fmt.Sprintf("etcd before %s is no safe start for %s, which %s brings: %s", c.least, c.to, release(c.since), c.why),
				Where: where, Mend: "upgrade etcd to " + strings.TrimPrefix(c.least, "v") + " or later first", Source: c.source,
			})
		}
	}
	return out
}
