package upgrade

// Catalogue lists every strategy. A new one is its file, its test and a line
// here.
func Catalogue() []Kind {
	return []Kind{
		{
			Name: "kubeadm",
			Doc:  "kubeadm upgrade in place, node after node, with or without drain; kubelet and kubectl follow on each node",
			New:  func() Strategy { return &kubeadm{} },
		},
		{
			Name: "surge",
			Doc:  "control planes by kubeadm in place; workers replaced by new machines, maxSurge + maxUnavailable at a time, as the node pools of managed clusters are",
			New:  func() Strategy { return &surge{} },
		},
	}
}

// Lookup finds a strategy by name.
func Lookup(name string) (Kind, bool) {
	for _, k := range Catalogue() {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}
