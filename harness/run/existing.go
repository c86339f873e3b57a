package run

import (
	"context"
	"fmt"

	"gameday/clusters"
)

// existing is a provider whose cluster is there already: nothing is made, and
// nothing of it is deleted.
type existing struct{ clusters.Provider }

// Check implements clusters.Provider: the cluster must be there, and nobody use it.
func (e existing) Check(ctx context.Context, spec clusters.Spec) error {
	if _, err := e.Open(ctx, spec.Name); err != nil {
		return err
	}
	who, err := Live(spec.Name)
	if err == nil && who != "" {
		err = fmt.Errorf("cluster %s is in use by %s", spec.Name, who)
	}
	return err
}

// Create implements clusters.Provider.
func (e existing) Create(ctx context.Context, spec clusters.Spec, _ clusters.Say) (clusters.Cluster, error) {
	return e.Open(ctx, spec.Name)
}

// Delete implements clusters.Provider.
func (e existing) Delete(context.Context, string) error { return nil }
