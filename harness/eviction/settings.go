package eviction

import (
	"fmt"
	"time"

	"golang.org/x/mod/semver"
)

// Settings are what decides about evictions. The names are those of the flags
// and fields of the components.
type Settings struct {
	// Version of the controller manager: v1.36.4.
	Version           string            `yaml:"version"`
	ControllerManager ControllerManager `yaml:"controllerManager"`
	APIServer         APIServer         `yaml:"apiServer"`
	Kubelet           Kubelet           `yaml:"kubelet"`
	// Reconnect is how long after a heal a kubelet may take until it has posted
	// its status; 0 is 12s after a cut of more than 45s (so long it may hold on to
	// a connection whose packets are dropped), and after a shorter one until 57s
	// after the cut.
	Reconnect time.Duration `yaml:"reconnect"`
	// Slack is how late a busy machine may be with anything.
	Slack time.Duration `yaml:"slack"`
}

// ControllerManager are flags of kube-controller-manager.
type ControllerManager struct {
	NodeMonitorPeriod         time.Duration `yaml:"nodeMonitorPeriod"`
	NodeMonitorGracePeriod    time.Duration `yaml:"nodeMonitorGracePeriod"`
	NodeEvictionRate          float32       `yaml:"nodeEvictionRate"`
	SecondaryNodeEvictionRate float32       `yaml:"secondaryNodeEvictionRate"`
	UnhealthyZoneThreshold    float32       `yaml:"unhealthyZoneThreshold"`
	LargeClusterSizeThreshold int32         `yaml:"largeClusterSizeThreshold"`
	KubeAPIQPS                float32       `yaml:"kubeAPIQPS"`
	KubeAPIBurst              int32         `yaml:"kubeAPIBurst"`
	LeaderElectLeaseDuration  time.Duration `yaml:"leaderElectLeaseDuration"`
	LeaderElectRenewDeadline  time.Duration `yaml:"leaderElectRenewDeadline"`
	LeaderElectRetryPeriod    time.Duration `yaml:"leaderElectRetryPeriod"`
}

// APIServer are flags of kube-apiserver.
type APIServer struct {
	DefaultNotReadyTolerationSeconds    int64 `yaml:"defaultNotReadyTolerationSeconds"`
	DefaultUnreachableTolerationSeconds int64 `yaml:"defaultUnreachableTolerationSeconds"`
}

// Kubelet are fields of the kubelet's configuration.
type Kubelet struct {
	NodeLeaseDurationSeconds int32 `yaml:"nodeLeaseDurationSeconds"`
}

// Oldest and newest minor versions that the rules were read in.
const (
	oldest = "v1.32"
	newest = "v1.37"
)

// Defaults are the settings of a cluster that sets none, of a version from
// v1.32 on (pkg/controller/nodelifecycle/config/v1alpha1/defaults.go,
// cmd/kube-controller-manager/app/options/nodelifecyclecontroller.go,
// plugin/pkg/admission/defaulttolerationseconds/admission.go,
// pkg/kubelet/apis/config/v1beta1/defaults.go, k8s.io/component-base
// config/v1alpha1/defaults.go: the same from v1.32.13 to v1.37.0).
func Defaults(version string) Settings {
	return Settings{
		Version: version,
		ControllerManager: ControllerManager{
			NodeMonitorPeriod: 5 * time.Second, NodeMonitorGracePeriod: 50 * time.Second,
			NodeEvictionRate: 0.1, SecondaryNodeEvictionRate: 0.01,
			UnhealthyZoneThreshold: 0.55, LargeClusterSizeThreshold: 50,
			KubeAPIQPS: 20, KubeAPIBurst: 30,
			LeaderElectLeaseDuration: 15 * time.Second, LeaderElectRenewDeadline: 10 * time.Second, LeaderElectRetryPeriod: 2 * time.Second,
		},
		APIServer: APIServer{DefaultNotReadyTolerationSeconds: 300, DefaultUnreachableTolerationSeconds: 300},
		Kubelet:   Kubelet{NodeLeaseDurationSeconds: 40},
		Slack:     time.Second,
	}
}

// Problem is a setting that cannot be: its path and what is wrong with it.
type Problem struct{ Field, Text, Mend string }

// Problems lists what is wrong with the settings.
func (s Settings) Problems() []Problem {
	var out []Problem
	bad := func(field, mend, format string, args ...any) {
		out = append(out, Problem{field, fmt.Sprintf(format, args...), mend})
	}
	switch {
	case !semver.IsValid(s.Version):
		bad("version", "write it as v1.36.4", "%q is not a version", s.Version)
	case semver.Compare(semver.MajorMinor(s.Version), oldest) < 0 || semver.Compare(semver.MajorMinor(s.Version), newest) > 0:
		bad("version", "", "%s is not among the versions that the rules were read in, %s to %s", s.Version, oldest, newest)
	}
	c := s.ControllerManager
	for _, d := range []struct {
		field string
		v     time.Duration
	}{
		{"controllerManager.nodeMonitorPeriod", c.NodeMonitorPeriod},
		{"controllerManager.nodeMonitorGracePeriod", c.NodeMonitorGracePeriod},
		{"controllerManager.leaderElectLeaseDuration", c.LeaderElectLeaseDuration},
		{"controllerManager.leaderElectRenewDeadline", c.LeaderElectRenewDeadline},
		{"controllerManager.leaderElectRetryPeriod", c.LeaderElectRetryPeriod},
	} {
		if d.v <= 0 || d.v > 24*time.Hour {
			bad(d.field, "", "%s is not between 0 and 24h", d.v)
		}
	}
	if c.LeaderElectLeaseDuration <= c.LeaderElectRenewDeadline {
		bad("controllerManager.leaderElectLeaseDuration", "", "must be longer than leaderElectRenewDeadline, %s", c.LeaderElectRenewDeadline)
	}
	for _, r := range []struct {
		field string
		v     float32
	}{
		{"controllerManager.nodeEvictionRate", c.NodeEvictionRate},
		{"controllerManager.secondaryNodeEvictionRate", c.SecondaryNodeEvictionRate},
	} {
		if r.v < 0 {
			bad(r.field, "", "%v is negative", r.v)
		}
	}
	if c.UnhealthyZoneThreshold < 0 || c.UnhealthyZoneThreshold > 1 {
		bad("controllerManager.unhealthyZoneThreshold", "", "%v is not between 0 and 1", c.UnhealthyZoneThreshold)
	}
	if c.LargeClusterSizeThreshold < 0 {
		bad("controllerManager.largeClusterSizeThreshold", "", "%d is negative", c.LargeClusterSizeThreshold)
	}
	if c.KubeAPIQPS <= 0 {
		bad("controllerManager.kubeAPIQPS", "", "%v is not positive", c.KubeAPIQPS)
	}
	if c.KubeAPIBurst < 1 {
		bad("controllerManager.kubeAPIBurst", "", "%d is not positive", c.KubeAPIBurst)
	}
	if s.Kubelet.NodeLeaseDurationSeconds <= 0 {
		bad("kubelet.nodeLeaseDurationSeconds", "", "%d is not positive", s.Kubelet.NodeLeaseDurationSeconds)
	}
	for _, d := range []struct {
		field string
		v     time.Duration
	}{{"reconnect", s.Reconnect}, {"slack", s.Slack}} {
		if d.v < 0 || d.v > 24*time.Hour {
			bad(d.field, "", "%s is not between 0 and 24h", d.v)
		}
	}
	return out
}

// late is how much later than v1.34 the taint is queued (RuleExtra).
func (s Settings) late() time.Duration {
	if semver.Compare(semver.MajorMinor(s.Version), "v1.34") < 0 {
		return s.ControllerManager.NodeMonitorPeriod
	}
	return 0
}

// Renewal is the longest time between two renewals of a healthy node's lease: a
// quarter of its duration (pkg/kubelet/kubelet.go nodeLeaseRenewIntervalFraction),
// with the jitter of k8s.io/component-helpers apimachinery/lease/controller.go.
func (s Settings) Renewal() time.Duration {
	return time.Duration(float64(s.Kubelet.NodeLeaseDurationSeconds) * 0.25 * 1.04 * float64(time.Second))
}

// The times of a kubelet that lost its connection because packets were dropped:
// HTTP/2 gives a silent connection up after 30 s + 15 s
// (k8s.io/apimachinery pkg/util/net/http.go), counted from the cut, and the
// kubelet dials again with its next renewal or status, every 10 s.
const (
	deadAfter   = 45 * time.Second
	dialsWithin = 12 * time.Second
)

// heard is by when the nodes of a cut that heals are surely heard again.
func (s Settings) heard(heal time.Duration) time.Duration {
	if s.Reconnect > 0 {
		return heal + s.Reconnect
	}
	return max(heal, deadAfter) + dialsWithin
}

// Takeover is how long after the last renewal of a leader that died the next one
// may take to lead: the lease has to run out, and candidates look every retry
// period with a jitter of 1.2 (k8s.io/client-go
// tools/leaderelection/leaderelection.go JitterFactor).
func (s Settings) Takeover() time.Duration {
	c := s.ControllerManager
	return c.LeaderElectLeaseDuration + 2*c.LeaderElectRetryPeriod*22/10 + s.Slack
}
