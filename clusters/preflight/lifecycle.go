package preflight

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
)

// lifecycle is when Kubernetes deprecates and removes a kind in one API version.
type lifecycle struct {
	// deprecated and removed are minor versions; 0: none is known.
	deprecated, removed int
	// atMost says that it was removed in that version or before it.
	atMost      bool
	replacement string
	source      string
}

// heldMinor is the release of the k8s.io/api module that this is built with, and the
// last whose changes are listed here.
const heldMinor = 37

// The types of k8s.io/api carry their own lifecycle, which API servers keep to:
// k8s.io/apiserver@v0.37.0 pkg/server/deleted_kinds.go.
type (
	deprecates interface {
		APILifecycleDeprecated() (major, minor int)
	}
	removes interface {
		APILifecycleRemoved() (major, minor int)
	}
	replaces interface {
		APILifecycleReplacement() schema.GroupVersionKind
	}
)

// goneSource lists what was removed, release by release.
const goneSource = "https://kubernetes.io/docs/reference/using-api/deprecation-guide/"

// goneGroups are API versions of which k8s.io/api has no types (any more), with the
// release that removed them.
func goneGroups() map[schema.GroupVersion]lifecycle {
	return map[schema.GroupVersion]lifecycle{
		{Group: "apiextensions.k8s.io", Version: "v1beta1"}:        {removed: 22, replacement: "apiextensions.k8s.io/v1", source: goneSource},
		{Group: "apiregistration.k8s.io", Version: "v1beta1"}:      {removed: 22, replacement: "apiregistration.k8s.io/v1", source: goneSource},
		{Group: "autoscaling", Version: "v2beta1"}:                 {removed: 25, replacement: "autoscaling/v2", source: goneSource},
		{Group: "autoscaling", Version: "v2beta2"}:                 {removed: 26, replacement: "autoscaling/v2", source: goneSource},
		{Group: "kubescheduler.config.k8s.io", Version: "v1beta2"}: {removed: 28, replacement: "kubescheduler.config.k8s.io/v1", source: "https://github.com/kubernetes/kubernetes/pull/117649"},
		{Group: "kubescheduler.config.k8s.io", Version: "v1beta3"}: {removed: 29, replacement: "kubescheduler.config.k8s.io/v1", source: "https://github.com/kubernetes/kubernetes/pull/119994"},
		{Group: "kubeadm.k8s.io", Version: "v1beta2"}:              {removed: 27, replacement: "kubeadm.k8s.io/v1beta4", source: "https://github.com/kubernetes/kubernetes/pull/114540"},
		{Group: "kubeadm.k8s.io", Version: "v1beta3"}:              {removed: 37, replacement: "kubeadm.k8s.io/v1beta4 (kubeadm config migrate, up to v1.36)", source: "https://github.com/kubernetes/kubernetes/pull/136016"},
	}
}

// goneKinds are kinds whose API version has others still.
func goneKinds() map[schema.GroupVersionKind]lifecycle {
	return map[schema.GroupVersionKind]lifecycle{
		{Group: "policy", Version: "v1beta1", Kind: "PodSecurityPolicy"}: {
			removed: 25, replacement: "Pod Security Admission", source: goneSource,
		},
	}
}

// lifecycleOf says what is known of a kind; false if it is not Kubernetes' own.
func lifecycleOf(gvk schema.GroupVersionKind) (lifecycle, bool) {
	if l, ok := goneKinds()[gvk]; ok {
		return l, true
	}
	if l, ok := goneGroups()[gvk.GroupVersion()]; ok {
		return l, true
	}
	obj, err := scheme.Scheme.New(gvk)
	if err != nil {
		if !scheme.Scheme.IsGroupRegistered(gvk.Group) || scheme.Scheme.IsVersionRegistered(gvk.GroupVersion()) {
			// Of others, or a kind that the API version never had.
			return lifecycle{}, false
		}
		// A version that the module does not hold (any more).
		return lifecycle{removed: heldMinor, atMost: true, source: fmt.Sprintf("k8s.io/api v0.%d.0 has no %s", heldMinor, gvk.GroupVersion())}, true
	}
	l := lifecycle{source: fmt.Sprintf("k8s.io/api v0.%d.0", heldMinor)}
	if d, ok := obj.(deprecates); ok {
		_, l.deprecated = d.APILifecycleDeprecated()
	}
	if r, ok := obj.(removes); ok {
		_, l.removed = r.APILifecycleRemoved()
	}
	if r, ok := obj.(replaces); ok {
		gvk := r.APILifecycleReplacement()
		l.replacement = gvk.GroupVersion().String() + " " + gvk.Kind
	} else if l.removed != 0 {
		l.replacement = lasting(gvk)
	}
	return l, true
}

// lasting is the version of a kind that has no end, the preferred one first; empty if
// there is none.
func lasting(gvk schema.GroupVersionKind) string {
	for _, gv := range scheme.Scheme.PrioritizedVersionsForGroup(gvk.Group) {
		obj, err := scheme.Scheme.New(gv.WithKind(gvk.Kind))
		if err != nil {
			continue
		}
		if _, ends := obj.(removes); !ends {
			return gv.String() + " " + gvk.Kind
		}
	}
	return ""
}

// gone says whether the target serves it no more. Of a version that the module does
// not hold that is not known for targets before the module's.
func (l lifecycle) gone(target int) (gone, known bool) {
	if l.removed == 0 {
		return false, true
	}
	if l.atMost && target < l.removed {
		return false, false
	}
	return l.removed <= target, true
}

// when is the removal as it is told.
func (l lifecycle) when() string {
	if l.removed == 0 {
		return ""
	}
	if l.atMost {
		return release(l.removed) + " or before"
	}
	return release(l.removed)
}

// mend says what to use instead.
func (l lifecycle) mend(do string) string {
	if l.replacement == "" {
		return do + " the API version that replaces it"
	}
	return do + " " + l.replacement
}

// ofAnnotation is the minor version of a removed-release annotation, 1.X.
func ofAnnotation(release string) int {
	x, err := strconv.Atoi(strings.TrimPrefix(release, "1."))
	if err != nil {
		return 0
	}
	return x
}
