package scenarios

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// decoder fills Go values from YAML nodes, strictly, and collects every problem
// with its place instead of ending at the first.
type decoder struct {
	file     string
	problems []Problem
	// start is how the file must begin, one what may be in it once: for messages.
	start, one string
	// decoded is how many of them were there when all was decoded.
	decoded int
	// at is the node of each field that the file gives, by path.
	at map[string]*yaml.Node
	// signed lets durations be negative: those of a fault's parameters, which the
	// fault checks itself (a clock may go before or after).
	signed bool
	// special decodes the types that are more than their fields.
	special map[reflect.Type]func(n *yaml.Node, v reflect.Value, path string)
}

// defaulter fills a value before it is decoded into.
type defaulter interface{ setDefaults() }

var (
	durationType = reflect.TypeFor[time.Duration]()
	yamlType     = reflect.TypeFor[yaml.Unmarshaler]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func (d *decoder) problem(n *yaml.Node, path, mend, format string, args ...any) {
	p := Problem{File: d.file, Field: path, Text: fmt.Sprintf(format, args...), Mend: mend}
	if n != nil {
		p.Line, p.Col = n.Line, n.Column
	}
	d.problems = append(d.problems, p)
}

// wrong reports a problem with a field that may not be in the file: then the
// nearest thing around it says where. A field that could not be decoded has been
// reported already; what follows from that is noise.
func (d *decoder) wrong(path, mend, format string, args ...any) {
	for _, p := range d.problems[:d.decoded] {
		if p.Field == path || strings.HasPrefix(p.Field, path+".") || strings.HasPrefix(p.Field, path+"[") {
			return
		}
	}
	near := path
	for {
		if n, ok := d.at[near]; ok {
			d.problem(n, path, mend, format, args...)
			return
		}
		if near == "" {
			d.problem(nil, path, mend, format, args...)
			return
		}
		near = near[:max(0, strings.LastIndexAny(near, ".["))]
	}
}

// has says whether the file gives the field.
func (d *decoder) has(path string) bool {
	_, ok := d.at[path]
	return ok
}

func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	d.at[path] = n
	if n.Kind == yaml.AliasNode {
		d.problem(n, path, "write the value out", "aliases are not supported")
		return
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		d.problem(n, path, "give it one or remove the field", "has no value")
		return
	}
	if f, ok := d.special[v.Type()]; ok {
		f(n, v, path)
		return
	}
	switch {
	case v.Type() == durationType:
		d.duration(n, v, path)
		return
	case v.CanAddr() && v.Addr().Type().Implements(yamlType):
		if d.noAlias(n, path) {
			if err := v.Addr().Interface().(yaml.Unmarshaler).UnmarshalYAML(n); err != nil {
				d.problem(n, path, "", "%v", err)
			}
		}
		return
	case v.CanAddr() && v.Addr().Type().Implements(textType):
		if d.scalar(n, path, "text", "!!str", "!!int", "!!float", "!!bool", "!!timestamp") {
			if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
				d.problem(n, path, "", "%v", err)
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(n, v.Elem(), path)
	case reflect.Struct:
		d.object(n, v, path)
	case reflect.Slice:
		d.list(n, v, path, "")
	case reflect.Map:
		if v.Type().Key().Kind() != reflect.String {
			d.problem(n, path, "", "a %s cannot be set in a scenario", v.Type())
			return
		}
		m := reflect.MakeMap(v.Type())
		d.entries(n, path, func(key, val *yaml.Node) {
			e := reflect.New(v.Type().Elem()).Elem()
			d.value(val, e, join(path, key.Value))
			m.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), e)
		})
		v.Set(m)
	case reflect.String:
		if d.scalar(n, path, "text", "!!str") {
			v.SetString(n.Value)
		}
	case reflect.Bool:
		if d.scalar(n, path, "true or false", "!!bool") {
			v.SetBool(strings.EqualFold(n.Value, "true"))
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if d.scalar(n, path, "a whole number", "!!int") {
			i, err := strconv.ParseInt(n.Value, 10, v.Type().Bits())
			if err != nil {
				d.problem(n, path, "", "%q is not a decimal number that fits", n.Value)
				return
			}
			v.SetInt(i)
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if d.scalar(n, path, "a whole number", "!!int") {
			i, err := strconv.ParseUint(n.Value, 10, v.Type().Bits())
			if err != nil {
				d.problem(n, path, "", "%q is not a decimal number from 0 that fits", n.Value)
				return
			}
			v.SetUint(i)
		}
	case reflect.Float32, reflect.Float64:
		if d.scalar(n, path, "a number", "!!float", "!!int") {
			f, err := strconv.ParseFloat(n.Value, v.Type().Bits())
			if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
				d.problem(n, path, "", "%q is not a finite number", n.Value)
				return
			}
			v.SetFloat(f)
		}
	default:
		d.problem(n, path, "", "a %s cannot be set in a scenario", v.Type())
	}
}

// list decodes a sequence; or is what could stand there instead.
func (d *decoder) list(n *yaml.Node, v reflect.Value, path, or string) {
	if n.Kind != yaml.SequenceNode {
		d.problem(n, path, `write "- " before each entry`+or, "must be a list, not %s", kindOf(n))
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, e := range n.Content {
		d.value(e, list.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(list)
}

// noAlias refuses aliases anywhere below the node, for types that read it
// themselves.
func (d *decoder) noAlias(n *yaml.Node, path string) bool {
	if n.Kind == yaml.AliasNode {
		d.problem(n, path, "write the value out", "aliases are not supported")
		return false
	}
	for _, c := range n.Content {
		if !d.noAlias(c, path) {
			return false
		}
	}
	return true
}

// duration wants a unit: 30 could mean anything.
func (d *decoder) duration(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.ScalarNode && (n.ShortTag() == "!!int" || n.ShortTag() == "!!float") {
		d.problem(n, path, fmt.Sprintf("write %ss, %sms or %sm", n.Value, n.Value, n.Value), "%s has no unit", n.Value)
		return
	}
	if !d.scalar(n, path, "a duration such as 30s", "!!str") {
		return
	}
	t, err := time.ParseDuration(n.Value)
	if err != nil {
		d.problem(n, path, "units are ms, s, m, h: 1m30s", "%q is not a duration", n.Value)
		return
	}
	if t < 0 && !d.signed {
		d.problem(n, path, "", "%q is negative", n.Value)
		return
	}
	v.SetInt(int64(t))
}

// scalar checks that the node is a scalar of one of the tags.
func (d *decoder) scalar(n *yaml.Node, path, want string, tags ...string) bool {
	if n.Kind == yaml.ScalarNode {
		for _, t := range tags {
			if n.ShortTag() == t {
				return true
			}
		}
	}
	mend := ""
	if want == "text" && n.Kind == yaml.ScalarNode {
		mend = fmt.Sprintf("put it in quotes: %q", n.Value)
	}
	d.problem(n, path, mend, "must be %s, not %s", want, kindOf(n))
	return false
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		switch n.ShortTag() {
		case "!!str":
			return "text"
		case "!!int", "!!float":
			return "a number"
		case "!!bool":
			return "true or false"
		case "!!null":
			return "nothing"
		}
		return n.ShortTag()
	}
	return "an alias"
}

// entries calls f for each entry of a mapping; a key that comes twice is a
// problem.
func (d *decoder) entries(n *yaml.Node, path string, f func(key, val *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.problem(n, path, "", "must be a mapping (field: value), not %s", kindOf(n))
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode:
			d.problem(key, path, "", "the name of a field must be a word, not %s", kindOf(key))
			continue
		case first[key.Value] > 0:
			d.problem(key, join(path, key.Value), "", "given twice, first in line %d", first[key.Value])
			continue
		}
		first[key.Value] = key.Line
		f(key, val)
	}
}

// object decodes a mapping into a struct; an unknown field is a problem. also
// names valid fields that somebody else decodes, for the message.
func (d *decoder) object(n *yaml.Node, v reflect.Value, path string, also ...string) {
	if v.CanAddr() {
		if def, ok := v.Addr().Interface().(defaulter); ok {
			def.setDefaults()
		}
	}
	index := map[string]reflect.Value{}
	valid := also
	var open reflect.Value // takes fields whose names the type does not list
	for _, f := range fieldsOf(v.Type()) {
		if f.inline {
			open = v.FieldByIndex(f.index)
			continue
		}
		index[f.name] = v.FieldByIndex(f.index)
		valid = append(valid, f.name)
	}
	d.entries(n, path, func(key, val *yaml.Node) {
		field, ok := index[key.Value]
		if !ok && open.IsValid() && takes(open, key.Value) {
			e := reflect.New(open.Type().Elem()).Elem()
			d.value(val, e, join(path, key.Value))
			if open.IsNil() {
				open.Set(reflect.MakeMap(open.Type()))
			}
			open.SetMapIndex(reflect.ValueOf(key.Value).Convert(open.Type().Key()), e)
			return
		}
		if !ok {
			d.problem(key, path, "", "unknown field %q%s", key.Value, suggest(key.Value, valid))
			return
		}
		d.value(val, field, join(path, key.Value))
	})
}

// field of a struct, as the file names it.
type field struct {
	name      string
	index     []int
	omitEmpty bool
	inline    bool // a map of fields whose names follow a pattern
}

// Keyed is a map, inlined into the parameters of a fault or an SLO, that takes
// fields by a pattern of their names: p95, p99.9.
type Keyed interface {
	// KeyPattern is a regular expression, anchored, as JSON schema and Go read it.
	KeyPattern() string
}

// takes says whether an inlined map takes a field of that name.
func takes(m reflect.Value, name string) bool {
	k, ok := m.Interface().(Keyed)
	return ok && regexp.MustCompile(k.KeyPattern()).MatchString(name)
}

// fieldsOf lists the fields of a struct that a file can give: exported, named
// by the yaml tag, else by the json tag, else by the Go name with a small first
// letter. Embedded structs count as their fields.
func fieldsOf(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		f := t.Field(i)
		tag, ok := f.Tag.Lookup("yaml")
		if !ok {
			tag = f.Tag.Get("json")
		}
		name, opts, _ := strings.Cut(tag, ",")
		switch {
		case name == "-":
			continue
		case name == "" && strings.Contains(opts, "inline") && f.Type.Kind() == reflect.Map:
			out = append(out, field{index: []int{i}, inline: true})
			continue
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			for _, e := range fieldsOf(f.Type) {
				e.index = append([]int{i}, e.index...)
				out = append(out, e)
			}
			continue
		case !f.IsExported():
			continue
		case name == "":
			name = lowerFirst(f.Name)
		}
		out = append(out, field{name: name, index: []int{i}, omitEmpty: strings.Contains(opts, "omitempty")})
	}
	return out
}

// lowerFirst makes a field's name of a Go name: MaxHold maxHold, URL url,
// IPRange ipRange.
func lowerFirst(s string) string {
	r := []rune(s)
	for i := range r {
		if !unicode.IsUpper(r[i]) || i > 0 && i+1 < len(r) && unicode.IsLower(r[i+1]) {
			break
		}
		r[i] = unicode.ToLower(r[i])
	}
	return string(r)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
