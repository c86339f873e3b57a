package workload

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// together is how many requests Raise and Rest have under way at once: enough to
// make a thousand CronJobs within a minute, too few to be a load by themselves.
const together = 4

// CronJobs is how many there are.
func (s *Set) CronJobs() int {
	if s.spec.CronJobs == nil {
		return 0
	}
	return s.spec.CronJobs.Count
}

// Raise makes CronJobs, like those that are there, until there are n.
func (s *Set) Raise(ctx context.Context, n int) error {
	if s.spec.CronJobs == nil {
		return fmt.Errorf("the workload has no CronJobs to make more of")
	}
	w := *s.spec.CronJobs // the scenario's own stays as it is
	err := s.each(ctx, w.Count, n, "make", func(ctx context.Context, i int) error {
		_, err := s.client.BatchV1().CronJobs(s.Namespace).Create(ctx, s.build.cronJob(i, w), metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) { // an attempt without an answer made it
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	w.Count = max(w.Count, n)
	s.spec.CronJobs = &w
	return nil
}

// Rest suspends all CronJobs: they promise no slot from then on.
func (s *Set) Rest(ctx context.Context) error {
	return s.each(ctx, 0, s.CronJobs(), "suspend", func(ctx context.Context, i int) error {
		_, err := s.client.BatchV1().CronJobs(s.Namespace).Patch(ctx, numbered("cron", i), types.MergePatchType, []byte(`{"spec":{"suspend":true}}`), metav1.PatchOptions{})
		return err
	})
}

// each does something with the CronJobs from a number to below another, trying again
// until ctx ends: an API at its limits drops a request now and then.
func (s *Set) each(ctx context.Context, from, to int, verb string, do func(context.Context, int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(together)
	for i := from; i < to; i++ {
		group.Go(func() error {
			return until(ctx, verb+" cronjob "+numbered("cron", i), func(ctx context.Context) error { return do(ctx, i) })
		})
	}
	return group.Wait()
}
