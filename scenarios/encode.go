package scenarios

import (
	"bytes"
	"encoding"
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// Marshal writes the resolved scenario as a file that Load reads back to the
// same value (lines and the name of the file aside).
func (s *Scenario) Marshal() ([]byte, error) {
	n, err := encode(reflect.ValueOf(s).Elem())
	if err != nil {
		return nil, fmt.Errorf("write scenario %s: %w", s.Name, err)
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(n); err != nil {
		return nil, fmt.Errorf("write scenario %s: %w", s.Name, err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("write scenario %s: %w", s.Name, err)
	}
	return out.Bytes(), nil
}

// Params are the parameters of a fault or an SLO as the file names them.
func Params(with any) (map[string]any, error) {
	out := map[string]any{}
	if with == nil {
		return out, nil
	}
	n, err := encode(reflect.ValueOf(with))
	if err != nil {
		return nil, err
	}
	if n == nil {
		return out, nil
	}
	return out, n.Decode(&out)
}

// encode is the reverse of decoder.value. nil means: leave it out.
func encode(v reflect.Value) (*yaml.Node, error) {
	switch x := v.Interface().(type) {
	case time.Duration:
		return text(x.String()), nil
	case SLO:
		return encodeSLO(x)
	case encoding.TextMarshaler:
		if v.Kind() == reflect.Pointer && v.IsNil() {
			return nil, nil
		}
		b, err := x.MarshalText()
		return text(string(b)), err
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil, nil
		}
		return encode(v.Elem())
	case reflect.Struct:
		return encodeStruct(v)
	case reflect.Slice:
		if v.IsNil() {
			return nil, nil
		}
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.Len() {
			e, err := encode(v.Index(i))
			if err != nil {
				return nil, err
			}
			if e == nil {
				return nil, fmt.Errorf("entry %d of a list has no value", i)
			}
			n.Content = append(n.Content, e)
		}
		return n, nil
	case reflect.Map:
		if v.IsNil() {
			return nil, nil
		}
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, k := range sortedKeys(v) {
			e, err := encode(v.MapIndex(k))
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, text(k.String()), e)
		}
		return n, nil
	case reflect.String:
		return text(v.String()), nil
	case reflect.Bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v.Bool())}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.FormatInt(v.Int(), 10)}, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.FormatUint(v.Uint(), 10)}, nil
	case reflect.Float32, reflect.Float64:
		return number(v.Float()), nil
	}
	return nil, fmt.Errorf("a %s cannot be written", v.Type())
}

func encodeStruct(v reflect.Value) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.MappingNode}
	add := func(name string, v reflect.Value) error {
		e, err := encode(v)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if e != nil {
			n.Content = append(n.Content, text(name), e)
		}
		return nil
	}
	s, _ := v.Interface().(Scenario)
	for _, f := range fieldsOf(v.Type()) {
		e := v.FieldByIndex(f.index)
		if f.name == "faults" && s.Random != nil {
			e = reflect.ValueOf(map[string]Random{"random": *s.Random})
		}
		if f.omitEmpty && e.IsZero() {
			continue
		}
		if f.inline {
			for _, k := range sortedKeys(e) {
				if err := add(k.String(), e.MapIndex(k)); err != nil {
					return nil, err
				}
			}
			continue
		}
		if err := add(f.name, e); err != nil {
			return nil, err
		}
	}
	if f, ok := v.Interface().(Fault); ok && f.With != nil {
		e, err := encode(reflect.ValueOf(f.With))
		if err != nil {
			return nil, fmt.Errorf("with: %w", err)
		}
		if e != nil && len(e.Content) > 0 {
			n.Content = append(n.Content, text("with"), e)
		}
	}
	return n, nil
}

func sortedKeys(m reflect.Value) []reflect.Value {
	keys := m.MapKeys()
	sort.Slice(keys, func(i, j int) bool { return keys[i].String() < keys[j].String() })
	return keys
}

func encodeSLO(s SLO) (*yaml.Node, error) {
	if s.With == nil {
		return text(s.Name), nil
	}
	with, err := encode(reflect.ValueOf(s.With))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	if with == nil || len(with.Content) == 0 {
		return text(s.Name), nil
	}
	return &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{text(s.Name), with}}, nil
}

func text(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}

func number(f float64) *yaml.Node {
	s := strconv.FormatFloat(f, 'f', -1, 64)
	tag := "!!float"
	if _, err := strconv.ParseInt(s, 10, 64); err == nil {
		tag = "!!int"
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: s}
}
