package faults

// Catalogue lists every fault, in the order of `gameday list faults`.
func Catalogue() []Kind {
	return []Kind{
		apiserverKill,
		etcdStop,
		etcdReplace,
		networkPartition,
		diskSlowFsync,
		clockSkew,
		podKill,
		podEvict,
		pdbBlock,
		apiserverBadCert,
		apiserverOverload,
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
