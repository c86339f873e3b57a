package preflight

import (
	"fmt"
	"slices"
	"strings"
)

// storage looks for versions in which objects may still be stored, but that are to
// go: nothing rewrites them by itself.
func storage(f *Facts) []Finding {
	const source = "https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#upgrade-existing-objects-to-a-new-stored-version"
	var out []Finding
	for _, d := range f.Definitions {
		var unserved, old []string
		for _, v := range d.Stored {
			switch {
			case !slices.Contains(d.Served, v):
				unserved = append(unserved, v)
			case v != d.Storage:
				old = append(old, v)
			}
		}
		mend := fmt.Sprintf("write all objects anew (a StorageVersionMigration), then take the version out of status.storedVersions; new ones are stored as %s", d.Storage)
		for _, part := range []struct {
			versions []string
			severity Severity
			what     string
		}{
			{unserved, Warns, "objects may be stored as %s, which is not served"},
			{old, Note, "objects may be stored as %s, which is not the storage version"},
		} {
			if len(part.versions) > 0 {
				out = append(out, Finding{
					Severity: part.severity, What: fmt.Sprintf(part.what, strings.Join(part.versions, ", ")),
					Where: []string{"CustomResourceDefinition " + d.Name}, Mend: mend, Source: source,
				})
			}
		}
	}
	return out
}
