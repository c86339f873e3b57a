package preflight

import (
	"fmt"
	"time"
)

const (
	// alertWarning and alertCritical are when the usual alert on certificates fires:
	// https://github.com/kubernetes-monitoring/kubernetes-mixin config.libsonnet,
	// certExpirationWarningSeconds and certExpirationCriticalSeconds.
	alertWarning  = 7 * 24 * time.Hour
	alertCritical = 24 * time.Hour
	// renewedFor is how long the certificates live that kubeadm makes in an upgrade,
	// unless their authority ends before: k8s.io/kubernetes@v1.37.0
	// cmd/kubeadm/app/constants/constants.go, CertificateValidityPeriod.
	renewedFor = 365 * 24 * time.Hour
)

// certificates looks for those that end before, during or soon after the upgrade.
func certificates(f *Facts) []Finding {
	const source = "https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-certs/"
	var out []Finding
	for _, c := range f.Certificates {
		found := Finding{Where: []string{c.Where}, Source: source, Mend: "kubeadm certs renew, then restart who uses it"}
		if c.CA {
			found.Mend = "renew the authority by hand: an upgrade does not"
		}
		left := c.Until.Sub(f.Now)
		ends := c.Until.UTC().Format(time.RFC3339)
		switch {
		case left <= 0:
			found.Severity, found.What = Blocks, fmt.Sprintf("%s ended %s", c.What, ends)
		case left < alertCritical:
			found.Severity, found.What = Blocks, fmt.Sprintf("%s ends %s, within a day", c.What, ends)
		case left < alertWarning:
			found.Severity, found.What = Warns, fmt.Sprintf("%s ends %s, within a week", c.What, ends)
		case c.CA && left < renewedFor:
			found.Severity, found.What = Warns, fmt.Sprintf("%s ends %s: what the upgrade renews ends with it", c.What, ends)
		default:
			continue
		}
		out = append(out, found)
	}
	return out
}
