package scenarios

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestSchema(t *testing.T) {
	out, err := Schema(fakeKnown())
	if err != nil {
		t.Fatal(err)
	}
	again, err := Schema(fakeKnown())
	if err != nil || !bytes.Equal(out, again) {
		t.Errorf("made twice, the schema differs (%v)", err)
	}
	var s struct {
		Ref  string `json:"$ref"`
		Defs map[string]struct {
			AdditionalProperties *bool          `json:"additionalProperties"`
			Properties           map[string]any `json:"properties"`
			Required             []string       `json:"required"`
			AllOf                []any          `json:"allOf"`
			OneOf                []any          `json:"oneOf"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatal(err)
	}
	for name, def := range s.Defs {
		if name == "SLO" {
			if len(def.OneOf) != 3 { // the names, and two SLOs with parameters
				t.Errorf("SLO has %d forms", len(def.OneOf))
			}
			continue
		}
		if def.AdditionalProperties == nil || *def.AdditionalProperties {
			t.Errorf("%s takes unknown fields; the loader does not", name)
		}
		for field, p := range def.Properties {
			m, ok := p.(map[string]any)
			if !ok {
				t.Errorf("%s.%s is %v", name, field, p)
				continue
			}
			if _, ok := m["description"]; !ok && name != "Target" { // faults' type: its comments are not here
				t.Errorf("%s.%s has no description: comment it in types.go", name, field)
			}
		}
		for _, r := range def.Required {
			if _, ok := def.Properties[r]; !ok {
				t.Errorf("%s requires %q, which it does not have", name, r)
			}
		}
	}
	if got := len(s.Defs["Fault"].AllOf); got != 3 {
		t.Errorf("%d faults have parameters in the schema, not 3", got)
	}
	for _, want := range []string{
		`"const": "gameday/v1alpha1"`, `"p99"`, `"^p[0-9]{2}\\.[0-9]+$": {`, `"oneWay"`, `"etcdQuorumLoss"`, `"roll back"`,
		`"Fault is its name in the catalogue: ` + "`gameday list faults`" + `."`,
	} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("the schema lacks %s", want)
		}
	}
	// A field of the fault's contract is no parameter.
	if strings.Contains(string(out), "private") {
		t.Error("the schema shows an unexported field")
	}
}

func TestLibraryNames(t *testing.T) {
	list, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name)
		if !bytes.Contains(e.Data, []byte("\nname: "+e.Name+"\n")) {
			t.Errorf("%s names itself otherwise", e.File)
		}
		if !bytes.HasPrefix(e.Data, []byte("# ")) {
			t.Errorf("%s does not begin with a comment", e.File)
		}
	}
	for _, want := range []string{"kill-all-apiservers", "upgrade-clean", "upgrade-under-fire"} {
		if !strings.Contains(strings.Join(names, " "), want) {
			t.Errorf("the library lacks %s", want)
		}
	}
}
