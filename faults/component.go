package faults

import (
	"context"
	"time"

	"gameday/clusters"
)

// The faults of the controller manager and the scheduler are the same but for the
// name: they are killed, paused, or killed again and again, on the leader or on
// another node. When the leader is hit the time is measured in which nobody leads,
// that is in which nobody renews the lease.

// Both listen on 127.0.0.1 of their node only, as kubeadm has it:
// k8s.io/kubernetes@v1.37.0 cmd/kubeadm/app/phases/controlplane/manifests.go,
// pkg/cluster/ports/ports.go, pkg/scheduler/apis/config/types.go.
const (
	controllerManagerHealth = "https://127.0.0.1:10257/healthz"
	schedulerHealth         = "https://127.0.0.1:10259/healthz"
)

func controllerManager() service {
	return component(LeadsControllerManager, controllerManagerHealth)
}

func scheduler() service { return component(LeadsScheduler, schedulerHealth) }

func component(name, health string) service {
	meetIt := func(ctx context.Context, _ Env, n clusters.Node) (met, string, error) {
		return meet(ctx, fromInside(n), health)
	}
	return service{
		name: name, programs: []string{name}, meet: meetIt, lease: name,
		control: elsewhere([]clusters.Role{clusters.ControlPlane}, "has one that answers /healthz", meetIt),
	}
}

// componentKind fills what the faults of both have in common.
func componentKind(name, leads string, make func() Fault) Kind {
	return Kind{
		Name: name, Leads: leads,
		Roles: []clusters.Role{clusters.ControlPlane}, Needs: []clusters.Capability{clusters.CapProcesses},
		ProveWithin: 20 * time.Second,
		// The kubelet restarts it after its back-off, at most 5 min between crashes
		// (k8s.io/kubernetes@v1.37.0 pkg/kubelet/kubelet.go MaxCrashLoopBackOff); and
		// whoever takes over waits for the end of the lease, 13 to 24 s.
		GoneWithin: 7 * time.Minute,
		New:        make,
	}
}

// leases is where the behaviour of leader election is documented.
const leases = "(https://kubernetes.io/docs/concepts/architecture/leases/#leader-election)"

func killed(k Kind, what, meanwhile string) Kind {
	k.Doc = "Kills the " + what + " process of the targets, as the kernel does when memory runs out."
	k.Rehearses = "A crash of the one " + what + " that leads: its lease must run out first, 13 to 24 s in which " + meanwhile +
		"; of one that waits, it must be seen by nobody " + leases + "."
	k.Mechanism = "SIGKILL by pidfd to the " + what + " below the node's first process"
	k.Undo = "none needed: the kubelet restarts the static pod"
	k.Instant = true
	return k
}

func pausedKind(k Kind, what, meanwhile string) Kind {
	k.Doc = "Pauses the " + what + " process of the targets: it takes connections and does nothing."
	k.Rehearses = "A leader that hangs, or whose machine is paused, and does not know it: after 15 s another one leads, and the " +
		"old one, when it goes on, must notice before it acts; until then " + meanwhile + " " + leases + "."
	k.Mechanism = "SIGSTOP by pidfd; one that its liveness probe restarts (after about two minutes) is paused again"
	k.Undo = "the guard, or gameday heal, sends SIGCONT to the processes in the journal that still live"
	return k
}

func crashLoopKind(k Kind, what, meanwhile string) Kind {
	k.Doc = "Kills the " + what + " process of the targets again each time that it is back."
	k.Rehearses = "A " + what + " with a bad flag or certificate, in CrashLoopBackOff: if it is the only one, or all of them, " +
		meanwhile + " for as long, and after the cure up to 5 min more, the longest back-off " +
		"(https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy)."
	k.Mechanism = "SIGKILL by pidfd, and again within " + crashEvery.String() + " of each restart"
	k.Undo = "the process that kills ends with gameday, or at maxHold; the kubelet restarts the static pod"
	return k
}

const (
	noControllers = "no Job, Pod or Endpoint is made and no dead node is noticed"
	noScheduling  = "no new pod gets a node"
)
