package upgrade

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"gameday/clusters"
)

const (
	// manifestEvery is how often the manifests are read: four small files, not
	// through anything that runs on the node. It bounds the error of "began".
	manifestEvery = 100 * time.Millisecond
	// probeEvery is how often a component that is on its way is asked for its
	// version. It bounds the error of "ended".
	probeEvery = 200 * time.Millisecond
	// probeBound is how long one look may take: a component that is down must
	// not delay the look that sees it come back.
	probeBound = 2 * time.Second
)

// sighting is what was seen of a component: the version that serves, whether it
// serves well, and both in one line.
type sighting struct {
	version string
	well    bool
	seen    string
}

// prober looks at the components of one node. A look changes nothing.
type prober interface {
	probe(ctx context.Context, component string) (sighting, error)
	close()
}

// observer watches one node and feeds what it sees to a tracker. Each component
// is watched by itself, so that one that hangs hides no other.
type observer struct {
	files  clusters.Files
	probes prober
	track  *tracker
	pods   []string // components whose manifests are watched
	probed []string // components that are probed
}

// start watches until ctx ends; the returned function waits until all has
// stopped.
func (o *observer) start(ctx context.Context) (wait func()) {
	var wg sync.WaitGroup
	for _, c := range o.pods {
		wg.Go(func() { o.watchManifest(ctx, c) })
	}
	for _, c := range o.probed {
		wg.Go(func() { o.watchService(ctx, c) })
	}
	return wg.Wait
}

// every calls do now and at each tick until ctx ends.
func every(ctx context.Context, d time.Duration, do func()) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for ctx.Err() == nil {
		do()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (o *observer) watchManifest(ctx context.Context, component string) {
	var last []byte
	every(ctx, manifestEvery, func() {
		b, err := o.files.ReadFile(ctx, manifestPath(component))
		at := time.Now()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, fs.ErrNotExist) {
				o.track.missed(component, fmt.Errorf("read its manifest: %w", err))
			}
			return
		}
		if last != nil && bytes.Equal(b, last) {
			return
		}
		v, err := manifestVersion(component, b)
		if err != nil {
			o.track.missed(component, err)
			return
		}
		last = b
		o.track.manifest(component, v, at)
	})
}

func (o *observer) watchService(ctx context.Context, component string) {
	every(ctx, probeEvery, func() {
		if !o.track.wants(component) {
			return
		}
		bound := probeBound
		if component == kubelet { // several looks in one
			bound = callBound
		}
		pctx, cancel := context.WithTimeout(ctx, bound)
		defer cancel()
		s, err := o.probes.probe(pctx, component)
		if err != nil {
			if ctx.Err() == nil {
				o.track.missed(component, err)
			}
			return
		}
		o.track.probe(component, s, time.Now())
	})
}

// look reads the manifests once, for whoever must know before it goes on.
// Manifests that are not there are left out.
func look(ctx context.Context, f clusters.Files, components []string) (map[string]string, error) {
	out := map[string]string{}
	for _, c := range components {
		b, err := f.ReadFile(ctx, manifestPath(c))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", manifestPath(c), err)
		}
		if out[c], err = manifestVersion(c, b); err != nil {
			return nil, err
		}
	}
	return out, nil
}
