package faults

var (
	controllerManagerPause = func() Kind {
		k := pausedKind(componentKind("controller-manager.pause", LeadsControllerManager, func() Fault { return &ControllerManagerPause{pausing{of: controllerManager()}} }), "controller manager", noControllers)
		k.Trials = []Trial{{Name: "controller-manager-pause", Target: Target{Pick: PickLeader}}}
		return k
	}()
	schedulerPause = func() Kind {
		k := pausedKind(componentKind("scheduler.pause", LeadsScheduler, func() Fault { return &SchedulerPause{pausing{of: scheduler()}} }), "scheduler", noScheduling)
		k.Trials = []Trial{{Name: "scheduler-pause", Target: Target{Pick: PickLeader}}}
		return k
	}()
)

// ControllerManagerPause is the fault controller-manager.pause. It has no parameters.
type ControllerManagerPause struct {
	pausing `yaml:"-" json:"-"`
}

// SchedulerPause is the fault scheduler.pause. It has no parameters.
type SchedulerPause struct {
	pausing `yaml:"-" json:"-"`
}
