package faults

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"gameday/clusters"
)

var apiserverOverload = Kind{
	Name: "apiserver.overload",
	Doc:  "Storms the API server of the targets with lists of a whole resource, by a user of low priority, in bursts that are too many for it.",
	Rehearses: "A controller or an agent on every node that lists everything, all at once: what took OpenAI's control planes " +
		"down on 2024-12-11 (https://status.openai.com/incidents/ctrsv3lwd797). API Priority and Fairness is to queue and " +
		"refuse those and to leave the others alone (https://kubernetes.io/docs/concepts/cluster-administration/flow-control/).",
	Mechanism:   "concurrent GETs of a whole resource from here, as a user with a FlowSchema and a PriorityLevelConfiguration (the smallest share) of its own",
	Undo:        "the requests end with the process, or at maxHold; the guard, or gameday heal, removes the user's rights and its level",
	Roles:       []clusters.Role{clusters.ControlPlane},
	Cost:        Cost{APIServers: 1},
	ProveWithin: 30 * time.Second,
	GoneWithin:  time.Minute,
	Trials:      []Trial{{Name: "overload", Target: Target{Pick: PickOne}}},
	New:         func() Fault { return &Overload{Rate: 60, Concurrency: 20, Resource: "pods"} },
}

const (
	// overloadQueue is how many requests of the storm may wait in the API server;
	// the next one is refused.
	overloadQueue = 5
	// overloadWindow is between two readings of the API server's counters. The
	// requests come in bursts, so that a shorter one would count them unevenly.
	overloadWindow = 2 * time.Second
	// listTime bounds one request of the storm.
	listTime = 10 * time.Second
	// systemLevel is the priority level of nodes, which the storm must not touch:
	// k8s.io/apiserver@v0.37.0 pkg/apis/flowcontrol/bootstrap/default.go.
	systemLevel = "system"
)

// Overload is the fault apiserver.overload.
type Overload struct {
	// Rate is how many requests a second are sent to each target.
	Rate int `yaml:"rate" json:"rate"`
	// Concurrency is how many of them are sent at the same moment, and how many may
	// be under way.
	Concurrency int `yaml:"concurrency" json:"concurrency"`
	// Resource is what is listed, of all namespaces and not from a cache: pods,
	// events, configmaps, endpoints, services, nodes.
	Resource string `yaml:"resource" json:"resource"`

	mu     sync.Mutex
	storms map[string]*storm // by node
}

func overloadResources() []string {
	return []string{"pods", "events", "configmaps", "endpoints", "services", "nodes"}
}

// Validate implements Validator.
func (f *Overload) Validate() []error {
	var errs []error
	// Of a share of 1 the API server makes some 3 seats; with the queue's they must
	// be fewer than the requests of a burst, or nothing is refused.
	if f.Concurrency < 12 || f.Concurrency > 500 {
		errs = append(errs, fmt.Errorf("concurrency: %d is not between 12, which the seats and the queue could hold, and 500", f.Concurrency))
	}
	if f.Rate < f.Concurrency || f.Rate > 2000 {
		errs = append(errs, fmt.Errorf("rate: %d is not between the concurrency, one burst a second, and 2000", f.Rate))
	}
	if !slices.Contains(overloadResources(), f.Resource) {
		errs = append(errs, fmt.Errorf("resource: %q is none of %s", f.Resource, strings.Join(overloadResources(), ", ")))
	}
	return errs
}

// Describe implements Describer.
func (f *Overload) Describe(targets []string) []string {
	return each(targets, fmt.Sprintf("%%s: GET /api/v1/%s as user gameday:TAG, %d at once, %d a second, in priority level gameday-TAG", f.Resource, f.Concurrency, f.Rate))
}

func overloadName(tag string) string { return "gameday-" + tag }
func overloadUser(tag string) string { return "gameday:" + tag }

// Inject makes the level first, so that the storm is never in another one.
func (f *Overload) Inject(ctx context.Context, env Env) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.storms == nil {
		f.storms = map[string]*storm{}
	}
	if err := f.make(ctx, env); err != nil {
		return err
	}
	for _, n := range env.Targets {
		if s := f.storms[n.Name()]; s != nil {
			if s.ctx.Err() != nil {
				return errors.New("the longest time (maxHold) of the storm is over")
			}
			continue
		}
		cfg, err := endpointOf(env.Cluster, n)
		if err != nil {
			return err
		}
		if err := awaitLevel(ctx, cfg, overloadName(env.Tag)); err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
		s, err := newStorm(context.WithoutCancel(ctx), cfg, overloadUser(env.Tag), env.MaxHold)
		if err != nil {
			return err
		}
		f.storms[n.Name()] = s
		go s.blow("/api/v1/"+f.Resource, f.Rate, f.Concurrency)
	}
	return nil
}

// make makes the user's rights and its priority.
func (f *Overload) make(ctx context.Context, env Env) error {
	name := overloadName(env.Tag)
	meta := metav1.ObjectMeta{Name: name, Labels: map[string]string{clusters.LabelRun: labelValue(env.Cluster.Run())}}
	var shares, none int32 = 1, 0
	user := []flowcontrolv1.Subject{{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: overloadUser(env.Tag)}}}
	opts := metav1.CreateOptions{}
	return throughAPI(ctx, env.Cluster, func(ctx context.Context, cli kubernetes.Interface) error {
		fc, rbac := cli.FlowcontrolV1(), cli.RbacV1()
		for _, create := range []func() error{
			func() error {
				_, err := fc.PriorityLevelConfigurations().Create(ctx, &flowcontrolv1.PriorityLevelConfiguration{
					ObjectMeta: meta,
					Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
						Type: flowcontrolv1.PriorityLevelEnablementLimited,
						Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
							NominalConcurrencyShares: &shares, LendablePercent: &none, BorrowingLimitPercent: &none,
							LimitResponse: flowcontrolv1.LimitResponse{
								Type:    flowcontrolv1.LimitResponseTypeQueue,
								Queuing: &flowcontrolv1.QueuingConfiguration{Queues: 1, HandSize: 1, QueueLengthLimit: overloadQueue},
							},
						},
					},
				}, opts)
				return err
			},
			func() error {
				_, err := fc.FlowSchemas().Create(ctx, &flowcontrolv1.FlowSchema{
					ObjectMeta: meta,
					Spec: flowcontrolv1.FlowSchemaSpec{
						PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: name},
						MatchingPrecedence:         5000, // before global-default (9900), which everybody else is in
						Rules: []flowcontrolv1.PolicyRulesWithSubjects{{
							Subjects: user,
							ResourceRules: []flowcontrolv1.ResourcePolicyRule{{
								Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}, ClusterScope: true, Namespaces: []string{"*"},
							}},
						}},
					},
				}, opts)
				return err
			},
			func() error {
				_, err := rbac.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{
					ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{Verbs: []string{"list"}, APIGroups: []string{""}, Resources: []string{f.Resource}}},
				}, opts)
				return err
			},
			func() error {
				_, err := rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
					ObjectMeta: meta,
					RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
					Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: overloadUser(env.Tag)}},
				}, opts)
				return err
			},
		} {
			if err := create(); err != nil && !apierrors.IsAlreadyExists(err) {
				return fmt.Errorf("make %s: %w", name, err)
			}
		}
		return nil
	})
}

// Heal ends the requests and removes what was made for them.
func (f *Overload) Heal(ctx context.Context, env Env) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, s := range f.storms {
		s.stop()
		<-s.done
		delete(f.storms, name)
	}
	name := overloadName(env.Tag)
	opts := metav1.DeleteOptions{}
	return throughAPI(ctx, env.Cluster, func(ctx context.Context, cli kubernetes.Interface) error {
		for _, err := range []error{
			cli.RbacV1().ClusterRoleBindings().Delete(ctx, name, opts),
			cli.RbacV1().ClusterRoles().Delete(ctx, name, opts),
			cli.FlowcontrolV1().FlowSchemas().Delete(ctx, name, opts),
			cli.FlowcontrolV1().PriorityLevelConfigurations().Delete(ctx, name, opts),
		} {
			if err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("remove %s: %w", name, err)
			}
		}
		return nil
	})
}

// Prove reads the API server's own counters of the level, twice.
func (f *Overload) Prove(ctx context.Context, env Env) (Effect, error) {
	name := overloadName(env.Tag)
	var mu sync.Mutex
	slowest := -1.0
	var controls []string
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		cfg, err := endpointOf(env.Cluster, n)
		if err != nil {
			return seen{}, err
		}
		first, known, err := levelOf(ctx, cfg, name)
		if err != nil {
			return seen{}, err
		}
		if !known {
			if err := readyz(ctx, env.Cluster, n); err != nil {
				return seen{evidence: err.Error()}, nil //nolint:nilerr // that is what was seen
			}
			return seen{whole: true, evidence: "knows no priority level " + name + ", /readyz ok"}, nil
		}
		began := time.Now()
		select {
		case <-ctx.Done():
			return seen{}, context.Cause(ctx)
		case <-time.After(overloadWindow):
		}
		second, known, err := levelOf(ctx, cfg, name)
		if err != nil {
			return seen{}, err
		}
		if !known {
			return seen{evidence: "its priority level went away just now"}, nil
		}
		per := time.Since(began).Seconds()
		refused, served := second.rejected-first.rejected, second.dispatched-first.dispatched
		s := seen{
			broken: refused > 0,
			evidence: fmt.Sprintf("in %.1f s %d requests of the storm were refused and %d served, %d wait, %d are being served",
				per, refused, served, second.waiting, second.executing),
		}
		if !s.broken {
			return s, nil
		}
		control, err := answersSystem(ctx, cfg)
		if err != nil {
			s.broken = false
			s.evidence += fmt.Sprintf("; but a request of the level %s is not answered either: %v", systemLevel, err)
		}
		mu.Lock()
		defer mu.Unlock()
		if rate := float64(refused+served) / per; slowest < 0 || rate < slowest {
			slowest = rate
		}
		if err == nil {
			controls = append(controls, clusters.Place(n)+" "+control)
		}
		return s, nil
	})
	if err != nil {
		return e, err
	}
	slices.Sort(controls)
	e.Control = strings.Join(controls, ", ")
	e.Asked, e.Measured, e.Unit = float64(f.Rate), max(slowest, 0), "requests/s"
	e.At = time.Now()
	return e, nil
}

// level is a row of what the API server says of its priority levels.
type level struct {
	waiting, executing, dispatched, rejected int
}

// levelOf reads a level's row; false: the API server does not know it (any more).
func levelOf(ctx context.Context, cfg *rest.Config, name string) (level, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTime)
	defer cancel()
	body, _, err := get(ctx, cfg, "/debug/api_priority_and_fairness/dump_priority_levels")
	if err != nil {
		return level{}, false, fmt.Errorf("priority levels of %s: %w", cfg.Host, err)
	}
	return parseLevel(body, name)
}

// parseLevel reads the dump, which is in rows of values with commas and spaces
// between: k8s.io/apiserver@v0.37.0 pkg/util/flowcontrol/apf_controller_debug.go.
func parseLevel(dump, name string) (level, bool, error) {
	r := csv.NewReader(strings.NewReader(dump))
	r.TrimLeadingSpace = true
	rows, err := r.ReadAll()
	if err != nil || len(rows) == 0 {
		return level{}, false, fmt.Errorf("priority levels in an unknown format: %q: %w", dump, err)
	}
	var l level
	for _, row := range rows[1:] {
		if row[0] != name {
			continue
		}
		for column, to := range map[string]*int{
			"WaitingRequests": &l.waiting, "ExecutingRequests": &l.executing,
			"DispatchedRequests": &l.dispatched, "RejectedRequests": &l.rejected,
		} {
			i := slices.Index(rows[0], column)
			if i < 0 {
				return level{}, false, fmt.Errorf("priority levels without the column %s: %q", column, rows[0])
			}
			if *to, err = strconv.Atoi(strings.TrimSpace(row[i])); err != nil {
				return level{}, false, fmt.Errorf("priority level %s: %s: %w", name, column, err)
			}
		}
		return l, true, nil
	}
	return level{}, false, nil
}

// awaitLevel waits until the API server has seen a new level.
func awaitLevel(ctx context.Context, cfg *rest.Config, name string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, known, err := levelOf(ctx, cfg, name)
		if known {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("it does not know the priority level %s: %w", name, context.Cause(ctx)), err)
		case <-tick.C:
		}
	}
}

// answersSystem sends a request as a node would, whose level the storm is not in.
// The API server says in its answer which level it was in.
func answersSystem(ctx context.Context, cfg *rest.Config) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTime)
	defer cancel()
	cli, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return "", err
	}
	want, err := cli.FlowcontrolV1().PriorityLevelConfigurations().Get(ctx, systemLevel, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	node := rest.CopyConfig(cfg)
	node.Impersonate = rest.ImpersonationConfig{UserName: "system:node:gameday", Groups: []string{"system:nodes", "system:authenticated"}}
	ctx, stop := context.WithTimeout(ctx, askTime)
	defer stop()
	began := time.Now()
	_, header, err := get(ctx, node, "/version")
	if err != nil {
		return "", err
	}
	took := time.Since(began)
	if got := header.Get(flowcontrolv1.ResponseHeaderMatchedPriorityLevelConfigurationUID); got != string(want.UID) {
		return "", fmt.Errorf("it was in the level %q, and not in %s (%s)", got, systemLevel, want.UID)
	}
	return fmt.Sprintf("answers a request of the level %s in %d ms", systemLevel, took.Milliseconds()), nil
}

// get reads a path of an API server.
func get(ctx context.Context, cfg *rest.Config, path string) (string, http.Header, error) {
	t, err := rest.TransportFor(cfg)
	if err != nil {
		return "", nil, fmt.Errorf("credentials for %s: %w", cfg.Host, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, cfg.Host+path, nil)
	if err != nil {
		return "", nil, err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return "", nil, err
	}
	b, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return "", nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return "", nil, fmt.Errorf("%s: %s: %.200s", path, resp.Status, b)
	}
	return string(b), resp.Header, nil
}

// storm sends requests until it is stopped, or its time is over.
type storm struct {
	host string
	via  http.RoundTripper
	own  *http.Transport
	ctx  context.Context
	stop context.CancelFunc
	done chan struct{}
}

// newStorm has a connection of its own, so that nobody else waits behind it.
func newStorm(ctx context.Context, cfg *rest.Config, user string, longest time.Duration) (*storm, error) {
	as := rest.CopyConfig(cfg)
	as.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
	tls, err := rest.TLSConfigFor(as)
	if err != nil {
		return nil, fmt.Errorf("credentials for %s: %w", cfg.Host, err)
	}
	own := &http.Transport{TLSClientConfig: tls, ForceAttemptHTTP2: true, MaxConnsPerHost: 1}
	via, err := rest.HTTPWrappersForConfig(as, own)
	if err != nil {
		return nil, fmt.Errorf("credentials for %s: %w", cfg.Host, err)
	}
	s := &storm{host: cfg.Host, via: via, own: own, done: make(chan struct{})}
	s.ctx, s.stop = context.WithTimeout(ctx, longest)
	return s, nil
}

// blow sends a burst each interval. What is still under way counts towards the next.
func (s *storm) blow(path string, rate, concurrency int) {
	defer close(s.done)
	defer s.own.CloseIdleConnections()
	var all sync.WaitGroup
	defer all.Wait()
	free := make(chan struct{}, concurrency)
	tick := time.NewTicker(time.Duration(concurrency) * time.Second / time.Duration(rate))
	defer tick.Stop()
	for s.ctx.Err() == nil {
		for range concurrency {
			select {
			case free <- struct{}{}:
				all.Go(func() {
					s.list(path)
					<-free
				})
			default:
			}
		}
		select {
		case <-s.ctx.Done():
		case <-tick.C:
		}
	}
}

// list sends one request. What comes of it, if anything, is for the API server's
// own counters to say.
func (s *storm) list(path string) {
	ctx, cancel := context.WithTimeout(s.ctx, listTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.host+path, nil)
	if err != nil {
		return
	}
	resp, err := s.via.RoundTrip(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return
	}
}
