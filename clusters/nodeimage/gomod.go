package nodeimage

import (
	"fmt"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// buildModule is the name of the generated main module of every compile.
const buildModule = "gameday.local/build"

// rewriteGoMod turns the go.mod of a released module into the go.mod of a main
// module that compiles exactly that release: same requirements, same language
// version, same godebug settings.
//
//   - Replacements by a folder inside the project's repository cannot work from
//     the module cache: the folders are not in the module. Kubernetes' staging
//     folders become their published twins, v0.X.Y of v1.X.Y; others are
//     dropped, and the require line beside them names the release.
//   - The module itself is required at its version. Without this line the build
//     would take the newest release on the proxy under the label that was asked
//     for.
//   - replace (module to absolute directory) is added; only modules of this
//     build may be in it.
func rewriteGoMod(upstream []byte, path, version string, replace map[string]string) ([]byte, error) {
	f, err := modfile.Parse(path+"@"+version+"/go.mod", upstream, nil)
	if err != nil {
		return nil, fmt.Errorf("parsing the go.mod of %s@%s: %w", path, version, err)
	}
	if f.Module == nil || f.Module.Mod.Path != path {
		return nil, fmt.Errorf("the go.mod of %s@%s is not of that module", path, version)
	}
	if err := f.AddModuleStmt(buildModule); err != nil {
		return nil, err
	}
	var staging, dropped []module.Version
	for _, r := range f.Replace {
		switch {
		case r.New.Version != "":
		case strings.HasPrefix(r.New.Path, "./staging/src/"):
			staging = append(staging, r.Old)
		default:
			dropped = append(dropped, r.Old)
		}
	}
	for _, m := range dropped {
		if err := f.DropReplace(m.Path, m.Version); err != nil {
			return nil, err
		}
	}
	for _, m := range staging {
		if err := f.AddReplace(m.Path, m.Version, m.Path, stagingVersion(version)); err != nil {
			return nil, err
		}
	}
	if err := f.AddRequire(path, version); err != nil {
		return nil, err
	}
	for _, m := range sortedKeys(replace) {
		// Every replacement of the module goes, so that no versioned one wins
		// over ours.
		for _, r := range f.Replace {
			if r.Old.Path == m {
				if err := f.DropReplace(m, r.Old.Version); err != nil {
					return nil, err
				}
			}
		}
		if err := f.AddReplace(m, "", replace[m], ""); err != nil {
			return nil, err
		}
	}
	f.Cleanup()
	return f.Format()
}

// stagingVersion is the version under which the staging repositories of a
// Kubernetes release are published: v0.X.Y for v1.X.Y.
func stagingVersion(version string) string {
	return "v0" + strings.TrimPrefix(version, "v1")
}

// relevant returns the part of replace that takes part in a build of the module
// whose go.mod is given: go.mod of a module with a pruned graph (Go 1.17 and
// later) lists every module that its packages need. Kubernetes' own modules are
// replaced in Kubernetes only: CoreDNS and containerd use other releases of
// client-go and the like, and need not compile with the one under test.
func relevant(upstream []byte, path string, replace map[string]string) (map[string]string, error) {
	out := map[string]string{}
	if len(replace) == 0 {
		return out, nil
	}
	f, err := modfile.ParseLax(path+"/go.mod", upstream, nil)
	if err != nil {
		return nil, fmt.Errorf("parsing the go.mod of %s: %w", path, err)
	}
	if dir, ok := replace[path]; ok {
		out[path] = dir
	}
	for _, r := range f.Require {
		dir, ok := replace[r.Mod.Path]
		if ok && (!isKubernetes(r.Mod.Path) || isKubernetes(path)) {
			out[r.Mod.Path] = dir
		}
	}
	return out, nil
}

// isKubernetes says whether a module is Kubernetes or published from its tree.
func isKubernetes(module string) bool { return strings.HasPrefix(module, "k8s.io/") }
