package preflight

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// apis looks for API versions that the target serves no more, or that are to go: in
// manifests, in what clients ask for, and in what stored objects tell of who wrote
// them.
func apis(f *Facts) []Finding {
	target, _ := minor(f.To)
	return slices.Concat(f.inManifests(target), f.inObjects(target), f.inAudit(target), f.inMetrics(target))
}

// inManifests: what the target does not know cannot be applied to it.
func (f *Facts) inManifests(target int) []Finding {
	var out []Finding
	for _, d := range f.Documents {
		l, ok := lifecycleOf(d.GVK)
		if !ok {
			continue
		}
		what := fmt.Sprintf("%s %s %s", d.GVK.GroupVersion(), d.GVK.Kind, d.Name)
		if found, ok := l.finding(target, what, "write"); ok {
			found.Where = []string{place(d.File, d.Line)}
			out = append(out, found)
		}
	}
	return out
}

// place is where a document begins.
func place(file string, line int) string {
	if line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}

// finding is what a lifecycle says about something that is used, for a target.
func (l lifecycle) finding(target int, what, mend string) (Finding, bool) {
	found := Finding{Removed: l.when(), Mend: l.mend(mend), Source: l.source}
	gone, known := l.gone(target)
	switch {
	case !known:
		found.Severity, found.What = Unknown, fmt.Sprintf("%s: whether %s serves it is not known", what, release(target))
	case gone:
		found.Severity, found.What = Blocks, fmt.Sprintf("%s is not served by %s", what, release(target))
	case l.deprecated == 0 || l.deprecated > target:
		return Finding{}, false
	case l.removed == 0:
		found.Severity, found.What = Note, what+" is deprecated"
	default:
		found.Severity, found.What = Warns, what+" is deprecated"
	}
	return found, true
}

// ownComponents are the names by which Kubernetes' own programs write and ask, and
// this one. What they use they are upgraded out of.
func ownComponents() []string {
	return []string{agent, "kube-apiserver", "kube-controller-manager", "kube-scheduler", "cloud-controller-manager", "kubelet", "kube-proxy", "kubeadm"}
}

// inObjects: who applied through a version that goes will be refused the next time.
// Who wrote otherwise may do so no more: that tells the audit log. What was gone
// before this upgrade breaks nothing now. The objects themselves stay, and are served
// in another version.
func (f *Facts) inObjects(target int) []Finding {
	present := f.present()
	var out []Finding
	left := 0
	for _, u := range f.Uses {
		l, ok := lifecycleOf(u.GVK)
		if !ok {
			continue
		}
		what := fmt.Sprintf("%s %s, last applied by kubectl,", u.GVK.GroupVersion(), u.GVK.Kind)
		mend := "apply the manifest again with"
		if u.Manager != "" {
			what = fmt.Sprintf("%s %s, written by field manager %s,", u.GVK.GroupVersion(), u.GVK.Kind, u.Manager)
			mend = "have it write"
		}
		found, ok := l.finding(target, what, mend)
		if !ok {
			continue
		}
		if slices.Contains(ownComponents(), u.Manager) {
			left += u.Count
			continue
		}
		if found.Severity == Blocks {
			switch {
			case l.removed <= present:
				found.Severity = Note
				found.What += ", nor by the present version"
			case u.Manager != "" && !u.Applied:
				found.Severity = Warns
			}
		}
		found.Where, found.More = u.Objects, u.Count-len(u.Objects)
		out = append(out, found)
	}
	if left > 0 {
		out = append(out, Finding{Severity: Note, What: fmt.Sprintf("%s written by Kubernetes' own components through deprecated versions: left out, they are upgraded", plural(left, "object"))})
	}
	return out
}

// present is the minor version of the oldest API server; 0 if it is not known.
func (f *Facts) present() int {
	servers := f.serverVersions()
	if len(servers) == 0 {
		return 0
	}
	oldest, _ := span(servers)
	return oldest
}

// inAudit: a client that asks for what goes will get 404.
func (f *Facts) inAudit(target int) []Finding {
	var out []Finding
	left, before := 0, 0
	for _, a := range f.Audit {
		for _, r := range a.Deprecated {
			program, _, _ := strings.Cut(r.Agent, "/")
			switch {
			case slices.Contains(ownComponents(), program):
				left += r.Count
				continue
			case r.Last.Before(f.Since):
				before += r.Count
				continue
			}
			found := requested(r.Resource, r.Removed, target)
			found.What = fmt.Sprintf("%s by user %s (%s), %s, last %s", found.What, r.User, r.Agent, plural(r.Count, "time"), r.Last.UTC().Format(time.RFC3339))
			found.Where = []string{r.Object, a.Where}
			found.Mend += "; then look again with --since"
			out = append(out, found)
		}
	}
	if left > 0 {
		out = append(out, Finding{Severity: Note, What: fmt.Sprintf("%s by Kubernetes' own components for deprecated versions: left out, they are upgraded", plural(left, "audit-logged request"))})
	}
	if before > 0 {
		out = append(out, Finding{Severity: Note, What: fmt.Sprintf("%s for deprecated versions before %s: left out", plural(before, "audit-logged request"), f.Since.UTC().Format(time.RFC3339))})
	}
	return out
}

// requested is about a deprecated API that somebody asks for.
func requested(r schema.GroupVersionResource, removed string, target int) Finding {
	name := r.GroupVersion().String() + " " + r.Resource
	found := Finding{Severity: Note, What: name + ", deprecated, is asked for", Mend: "move the client to the version that replaces it", Source: goneSource}
	x := ofAnnotation(removed)
	if x == 0 {
		return found
	}
	found.Removed = release(x)
	if found.Severity = Warns; x <= target {
		found.Severity, found.What = Blocks, fmt.Sprintf("%s, which %s does not serve, is asked for", name, release(target))
	}
	return found
}

// inMetrics: the count says neither who nor when, so it tells only what the audit log
// of the same API server does not.
func (f *Facts) inMetrics(target int) []Finding {
	told := map[string]bool{}
	for _, a := range f.Audit {
		for _, r := range a.Deprecated {
			told[a.Node+" "+r.Resource.String()] = true
		}
	}
	var out []Finding
	for _, r := range f.Requested {
		if r.Node != "" && told[r.Node+" "+r.Resource.String()] {
			continue
		}
		found := requested(r.Resource, r.Removed, target)
		found.What += ", by whom and when its metric does not say"
		found.Where = []string{"apiserver_requested_deprecated_apis of " + r.Server}
		found.Mend += "; the count begins anew when the API server restarts"
		out = append(out, found)
	}
	return out
}
