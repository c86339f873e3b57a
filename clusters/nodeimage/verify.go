package nodeimage

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"runtime/debug"
)

// Verify fails unless the Go binary at path was compiled from module at exactly
// version, or, where replace names the module, from that directory. It reads
// what the Go linker wrote into the binary (`go version -m`), not what a flag
// made the binary say about itself. All modules in replace that the binary
// contains must be replaced, and none other by a directory.
func Verify(path, module, version string, replace map[string]string) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the build information of %s: %w", path, err)
	}
	if err := verifyDeps(linked(info), module, version, replace); err != nil {
		return fmt.Errorf("%s is not what was asked for: %w", path, err)
	}
	return nil
}

// linked lists the modules in a binary; that of the main package is kept apart
// from the dependencies there.
func linked(info *buildinfo.BuildInfo) []*debug.Module {
	return append([]*debug.Module{&info.Main}, info.Deps...)
}

// verifyReplaced fails unless every replaced module of Kubernetes is in at least
// one of the binaries: a fix that is in none of them would not be under test.
func verifyReplaced(paths []string, replace map[string]string) error {
	found := map[string]bool{}
	for _, p := range paths {
		info, err := buildinfo.ReadFile(p)
		if err != nil {
			return fmt.Errorf("reading the build information of %s: %w", p, err)
		}
		for _, d := range linked(info) {
			found[d.Path] = true
		}
	}
	var errs []error
	for _, m := range sortedKeys(replace) {
		if isKubernetes(m) && !found[m] {
			errs = append(errs, fmt.Errorf("%s was to be replaced by %s, and no binary contains it", m, replace[m]))
		}
	}
	return errors.Join(errs...)
}

func verifyDeps(deps []*debug.Module, module, version string, replace map[string]string) error {
	var errs []error
	found := false
	for _, d := range deps {
		dir, replaced := replace[d.Path]
		switch {
		case replaced && (d.Replace == nil || d.Replace.Path != dir):
			errs = append(errs, fmt.Errorf("%s was not taken from %s", d.Path, dir))
		case !replaced && d.Replace != nil && d.Replace.Version == "":
			errs = append(errs, fmt.Errorf("%s was taken from the directory %s, which nobody asked for", d.Path, d.Replace.Path))
		case d.Version == "v0.0.0" && d.Replace == nil:
			// The placeholder that Kubernetes' go.mod has for its staging
			// repositories; a published module never has it.
			errs = append(errs, fmt.Errorf("%s has the placeholder version v0.0.0", d.Path))
		case d.Version == "v0.0.0" && !replaced && module == "k8s.io/kubernetes" && d.Replace.Version != stagingVersion(version):
			errs = append(errs, fmt.Errorf("%s is %s, not %s", d.Path, d.Replace.Version, stagingVersion(version)))
		}
		if d.Path != module {
			continue
		}
		found = true
		if d.Version != version {
			errs = append(errs, fmt.Errorf("it was built from %s %s, not %s", module, d.Version, version))
		}
		if !replaced && d.Replace != nil && d.Replace.Version != "" {
			errs = append(errs, fmt.Errorf("%s was replaced by %s %s", module, d.Replace.Path, d.Replace.Version))
		}
	}
	if !found {
		errs = append(errs, fmt.Errorf("it holds no package of %s", module))
	}
	return errors.Join(errs...)
}
