package faults

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"gameday/clusters"
)

var kubeletStop = Kind{
	Name: "kubelet.stop",
	Doc:  "Stops the kubelet of the targets and keeps it down: the node goes NotReady after 40 s, its pods go on.",
	Rehearses: "A kubelet that does not start after an upgrade or with a bad configuration: its node is NotReady, its pods are " +
		"replaced elsewhere after five minutes more, and static pods that crash are not restarted " +
		"(https://kubernetes.io/docs/concepts/architecture/nodes/#node-heartbeats).",
	Mechanism:   "systemctl stop kubelet, after a timer of the node's systemd that starts it again at maxHold",
	Undo:        "the node itself: the timer starts the kubelet; and before that the guard, or gameday heal",
	Roles:       machines,
	Needs:       []clusters.Capability{clusters.CapExec, clusters.CapKubelet},
	Cost:        Cost{Kubelets: 1},
	ProveWithin: 30 * time.Second,
	GoneWithin:  3 * time.Minute,
	Trials: []Trial{
		{Name: "kubelet-stop", Target: Target{Pick: PickOne, Role: "worker"}},
		{Name: "kubelet-stop-control-plane", Target: Target{Pick: PickOne, Role: "control-plane"}},
	},
	New: func() Fault { return &KubeletStop{} },
}

// KubeletStop is the fault kubelet.stop. It has no parameters.
//
// SIGKILL would not do: systemd starts a kubelet that was killed. A runtime mask or a
// drop-in that forbids it would need somebody to take it back. A transient timer
// (systemd-run(1)) is on the node before the kubelet is stopped, so that it comes back
// even when nobody of us is left.
type KubeletStop struct{}

// kubeletTimer is the name of the timer of one injection; all of them begin with
// kubeletTimers.
func kubeletTimer(tag string) string { return kubeletTimers + tag }

const kubeletTimers = "gameday-kubelet-"

// The scripts get the timer's name as $1. A kubelet that another injection keeps down
// stays down.
const (
	kubeletDown = `systemctl is-active --quiet "$1.timer" ||
  systemd-run --quiet --collect --unit="$1" --on-active="$2" --timer-property=AccuracySec=1s systemctl start kubelet
systemctl stop kubelet`
	kubeletUp = `if systemctl is-active --quiet "$1.timer"; then systemctl stop "$1.timer"; fi
if [ -z "$(systemctl list-units --no-legend --plain --state=active '` + kubeletTimers + `*.timer')" ]; then systemctl start kubelet; fi`
)

// Describe implements Describer.
func (*KubeletStop) Describe(targets []string) []string {
	return append(each(targets, "%s: systemd-run --unit="+kubeletTimer("TAG")+" --on-active=MAXHOLD systemctl start kubelet"),
		each(targets, "%s: systemctl stop kubelet")...)
}

// stopped are the nodes whose kubelet was stopped.
type stopped map[string]bool

// Inject arms the timer and stops the kubelet; a second one leaves the timer as it is.
func (*KubeletStop) Inject(ctx context.Context, env Env) error {
	s := stopped{}
	for _, n := range env.Targets {
		s[n.Name()] = true
	}
	if err := env.Notes.Save(s); err != nil {
		return err
	}
	for _, n := range env.Targets {
		hold := fmt.Sprintf("%ds", int(math.Ceil(env.MaxHold.Seconds())))
		if _, err := clusters.Output(ctx, n, "sh", "-ec", kubeletDown, "sh", kubeletTimer(env.Tag), hold); err != nil {
			return fmt.Errorf("stop the kubelet: %w", err)
		}
	}
	return nil
}

// Heal starts the kubelet and takes the timer away.
func (*KubeletStop) Heal(ctx context.Context, env Env) error {
	s := stopped{}
	if ok, err := env.Notes.Load(&s); err != nil || !ok {
		return err // nothing was stopped
	}
	var errs []error
	for _, n := range env.Targets {
		if _, err := clusters.Output(ctx, n, "sh", "-ec", kubeletUp, "sh", kubeletTimer(env.Tag)); err != nil {
			errs = append(errs, fmt.Errorf("start the kubelet: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Prove asks the kubelet's port, and the API how long ago the node was heard of.
func (*KubeletStop) Prove(ctx context.Context, env Env) (Effect, error) {
	s := stopped{}
	if _, err := env.Notes.Load(&s); err != nil {
		return Effect{}, err
	}
	k := kubelet()
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		m, text, err := k.meet(ctx, env, n)
		if err != nil {
			return seen{}, err
		}
		out := seen{broken: m == refusing && s[n.Name()], evidence: strings.Join([]string{"its kubelet", m.String(), text}, " ")}
		if m != speaks {
			return out, nil
		}
		if err := nodeServes(ctx, env, n); err != nil {
			out.evidence += "; but " + err.Error()
			return out, ctx.Err()
		}
		out.whole = true
		out.evidence += "; node Ready"
		return out, nil
	})
	if err != nil {
		return e, err
	}
	e.At = time.Now()
	return k.withControl(ctx, env, e), nil
}
