package faults

// Catalogue lists every fault, in the order of `gameday list faults`.
func Catalogue() []Kind {
	return []Kind{
		apiserverKill,
		apiserverKillInTurn,
		apiserverStop,
		apiserverPause,
		etcdStop,
		etcdPause,
		etcdReplace,
		etcdLoseData,
		etcdMoveLeader,
		etcdDefrag,
		etcdAlarmNospace,
		networkPartition,
		networkDelay,
		networkLoss,
		networkReorder,
		networkBandwidth,
		networkFlap,
		networkHalfOpen,
		loadbalancerDeadBackend,
		dnsLost,
		dnsSlow,
		apiserverCutEtcd,
		etcdPartition,
		diskSlowFsync,
		diskFsyncError,
		diskFull,
		diskHang,
		diskPowerLoss,
		clockSkew,
		podKill,
		podEvict,
		pdbBlock,
		imagePullFail,
		apiserverBadCert,
		apiserverOverload,
		cpuSteal,
		memoryPressure,
		pidsPressure,
		diskPressure,
		inodesPressure,
		controllerManagerKill,
		controllerManagerPause,
		controllerManagerCrashLoop,
		schedulerKill,
		schedulerPause,
		schedulerCrashLoop,
		kubeletStop,
		kubeletKill,
		kubeletPause,
		containerdKill,
		nodeFreeze,
		nodePowerOff,
		nodeHang,
		loadbalancerKill,
		loadbalancerPause,
	}
}

// Lookup finds a fault by name.
func Lookup(name string) (Kind, bool) {
	for _, k := range Catalogue() {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}
