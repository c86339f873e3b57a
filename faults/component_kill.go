package faults

var (
	controllerManagerKill = func() Kind {
		k := killed(componentKind("controller-manager.kill", LeadsControllerManager, func() Fault { return &ControllerManagerKill{killing{of: controllerManager()}} }), "controller manager", noControllers)
		k.Trials = []Trial{
			{Name: "controller-manager-kill-leader", Target: Target{Pick: PickLeader}},
			{Name: "controller-manager-kill-follower", Target: Target{Pick: PickFollower}},
		}
		return k
	}()
	schedulerKill = func() Kind {
		k := killed(componentKind("scheduler.kill", LeadsScheduler, func() Fault { return &SchedulerKill{killing{of: scheduler()}} }), "scheduler", noScheduling)
		k.Trials = []Trial{
			{Name: "scheduler-kill-leader", Target: Target{Pick: PickLeader}},
			{Name: "scheduler-kill-follower", Target: Target{Pick: PickFollower}},
		}
		return k
	}()
)

// ControllerManagerKill is the fault controller-manager.kill. It has no parameters.
type ControllerManagerKill struct {
	killing `yaml:"-" json:"-"`
}

// SchedulerKill is the fault scheduler.kill. It has no parameters.
type SchedulerKill struct {
	killing `yaml:"-" json:"-"`
}
