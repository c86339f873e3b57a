package kind

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gameday/clusters"
)

func TestCgroupOf(t *testing.T) {
	const id = "54cc1b50"
	const v1Mounts = `40 30 0:33 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
41 30 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
42 30 0:35 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
43 30 0:36 / /proc rw - proc proc rw
`
	const hybrid = v1Mounts + "44 30 0:37 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	for _, tc := range []struct {
		name, cgroup, mounts string
		want                 clusters.Cgroup
		err                  string
	}{
		{
			name:   "first version",
			cgroup: "9:name=systemd:/docker/54cc1b50/init.scope\n6:freezer:/docker/54cc1b50\n1:cpu,cpuacct:/docker/54cc1b50/init.scope\n3:cpuset:/docker/54cc1b50\n",
			mounts: v1Mounts,
			want: clusters.Cgroup{Controllers: map[string]string{
				"cpu": "/sys/fs/cgroup/cpu/docker/54cc1b50", "cpuacct": "/sys/fs/cgroup/cpu/docker/54cc1b50", "freezer": "/sys/fs/cgroup/freezer/docker/54cc1b50",
			}},
		},
		{
			name:   "both, with the node in both",
			cgroup: "6:freezer:/docker/54cc1b50\n0::/docker/54cc1b50/kubelet.slice/kubelet.service\n",
			mounts: hybrid,
			want: clusters.Cgroup{
				Unified: "/sys/fs/cgroup/unified/docker/54cc1b50", Controllers: map[string]string{"freezer": "/sys/fs/cgroup/freezer/docker/54cc1b50"},
			},
		},
		{
			name:   "both, with nobody in the second",
			cgroup: "6:freezer:/docker/54cc1b50\n0::/\n",
			mounts: hybrid,
			want:   clusters.Cgroup{Controllers: map[string]string{"freezer": "/sys/fs/cgroup/freezer/docker/54cc1b50"}},
		},
		{
			name:   "second version, by systemd",
			cgroup: "0::/system.slice/docker-54cc1b50.scope/init.scope\n",
			mounts: "30 1 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n",
			want:   clusters.Cgroup{Unified: "/sys/fs/cgroup/system.slice/docker-54cc1b50.scope", Controllers: map[string]string{}},
		},
		{
			name:   "a part of the hierarchy is mounted",
			cgroup: "0::/outer/docker/54cc1b50\n",
			mounts: "30 1 0:30 /outer /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
			want:   clusters.Cgroup{Unified: "/sys/fs/cgroup/docker/54cc1b50", Controllers: map[string]string{}},
		},
		{name: "outside of the part", cgroup: "6:freezer:/docker/54cc1b50\n", mounts: "30 1 0:30 /outer /f rw - cgroup cgroup rw,freezer\n", err: "outside of what is mounted"},
		{name: "above our namespace", cgroup: "6:freezer:/../docker/54cc1b50\n", mounts: v1Mounts, err: "outside of what is mounted"},
		{name: "another container", cgroup: "6:freezer:/docker/77\n", mounts: v1Mounts, err: "not the group of container"},
		{name: "nothing mounted", cgroup: "6:freezer:/docker/54cc1b50\n", mounts: "", err: "none of its hierarchies"},
		{name: "not that file", cgroup: "nonsense\n", mounts: v1Mounts, err: "no line of"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := cgroupOf(id, tc.cgroup, tc.mounts)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("got %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
