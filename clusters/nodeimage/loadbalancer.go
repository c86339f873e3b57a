package nodeimage

import (
	"archive/tar"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"gameday/clusters/gobuild"
)

// loadBalancerImage is what kind gives to `docker run` for the load balancer of
// a cluster with several control planes; it cannot be configured
// (sigs.k8s.io/kind@v0.33.0 pkg/cluster/internal/loadbalancer/const.go).
const loadBalancerImage = "docker.io/envoyproxy/envoy:v1.36.2"

// labelLoadBalancer is on the stand-in, and tells it from the real Envoy.
const labelLoadBalancer = "gameday.load-balancer"

// envoySource is the program that takes Envoy's place in front of haproxy.
//
//go:embed envoy/*.go
var envoySource embed.FS

// EnsureLoadBalancer makes sure that the image of kind's load balancer is in
// Docker and returns its name. It is Envoy's own image where that is there or can
// be pulled. Else an image of that very name is made, with Debian's haproxy and a
// program called envoy that turns the configuration which kind writes for Envoy
// into haproxy's; it has the label gameday.load-balancer=haproxy. Delete that
// image to have the real one pulled.
//
// The two differ under faults: haproxy tries the next API server when one refuses
// a connection, where Envoy fails the client's; and with more than half of the
// API servers down Envoy goes on sending to the dead ones (its panic threshold).
// Samples through the load balancer show that; those of each API server do not.
func EnsureLoadBalancer(ctx context.Context, log Log) (ref string, err error) {
	ref = loadBalancerImage
	src, err := fs.Sub(envoySource, "envoy")
	if err != nil {
		return "", err
	}
	program, err := gobuild.Key(src)
	if err != nil {
		return "", fmt.Errorf("reading the source of the load balancer: %w", err)
	}
	have, ok, err := inspect(ctx, ref)
	if err != nil {
		return "", err
	}
	key, err := contentKey(lbFormat, rootFormat, program, debianSuite, lbFiles)
	if err != nil {
		return "", err
	}
	if ok && (have.Config.Labels[labelLoadBalancer] == "" || have.Config.Labels[LabelKey] == key) {
		return ref, nil
	}
	if !ok {
		log("asking the registry for %s (at most %s to its first answer)", ref, pullFirst)
		switch err := pull(ctx, ref); {
		case err == nil:
			return ref, nil
		case errors.Is(err, errNotPulled):
			log("no load balancer image from a registry, building it: %v", err)
		default:
			return "", err
		}
	}
	store, unlock, err := openStore(ctx, log)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := buildLoadBalancer(ctx, store, src, ref, key, log); err != nil {
		return "", fmt.Errorf("building the load balancer image: %w", err)
	}
	if ok {
		// The one before; a running cluster may still use it.
		if _, err := docker(ctx, nil, "image", "rm", have.ID); err != nil {
			log("the load balancer image of before stays: %v", err)
		}
	}
	return ref, nil
}

func buildLoadBalancer(ctx context.Context, s store, src fs.FS, ref, key string, log Log) error {
	if err := requireHost(ctx, log); err != nil {
		return err
	}
	envoy, err := gobuild.Binary(ctx, "envoy", src)
	if err != nil {
		return err
	}
	tc, err := findToolchain(ctx, s.work)
	if err != nil {
		return err
	}
	kind, err := tc.download(ctx, "sigs.k8s.io/kind", kindVersion)
	if err != nil {
		return err
	}
	root, err := builder{store: s, log: log, tc: tc}.root(ctx, kind.Dir)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	go func() {
		tw := tar.NewWriter(w)
		err := errors.Join(copyTar(tw, filepath.Join(root, lbTar)),
			tarDir(tw, "usr/local", 0o755), tarDir(tw, "usr/local/bin", 0o755),
			tarFile(tw, envoy, "usr/local/bin/envoy", 0o755))
		w.CloseWithError(errors.Join(err, tw.Close()))
	}()
	_, err = docker(ctx, r, "import", "--change", "ENV "+imageEnv[0], "--change",
		"LABEL "+LabelCache+"=true "+LabelKey+"="+key+" "+labelLoadBalancer+"=haproxy", "-", ref)
	return errors.Join(err, r.Close())
}
