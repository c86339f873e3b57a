package scenarios

import (
	"cmp"
	_ "embed" // typesSource
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"

	"gameday/clusters"
	"gameday/faults"
)

// typesSource holds the comments that become the schema's descriptions.
//
//go:embed types.go
var typesSource string

// Schema is the JSON schema of a scenario file, made of the types and the
// catalogues, so that an editor can complete and check it.
func Schema(known Known) ([]byte, error) {
	comments, err := typeComments()
	if err != nil {
		return nil, err
	}
	r := reflector("yaml", "")
	r.CommentMap = comments
	root := r.Reflect(&Scenario{})
	root.ID = "https://gameday.invalid/scenario.schema.json"
	root.Title = "gameday scenario"
	draw := reflector("yaml", "")
	draw.CommentMap = comments
	root.Definitions["Random"] = draw.Reflect(&Random{}).Definitions["Random"]
	s := schema{root.Definitions}

	s.set("Scenario", "apiVersion", &jsonschema.Schema{Const: APIVersion})
	s.set("Scenario", "kind", &jsonschema.Schema{Const: Kind})
	s.enum("CronJobs", "policy", policies())
	s.enum("Upgrade", "strategy", known.strategyNames())
	s.enum("Upgrade", "drain", drains())
	s.enum("Upgrade", "drainExceeded", exceeded())
	s.enum("Expect", "outcome", outcomes())
	s.enum("Target", "pick", faults.Picks())
	s.enum("Target", "role", []string{string(clusters.ControlPlane), string(clusters.Worker), string(clusters.LoadBalancer)})
	s.set("Scenario", "allow", &jsonschema.Schema{Type: "array", Items: enum(allows())})
	random := object("random", &jsonschema.Schema{Ref: "#/$defs/Random"})
	random.Required, random.AdditionalProperties = []string{"random"}, jsonschema.FalseSchema
	s.set("Scenario", "faults", &jsonschema.Schema{OneOf: []*jsonschema.Schema{
		{Type: "array", Items: &jsonschema.Schema{Ref: "#/$defs/Fault"}}, random,
	}})
	s.set("Random", "from", &jsonschema.Schema{Type: "array", Items: enum(known.faultNames())})
	for def, fields := range map[string][]string{
		"Scenario":    {"apiVersion", "kind", "name", "description", "cluster", "slos"},
		"Cluster":     {"version", "controlPlanes", "workers"},
		"CronJobs":    {"count"},
		"Deployments": {"count", "replicas"},
		"Stateful":    {"count", "replicas"},
		"Jobs":        {"parallel", "duration"},
		"Upgrade":     {"to"},
		"Expect":      {"phase", "outcome", "because"},
		"Fault":       {"id", "fault", "target"},
		"Random":      {"meanGap"},
	} {
		root.Definitions[def].Required = fields
	}

	fault := root.Definitions["Fault"]
	s.enum("Fault", "fault", known.faultNames())
	fault.Properties.Set("with", &jsonschema.Schema{Type: "object", Description: "The fault's own parameters."})
	for _, k := range known.Faults {
		fault.AllOf = append(fault.AllOf, &jsonschema.Schema{
			If:   object("fault", &jsonschema.Schema{Const: k.Name}),
			Then: object("with", params(k.New(), k.Doc, "-?")),
		})
	}
	slo := &jsonschema.Schema{OneOf: []*jsonschema.Schema{enum(known.sloNames())}, Description: "A promise: `name`, or `name: {parameters}`."}
	for _, k := range known.SLOs {
		o := object(k.Name, params(k.New(), k.Doc, ""))
		o.Required, o.AdditionalProperties = []string{k.Name}, jsonschema.FalseSchema
		slo.OneOf = append(slo.OneOf, o)
	}
	root.Definitions["SLO"] = slo

	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the JSON schema: %w", err)
	}
	return append(out, '\n'), nil
}

type schema struct{ defs jsonschema.Definitions }

// set replaces the schema of a field and keeps its description.
func (s schema) set(def, field string, to *jsonschema.Schema) {
	if old, ok := s.defs[def].Properties.Get(field); ok {
		to.Description = old.Description
	}
	s.defs[def].Properties.Set(field, to)
}

func (s schema) enum(def, field string, words []string) { s.set(def, field, enum(words)) }

func enum(words []string) *jsonschema.Schema {
	out := &jsonschema.Schema{Type: "string"}
	for _, w := range words {
		out.Enum = append(out.Enum, w)
	}
	return out
}

func object(field string, s *jsonschema.Schema) *jsonschema.Schema {
	o := &jsonschema.Schema{Type: "object", Properties: jsonschema.NewProperties()}
	o.Properties.Set(field, s)
	return o
}

// params is the schema of the parameters of a fault or an SLO; sign is what may
// stand before a duration, as a pattern.
func params(v any, doc, sign string) *jsonschema.Schema {
	t := reflect.TypeOf(v)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	tag := "json"
	for i := range t.NumField() {
		if _, ok := t.Field(i).Tag.Lookup("yaml"); ok {
			tag = "yaml"
		}
	}
	r := reflector(tag, sign)
	r.Anonymous, r.DoNotReference, r.ExpandedStruct = true, true, true
	out := r.ReflectFromType(t)
	byPattern(r, out, t)
	out.Version = ""
	out.Description = doc
	return out
}

// byPattern adds the fields that inlined maps take by the pattern of their names,
// also in the lists of structs below.
func byPattern(r *jsonschema.Reflector, s *jsonschema.Schema, t reflect.Type) {
	for _, f := range fieldsOf(t) {
		field := t.FieldByIndex(f.index)
		if k, ok := reflect.Zero(field.Type).Interface().(Keyed); ok && f.inline {
			s.PatternProperties = map[string]*jsonschema.Schema{k.KeyPattern(): cmp.Or(r.Mapper(field.Type.Elem()), jsonschema.TrueSchema)}
		}
		if field.Type.Kind() == reflect.Slice && field.Type.Elem().Kind() == reflect.Struct && s.Properties != nil {
			if p, ok := s.Properties.Get(f.name); ok && p.Items != nil {
				byPattern(r, p.Items, field.Type.Elem())
			}
		}
	}
}

func reflector(tag, sign string) *jsonschema.Reflector {
	return &jsonschema.Reflector{
		FieldNameTag:               tag,
		RequiredFromJSONSchemaTags: true,
		KeyNamer:                   lowerFirst,
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			if t == durationType {
				return &jsonschema.Schema{Type: "string", Pattern: `^` + sign + `([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`}
			}
			if reflect.PointerTo(t).Implements(yamlType) && t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String {
				word := &jsonschema.Schema{Type: "string"} // one, or several
				return &jsonschema.Schema{OneOf: []*jsonschema.Schema{word, {Type: "array", Items: word}}}
			}
			return nil
		},
	}
}

// typeComments are the comments of types.go by type and field.
func typeComments() (map[string]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "types.go", typesSource, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("read the comments of the scenario types: %w", err)
	}
	pkg := reflect.TypeFor[Scenario]().PkgPath()
	out := map[string]string{}
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range gen.Specs {
			typ, ok := spec.(*ast.TypeSpec)
			if !ok {
				continue
			}
			name := pkg + "." + typ.Name.Name
			out[name] = oneLine(gen.Doc)
			if st, ok := typ.Type.(*ast.StructType); ok {
				for _, f := range st.Fields.List {
					for _, n := range f.Names {
						out[name+"."+n.Name] = oneLine(f.Doc)
					}
				}
			}
		}
	}
	return out, nil
}

func oneLine(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }
