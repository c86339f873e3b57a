package slo

import (
	"strings"
	"time"

	"gameday/harness/history"
	"gameday/scenarios"
)

// CronJobLatency promises that the controller makes the Job of every slot in time:
// cron.job-latency. It is the part of cron.start-latency that is the control plane's
// own, and is measured where no container is run, too. A slot without a Job counts as
// longer than any bound, unless it was missed lawfully.
type CronJobLatency struct {
	// P99 of the time from the slot to its Job; 0 does not judge it.
	P99 time.Duration `yaml:"p99"`
	// Max of it; 0 does not judge it.
	Max time.Duration `yaml:"max"`
	// During gives larger bounds to slots that meet phases or faults which are known
	// to cost more.
	During []CronDuring `yaml:"during"`
	// Min is the least number of slots.
	Min int `yaml:"min"`
}

func newCronJobLatency() Checker { return &CronJobLatency{P99: 60 * time.Second, Min: 10} }

// starts is the promise about starts that has the same bounds.
func (c *CronJobLatency) starts() *CronStartLatency {
	return &CronStartLatency{P99: c.P99, Max: c.Max, During: c.During, Min: c.Min}
}

// Validate implements Validator.
func (c *CronJobLatency) Validate() []error { return c.starts().Validate() }

// Fits implements scenarios.Fitter.
func (c *CronJobLatency) Fits(run scenarios.Shape) []error { return c.starts().Fits(run) }

// Check implements Checker.
func (c *CronJobLatency) Check(h *history.History) []Result {
	s := c.starts()
	w := s.work(h)
	w.slots, w.young = nil, 0
	for _, x := range w.all {
		switch old := h.Run.Began.Add(w.stop).Sub(x.At) >= w.slack; {
		case !old && len(x.Jobs) == 0:
			w.young++
		default: // of a slot that has its Job it is known how late that came
			w.slots = append(w.slots, Slot{
				Namespace: x.Namespace, CronJob: x.CronJob, CronJobUID: x.CronJobUID, At: x.At, Next: x.Next, Policy: x.Policy, Deadline: x.Deadline,
				Jobs: x.Jobs, Created: x.Created, Started: x.Created, Bar: apiSecond,
			})
		}
	}
	r := s.latency(w)
	r.Name, r.Hops = "cron.job-latency", nil
	r.Promise = strings.Replace(r.Promise, "slot to first container", "slot to its Job", 1)
	return []Result{r}
}
