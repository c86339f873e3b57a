package faults

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

func TestCatalogueIsComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Catalogue() {
		t.Run(k.Name, func(t *testing.T) {
			if !regexp.MustCompile(`^[a-z-]+\.[a-z-]+$`).MatchString(k.Name) || seen[k.Name] {
				t.Errorf("name %q", k.Name)
			}
			seen[k.Name] = true
			for what, text := range map[string]string{"Doc": k.Doc, "Rehearses": k.Rehearses, "Mechanism": k.Mechanism, "Undo": k.Undo} {
				if text == "" {
					t.Errorf("%s is empty", what)
				}
			}
			if !strings.Contains(k.Rehearses, "https://") {
				t.Error("Rehearses names no source")
			}
			// A fault that acts through the API alone needs nothing of its targets; one of a
			// controller takes nothing from the budget.
			if len(k.Roles) == 0 || k.ProveWithin <= 0 || k.GoneWithin <= 0 {
				t.Errorf("incomplete: %+v", k)
			}
			f := k.New()
			if v, ok := f.(Validator); ok && len(v.Validate()) > 0 {
				t.Errorf("the default parameters are invalid: %v", v.Validate())
			}
			d, ok := f.(Describer)
			if !ok || len(d.Describe([]string{"worker[0]", "the leader"})) < 2 {
				t.Error("cannot say beforehand what it would do")
			} else {
				for _, line := range d.Describe([]string{"TARGET"}) {
					if !strings.Contains(line, "TARGET") || strings.Contains(line, "%!") {
						t.Errorf("describes: %s", line)
					}
				}
			}
			if len(k.Trials) == 0 {
				t.Error("nobody tries it")
			}
			for _, tr := range k.Trials {
				f := k.New()
				if err := yaml.Unmarshal([]byte(tr.With), f); err != nil {
					t.Errorf("trial %s: %v", tr.Name, err)
				}
				if v, ok := f.(Validator); ok && len(v.Validate()) > 0 {
					t.Errorf("trial %s: %v", tr.Name, v.Validate())
				}
				if !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(tr.Name) || seen[tr.Name] {
					t.Errorf("trial %q: no name, or one that is taken", tr.Name)
				}
				seen[tr.Name] = true
			}
			// What a scenario says, a journal must be able to say again.
			b, err := yaml.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			back := k.New()
			if err := yaml.Unmarshal(b, back); err != nil {
				t.Fatal(err)
			}
			again, err := yaml.Marshal(back)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(b), string(again)); diff != "" {
				t.Errorf("parameters (-before +after):\n%s", diff)
			}
			if got, ok := Lookup(k.Name); !ok || got.Name != k.Name {
				t.Error("Lookup does not find it")
			}
		})
	}
	if _, ok := Lookup("no.such"); ok {
		t.Error("Lookup finds what is not there")
	}
}
