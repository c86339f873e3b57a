package run

import (
	"gameday/harness/sample"
	"gameday/harness/slo"
	"gameday/scenarios"
)

// alertsOf is where alerts are asked for, nil if no promise is about them.
func alertsOf(promises []scenarios.SLO) *sample.AlertsConfig {
	for _, p := range promises {
		if c, ok := p.With.(*slo.Alerts); ok {
			return &sample.AlertsConfig{URL: c.URL, Kind: c.Kind, TokenFile: c.TokenFile, Names: c.Names()}
		}
	}
	return nil
}
