package kind

import (
	"archive/tar"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/clusters"
)

// box is a container as `docker inspect` shows it.
func box(name, cluster, role string, ours bool) container {
	var c container
	c.ID, c.Name = "id-"+name, "/"+name
	c.Created = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c.Config.Labels = map[string]string{kindCluster: cluster, kindRole: role}
	if ours {
		for k, v := range ourLabels(cluster) {
			c.Config.Labels[k] = v
		}
	}
	return c
}

func ourLabels(cluster string) map[string]string {
	return map[string]string{
		clusters.LabelRun: "r1", clusters.LabelProvider: providerName,
		labelCluster: cluster, labelKubernetes: "v1.36.1",
	}
}

func TestFound(t *testing.T) {
	early := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	building := box("x", "", "", true) // the container that a mark is made from
	delete(building.Config.Labels, kindCluster)
	got := found(
		[]container{box("b-control-plane", "b", "control-plane", true), box("b-worker", "b", "worker", true), building},
		[]mark{{labels: ourLabels("b"), created: early}, {labels: ourLabels("a"), created: early}},
	)
	// The container that a mark is made from counts for nothing.
	want := []clusters.Found{
		{Name: "a", Run: "r1", Provider: "kind", Version: "v1.36.1", Created: early},
		{Name: "b", Run: "r1", Provider: "kind", Version: "v1.36.1", Created: early, Nodes: 2},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := found(nil, nil); len(got) != 0 {
		t.Errorf("out of nothing: %v", got)
	}
}

func TestRemains(t *testing.T) {
	names := func(cs []container) (out []string) {
		for _, c := range cs {
			out = append(out, c.name())
		}
		return out
	}
	lb := box("a-external-load-balancer", "a", "external-load-balancer", false)
	node := box("a-control-plane", "a", "control-plane", true)
	foreign := box("a-worker", "a", "worker", false)
	for _, c := range []struct {
		name        string
		r           remains
		ours, empty bool
		mine        []string
	}{
		{name: "nothing", r: remains{name: "a"}, empty: true},
		{name: "a cluster of ours", r: remains{name: "a", containers: []container{node, lb}}, ours: true, mine: []string{"a-control-plane", "a-external-load-balancer"}},
		{name: "somebody else's", r: remains{name: "a", containers: []container{foreign, lb}}},
		{name: "a mark alone", r: remains{name: "a", marks: []mark{{labels: ourLabels("a")}}}, ours: true},
		{name: "killed before the first node", r: remains{name: "a", containers: []container{lb}, marks: []mark{{labels: ourLabels("a")}}}, ours: true, mine: []string{"a-external-load-balancer"}},
		{name: "mixed", r: remains{name: "a", containers: []container{foreign, lb, node}}, ours: true, mine: []string{"a-control-plane"}},
	} {
		if c.r.ours() != c.ours || c.r.empty() != c.empty {
			t.Errorf("%s: ours %v, empty %v", c.name, c.r.ours(), c.r.empty())
		}
		if diff := cmp.Diff(c.mine, names(c.r.mine())); diff != "" {
			t.Errorf("%s: mine (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestParseMarks(t *testing.T) {
	got, err := parseMarks([]byte(`[
	 {"Id":"sha256:1","RepoTags":["other:1","gameday.local/kind/a:node"],"Config":{"Labels":{"gameday.run":"r1","gameday.provider":"kind","gameday.cluster":"a"}}},
	 {"Id":"sha256:2","RepoTags":null,"Config":{"Labels":{"gameday.provider":"kind","gameday.cluster":"b"}}},
	 {"Id":"sha256:3","Config":{"Labels":{"gameday.provider":"kind"}}},
	 {"Id":"sha256:4","Config":{"Labels":null}}]`))
	if err != nil {
		t.Fatal(err)
	}
	var ids, tags []string
	for _, m := range got {
		ids, tags = append(ids, m.image), append(tags, m.tag)
	}
	if diff := cmp.Diff([]string{"sha256:1", "sha256:2"}, ids); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"gameday.local/kind/a:node", ""}, tags); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestNodeFiles(t *testing.T) {
	r, err := nodeFiles()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if diff := cmp.Diff([]string{"etc/gameday/", "etc/gameday/audit-policy.yaml"}, names); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
