package sample

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"gameday/harness/history"
)

// clockPort is where the probing pods say what time it is.
const clockPort = "8080"

// clockTries is how often a clock is asked at a time: the quickest answer says the
// most, and the first one pays for the connection.
const clockTries = 3

// interval is what is known of how far a node's clock is ahead of the harness's.
type interval struct{ low, high time.Duration }

func (i interval) offset() time.Duration { return (i.low + i.high) / 2 }
func (i interval) bar() time.Duration    { return (i.high - i.low) / 2 }

// with is what two looks at a clock say together: what both allow, or, if they
// contradict each other (it was set, or drifted), what either does.
func (i interval) with(o interval) interval {
	both := interval{max(i.low, o.low), min(i.high, o.high)}
	if both.low <= both.high {
		return both
	}
	return interval{min(i.low, o.low), max(i.high, o.high)}
}

// clocks compares the clocks of the nodes with the harness's: a probing pod is
// asked for the time through the API, and it said so at some moment between the
// question and the answer.
type clocks struct {
	client kubernetes.Interface
	record *history.Recorder

	mu    sync.Mutex
	known map[string]interval // by node
}

// of is what is known of a node's clock.
func (c *clocks) of(node string) (interval, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := c.known[node]
	return i, ok
}

// measure asks the pod on a node.
func (c *clocks) measure(ctx context.Context, pod *corev1.Pod) error {
	var best interval
	for n := range clockTries {
		asked := c.record.Now()
		body, err := c.client.CoreV1().Pods(pod.Namespace).ProxyGet("http", pod.Name, clockPort, "/clock", nil).DoRaw(ctx)
		answered := c.record.Now()
		if err != nil {
			return fmt.Errorf("the clock of %s: %w", pod.Spec.NodeName, err)
		}
		said, err := strconv.ParseInt(strings.TrimSpace(string(body)), 10, 64)
		if err != nil {
			return fmt.Errorf("the clock of %s: %w", pod.Spec.NodeName, err)
		}
		at := time.Duration(said - c.record.Began().UnixNano())
		if i := (interval{at - answered, at - asked}); n == 0 || i.bar() < best.bar() {
			best = i
		}
	}
	c.mu.Lock()
	if before, ok := c.known[pod.Spec.NodeName]; ok {
		best = before.with(best)
	}
	c.known[pod.Spec.NodeName] = best
	c.mu.Unlock()
	c.record.Add(history.Event{Clock: &history.Clock{Node: pod.Spec.NodeName, Offset: best.offset(), Bar: best.bar()}})
	return nil
}

// at is a wall-clock time of a node's clock on the run's clock.
func (c *clocks) at(wall int64, i interval) time.Duration {
	return time.Duration(wall-c.record.Began().UnixNano()) - i.offset()
}
