package faults

import (
	"errors"
	"io/fs"
	"testing"
)

func TestParkAnyManifest(t *testing.T) {
	w := newWorld(t)
	n := w.nodes[0]
	ok(t, apiserverManifest.park(t.Context(), n, "run-a"))
	ok(t, apiserverManifest.park(t.Context(), n, "run-a"))
	if _, stands := n.get(apiserverManifest.standing()); stands {
		t.Error("it still stands there")
	}
	if _, stands := n.get(standing); !stands {
		t.Error("etcd's went with it")
	}
	if away, err := apiserverManifest.isParked(t.Context(), n, "run-a"); err != nil || !away {
		t.Errorf("parked: %v, %v", away, err)
	}
	// Another injection on the same node is not touched.
	ok(t, etcdManifest.park(t.Context(), n, "run-b"))
	ok(t, apiserverManifest.unpark(t.Context(), n, "run-a"))
	ok(t, apiserverManifest.unpark(t.Context(), n, "run-a"))
	if text, _ := n.get(apiserverManifest.standing()); text != "x" {
		t.Errorf("put back: %q", text)
	}
	if away, err := etcdManifest.isParked(t.Context(), n, "run-b"); err != nil || !away {
		t.Errorf("the other one: %v, %v", away, err)
	}
	ok(t, etcdManifest.unpark(t.Context(), n, "run-b"))
	if _, err := n.ReadDir(t.Context(), parking); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("our folder is left: %v", err)
	}

	// Without a journal.
	ok(t, apiserverManifest.park(t.Context(), n, "run-c"))
	ok(t, Unpark(t.Context(), n, "run-c"))
	if text, _ := n.get(apiserverManifest.standing()); text != "x" {
		t.Errorf("put back: %q", text)
	}
	n.put(parking+"/run-d/something", "else")
	if err := Unpark(t.Context(), n, "run-d"); err == nil {
		t.Error("a file of which nothing is known was put among the manifests, or removed")
	}
	ok(t, n.RemoveAll(t.Context(), apiserverManifest.standing()))
	if err := apiserverManifest.park(t.Context(), n, "run-e"); err == nil {
		t.Error("nothing was parked, and that is no error")
	}
}
