package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/mod/semver"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"gameday/clusters"
)

// external lets any command upgrade: a managed cluster's CLI, Ansible, a Makefile. What
// it does is seen from the cluster alone: the version of each API server and of each
// kubelet. It may go through the nodes in any order, and several at a time; a node
// keeps its name. Started again, the command must itself find out how far it is.
type external struct {
	// Replaced in tests; nil or 0 means the real ones.
	watch func(clusters.Cluster) (looker, error)
	every time.Duration
	grace time.Duration
}

const (
	// lookEvery is how often the cluster is asked how far it is: one list of nodes and
	// two small requests to each API server. It is the error of what is published.
	lookEvery = time.Second
	// commandGrace is how long the command and all that it started may take to end
	// after SIGTERM, before they are killed.
	commandGrace = 10 * time.Second
	// saidKept is how much of what the command said last goes into an error.
	saidKept = 500
)

// Steps implements Strategy.
func (*external) Steps(places []Place, o Options) []Step {
	var out []Step
	for _, p := range ordered(places, o) {
		s := Step{Phase: PhaseWhole + "/" + p.String(), Place: p.String()}
		if len(out) == 0 {
			s.Commands = []string{shellWords(o.Command) + "  # upgrades all of them, in an order of its own"}
		}
		for _, part := range visible(p.Role) {
			s.Parts = append(s.Parts, s.Phase+"/"+part)
		}
		out = append(out, s)
	}
	return out
}

// visible are the components of a node whose versions the API tells.
func visible(r clusters.Role) []string {
	if r == clusters.ControlPlane {
		return []string{apiServer, kubelet}
	}
	return []string{kubelet}
}

// shellWords can be pasted into a shell.
func shellWords(argv []string) string {
	out := make([]string, len(argv))
	for i, a := range argv {
		out[i] = a
		if a == "" || strings.ContainsAny(a, " \t\n\"'\\$&|;<>()*?[]{}#~`!") {
			out[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(out, " ")
}

// Check implements Checker.
func (*external) Check(_ []Place, o Options) []error {
	if len(o.Command) == 0 || o.Command[0] == "" {
		return []error{fmt.Errorf("%s: is missing: it is what upgrades", OptionCommand)}
	}
	return nil
}

// looker tells how far the cluster is, by node: its kubelets, and its API servers.
type looker interface {
	look(ctx context.Context) (kubelets, servers map[string]sighting, err error)
	close()
}

// outside looks from outside of the nodes.
type outside struct {
	api     *api
	servers map[string]*probes
}

func newOutside(c clusters.Cluster) (looker, error) {
	a, err := openAPI(c)
	if err != nil {
		return nil, err
	}
	o := &outside{api: a, servers: map[string]*probes{}}
	for _, n := range clusters.ByRole(c.Nodes(), clusters.ControlPlane) {
		if o.servers[n.Name()], err = newServerProbe(c, n, a); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func (o *outside) close() {
	for _, p := range o.servers {
		p.close()
	}
}

// look asks all at the same time: one that is down delays no other. An API server that
// does not answer is left out; without an answer about the nodes there is no look.
func (o *outside) look(ctx context.Context) (kubelets, servers map[string]sighting, err error) {
	kubelets, servers = map[string]sighting{}, map[string]sighting{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for name, p := range o.servers {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, probeBound)
			defer cancel()
			if s, err := p.server(ctx); err == nil {
				mu.Lock()
				defer mu.Unlock()
				servers[name] = s
			}
		})
	}
	var list *corev1.NodeList
	err = o.api.once(ctx, func(ctx context.Context, c kubernetes.Interface) (err error) {
		list, err = c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		return err
	})
	all.Wait()
	if err != nil {
		return nil, nil, err
	}
	for i := range list.Items {
		kubelets[list.Items[i].Name] = reportOf(&list.Items[i])
	}
	return kubelets, servers, nil
}

// externalRun is one call of Run.
type externalRun struct {
	env   Env
	look  looker
	steps []*outsideStep
}

// outsideStep is the upgrade of a node as it is seen from outside.
type outsideStep struct {
	path, node string
	open       bool // it has begun, and not ended
	parts      []*outsidePart
}

// outsidePart is a component whose version is watched.
type outsidePart struct {
	name string
	// settled is the version that it was seen to serve well last; open says that
	// another one was seen since.
	settled string
	open    bool
	last    string // what was seen last
}

// settled is the version at which all parts are; empty if there is no such.
func (s *outsideStep) settled() string {
	version := s.parts[0].settled
	for _, p := range s.parts {
		if p.open || p.settled != version {
			return ""
		}
	}
	return version
}

// Run implements Strategy.
func (x *external) Run(ctx context.Context, env Env) (err error) {
	places := Places(env.Cluster.Nodes())
	if err := errors.Join(append(x.Check(places, env.Options), Check(places, env.Options))...); err != nil {
		return err
	}
	open := newOutside
	if x.watch != nil {
		open = x.watch
	}
	r := &externalRun{env: env}
	if r.look, err = open(env.Cluster); err != nil {
		return err
	}
	defer r.look.close()
	kubelets, servers, err := r.look.look(ctx)
	if err != nil {
		return fmt.Errorf("look at the cluster before the command is run: %w", err)
	}
	from, versions := "", map[string]string{}
	for node, s := range kubelets {
		versions[node] = s.version
		if from == "" || semver.Compare(s.version, from) < 0 {
			from = s.version
		}
	}
	if err := r.begin(places, kubelets, servers); err != nil {
		return err
	}
	outcome := Failed
	r.env.publish(Phase{Path: PhaseWhole, State: Began, Seen: "kubelets at " + spread(versions)})
	defer func() {
		seen := "every node seen at " + env.Options.To
		if err != nil {
			seen = oneLine(err)
			r.close(seen)
		}
		r.env.publish(Phase{Path: PhaseWhole, State: Ended, Outcome: outcome, Seen: seen})
	}()
	r.env.publish(Phase{Path: PhasePrepare, State: Began, Seen: "what the command needs is its own affair"})
	r.env.publish(Phase{Path: PhasePrepare, State: Ended, Outcome: Proceeded, Seen: "it is given a kubeconfig"})
	for _, s := range r.steps {
		if s.settled() == env.Options.To {
			seen := Phase{Path: s.path, Node: s.node, State: Began, Seen: s.parts[0].last}
			r.env.publish(seen)
			seen.State, seen.Outcome = Ended, Skipped
			r.env.publish(seen)
		}
	}
	if r.done() {
		outcome = Skipped
		return nil
	}
	if err := x.runAndWatch(ctx, r, from); err != nil {
		return err
	}
	outcome = Proceeded
	return nil
}

// begin notes what there is.
func (r *externalRun) begin(places []Place, kubelets, servers map[string]sighting) error {
	names := map[string]string{}
	for _, n := range r.env.Cluster.Nodes() {
		names[clusters.Place(n)] = n.Name()
	}
	for _, p := range ordered(places, r.env.Options) {
		s := &outsideStep{path: PhaseWhole + "/" + p.String(), node: names[p.String()]}
		for _, name := range visible(p.Role) {
			seen, ok := of(name, s.node, kubelets, servers)
			if !ok {
				return fmt.Errorf("%s of %s (%s) does not answer before the upgrade: %w", name, s.node, p, clusters.ErrNotFound)
			}
			s.parts = append(s.parts, &outsidePart{name: name, settled: seen.version, last: seen.seen})
		}
		r.steps = append(r.steps, s)
	}
	return nil
}

func of(component, node string, kubelets, servers map[string]sighting) (sighting, bool) {
	if component == apiServer {
		s, ok := servers[node]
		return s, ok
	}
	s, ok := kubelets[node]
	return s, ok
}

// done says whether all is at the target.
func (r *externalRun) done() bool { return len(r.missing()) == 0 }

// missing lists what is not, with what was seen of it last.
func (r *externalRun) missing() []string {
	var out []string
	for _, s := range r.steps {
		for _, p := range s.parts {
			if p.open || p.settled != r.env.Options.To {
				out = append(out, s.path+"/"+p.name+": "+p.last)
			}
		}
	}
	return out
}

// runAndWatch runs the command and watches the cluster meanwhile, and after it until
// all is at the target.
func (x *external) runAndWatch(ctx context.Context, r *externalRun, from string) error {
	began := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- x.command(ctx, r, from) }()
	tick := time.NewTicker(orDefault(x.every, lookEvery))
	defer tick.Stop()
	var over <-chan time.Time // the end of the wait after the command
	var last error
	for {
		select {
		case err := <-ended: // it ends soon after ctx does
			if err != nil {
				return err
			}
			r.env.say("upgrade: the command ended well after %s; waiting <= %s until every node is seen at %s", time.Since(began).Round(time.Second), settleBound, r.env.Options.To)
			t := time.NewTimer(settleBound)
			defer t.Stop()
			over, ended = t.C, nil
		case <-over:
			return fmt.Errorf("the command ended well, but within %s not all was seen at %s: %w", settleBound, r.env.Options.To, errOr(last, errors.New(strings.Join(r.missing(), "; "))))
		case <-tick.C:
			if last = r.see(ctx); last == nil && ended == nil && r.done() {
				return nil
			}
			if ended == nil && ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
}

// see takes one look and publishes what is new. Its error says why there is none, or
// that a node is there which is none of the cluster's and not at the target.
func (r *externalRun) see(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callBound)
	defer cancel()
	kubelets, servers, err := r.look.look(ctx)
	if err != nil {
		return err
	}
	at := time.Now()
	known := map[string]bool{}
	for _, s := range r.steps {
		known[s.node] = true
		for _, p := range s.parts {
			seen, ok := of(p.name, s.node, kubelets, servers)
			if !ok {
				p.last = "no answer"
				continue
			}
			r.saw(s, p, seen, at)
		}
	}
	for node, s := range kubelets {
		if !known[node] && len(r.env.Options.Nodes) == 0 && (s.version != r.env.Options.To || !s.well) {
			return fmt.Errorf("node %s, which the command made: %s", node, s.seen)
		}
	}
	return nil
}

// saw publishes what a sighting changes.
func (r *externalRun) saw(s *outsideStep, p *outsidePart, now sighting, at time.Time) {
	p.last = now.seen
	tell := func(path string, state State, o Outcome) {
		r.env.publish(Phase{Path: path, Node: s.node, State: state, Outcome: o, At: at, Seen: now.seen})
	}
	if !p.open && now.version != p.settled {
		if !s.open {
			s.open = true
			tell(s.path, Began, "")
		}
		p.open = true
		tell(s.path+"/"+p.name, Began, "")
	}
	if !p.open || !now.well {
		return
	}
	o := Proceeded
	switch now.version {
	case r.env.Options.To:
	case p.settled:
		o = RolledBack
	default:
		return // on its way by a version in between
	}
	p.open, p.settled = false, now.version
	tell(s.path+"/"+p.name, Ended, o)
	if s.settled() != "" {
		s.open = false
		tell(s.path, Ended, o)
	}
}

// close ends what is under way when nobody looks any more.
func (r *externalRun) close(why string) {
	for _, s := range r.steps {
		for _, p := range s.parts {
			if p.open {
				p.open = false
				r.env.publish(Phase{Path: s.path + "/" + p.name, Node: s.node, State: Ended, Outcome: Failed, Seen: why + "; last seen: " + p.last})
			}
		}
		if s.open {
			s.open = false
			r.env.publish(Phase{Path: s.path, Node: s.node, State: Ended, Outcome: Failed, Seen: why})
		}
	}
}

// command runs the command to its end. If ctx ends first, it and all that it started
// end: its process group is told to, and killed if it does not in time.
func (x *external) command(ctx context.Context, r *externalRun, from string) (err error) {
	dir, err := os.MkdirTemp("", "gameday-external-")
	if err != nil {
		return fmt.Errorf("a place for the kubeconfig: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	conf := filepath.Join(dir, "kubeconfig")
	if err := writeKubeconfig(conf, r.env.Cluster.REST()); err != nil {
		return err
	}
	said := &tail{keep: saidKept}
	out := io.Writer(said)
	if r.env.Output != nil {
		out = &lockedWriter{w: io.MultiWriter(r.env.Output(PhaseWhole), said)}
	}
	argv := r.env.Options.Command
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+conf, "GAMEDAY_FROM="+from, "GAMEDAY_TO="+r.env.Options.To, "GAMEDAY_CLUSTER="+r.env.Cluster.Name())
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// What it leaves running in the background may hold its output open.
	cmd.WaitDelay = commandGrace
	r.env.say("upgrade: running %s", shellWords(argv))
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the command: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("%s: %w: %s", shellWords(argv), err, said)
		}
		return nil
	case <-ctx.Done():
	}
	group := cmd.Process.Pid
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := syscall.Kill(-group, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return errors.Join(context.Cause(ctx), fmt.Errorf("end the command's process group %d: %w", group, err))
		}
		// Also when the command itself has ended: what it started may not have.
		gone := poll(context.WithoutCancel(ctx), orDefault(x.grace, commandGrace), groupEvery, func(context.Context) bool {
			return errors.Is(syscall.Kill(-group, 0), syscall.ESRCH) || !lives(group)
		})
		if gone == nil {
			return fmt.Errorf("%w; the command and all that it started were ended by %v (%w): %s", context.Cause(ctx), sig, errOr(<-ended, errDone), said)
		}
	}
	return fmt.Errorf("%w; the command's process group %d does not end, although it was killed", context.Cause(ctx), group)
}

// lives says whether any process of a group has not ended. One that has, and was not
// waited for by who ought to, is in the group still: state Z, and field 5 of
// /proc/PID/stat is the group; the name before them, in parentheses, may hold anything:
// proc(5).
func lives(group int) bool {
	list, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return true
	}
	for _, f := range list {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it is gone
		}
		s := string(b)
		fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
		if len(fields) > 2 && fields[2] == strconv.Itoa(group) && fields[0] != "Z" && fields[0] != "X" {
			return true
		}
	}
	return false
}

// groupEvery is how often it is looked for.
const groupEvery = 20 * time.Millisecond

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// writeKubeconfig writes the way to the API as kubectl reads it.
func writeKubeconfig(file string, cfg *rest.Config) error {
	c := clientcmdapi.NewConfig()
	const name = "gameday"
	c.Clusters[name] = &clientcmdapi.Cluster{
		Server: cfg.Host, CertificateAuthority: cfg.CAFile, CertificateAuthorityData: cfg.CAData, TLSServerName: cfg.ServerName, InsecureSkipTLSVerify: cfg.Insecure,
	}
	c.AuthInfos[name] = &clientcmdapi.AuthInfo{
		ClientCertificate: cfg.CertFile, ClientCertificateData: cfg.CertData, ClientKey: cfg.KeyFile, ClientKeyData: cfg.KeyData,
		Token: cfg.BearerToken, TokenFile: cfg.BearerTokenFile, Username: cfg.Username, Password: cfg.Password, Exec: cfg.ExecProvider,
	}
	c.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	c.CurrentContext = name
	if err := clientcmd.WriteToFile(*c, file); err != nil { // with mode 0600
		return fmt.Errorf("kubeconfig for the command: %w", err)
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	keep int
	end  []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.end = append(t.end, b...)
	if n := len(t.end); n > t.keep {
		t.end = append([]byte("... "), t.end[n-t.keep:]...)
	}
	return len(b), nil
}

func (t *tail) String() string { return strings.Join(strings.Fields(string(t.end)), " ") }
