package preflight

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
)

// named is how many objects of a use are named; the others are counted.
const named = 20

// listed is a resource whose objects are looked at.
type listed struct {
	schema.GroupVersionResource
	kind string
}

// objects reads who wrote each object, and through which API version. The API gives
// the metadata alone, so that no content (of Secrets) is read. Events are left out:
// nobody keeps them.
func (c *collector) objects(ctx context.Context) {
	cli, err := metadata.NewForConfig(c.src.Config)
	if err != nil {
		c.unread("apis", "objects", err, "")
		return
	}
	lists, err := discovery.ServerPreferredResourcesWithContext(ctx, c.kube.Discovery())
	if err != nil {
		// Some groups, if an extension server is away: the others are known.
		c.unread("apis", "the resources of some API groups", err, "bring their extension servers to health")
	}
	var resources []listed
	for _, l := range lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			c.unread("apis", "the resources of an API group", err, "", l.GroupVersion)
			continue
		}
		for _, r := range l.APIResources {
			if !slices.Contains(r.Verbs, "list") || strings.Contains(r.Name, "/") || r.Name == "events" || deprecatedForGood(gv.WithKind(r.Kind)) {
				continue
			}
			resources = append(resources, listed{gv.WithResource(r.Name), r.Kind})
		}
	}
	uses := &usage{at: map[useKey]*Use{}}
	var g errgroup.Group
	g.SetLimit(together)
	for _, r := range resources {
		g.Go(func() error {
			count, err := c.list(ctx, cli, r, uses)
			switch {
			case apierrors.IsMethodNotSupported(err) || apierrors.IsNotFound(err):
				return nil // such as ComponentStatus, or one that has just gone
			case err != nil:
				c.unread("apis", "objects", err, "", r.GroupVersionResource.GroupResource().String())
			}
			c.with(func(f *Facts) {
				f.Resources++
				f.Objects += count
			})
			return nil
		})
	}
	err = g.Wait() // each tells of itself
	c.with(func(f *Facts) {
		for _, u := range uses.at {
			slices.Sort(u.Objects)
			f.Uses = append(f.Uses, *u)
		}
	})
	if err == nil && len(resources) == 0 {
		c.unread("apis", "objects", errors.New("the API names no resources"), "")
	}
}

// deprecatedForGood says that a kind is deprecated, stays, and has no other version
// (Endpoints, ComponentStatus): nothing can be found in its objects, and to ask for
// them would be counted as a use.
func deprecatedForGood(gvk schema.GroupVersionKind) bool {
	l, ok := lifecycleOf(gvk)
	return ok && l.deprecated != 0 && l.removed == 0
}

func (c *collector) list(ctx context.Context, cli metadata.Interface, r listed, uses *usage) (int, error) {
	count := 0
	err := pages(func(o metav1.ListOptions) (string, error) {
		list, err := cli.Resource(r.GroupVersionResource).List(ctx, o)
		if err != nil {
			return "", err
		}
		count += len(list.Items)
		c.mu.Lock() // uses are the facts' too
		defer c.mu.Unlock()
		for _, o := range list.Items {
			uses.add(r.kind, o.ObjectMeta)
		}
		return list.Continue, nil
	})
	return count, err
}

type useKey struct {
	gvk     schema.GroupVersionKind
	manager string
	applied bool
}

// usage gathers the uses of all objects.
type usage struct{ at map[useKey]*Use }

func (u *usage) add(kind string, o metav1.ObjectMeta) {
	name := kind + " " + strings.TrimPrefix(o.Namespace+"/"+o.Name, "/")
	// One manager may have several entries, for status too: it is one use.
	seen := map[useKey]bool{}
	use := func(k useKey, at time.Time) {
		if seen[k] {
			return
		}
		seen[k] = true
		one, ok := u.at[k]
		if !ok {
			one = &Use{GVK: k.gvk, Manager: k.manager, Applied: k.applied}
			u.at[k] = one
		}
		if one.Count++; len(one.Objects) < named {
			one.Objects = append(one.Objects, name)
		}
		if at.After(one.Last) {
			one.Last = at
		}
	}
	for _, m := range o.ManagedFields {
		at := time.Time{}
		if m.Time != nil {
			at = m.Time.Time
		}
		use(useKey{schema.FromAPIVersionAndKind(m.APIVersion, kind), m.Manager, m.Operation == metav1.ManagedFieldsOperationApply}, at)
	}
	var applied metav1.TypeMeta
	text, ok := o.Annotations[corev1.LastAppliedConfigAnnotation]
	if !ok {
		return
	}
	// Only what kubectl wrote there has a meaning.
	if err := json.Unmarshal([]byte(text), &applied); err == nil && applied.APIVersion != "" {
		use(useKey{gvk: schema.FromAPIVersionAndKind(applied.APIVersion, applied.Kind)}, time.Time{})
	}
}

// definitions reads all CustomResourceDefinitions.
func (c *collector) definitions(ctx context.Context) {
	type list struct {
		Metadata metav1.ListMeta `json:"metadata"`
		Items    []struct {
			Metadata metav1.ObjectMeta `json:"metadata"`
			Spec     struct {
				Group    string `json:"group"`
				Versions []struct {
					Name    string `json:"name"`
					Served  bool   `json:"served"`
					Storage bool   `json:"storage"`
				} `json:"versions"`
			} `json:"spec"`
			Status struct {
				StoredVersions []string `json:"storedVersions"`
			} `json:"status"`
		} `json:"items"`
	}
	err := pages(func(o metav1.ListOptions) (string, error) {
		data, err := c.kube.Discovery().RESTClient().Get().AbsPath("/apis/apiextensions.k8s.io/v1/customresourcedefinitions").
			Param("limit", "100").Param("continue", o.Continue).DoRaw(ctx)
		if err != nil {
			return "", err
		}
		var l list
		if err := json.Unmarshal(data, &l); err != nil {
			return "", err
		}
		for _, i := range l.Items {
			d := Definition{Name: i.Metadata.Name, Group: i.Spec.Group, Stored: i.Status.StoredVersions}
			for _, v := range i.Spec.Versions {
				if v.Served {
					d.Served = append(d.Served, v.Name)
				}
				if v.Storage {
					d.Storage = v.Name
				}
			}
			c.with(func(f *Facts) { f.Definitions = append(f.Definitions, d) })
		}
		return l.Metadata.Continue, nil
	})
	if err != nil {
		c.unread("storage", "custom resource definitions", err, "")
	}
}
