package clusters

import _ "embed"

// AuditPolicy is what every API server's audit log holds, whatever the provider: the
// checkers read it.
//
//go:embed audit-policy.yaml
var AuditPolicy []byte
