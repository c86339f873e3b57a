package upgrade

import "gameday/clusters"

// Catalogue lists every strategy. A new one is its file, its test and a line
// here.
func Catalogue() []Kind {
	return []Kind{
		{
			Name:  "kubeadm",
			Doc:   "kubeadm upgrade in place, node after node, with or without drain; kubelet and kubectl follow on each node",
			Needs: []clusters.Capability{clusters.CapKubelet, clusters.CapExec, clusters.CapFiles, clusters.CapProcesses},
			New:   func() Strategy { return &kubeadm{} },
		},
		{
			Name:  "binaries",
			Doc:   "by hand, without kubeadm: component after component in a given order, each program replaced and its process started anew; some may be stopped until their turn; for nodes without static pods (provider local)",
			Needs: []clusters.Capability{clusters.CapComponents},
			Takes: []string{OptionOrder, OptionStopFirst},
			New:   func() Strategy { return &binaries{} },
		},
		{
			Name:  "external",
			Doc:   "any command (a managed cluster's CLI, Ansible, a Makefile): given a kubeconfig, watched from outside by the versions of API servers and kubelets, ended with all that it started at upgrade.timeout",
			Takes: []string{OptionCommand},
			New:   func() Strategy { return &external{} },
		},
		{
			Name:  "surge",
			Doc:   "control planes by kubeadm in place; workers replaced by new machines, maxSurge + maxUnavailable at a time, as the node pools of managed clusters are",
			Needs: []clusters.Capability{clusters.CapKubelet, clusters.CapExec, clusters.CapFiles, clusters.CapProcesses},
			Takes: []string{OptionMaxSurge, OptionMaxUnavailable, OptionDrainExceeded, OptionSoak},
			New:   func() Strategy { return &surge{} },
		},
		{
			Name:  "blue-green",
			Doc:   "control planes by kubeadm in place; a new pool of workers beside the old one, a canary first; the old pool drained in batches and removed, rolled back if all is not well before",
			Needs: []clusters.Capability{clusters.CapKubelet, clusters.CapExec, clusters.CapFiles, clusters.CapProcesses},
			Takes: []string{OptionBatch, OptionSoak, OptionPoolSoak, OptionCanaryLog},
			New:   func() Strategy { return &blueGreen{} },
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
