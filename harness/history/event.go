// Package history is the record of a run: one append-only file of JSON lines,
// one clock, one sequence. Everything that is judged or drawn comes from it, so
// that `gameday check` can judge an old run again.
//
// Times are nanoseconds on the harness's monotonic clock since the run began;
// the Run event, always first, holds the wall-clock time of zero.
package history

import (
	"time"
)

// APIVersion of the file; the first event carries it.
const APIVersion = "gameday/v1alpha1"

// Event is one line. Exactly one of the pointers is set.
type Event struct {
	// Seq numbers the lines from 1, without gaps.
	Seq int64 `json:"seq"`
	// At is when it happened (of a sample: when it started), in ns since the
	// run began. Lines are written in Seq order; At may step back a little.
	At time.Duration `json:"at"`

	Run       *Run         `json:"run,omitempty"`
	Stage     *Stage       `json:"stage,omitempty"`
	Node      *Node        `json:"node,omitempty"`
	Phase     *Phase       `json:"phase,omitempty"`
	Injection *Injection   `json:"injection,omitempty"`
	Series    *Series      `json:"series,omitempty"`
	Sample    *Sample      `json:"sample,omitempty"`
	Watch     *Watch       `json:"watch,omitempty"`
	Write     *Write       `json:"write,omitempty"`
	Kept      *Kept        `json:"kept,omitempty"`
	Pod       *Pod         `json:"pod,omitempty"`
	Job       *Job         `json:"job,omitempty"`
	CronJob   *CronJob     `json:"cronJob,omitempty"`
	Budget    *Budget      `json:"budget,omitempty"`
	Audit     *Audit       `json:"audit,omitempty"`
	Etcd      *Etcd        `json:"etcd,omitempty"`
	Operation *Operation   `json:"operation,omitempty"`
	Changes   *Changes     `json:"changes,omitempty"`
	EtcdStats *EtcdStats   `json:"etcdStats,omitempty"`
	Component *Component   `json:"component,omitempty"`
	Lease     *Lease       `json:"lease,omitempty"`
	Log       *Log         `json:"log,omitempty"`
	LogLine   *LogLine     `json:"logLine,omitempty"`
	Look      *Look        `json:"look,omitempty"`
	Probes    *Probes      `json:"probes,omitempty"`
	Beacon    *Beacon      `json:"beacon,omitempty"`
	Clock     *Clock       `json:"clock,omitempty"`
	Endpoints *Endpoints   `json:"endpoints,omitempty"`
	Gap       *Gap         `json:"gap,omitempty"`
	Finding   *Finding     `json:"finding,omitempty"`
	Usage     *Usage       `json:"usage,omitempty"`
	SelfCheck *SelfCheck   `json:"selfCheck,omitempty"`
	Source    *AlertSource `json:"alertSource,omitempty"`
	Alert     *Alert       `json:"alert,omitempty"`
	Busy      *Busy        `json:"busy,omitempty"`
	End       *End         `json:"end,omitempty"`
}

// Run is the first event.
type Run struct {
	APIVersion string    `json:"apiVersion"`
	ID         string    `json:"id"`
	Scenario   string    `json:"scenario"`
	Began      time.Time `json:"began"`
	Seed       uint64    `json:"seed"`
	// Gameday is version and revision of the program.
	Gameday  string `json:"gameday"`
	Provider string `json:"provider"`
	Strategy string `json:"strategy,omitempty"`
	From     string `json:"from"`
	To       string `json:"to,omitempty"`
	// Rerun is the exact command that runs it again.
	Rerun string `json:"rerun"`
	// Cores of the machine that it ran on; 0 in records that do not say.
	Cores int `json:"cores,omitempty"`
}

// Stage is a part of the run: images, create, workload, steady, upgrade, heal,
// converge, collect, audit.
type Stage struct {
	Name  string `json:"name"`
	State string `json:"state"` // began | ended
	// Error is set when the stage ended badly.
	Error string `json:"error,omitempty"`
	// Text says what was seen, in one line.
	Text string `json:"text,omitempty"`
}

// Node is the state of a node, each time it changed.
type Node struct {
	Name  string `json:"name"`
	Place string `json:"place"`
	// Ready is True, False or Unknown, as the API says.
	Ready         string   `json:"ready"`
	Unschedulable bool     `json:"unschedulable,omitempty"`
	Version       string   `json:"version"` // kubelet's
	Taints        []string `json:"taints,omitempty"`
	// Zone is REGION/ZONE of its labels, ZONE without a region; Excluded its
	// label node.kubernetes.io/exclude-disruption.
	Zone     string `json:"zone,omitempty"`
	Excluded bool   `json:"excluded,omitempty"`
	Deleted  bool   `json:"deleted,omitempty"`
	// Revision is the resourceVersion of this state.
	Revision int64 `json:"rv,omitempty"`
}

// Phase of the upgrade began or ended.
type Phase struct {
	Path    string `json:"path"`
	Node    string `json:"node,omitempty"`
	State   string `json:"state"` // began | ended
	Outcome string `json:"outcome,omitempty"`
	// Expected is what the scenario declared for the phase, if it did:
	// proceed | blocked | roll back.
	Expected string `json:"expected,omitempty"`
	Seen     string `json:"seen,omitempty"`
}

// Injection is a step in the life of a fault. States, in order: requested,
// armed, injected, proven, reproven (several), lost (the effect vanished while
// it should be there), rearmed, healing, healed (the undo returned), gone
// (proven gone), unproven, stuck, skipped.
type Injection struct {
	// ID is the name in the scenario.
	ID      string   `json:"id"`
	Fault   string   `json:"fault"`
	Targets []string `json:"targets,omitempty"` // places
	Nodes   []string `json:"nodes,omitempty"`
	State   string   `json:"state"`
	// Phase is the phase that its window is bound to.
	Phase string `json:"phase,omitempty"`
	// Params as used, JSON.
	Params map[string]any `json:"params,omitempty"`
	// Effect, when the state rests on a proof.
	Proof    string  `json:"proof,omitempty"`
	Control  string  `json:"control,omitempty"`
	Asked    float64 `json:"asked,omitempty"`
	Measured float64 `json:"measured,omitempty"`
	Unit     string  `json:"unit,omitempty"`
	Error    string  `json:"error,omitempty"`
}

// Series declares a series of samples before its first one.
type Series struct {
	ID int `json:"id"`
	// Verb: read (from the watch cache), quorum-read, write.
	Verb string `json:"verb"`
	// Conn: new or reused.
	Conn string `json:"conn"`
	// Endpoint: lb or the name of a node.
	Endpoint string `json:"endpoint"`
	// Period between starts; Deadline of each sample.
	Period   time.Duration `json:"period"`
	Deadline time.Duration `json:"deadline"`
}

// Sample is one request; Event.At is when it started.
type Sample struct {
	Series int           `json:"s"`
	Took   time.Duration `json:"took"`
	// Late is how long after its due time it started: the harness's own fault.
	Late time.Duration `json:"late,omitempty"`
	OK   bool          `json:"ok,omitempty"`
	Code int           `json:"code,omitempty"`
	Err  string        `json:"err,omitempty"`
	// AuditID is the Audit-ID that the request carried, of failed samples.
	AuditID string `json:"auditID,omitempty"`
}

// NotSent is the Err of a sample that was due but not sent, because as many
// requests as the series may have were still waiting for their answers. It says
// nothing about the target: a checker counts it as not measured.
const NotSent = "not sent: too many requests in flight"

// Watch is what a watch on one endpoint went through.
type Watch struct {
	Endpoint string `json:"endpoint"`
	// State: opened, event (the canary's write was seen), bookmark, closed,
	// failed.
	State string `json:"state"`
	// Type of an event: MODIFIED or DELETED; empty is ADDED.
	Type string `json:"type,omitempty"`
	// Revision of the object seen; Delay since the write was acknowledged.
	Revision int64         `json:"revision,omitempty"`
	Key      string        `json:"key,omitempty"`
	Delay    time.Duration `json:"delay,omitempty"`
	Err      string        `json:"err,omitempty"`
}

// Write is a canary write: the create of a uniquely named object.
type Write struct {
	Key      string `json:"key"`
	Endpoint string `json:"endpoint"`
	// Outcome: ok (acknowledged), fail (surely not written), unknown.
	Outcome  string        `json:"outcome"`
	Revision int64         `json:"revision,omitempty"`
	Took     time.Duration `json:"took"`
	Err      string        `json:"err,omitempty"`
}

// Kept is the final check of all acknowledged writes on one etcd member, by a
// linearizable read of that member.
type Kept struct {
	Member string `json:"member"`
	// Read is how many of the acknowledged keys were found; Missing lists those
	// that were not (at most 100).
	Read    int      `json:"read"`
	Missing []string `json:"missing,omitempty"`
	// Revision and Hash are the member's, at the revision that all were asked
	// for.
	Revision int64  `json:"revision"`
	Hash     uint32 `json:"hash"`
	Err      string `json:"err,omitempty"`
}

// Pod is the state of a workload pod, each time it changed.
type Pod struct {
	Namespace string `json:"ns"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	// Owner is kind/name of the controller; OwnerUID its uid.
	Owner    string `json:"owner,omitempty"`
	OwnerUID string `json:"ownerUID,omitempty"`
	Node     string `json:"node,omitempty"`
	Phase    string `json:"phase"`
	Ready    bool   `json:"ready,omitempty"`
	// Times that the API says (1 s resolution); zero if not yet.
	Created   time.Time `json:"created"`
	Scheduled time.Time `json:"scheduled,omitzero"`
	Started   time.Time `json:"started,omitzero"`  // first container
	Finished  time.Time `json:"finished,omitzero"` // last container
	Deleting  time.Time `json:"deleting,omitzero"` // deletionTimestamp
	Grace     int64     `json:"grace,omitempty"`
	// Disruption is the reason of the condition DisruptionTarget, if True.
	Disruption string `json:"disruption,omitempty"`
	// Tolerations are those that match taints with the effect NoExecute, in the
	// pod's order; recorded if a promise of the run needs them.
	Tolerations []Toleration `json:"tolerations,omitempty"`
	// Unschedulable is the scheduler's message while Pending.
	Unschedulable string `json:"unschedulable,omitempty"`
	// Reason that the kubelet gives for a phase it set itself: Evicted, Terminated.
	Reason string `json:"reason,omitempty"`
	// Waiting is why a container of a scheduled pod does not start, if that is not
	// just being made: ImagePullBackOff, CreateContainerError.
	Waiting string `json:"waiting,omitempty"`
	// Finalizers that keep the object.
	Finalizers []string `json:"finalizers,omitempty"`
	Containers []string `json:"containers,omitempty"` // running container ids
	Restarts   int32    `json:"restarts,omitempty"`
	ExitCode   int32    `json:"exitCode,omitempty"`
	// Deleted: the object is gone.
	Deleted bool `json:"deleted,omitempty"`
	// Revision is the resourceVersion of this state.
	Revision int64 `json:"rv,omitempty"`
}

// Toleration of a pod, in the API's words. Seconds is nil if it has no end.
type Toleration struct {
	Key      string `json:"key,omitempty"`
	Operator string `json:"operator,omitempty"`
	Value    string `json:"value,omitempty"`
	Effect   string `json:"effect,omitempty"`
	Seconds  *int64 `json:"seconds,omitempty"`
}

// Job is the state of a workload Job, each time it changed.
type Job struct {
	Namespace string `json:"ns"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	// CronJob that made it, and the slot: annotation
	// batch.kubernetes.io/cronjob-scheduled-timestamp.
	CronJob    string    `json:"cronJob,omitempty"`
	CronJobUID string    `json:"cronJobUID,omitempty"`
	Slot       time.Time `json:"slot,omitzero"`
	Created    time.Time `json:"created"`
	Started    time.Time `json:"started,omitzero"`
	Finished   time.Time `json:"finished,omitzero"`
	Succeeded  int32     `json:"succeeded,omitempty"`
	Failed     int32     `json:"failed,omitempty"`
	// Condition is Complete, Failed, Suspended or empty.
	Condition string `json:"condition,omitempty"`
	Deleted   bool   `json:"deleted,omitempty"`
	// Revision is the resourceVersion of this state.
	Revision int64 `json:"rv,omitempty"`
}

// CronJob says what a CronJob promises, each time its spec changed.
type CronJob struct {
	Namespace string    `json:"ns"`
	Name      string    `json:"name"`
	UID       string    `json:"uid"`
	Schedule  string    `json:"schedule"`
	TimeZone  string    `json:"timeZone,omitempty"`
	Policy    string    `json:"policy"` // Allow | Forbid | Replace
	Deadline  int64     `json:"deadline,omitempty"`
	Suspended bool      `json:"suspended,omitempty"`
	Created   time.Time `json:"created"`
	Deleted   bool      `json:"deleted,omitempty"`
}

// Budget is a workload that promises a number of ready pods: a Deployment or
// StatefulSet with its PodDisruptionBudget.
type Budget struct {
	Namespace string `json:"ns"`
	// Owner as in Pod.Owner of its pods (ReplicaSet names start with it).
	Owner        string `json:"owner"`
	Desired      int32  `json:"desired"`
	MinAvailable int32  `json:"minAvailable"`
	Deleted      bool   `json:"deleted,omitempty"`
}

// Audit is a line of an API server's audit log that a checker may need: who
// deleted or evicted a pod, who created a job.
type Audit struct {
	ID          string    `json:"id"`
	Endpoint    string    `json:"endpoint"` // node whose apiserver logged it
	User        string    `json:"user"`
	Verb        string    `json:"verb"`
	Resource    string    `json:"resource"`
	Subresource string    `json:"subresource,omitempty"`
	Namespace   string    `json:"ns,omitempty"`
	Name        string    `json:"name,omitempty"`
	UID         string    `json:"uid,omitempty"`
	Code        int32     `json:"code"`
	Time        time.Time `json:"time"`
	// Agent is the User-Agent.
	Agent string `json:"agent,omitempty"`
}

// Etcd is the state of a member, each time it changed.
type Etcd struct {
	Node    string `json:"node"`
	Version string `json:"version,omitempty"`
	Leader  bool   `json:"leader,omitempty"`
	Learner bool   `json:"learner,omitempty"`
	Healthy bool   `json:"healthy"`
	// Term of raft and the id of the leader in it, as the member knows them; 0 is
	// none, or a record from before they were written.
	Term     uint64 `json:"term,omitempty"`
	LeaderID uint64 `json:"leaderID,omitempty"`
	// Alarms that the member tells of: NOSPACE, CORRUPT, joined by a comma.
	Alarms string `json:"alarms,omitempty"`
	Err    string `json:"err,omitempty"`
}

// EtcdStats are what a member's /metrics say, every few seconds; Event.At is
// when it was asked. Histograms and their counts are since the member's start.
type EtcdStats struct {
	Node string `json:"node"`
	// Started is the process's start, in seconds since 1970: another start,
	// other counts.
	Started float64 `json:"started,omitempty"`
	// DBSize and Quota in bytes; Quota 0 is not told.
	DBSize int64 `json:"dbSize,omitempty"`
	Quota  int64 `json:"quota,omitempty"`
	// Fsync is of the write-ahead log, Commit of the backend.
	Fsync  *Histogram `json:"fsync,omitempty"`
	Commit *Histogram `json:"commit,omitempty"`
	Err    string     `json:"err,omitempty"`
}

// Histogram has as many counts as edges and one more, of what is above the last
// edge. They are of each bucket by itself.
type Histogram struct {
	Edges  []float64 `json:"edges"` // seconds
	Counts []uint64  `json:"counts"`
}

// Operation is a request of one of several clients on one of a few objects that
// they share; Event.At is when it was invoked.
type Operation struct {
	// Client that made it: one has a single operation under way.
	Client   int    `json:"client"`
	Key      string `json:"key"`
	Endpoint string `json:"endpoint"`
	// Verb: read (a quorum read), create, update, delete.
	Verb string `json:"verb"`
	// Expected is the resourceVersion that an update or delete demanded.
	Expected int64 `json:"expected,omitempty"`
	// Outcome: ok; absent (read, update, delete: there is no such object), exists
	// (create), conflict (update, delete: it is at another resourceVersion), all
	// surely without effect; fail (surely without effect, and nothing seen);
	// unknown.
	Outcome string `json:"outcome"`
	// Value that was written, of which no two are the same, or that was read.
	Value string `json:"value,omitempty"`
	// Revision of the object that was written or read; a delete has none.
	Revision int64         `json:"revision,omitempty"`
	Took     time.Duration `json:"took"`
	Err      string        `json:"err,omitempty"`
}

// Changes are what etcd itself tells of the canaries' namespace, in its order
// and without a hole between From and To.
type Changes struct {
	// From is the revision after which the list begins, To up to which it goes.
	From int64    `json:"from"`
	To   int64    `json:"to"`
	List []Change `json:"list,omitempty"`
}

// Change is one of them.
type Change struct {
	Revision int64  `json:"rv"`
	Key      string `json:"key"` // below the namespace's prefix
	// Type: MODIFIED or DELETED; empty is ADDED.
	Type string `json:"type,omitempty"`
}

// Component is the state of a pod of kube-system, each time it changed.
type Component struct {
	Pod  string `json:"pod"`
	UID  string `json:"uid"`
	Node string `json:"node,omitempty"`
	// Manifest is the hash of the file that the kubelet runs it from (annotation
	// kubernetes.io/config.hash); empty for a pod of a controller.
	Manifest   string      `json:"manifest,omitempty"`
	Ready      bool        `json:"ready,omitempty"`
	Containers []Container `json:"containers,omitempty"`
	// Deleted: the object is gone.
	Deleted bool `json:"deleted,omitempty"`
	// Revision is the resourceVersion of this state.
	Revision int64 `json:"rv,omitempty"`
}

// Container of a Component.
type Container struct {
	Name string `json:"name"`
	// ID and Started of the one that runs; empty if none does.
	ID      string    `json:"id,omitempty"`
	Started time.Time `json:"started,omitzero"`
	// Restarts is also the number of the container's log.
	Restarts int32 `json:"restarts,omitempty"`
	// Waiting is the reason why none runs: CrashLoopBackOff.
	Waiting string `json:"waiting,omitempty"`
	// Ended is the last that ended.
	Ended *Termination `json:"ended,omitempty"`
}

// Termination of a container, as the kubelet tells it. Times have 1 s
// resolution, on the node's clock.
type Termination struct {
	ID       string    `json:"id,omitempty"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	ExitCode int32     `json:"exitCode"`
	Reason   string    `json:"reason,omitempty"`
}

// Lease is the state of a lease of a component that elects a leader, each time
// it changed, that is at each renewal.
type Lease struct {
	// Name of the component.
	Name string `json:"name"`
	// Holder is NODE_UUID; empty when it was released.
	Holder string `json:"holder,omitempty"`
	// Renewed is by the holder's own clock.
	Renewed time.Time `json:"renewed,omitzero"`
	// Seconds that others wait after they saw a renewal.
	Seconds     int32 `json:"seconds,omitempty"`
	Transitions int32 `json:"transitions,omitempty"`
	Deleted     bool  `json:"deleted,omitempty"`
	// Revision is the resourceVersion of this state.
	Revision int64 `json:"rv,omitempty"`
}

// Log is what became of a log of a node. Patterns are sought when the logs are
// collected, so that a checker needs the record alone.
type Log struct {
	// Node and Source: kubelet, containerd, kernel, or the name of a container of
	// kube-system.
	Node   string `json:"node"`
	Source string `json:"source"`
	// File below logs/; empty if it is not there.
	File string `json:"file,omitempty"`
	// From and To are the times of its first and last line.
	From  time.Time `json:"from,omitzero"`
	To    time.Time `json:"to,omitzero"`
	Lines int       `json:"lines,omitempty"`
	Bytes int64     `json:"bytes,omitempty"`
	// Found is on how many lines each pattern occurs; one that was sought and not
	// found is there with 0.
	Found map[string]int `json:"found,omitempty"`
	// Missing says what of it is not there, or that none of it is, and why.
	Missing string `json:"missing,omitempty"`
}

// LogLine is a line in which a pattern was found.
type LogLine struct {
	Pattern string    `json:"pattern"`
	Node    string    `json:"node"`
	Source  string    `json:"source"`
	File    string    `json:"file"`
	Line    int       `json:"line"`
	Time    time.Time `json:"time,omitzero"` // by the node's clock; zero if it has none
	Text    string    `json:"text"`
}

// Look is what a gate of the run saw: its first answer, and each that is another
// in kind. Event.At is when the look began.
type Look struct {
	Gate string        `json:"gate"` // converge
	Took time.Duration `json:"took"`
	// Why all is not well; empty if it is.
	Why string `json:"why,omitempty"`
	// Back is how far back the look saw: all was well for that long.
	Back time.Duration `json:"back,omitempty"`
}

// Probes are samples that a pod of the run took of others, by its own clock, in
// the time up to Until. Event.At is when the harness had them from the pod. All
// times in it are on the run's clock, each within Bar.
type Probes struct {
	Node string `json:"node"`
	// Process names the process that took them, Seq numbers its lines from 1
	// without gaps.
	Process string `json:"process"`
	Seq     int64  `json:"seq"`
	// Period between the starts of samples of a series.
	Period time.Duration `json:"period"`
	// Until says that every sample of the process that began before is in this
	// line or in one before.
	Until time.Duration `json:"until"`
	// Bar is how far the clock may be off, after what was measured of it was
	// taken away.
	Bar time.Duration `json:"bar"`
	// Lost counts the lines that the process had no room for since the last one.
	Lost int64 `json:"lost,omitempty"`
	// CPU that the process has used since its start.
	CPU    time.Duration `json:"cpu,omitempty"`
	Series []ProbeSeries `json:"series"`
}

// ProbeSeries are the samples of one series: Start, Took and Late in
// microseconds, Start since Probes.Until (most are below 0).
type ProbeSeries struct {
	// Kind: mesh (a datagram to a pod on another node and back), cluster-ip (a
	// request to a Service), dns (a question to the cluster's DNS).
	Kind string `json:"kind"`
	// Conn: new or kept; of cluster-ip.
	Conn string `json:"conn,omitempty"`
	// To: the node, the Service, or the name that was asked for.
	To    string  `json:"to"`
	Start []int64 `json:"start"`
	Took  []int64 `json:"took"`
	// Late and Bad by index: how long after its due time a sample started, if
	// that was more than a millisecond, and why it was not good.
	Late map[int]int64  `json:"late,omitempty"`
	Bad  map[int]string `json:"bad,omitempty"`
}

// Beacon is what a container of the workload wrote of its own life, by the clock
// of its node; Event.At is its start.
type Beacon struct {
	Namespace string `json:"ns"`
	Pod       string `json:"pod"`
	UID       string `json:"uid"`
	Node      string `json:"node"`
	// Alive is its last sign of life when its log was read, Ended says that it had
	// come to its end by then.
	Alive time.Duration `json:"alive"`
	Ended bool          `json:"ended,omitempty"`
	// Bar is how far the times may be off.
	Bar time.Duration `json:"bar"`
}

// Clock is what was measured of a node's clock: it is ahead of the harness's by
// Offset, give or take Bar.
type Clock struct {
	Node   string        `json:"node"`
	Offset time.Duration `json:"offset"`
	Bar    time.Duration `json:"bar"`
}

// Endpoints are the nodes that hold what an EndpointSlice names, each time it
// changed.
type Endpoints struct {
	Namespace string `json:"ns"`
	Slice     string `json:"slice"`
	Service   string `json:"service"`
	// Ready are the nodes of the endpoints that are ready, Other of those that
	// are not.
	Ready   []string `json:"ready,omitempty"`
	Other   []string `json:"other,omitempty"`
	Deleted bool     `json:"deleted,omitempty"`
	// Revision is the resourceVersion of this state.
	Revision int64 `json:"rv,omitempty"`
}

// Gap says that a source has no data for a while: whoever needs it there is
// inconclusive.
type Gap struct {
	// Source: watch/pods, watch/jobs, watch/components, watch/leases, audit/NODE,
	// sampler, etcd/NODE, watch/changes, alerts, probe/NODE,
	// watch/endpoints.
	Source string        `json:"source"`
	From   time.Duration `json:"from"`
	To     time.Duration `json:"to"`
	Reason string        `json:"reason"`
}

// Finding is a departure from what was expected, or something a reader must
// know, that is not an SLO.
type Finding struct {
	// Level: fail, inconclusive, note.
	Level string `json:"level"`
	What  string `json:"what"`
	// Evidence points into the logs or the record.
	Evidence string `json:"evidence,omitempty"`
}

// Usage is what the harness itself used, from its start.
type Usage struct {
	CPU    time.Duration `json:"cpu"`
	MaxRSS int64         `json:"maxRSSBytes"`
}

// SelfCheck is what the samplers made of outages that were known: made for them on
// an endpoint of gameday's own, before anything else was sampled.
type SelfCheck struct {
	// Verdict is pass; fail if an outage was missed or taken for another, or seen
	// where none was; inconclusive if the check could not be made.
	Verdict string        `json:"verdict"`
	Reason  string        `json:"reason"`
	Took    time.Duration `json:"took"`
	Trials  []SelfTrial   `json:"trials,omitempty"`
}

// SelfTrial is one known outage of a SelfCheck.
type SelfTrial struct {
	// Kind: refused, reset, black-holed, slow, or none: all was well.
	Kind string `json:"kind"`
	// Verb, Conn, Period and Fast of the series that was to see it; Where a run
	// samples so: lb or direct.
	Verb   string        `json:"verb"`
	Conn   string        `json:"conn"`
	Where  string        `json:"where"`
	Period time.Duration `json:"period"`
	Fast   time.Duration `json:"fast"`
	// Asked is how long it was to be, Made how long it was (of none: how long
	// nothing was made), Seen what the samples say, give or take ErrorBar.
	Asked    time.Duration `json:"asked"`
	Made     time.Duration `json:"made"`
	Seen     time.Duration `json:"seen"`
	ErrorBar time.Duration `json:"errorBar"`
	// Bound is the largest error bar that the paces of the series explain.
	Bound time.Duration `json:"bound"`
	// Late is the worst that this process was late with anything meanwhile.
	Late time.Duration `json:"late"`
	// Cause is what the first bad sample said.
	Cause   string `json:"cause,omitempty"`
	Verdict string `json:"verdict"`
	Reason  string `json:"reason,omitempty"`
}

// AlertSource is what alerts are asked of, each time that what it says of itself
// changed, and once more when the asking ended.
type AlertSource struct {
	// Kind: prometheus or alertmanager.
	Kind string `json:"kind"`
	// Rules with the names that a promise is about, as Prometheus has them; an
	// Alertmanager knows no rules.
	Rules []AlertRule `json:"rules,omitempty"`
	// Polls that were answered so far.
	Polls int `json:"polls,omitempty"`
	// Ended: nothing was asked any more.
	Ended bool `json:"ended,omitempty"`
}

// AlertRule is a rule by which Prometheus fires an alert.
type AlertRule struct {
	Name string `json:"name"`
	// Health: ok, err (it could not be evaluated) or unknown (not yet evaluated).
	Health string `json:"health"`
	Err    string `json:"err,omitempty"`
}

// Alert is the state of one instance of an alert, each time it changed. Event.At
// is when the answer came that said so first.
type Alert struct {
	Name string `json:"name"`
	// Labels that tell it from other instances, without its name.
	Labels map[string]string `json:"labels,omitempty"`
	// State: pending, firing, suppressed (silenced or inhibited) or inactive.
	State string `json:"state"`
	// After is when the answer before was asked for: it changed between that and
	// At. 0: there was none, it may have been so for ever.
	After time.Duration `json:"after,omitempty"`
	// Since is when it became so by the source's own clock, if it says.
	Since time.Time `json:"since,omitzero"`
}

// Busy is what a stretch of the run cost the machine and the cluster's components.
type Busy struct {
	From time.Duration `json:"from"`
	To   time.Duration `json:"to"`
	// Cores that the machine has, and how many of them were busy on average, with
	// whatever ran on it.
	Cores int     `json:"cores"`
	Used  float64 `json:"used"`
	// Nodes is how many of these the nodes of the cluster used, with all that ran on
	// them; null if it is not known.
	Nodes *float64 `json:"nodes,omitempty"`
	// By are the cores that processes of the cluster used, by their name. What ended
	// meanwhile (starters of containers) is only in Nodes.
	By map[string]float64 `json:"by,omitempty"`
	// Rejected counts the requests that the API servers' priority and fairness
	// refused; null if they did not say.
	Rejected *float64 `json:"rejected,omitempty"`
	// Err says what of it could not be read.
	Err string `json:"err,omitempty"`
}

// End is the last event of a run that came to its end.
type End struct {
	// Interrupted: by a signal or a failure of the harness; Reason says which.
	Interrupted bool   `json:"interrupted,omitempty"`
	Reason      string `json:"reason,omitempty"`
	// NotUndone lists injections that could not be undone.
	NotUndone []string `json:"notUndone,omitempty"`
}
