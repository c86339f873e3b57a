package faults

var (
	controllerManagerCrashLoop = func() Kind {
		k := crashLoopKind(componentKind("controller-manager.crash-loop", LeadsControllerManager, func() Fault { return &ControllerManagerCrashLoop{crashing{of: controllerManager()}} }), "controller manager", noControllers)
		k.Trials = []Trial{{Name: "controller-manager-crash-loop", Target: Target{Pick: PickFollower}}}
		return k
	}()
	schedulerCrashLoop = func() Kind {
		k := crashLoopKind(componentKind("scheduler.crash-loop", LeadsScheduler, func() Fault { return &SchedulerCrashLoop{crashing{of: scheduler()}} }), "scheduler", noScheduling)
		k.Trials = []Trial{{Name: "scheduler-crash-loop", Target: Target{Pick: PickLeader}}}
		return k
	}()
)

// ControllerManagerCrashLoop is the fault controller-manager.crash-loop. It has no
// parameters.
type ControllerManagerCrashLoop struct {
	crashing `yaml:"-" json:"-"`
}

// SchedulerCrashLoop is the fault scheduler.crash-loop. It has no parameters.
type SchedulerCrashLoop struct {
	crashing `yaml:"-" json:"-"`
}
