package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"gameday/clusters"
)

// outsideWorld is a world whose versions are files that the command writes: NODE.kubelet
// and NODE.server.
type outsideWorld struct {
	*world
	dir string

	mu    sync.Mutex
	said  strings.Builder
	looks int
}

func newOutsideWorld(t *testing.T, controlPlanes, workers int) *outsideWorld {
	t.Helper()
	w := &outsideWorld{world: newWorld(t, controlPlanes, workers), dir: t.TempDir()}
	for _, n := range w.nodes {
		if n.role == clusters.LoadBalancer {
			continue
		}
		w.put(n.name+".kubelet", from)
		if n.role == clusters.ControlPlane {
			w.put(n.name+".server", from)
		}
	}
	return w
}

func (w *outsideWorld) put(file, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, file), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (*outsideWorld) REST() *rest.Config {
	return &rest.Config{Host: "https://10.0.0.1:6443", TLSClientConfig: rest.TLSClientConfig{CAData: []byte("ca")}, BearerToken: "t"}
}

func (w *outsideWorld) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said.Write(b)
}

func (*outsideWorld) close() {}

func (w *outsideWorld) look(context.Context) (kubelets, servers map[string]sighting, err error) {
	kubelets, servers = map[string]sighting{}, map[string]sighting{}
	list, err := filepath.Glob(filepath.Join(w.dir, "*.*"))
	if err != nil {
		return nil, nil, err
	}
	for _, f := range list {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, nil, err
		}
		v, well := strings.CutSuffix(strings.TrimSpace(string(b)), " not ready")
		s := sighting{version: v, well: !well, seen: "says " + string(b)}
		switch name, kind, _ := strings.Cut(filepath.Base(f), "."); {
		case v == "":
		case kind == "server":
			servers[name] = s
		default:
			kubelets[name] = s
		}
	}
	w.looks++
	tmp := filepath.Join(w.dir, "counted")
	if err := os.WriteFile(tmp, []byte(strconv.Itoa(w.looks)), 0o644); err != nil {
		return nil, nil, err
	}
	return kubelets, servers, os.Rename(tmp, filepath.Join(w.dir, "looks"))
}

// seen is a command of the shell that returns when all before it was seen: one look may
// be under way.
const seen = `seen() { n=$(cat looks); until [ $(cat looks) -ge $((n + 2)) ]; do sleep 0.01; done; }
`

// run runs a script as the upgrade.
func (w *outsideWorld) run(ctx context.Context, script string) error {
	e := w.env(Options{To: to, Command: []string{"sh", "-ec", script, w.dir}})
	e.Cluster = w
	e.Output = func(string) io.Writer { return w }
	x := &external{every: 10 * time.Millisecond, grace: 500 * time.Millisecond, watch: func(clusters.Cluster) (looker, error) { return w, nil }}
	return x.Run(ctx, e)
}

// The script goes on when what it did was seen.
const externalScript = seen + `cd "$0"
echo "v1.37.0 not ready" >x-control-plane0.server; seen
echo v1.37.0 >x-control-plane0.server; seen
echo v1.37.0 >x-worker1.kubelet; seen
echo v1.37.0 >x-worker0.kubelet; seen
echo v1.37.0 >x-control-plane0.kubelet
echo from $GAMEDAY_FROM to $GAMEDAY_TO of $GAMEDAY_CLUSTER
cat "$KUBECONFIG" >conf
`

func TestExternal(t *testing.T) {
	w := newOutsideWorld(t, 1, 2)
	if err := w.run(t.Context(), externalScript); err != nil {
		t.Fatal(err)
	}
	w.wellFormed()
	want := []string{
		"upgrade began", "upgrade/prepare began", "upgrade/prepare ended proceeded",
		"upgrade/control-plane[0] began", "upgrade/control-plane[0]/kube-apiserver began", "upgrade/control-plane[0]/kube-apiserver ended proceeded",
		"upgrade/worker[1] began", "upgrade/worker[1]/kubelet began", "upgrade/worker[1]/kubelet ended proceeded", "upgrade/worker[1] ended proceeded",
		"upgrade/worker[0] began", "upgrade/worker[0]/kubelet began", "upgrade/worker[0]/kubelet ended proceeded", "upgrade/worker[0] ended proceeded",
		"upgrade/control-plane[0]/kubelet began", "upgrade/control-plane[0]/kubelet ended proceeded", "upgrade/control-plane[0] ended proceeded",
		"upgrade ended proceeded",
	}
	if d := cmp.Diff(want, w.lines()); d != "" {
		t.Error(d)
	}
	if got := w.said.String(); got != "from v1.36.1 to v1.37.0 of x\n" {
		t.Errorf("it said %q", got)
	}
	conf, err := clientcmd.LoadFromFile(filepath.Join(w.dir, "conf"))
	if err != nil || conf.Clusters["gameday"].Server != "https://10.0.0.1:6443" || conf.AuthInfos["gameday"].Token != "t" {
		t.Errorf("its kubeconfig: %+v, %v", conf, err)
	}

	// Again: nothing is to be done, and the command is not run.
	w.phases = nil
	if err := w.run(t.Context(), "exit 1"); err != nil {
		t.Fatal(err)
	}
	if l := w.lines(); l[len(l)-1] != "upgrade ended skipped" {
		t.Errorf("got %v", l)
	}
}

func TestExternalFails(t *testing.T) {
	for name, c := range map[string]struct {
		script, want string
		lines        []string
	}{
		"the command fails": {
			seen + `cd "$0"; echo v1.37.0 >x-control-plane0.server; seen; echo no quota left >&2; exit 3`, "exit status 3: no quota left",
			[]string{"upgrade/control-plane[0]/kube-apiserver ended proceeded", "upgrade/control-plane[0] ended failed", "upgrade ended failed"},
		},
		"it goes back": {
			seen + `cd "$0"; echo "v1.37.0 not ready" >x-worker0.kubelet; seen; echo v1.36.1 >x-worker0.kubelet; seen; exit 1`, "exit status 1",
			[]string{"upgrade/worker[0]/kubelet ended rolled back", "upgrade/worker[0] ended rolled back", "upgrade ended failed"},
		},
		"it cannot be started": {"", "not found", []string{"upgrade ended failed"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newOutsideWorld(t, 1, 1)
			if c.script == "" {
				t.Setenv("PATH", t.TempDir())
			}
			err := w.run(t.Context(), c.script)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
			w.wellFormed()
			all := strings.Join(w.lines(), "\n")
			for _, l := range c.lines {
				if !strings.Contains(all, l) {
					t.Errorf("%q is missing in\n%s", l, all)
				}
			}
		})
	}
}

// When the run is aborted, what the command started ends with it.
func TestExternalAborted(t *testing.T) {
	for name, trap := range map[string]string{"it ends when it is told": "", "it does not": "trap '' TERM; "} {
		t.Run(name, func(t *testing.T) {
			w := newOutsideWorld(t, 1, 0)
			ctx, cancel := context.WithCancelCause(t.Context())
			var err error
			var wait sync.WaitGroup
			wait.Go(func() {
				err = w.run(ctx, trap+`cd "$0"; sleep 600 & echo $! >child; mv child pid; echo v1.37.0 >x-control-plane0.server; wait; sleep 600`)
			})
			pid := 0
			for end := time.Now().Add(30 * time.Second); pid == 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				if b, err := os.ReadFile(filepath.Join(w.dir, "pid")); err == nil {
					if pid, err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil {
						t.Error(err)
					}
				}
			}
			if pid == 0 {
				t.Error("the command did not start")
			}
			cancel(errors.New("enough"))
			wait.Wait()
			if err == nil || !strings.Contains(err.Error(), "enough; the command and all that it started were ended by") {
				t.Errorf("got %v", err)
			}
			if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(b), ") Z ") {
				t.Errorf("the child %d of the command is there still: %s", pid, b)
			}
			w.wellFormed()
		})
	}
}

func TestExternalSteps(t *testing.T) {
	o := Options{To: to, Command: []string{"az", "aks", "upgrade", "--name", "my cluster"}}
	var got []string
	for _, s := range new(external).Steps(places(1, 1), o) {
		got = append(got, fmt.Sprintf("%s %v %v", s.Phase, s.Parts, s.Commands))
	}
	want := []string{
		"upgrade/control-plane[0] [upgrade/control-plane[0]/kube-apiserver upgrade/control-plane[0]/kubelet] [az aks upgrade --name 'my cluster'  # upgrades all of them, in an order of its own]",
		"upgrade/worker[0] [upgrade/worker[0]/kubelet] []",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if errs := new(external).Check(nil, Options{}); len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), "command: ") {
		t.Errorf("no command: %v", errs)
	}
}
