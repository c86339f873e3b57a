package sample

import (
	"time"

	"golang.org/x/sys/unix"

	"gameday/harness/history"
)

// SelfUsage is what this process has used since its start. CPU includes the
// children that ended and were waited for; MaxRSS is this process alone. If
// the kernel does not say (it always does on Linux), the number is zero.
func SelfUsage() *history.Usage {
	var u history.Usage
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if err := unix.Getrusage(who, &r); err != nil {
			continue
		}
		u.CPU += time.Duration(r.Utime.Nano() + r.Stime.Nano())
		if who == unix.RUSAGE_SELF {
			u.MaxRSS = r.Maxrss << 10 // the kernel counts in KiB
		}
	}
	return &u
}
