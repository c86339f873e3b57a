package scenarios

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones must not depend on this machine

	"github.com/robfig/cron/v3"
	"golang.org/x/mod/semver"
	"k8s.io/apimachinery/pkg/util/validation"

	"gameday/clusters"
	"gameday/clusters/upgrade"
	"gameday/faults"
)

// The bounds of what one scenario may ask of a machine.
const (
	maxControlPlanes = 7 // etcd's own advice: https://etcd.io/docs/v3.6/faq/
	maxWorkers       = 20
	maxCount         = 1000
	maxFaults        = 100
	maxTime          = 24 * time.Hour
	maxHold          = time.Hour
	maxSteady        = 9 * time.Minute // samples are counted for 10 min (harness/sample)
)

var (
	nameForm  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)
	placeForm = regexp.MustCompile(`^(control-plane|worker|load-balancer)\[(0|[1-9][0-9]{0,3})\]$`)
)

// The valid words of the fields that have a fixed list, also for the schema.
func policies() []string { return []string{"Allow", "Forbid", "Replace"} }
func drains() []string {
	return []string{string(upgrade.DrainNone), string(upgrade.DrainWorkers), string(upgrade.DrainAll)}
}
func exceeded() []string {
	return []string{string(upgrade.ExceededBlock), string(upgrade.ExceededRemove)}
}
func outcomes() []string { return []string{ExpectProceed, ExpectBlocked, ExpectRollBack} }
func allows() []string   { return []string{AllowEtcdQuorumLoss, AllowAllAPIServersDown} }

// check looks at what was decoded and fills in the defaults that depend on
// other fields.
type check struct {
	*decoder
	s     *Scenario
	known Known
	// phases that windows can be bound to; nil if they cannot be known because
	// something else is wrong.
	phases []string
}

func (c *check) scenario() {
	s := c.s
	c.oneOf("apiVersion", s.APIVersion, APIVersion)
	c.oneOf("kind", s.Kind, Kind)
	if c.required("name", s.Name) && !nameForm.MatchString(s.Name) {
		c.wrong("name", "use lower case letters, digits and dashes, at most 40", "%q cannot be a name", s.Name)
	}
	c.required("description", s.Description)
	if s.Description != strings.TrimSpace(s.Description) {
		s.Description = strings.TrimSpace(s.Description)
	}
	c.cluster()
	c.workload()
	c.upgrade()
	c.faults()
	c.random()
	for i, a := range s.Allow {
		path := fmt.Sprintf("allow[%d]", i)
		c.oneOf(path, a, allows()...)
		if slices.Contains(s.Allow[:i], a) {
			c.wrong(path, "remove one", "%q is given twice", a)
		}
	}
	c.within("maxUnavailable", s.MaxUnavailable, 0, maxControlPlanes+maxWorkers)
	if len(s.SLOs) == 0 {
		c.wrong("slos", "gameday list slos shows them", "at least one SLO must be judged")
	}
	for i, a := range s.SLOs {
		for _, b := range s.SLOs[:i] {
			if a.Name == b.Name && a.Name != "" {
				c.wrong(fmt.Sprintf("slos[%d]", i), "remove one", "%q is given twice, first in line %d", a.Name, b.Line)
			}
		}
		if f, ok := a.With.(Fitter); ok {
			for _, err := range f.Fits(c.shape()) {
				c.wrong(join(fmt.Sprintf("slos[%d]", i), a.Name), "", "%v", err)
			}
		}
	}
	c.lasts("steady", s.Steady, maxSteady)
	c.lasts("converge", s.Converge, maxTime)
}

// shape is what promises must fit.
func (c *check) shape() Shape {
	out := Shape{ControlPlanes: c.s.Cluster.ControlPlanes, Phases: c.phases}
	for _, f := range c.s.Faults {
		out.Faults = append(out.Faults, f.ID)
	}
	return out
}

func (c *check) cluster() {
	k := c.s.Cluster
	c.version("cluster.version", k.Version)
	c.given("cluster.controlPlanes")
	c.given("cluster.workers")
	if c.has("cluster.controlPlanes") {
		c.within("cluster.controlPlanes", k.ControlPlanes, 1, maxControlPlanes)
	}
	c.within("cluster.workers", k.Workers, 0, maxWorkers)
	for i, zone := range k.Zones {
		at := fmt.Sprintf("cluster.zones[%d]", i)
		if c.required(at, zone) {
			for _, why := range validation.IsValidLabelValue(zone) {
				c.wrong(at, "", "%q is no value of a label: %s", zone, why)
			}
		}
		if slices.Contains(k.Zones[:i], zone) {
			c.wrong(at, "remove one", "%q is given twice", zone)
		}
	}
}

func (c *check) workload() {
	w := &c.s.Workload
	if w.CronJobs != nil || w.Deployments != nil || w.StatefulSets != nil || w.Jobs != nil {
		if c.has("cluster.workers") && c.s.Cluster.Workers == 0 {
			c.wrong("workload", "set cluster.workers", "there is no worker to run it: control planes are tainted")
		}
	}
	if j := w.CronJobs; j != nil {
		c.count("workload.cronJobs.count", j.Count)
		c.oneOf("workload.cronJobs.policy", j.Policy, policies()...)
		c.lasts("workload.cronJobs.duration", j.Duration, maxTime)
		c.schedule("workload.cronJobs.schedule", j.Schedule)
		// As Kubernetes: no empty name, and no Local (k8s.io/kubernetes@v1.37.0
		// pkg/apis/batch/validation, validateTimeZone).
		if _, err := time.LoadLocation(j.TimeZone); err != nil || j.TimeZone == "" || strings.EqualFold(j.TimeZone, "local") {
			c.wrong("workload.cronJobs.timeZone", "a name such as Europe/Berlin", "%q is no time zone", j.TimeZone)
		}
		// The CronJob's own field counts in seconds.
		if d := j.StartingDeadline; d < 0 || d%time.Second != 0 {
			c.wrong("workload.cronJobs.startingDeadline", "", "%s is not a number of whole seconds", d)
		}
	}
	if j := w.Deployments; j != nil {
		c.replicas("workload.deployments", j.Count, j.Replicas, &j.MinAvailable)
	}
	if j := w.StatefulSets; j != nil {
		c.replicas("workload.statefulSets", j.Count, j.Replicas, &j.MinAvailable)
	}
	if j := w.Jobs; j != nil {
		c.count("workload.jobs.parallel", j.Parallel)
		c.given("workload.jobs.duration")
		if c.has("workload.jobs.duration") {
			c.lasts("workload.jobs.duration", j.Duration, maxTime)
		}
	}
}

func (c *check) schedule(path, spec string) {
	switch {
	case strings.HasPrefix(strings.TrimSpace(spec), "@every"):
		// Slots of @every count from the CronJob's creation, and with a
		// deadline shorter than the interval it never fires at all.
		c.wrong(path, `use five fields: "* * * * *"`, "@every has no slots on the clock, so that none can be missed")
	case strings.Contains(spec, "TZ="):
		c.wrong(path, "remove it", "Kubernetes refuses a time zone in the schedule")
	default:
		if _, err := cron.ParseStandard(spec); err != nil {
			c.wrong(path, `five fields: "* * * * *"`, "%q is not a schedule: %v", spec, err)
		}
	}
}

func (c *check) replicas(path string, count, replicas int, minAvailable *int) {
	c.count(path+".count", count)
	c.count(path+".replicas", replicas)
	if !c.has(path + ".minAvailable") {
		*minAvailable = max(0, replicas-1)
		return
	}
	c.within(path+".minAvailable", *minAvailable, 0, max(0, replicas))
	if u := c.s.Upgrade; u != nil && u.Drain != string(upgrade.DrainNone) && replicas > 0 && *minAvailable >= replicas {
		c.wrong(path+".minAvailable", fmt.Sprintf("at most %d of %d", replicas-1, replicas), "a budget that allows no disruption blocks every drain")
	}
}

func (c *check) upgrade() {
	s, u := c.s, c.s.Upgrade
	if u == nil {
		c.phases = []string{PhaseRun}
		c.given("run")
		if c.has("run") {
			c.lasts("run", s.Run, maxTime)
		}
		return
	}
	if s.Run != 0 {
		c.wrong("run", "remove it", "with an upgrade, the upgrade sets the length")
	}
	if c.version("upgrade.to", u.To) && validVersion(s.Cluster.Version) {
		c.step(s.Cluster.Version, u.To)
	}
	before := len(c.problems)
	c.oneOf("upgrade.strategy", u.Strategy, c.known.strategyNames()...)
	c.oneOf("upgrade.drain", u.Drain, drains()...)
	c.lasts("upgrade.drainTimeout", u.DrainTimeout, maxTime)
	c.lasts("upgrade.timeout", u.Timeout, maxTime)
	c.replaced(u)
	for i, p := range u.Nodes {
		path := fmt.Sprintf("upgrade.nodes[%d]", i)
		c.place(path, p, []clusters.Role{clusters.ControlPlane, clusters.Worker})
		if slices.Contains(u.Nodes[:i], p) {
			c.wrong(path, "remove one", "%s is given twice", p)
		}
	}
	if c.has("upgrade.nodes") && len(u.Nodes) == 0 {
		c.wrong("upgrade.nodes", "remove the field to upgrade all", "names no node")
	}
	c.strategy(len(c.problems) > before)
	c.layout(len(c.problems) > before)
	for i, e := range u.Expect {
		path := fmt.Sprintf("upgrade.expect[%d]", i)
		c.phase(path+".phase", e.Phase)
		c.oneOf(path+".outcome", e.Outcome, outcomes()...)
		c.required(path+".because", e.Because)
		for _, b := range u.Expect[:i] {
			if b.Phase == e.Phase && e.Phase != "" {
				c.wrong(path+".phase", "remove one", "%s is given twice, first in line %d", e.Phase, b.Line)
			}
		}
	}
}

// replaced checks the options of strategies that replace workers, and fills in their
// defaults.
func (c *check) replaced(u *Upgrade) {
	const surge, blueGreen = "surge", "blue-green"
	switch u.Strategy {
	case surge:
		if !c.has("upgrade.maxSurge") && u.MaxUnavailable == 0 {
			u.MaxSurge = 1
		}
		c.within("upgrade.maxSurge", u.MaxSurge, 0, maxWorkers)
		c.within("upgrade.maxUnavailable", u.MaxUnavailable, 0, maxWorkers)
		if u.MaxSurge+u.MaxUnavailable < 1 {
			c.wrong("upgrade.maxSurge", "give one of them 1 at least", "maxSurge and maxUnavailable are 0: no worker could ever be replaced")
		}
		if c.has("upgrade.drainExceeded") {
			c.oneOf("upgrade.drainExceeded", u.DrainExceeded, exceeded()...)
		}
	case blueGreen:
		if !c.has("upgrade.batch") {
			u.Batch = 1
		}
		c.within("upgrade.batch", u.Batch, 1, maxWorkers)
		if c.has("upgrade.poolSoak") {
			c.lasts("upgrade.poolSoak", u.PoolSoak, maxTime)
		}
		if _, err := regexp.Compile(u.CanaryLog); err != nil {
			c.wrong("upgrade.canaryLog", "", "%v", err)
		}
	default:
		return
	}
	if c.has("upgrade.soak") {
		c.lasts("upgrade.soak", u.Soak, maxTime)
	}
	if u.Drain == string(upgrade.DrainNone) {
		c.wrong("upgrade.drain", "workers, or all", "workers are drained before they are replaced")
	}
}

// strategy checks what is not an option of every strategy.
func (c *check) strategy(wrong bool) {
	u := c.s.Upgrade
	kind, ok := c.known.strategy(u.Strategy)
	if !ok {
		return // oneOf has said so
	}
	for _, option := range upgrade.TakenBySome() {
		if path := "upgrade." + option; c.has(path) && !slices.Contains(kind.Takes, option) {
			c.wrong(path, "remove it", "strategy %s does not take it", u.Strategy)
		}
	}
	checker, ok := kind.New().(upgrade.Checker)
	if !ok || wrong {
		return
	}
	for _, err := range checker.Check(c.s.Places(), u.Options()) {
		option, text, _ := strings.Cut(err.Error(), ": ")
		c.wrong("upgrade."+option, "", "%s", text)
	}
}

// layout finds the phases. If something is wrong with the upgrade they are all
// that it could have, so that a phase is blamed only for what is its own fault.
func (c *check) layout(wrong bool) {
	n := c.s.Cluster
	if n.ControlPlanes < 1 || n.ControlPlanes > maxControlPlanes || n.Workers < 0 || n.Workers > maxWorkers {
		return // the nodes are not known
	}
	strategy, err := c.known.Strategy(c.s.Upgrade.Strategy)
	if err != nil {
		return // oneOf has said so
	}
	options := c.s.Upgrade.Options()
	if wrong {
		options.Drain, options.Nodes, options.Order, options.StopFirst = upgrade.DrainAll, nil, nil, nil
	}
	c.phases = Phases(strategy.Steps(c.s.Places(), options))
}

// step checks the way from one version to the other: an upgrade of a control
// plane must not skip a minor version
// (https://kubernetes.io/releases/version-skew-policy/).
func (c *check) step(from, to string) {
	if semver.Compare(to, from) <= 0 {
		c.wrong("upgrade.to", "name a later version", "%s is not later than cluster.version %s", to, from)
		return
	}
	if minor(to) > minor(from)+1 {
		c.wrong("upgrade.to", fmt.Sprintf("go to v1.%d first", minor(from)+1), "from %s to %s skips a minor version, which Kubernetes does not support", from, to)
	}
}

func minor(v string) int {
	m, err := strconv.Atoi(strings.TrimPrefix(semver.MajorMinor(v), "v1."))
	if err != nil {
		return -1 // not v1: version has said so
	}
	return m
}

func validVersion(v string) bool {
	return semver.IsValid(v) && semver.Canonical(v) == v && semver.Major(v) == "v1"
}

func (c *check) version(path, v string) bool {
	if !c.required(path, v) {
		return false
	}
	if !validVersion(v) {
		c.wrong(path, "write v1.X.Y", "%q is not a version of Kubernetes", v)
		return false
	}
	return true
}

func (c *check) faults() {
	if n := len(c.s.Faults); n > maxFaults {
		c.wrong("faults", "split the scenario", "there are %d; at most %d are planned", n, maxFaults)
		return
	}
	for i := range c.s.Faults {
		f, path := &c.s.Faults[i], fmt.Sprintf("faults[%d]", i)
		if c.required(path+".id", f.ID) && !nameForm.MatchString(f.ID) {
			c.wrong(path+".id", "use lower case letters, digits and dashes, at most 40", "%q cannot be a name", f.ID)
		}
		for _, b := range c.s.Faults[:i] {
			if b.ID == f.ID && f.ID != "" {
				c.wrong(path+".id", "", "%q is given twice, first in line %d", f.ID, b.Line)
			}
		}
		kind, ok := c.known.fault(f.Fault)
		if c.required(path+".fault", f.Fault) && !ok {
			c.wrong(path+".fault", "", "unknown fault %q%s", f.Fault, suggest(f.Fault, c.known.faultNames()))
		}
		var k *faults.Kind
		if ok {
			k = &kind
		}
		c.target(path+".target", f.Target, k)
		c.window(path, f, k)
	}
}

// random checks what faults are drawn by.
func (c *check) random() {
	r := c.s.Random
	if r == nil {
		return
	}
	const path = "faults.random"
	c.given(path + ".meanGap")
	if c.has(path + ".meanGap") {
		c.lasts(path+".meanGap", r.MeanGap, maxTime)
	}
	c.within(path+".budget", r.Budget, 1, maxFaults)
	for i, name := range r.From {
		at := fmt.Sprintf("%s.from[%d]", path, i)
		if _, ok := c.known.fault(name); c.required(at, name) && !ok {
			c.wrong(at, "", "unknown fault %q%s", name, suggest(name, c.known.faultNames()))
		}
		if slices.Contains(r.From[:i], name) {
			c.wrong(at, "remove one", "%q is given twice", name)
		}
	}
	if c.has(path+".from") && len(r.From) == 0 {
		c.wrong(path+".from", "remove the field to draw from all", "names no fault")
	}
	c.lasts(path+".hold", r.Hold, maxHold)
	if c.has(path + ".count") {
		c.within(path+".count", r.Count, 1, maxFaults)
	}
	if c.has(path + ".until") {
		c.lasts(path+".until", r.Until, maxTime)
	}
	if c.s.Upgrade == nil && r.Until > c.s.Run && c.s.Run > 0 {
		c.wrong(path+".until", "raise run", "%s is more than run %s: what is drawn for later would not begin", r.Until, c.s.Run)
	}
}

// target checks who is hit; k is nil if the fault is not known.
func (c *check) target(path string, t faults.Target, k *faults.Kind) {
	roles := []clusters.Role{clusters.ControlPlane, clusters.Worker, clusters.LoadBalancer}
	if k != nil {
		roles = k.Roles
	}
	switch {
	case len(t.Nodes) == 0 && t.Pick == "":
		c.wrong(path, "give nodes: [...] or pick: ...", "nobody is hit")
		return
	case len(t.Nodes) > 0 && t.Pick != "":
		c.wrong(path, "give one of them", "nodes and pick cannot both be given")
	}
	for i, p := range t.Nodes {
		at := fmt.Sprintf("%s.nodes[%d]", path, i)
		c.place(at, p, roles)
		if slices.Contains(t.Nodes[:i], p) {
			c.wrong(at, "remove one", "%s is given twice", p)
		}
	}
	if t.Pick == "" {
		if t.Role != "" || len(t.Labels) > 0 || t.Zone != "" || len(t.Except) > 0 {
			c.wrong(path, "", "role, labels, zone and except narrow pick, which is not given")
		}
		return
	}
	c.oneOf(path+".pick", t.Pick, faults.Picks()...)
	switch zones := c.s.Cluster.Zones; {
	case t.Zone == "" || slices.Contains(zones, t.Zone):
	case len(zones) == 0:
		c.wrong(path+".zone", "give cluster.zones: [...]", "the cluster has no zones")
	default:
		c.wrong(path+".zone", "", "there is no zone %q%s", t.Zone, suggest(t.Zone, zones))
	}
	if t.Role != "" {
		c.oneOf(path+".role", t.Role, names(roles, func(r clusters.Role) string { return string(r) })...)
	}
	for i, p := range t.Except {
		c.place(fmt.Sprintf("%s.except[%d]", path, i), p, roles)
	}
	if (t.Pick == faults.PickLeader || t.Pick == faults.PickFollower) &&
		(t.Role != "" && t.Role != string(clusters.ControlPlane) || !slices.Contains(roles, clusters.ControlPlane)) {
		c.wrong(path+".pick", "", "%s means a leader of the control plane", t.Pick)
	}
}

// window checks when a fault is there, and fills in its defaults.
func (c *check) window(path string, f *Fault, k *faults.Kind) {
	if f.Begin.Phase == "" && c.s.Upgrade == nil {
		f.Begin.Phase = PhaseRun
	}
	c.phase(path+".begin.phase", f.Begin.Phase)
	if f.Begin.After > maxTime {
		c.wrong(path+".begin.after", "", "%s is more than %s", f.Begin.After, maxTime)
	}
	if c.has(path+".end.phase") && c.phase(path+".end.phase", f.End.Phase) && c.phases != nil {
		begin, end := slices.Index(c.phases, f.Begin.Phase), slices.Index(c.phases, f.End.Phase)
		if begin >= 0 && end < begin && !strings.HasPrefix(f.Begin.Phase, f.End.Phase+"/") {
			c.wrong(path+".end.phase", "", "%s comes before %s, with which the window begins", f.End.Phase, f.Begin.Phase)
		}
	}
	instant := k != nil && k.Instant
	switch given := c.has(path + ".end"); {
	case k == nil:
	case instant && given:
		c.wrong(path+".end", "remove it", "%s has no length of its own: what it breaks is repaired by the cluster", k.Name)
	case instant:
	case f.End.Phase == "" && f.End.For == 0:
		c.wrong(path+".end", "give end: {phase: ...} or end: {for: 30s}", "it is not said when the fault ends")
	case f.End.Phase != "" && f.End.For != 0:
		c.wrong(path+".end", "give one of them", "phase and for cannot both be given")
	}
	if !c.has(path + ".maxHold") {
		f.MaxHold = defaultHoldInstant
		if k != nil {
			f.MaxHold = MaxHold(*k, f.End)
		}
	}
	c.lasts(path+".maxHold", f.MaxHold, maxHold)
	if f.End.For > f.MaxHold {
		c.wrong(path+".end.for", fmt.Sprintf("raise maxHold (at most %s)", maxHold), "%s is more than maxHold %s", f.End.For, f.MaxHold)
	}
}

// phase checks that there is such a phase.
func (c *check) phase(path, phase string) bool {
	if !c.required(path, phase) {
		return false
	}
	if c.phases == nil || slices.Contains(c.phases, phase) {
		return true
	}
	c.wrong(path, "", "there is no phase %q%s", phase, suggest(phase, c.phases))
	return false
}

// place checks that the cluster will have a node there, of one of the roles.
func (c *check) place(path, place string, roles []clusters.Role) {
	valid := strings.Join(names(roles, func(r clusters.Role) string { return string(r) + "[N]" }), ", ")
	m := placeForm.FindStringSubmatch(place)
	if m == nil {
		c.wrong(path, "places are "+valid, "%q is not a place", place)
		return
	}
	role := clusters.Role(m[1])
	if !slices.Contains(roles, role) {
		c.wrong(path, "places are "+valid, "%s cannot be hit or upgraded here", place)
		return
	}
	have := map[clusters.Role]int{
		clusters.ControlPlane: c.s.Cluster.ControlPlanes, clusters.Worker: c.s.Cluster.Workers, clusters.LoadBalancer: 0,
	}[role]
	if role == clusters.LoadBalancer && c.s.Cluster.ControlPlanes > 1 {
		have = 1 // kind makes one for more than one control plane
	}
	index, err := strconv.Atoi(m[2])
	if err != nil || index >= have {
		mend := fmt.Sprintf("%s[0] to %s[%d]", role, role, have-1)
		if have == 0 {
			mend = "there is none"
		}
		c.wrong(path, mend, "there is no %s: the cluster has %d of role %s", place, have, role)
	}
}

func (c *check) required(path, v string) bool {
	if v == "" {
		c.given(path)
		if c.has(path) {
			c.wrong(path, "", "must not be empty")
		}
		return false
	}
	return true
}

func (c *check) given(path string) {
	if !c.has(path) {
		c.wrong(path, "", "is missing")
	}
}

func (c *check) oneOf(path, v string, valid ...string) {
	if !c.required(path, v) || slices.Contains(valid, v) {
		return
	}
	c.wrong(path, "", "unknown value %q%s", v, suggest(v, valid))
}

func (c *check) within(path string, v, low, high int) {
	if v < low || v > high {
		c.wrong(path, "", "must be %d to %d, not %d", low, high, v)
	}
}

func (c *check) count(path string, v int) {
	c.given(path)
	if c.has(path) {
		c.within(path, v, 1, maxCount)
	}
}

func (c *check) lasts(path string, v, longest time.Duration) {
	if v <= 0 || v > longest {
		c.wrong(path, "", "must be more than 0s and at most %s, not %s", longest, v)
	}
}
