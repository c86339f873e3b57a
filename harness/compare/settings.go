package compare

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"gameday/scenarios"
)

// settings are the fields in which the scenarios of the runs are not the same.
// Faults are told by their ids, and in full where one id is not the same thing.
func settings(list []*Record) ([]Setting, error) {
	flat := make([]map[string]string, len(list))
	fields := map[string]bool{}
	for i, r := range list {
		var err error
		if flat[i], err = flatten(r.Scenario); err != nil {
			return nil, err
		}
		for f := range flat[i] {
			fields[f] = true
		}
	}
	out := []Setting{}
	for _, f := range slices.Sorted(maps.Keys(fields)) {
		s := Setting{Field: f}
		for i := range list {
			s.Values = append(s.Values, flat[i][f])
		}
		if len(slices.Compact(slices.Clone(s.Values))) > 1 {
			out = append(out, s)
		}
	}
	return out, nil
}

// flatten is a scenario as one value for each field: workload.cronJobs.count: 12.
// A fault and an SLO are each one, by id and name.
func flatten(s *scenarios.Scenario) (map[string]string, error) {
	text, err := s.Marshal()
	if err != nil {
		return nil, err
	}
	var root map[string]any
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, fmt.Errorf("scenario %s: %w", s.Name, err)
	}
	out := map[string]string{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch x := v.(type) {
		case map[string]any:
			for k, v := range x {
				walk(strings.TrimPrefix(path+"."+k, "."), v)
			}
		case []any:
			if len(x) > 0 {
				if _, ok := x[0].(map[string]any); !ok {
					out[path] = short(x) // the order may matter: one value
					return
				}
			}
			for i, v := range x { // a fault, an expectation: the same or another as a whole
				out[path+"["+nameOf(v, i)+"]"] = short(v)
			}
		default:
			out[path] = fmt.Sprint(x)
		}
	}
	for k, v := range root {
		if list, ok := v.([]any); ok && k == "slos" {
			for i, p := range list {
				promise(out, "slos["+nameOf(p, i)+"]", p)
			}
			continue
		}
		walk(k, v)
	}
	return out, nil
}

// promise is one value for each parameter of an SLO.
func promise(out map[string]string, path string, v any) {
	m, ok := v.(map[string]any)
	if !ok {
		out[path] = fmt.Sprint(v)
		return
	}
	for _, params := range m {
		if p, ok := params.(map[string]any); ok {
			for k, v := range p {
				out[path+"."+k] = short(v)
			}
		}
	}
}

// nameOf is what an entry of a list is known by; its place if by nothing.
func nameOf(v any, i int) string {
	if name, ok := v.(string); ok {
		return name
	}
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Sprint(i)
	}
	for _, key := range []string{"id", "phase"} {
		if name, ok := m[key].(string); ok {
			return name
		}
	}
	if len(m) == 1 {
		for name := range m {
			return name
		}
	}
	return fmt.Sprint(i)
}

// short is a value in one line, without what a reader does not need to tell one
// fault from another.
func short(v any) string {
	var parts []string
	if list, ok := v.([]any); ok {
		for _, e := range list {
			parts = append(parts, short(e))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Sprint(v)
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if k != "id" {
			parts = append(parts, fmt.Sprintf("%s: %v", k, short(m[k])))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
