package preflight

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// readManifests reads all YAML and JSON files below the paths. A path that is not
// there is an error; a file that cannot be read is told in the facts.
func (f *Facts) readManifests(paths []string) error {
	for _, p := range paths {
		err := filepath.WalkDir(p, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				if name == p {
					return err
				}
				f.Unread = append(f.Unread, Unread{Check: "apis", What: "a folder of manifests", Where: []string{name}, Why: err.Error()})
				return nil
			}
			// What is named is read, whatever its name.
			if d.IsDir() || name != p && !slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(name))) {
				return nil
			}
			f.ManifestFiles++
			data, err := os.ReadFile(name)
			if err == nil {
				err = f.addManifest(name, data)
			}
			if err != nil {
				f.Unread = append(f.Unread, Unread{
					Check: "apis", What: "the rest of a manifest", Where: []string{name}, Why: err.Error(),
					Mend: "give what is applied: a template must be rendered first",
				})
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("read manifests: %w", err)
		}
	}
	return nil
}

// addManifest reads all documents of a file; JSON is YAML.
func (f *Facts) addManifest(name string, data []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(doc.Content) != 1 {
			continue
		}
		if n := doc.Content[0]; n.Kind == yaml.MappingNode && len(n.Content) > 0 && n.Content[0].Kind != yaml.ScalarNode {
			return fmt.Errorf("line %d: {{ }} is no object", n.Line)
		}
		f.addObject(name, doc.Content[0])
	}
}

// addObject adds one object, or the objects of a List.
func (f *Facts) addObject(file string, n *yaml.Node) {
	version, kind := scalar(n, "apiVersion"), scalar(n, "kind")
	if version == "" || kind == "" {
		if n.Tag != "!!null" { // nothing between two lines of dashes
			f.NoObjects++ // such as the values of a chart
		}
		return
	}
	if items := field(n, "items"); items != nil && strings.HasSuffix(kind, "List") {
		for _, item := range items.Content {
			f.addObject(file, item)
		}
		return
	}
	name := ""
	if m := field(n, "metadata"); m != nil {
		if name = scalar(m, "name"); name == "" {
			name = scalar(m, "generateName")
		}
	}
	f.Documents = append(f.Documents, Document{File: file, Line: n.Line, GVK: schema.FromAPIVersionAndKind(version, kind), Name: name})
}

func field(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func scalar(n *yaml.Node, key string) string {
	if v := field(n, key); v != nil && v.Kind == yaml.ScalarNode {
		return v.Value
	}
	return ""
}
