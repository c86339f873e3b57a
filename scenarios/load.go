package scenarios

import (
	"errors"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"gameday/faults"
)

// maxSize bounds a scenario file; a long one is a few KiB.
const maxSize = 1 << 20

// Load reads a scenario, fills in its defaults and checks all that can be
// checked without a cluster: words, places, phases, versions, parameters. What
// several faults may do together is judged by harness/plan.
//
// file names the data in messages. An error is an *Invalid that lists every
// problem.
func Load(data []byte, file string, known Known) (*Scenario, error) {
	d := &decoder{file: file, at: map[string]*yaml.Node{}, start: "apiVersion: " + APIVersion, one: "one scenario a file"}
	s := &Scenario{File: file, MaxUnavailable: 1, Steady: defaultSteady, Converge: defaultConverge}
	root := d.document(data)
	if root == nil {
		return nil, invalid(d.problems)
	}
	d.special = map[reflect.Type]func(*yaml.Node, reflect.Value, string){
		reflect.TypeFor[Fault](): func(n *yaml.Node, v reflect.Value, path string) {
			d.fault(n, v.Addr().Interface().(*Fault), path, known)
		},
		reflect.TypeFor[[]Fault](): func(n *yaml.Node, v reflect.Value, path string) {
			if n.Kind == yaml.MappingNode {
				s.Random = d.random(n, path)
				return
			}
			d.list(n, v, path, ", or say random: {meanGap: 20s}")
		},
		reflect.TypeFor[SLO](): func(n *yaml.Node, v reflect.Value, path string) {
			d.slo(n, v.Addr().Interface().(*SLO), path, known)
		},
		reflect.TypeFor[Expect](): func(n *yaml.Node, v reflect.Value, path string) {
			v.FieldByName("Line").SetInt(int64(n.Line))
			d.object(n, v, path)
		},
	}
	d.value(root, reflect.ValueOf(s).Elem(), "")
	d.decoded = len(d.problems)
	c := &check{decoder: d, s: s, known: known}
	c.scenario()
	if err := invalid(d.problems); err != nil {
		return nil, err
	}
	return s, nil
}

// Decode reads a YAML file that is no scenario as strictly as one: into v, a
// pointer to a struct that holds the defaults. start is how such a file begins.
// check looks at what was decoded and reports what is wrong with a field, and
// what mends it. An error is an *Invalid that lists every problem.
func Decode(data []byte, file, start string, v any, check func(wrong func(field, mend, format string, args ...any))) error {
	d := &decoder{file: file, at: map[string]*yaml.Node{}, start: start, one: "one document a file"}
	if root := d.document(data); root != nil {
		d.value(root, reflect.ValueOf(v).Elem(), "")
		d.decoded = len(d.problems)
		check(d.wrong)
	}
	return invalid(d.problems)
}

// document parses the file, which holds exactly one document.
func (d *decoder) document(data []byte) *yaml.Node {
	if len(data) > maxSize {
		d.problem(nil, "", "", "the file has %d bytes; at most %d are read", len(data), maxSize)
		return nil
	}
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		d.problem(nil, "", "start with: "+d.start, "the file is empty")
		return nil
	case err != nil:
		d.syntax(err)
		return nil
	}
	switch err := dec.Decode(&more); {
	case err == nil:
		d.problem(&more, "", d.one, "a second document begins here")
		return nil
	case !errors.Is(err, io.EOF):
		d.syntax(err)
		return nil
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		d.problem(&doc, "", "start with: "+d.start, "the file must hold a mapping (field: value)")
		return nil
	}
	return doc.Content[0]
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntax takes the line out of the parser's message.
func (d *decoder) syntax(err error) {
	text := err.Error()
	at := &yaml.Node{}
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		text = text[len(m[0]):]
		if m[1] != "" {
			if line, convErr := strconv.Atoi(m[1]); convErr == nil {
				at.Line = line
			}
		}
	}
	d.problem(at, "", "", "not YAML: %s", text)
}

// fault decodes a fault and, by its name, its parameters.
func (d *decoder) fault(n *yaml.Node, f *Fault, path string, known Known) {
	f.Line = n.Line
	fields := *n
	fields.Content = nil
	var with *yaml.Node
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "with" && with == nil {
			with = n.Content[i+1]
			continue
		}
		fields.Content = append(fields.Content, n.Content[i], n.Content[i+1])
	}
	d.object(&fields, reflect.ValueOf(f).Elem(), path, "with")
	kind, ok := known.fault(f.Fault)
	if !ok {
		return // check says so
	}
	f.With = kind.New()
	if with != nil {
		d.signed = true
		f.With = d.into(with, f.With, join(path, "with")).(faults.Fault)
		d.signed = false
	}
	d.validate(f.With, join(path, "with"))
}

// random decodes what stands in the place of a list of faults.
func (d *decoder) random(n *yaml.Node, path string) *Random {
	var in struct {
		Random *Random `yaml:"random"`
	}
	d.object(n, reflect.ValueOf(&in).Elem(), path)
	if in.Random == nil && len(n.Content) == 0 {
		d.problem(n, path, "write a list, or random: {meanGap: 20s}", "names no fault")
	}
	if in.Random != nil {
		in.Random.Line = n.Line
	}
	return in.Random
}

// Parameters decodes the parameters of a fault, in YAML as below with:, over its
// defaults, as strictly as a scenario. name stands for the file in messages.
func Parameters(k faults.Kind, text, name string) (faults.Fault, error) {
	d := &decoder{file: name, at: map[string]*yaml.Node{}, signed: true}
	f := k.New()
	if strings.TrimSpace(text) != "" {
		if root := d.document([]byte(text)); root != nil {
			f = d.into(root, f, "with").(faults.Fault)
		}
	}
	d.decoded = len(d.problems)
	d.validate(f, "with")
	return f, invalid(d.problems)
}

// slo decodes `name` or `name: {parameters}`.
func (d *decoder) slo(n *yaml.Node, s *SLO, path string, known Known) {
	s.Line = n.Line
	key, with := n, (*yaml.Node)(nil)
	if n.Kind == yaml.MappingNode && len(n.Content) == 2 && n.Content[0].Kind == yaml.ScalarNode {
		key, with = n.Content[0], n.Content[1]
	}
	if key.Kind != yaml.ScalarNode {
		d.problem(n, path, "", "must be one name, or one name with its parameters (name: {parameter: value}), not %s", kindOf(n))
		return
	}
	s.Name = key.Value
	kind, ok := known.slo(s.Name)
	if !ok {
		d.problem(key, path, "", "unknown SLO %q%s", s.Name, suggest(s.Name, known.sloNames()))
		return
	}
	s.With = kind.New()
	if with != nil {
		s.With = d.into(with, s.With, join(path, s.Name))
	}
	d.validate(s.With, join(path, s.Name))
}

// into decodes over the value of an interface, a struct or a pointer to one,
// and returns the result.
func (d *decoder) into(n *yaml.Node, v any, path string) any {
	box := reflect.New(reflect.TypeOf(v)).Elem()
	box.Set(reflect.ValueOf(v))
	d.value(n, box, path)
	return box.Interface()
}

// validate asks the value itself, unless it could not even be decoded.
func (d *decoder) validate(v any, path string) {
	checker, ok := v.(faults.Validator)
	if !ok {
		return
	}
	for _, p := range d.problems {
		if strings.HasPrefix(p.Field, path) {
			return
		}
	}
	for _, err := range checker.Validate() {
		d.wrong(path, "", "%v", err)
	}
}

// The defaults, in one place.
const (
	defaultSteady       = 20 * time.Second
	defaultConverge     = 3 * time.Minute
	defaultDrainTimeout = 2 * time.Minute
	defaultTimeout      = 30 * time.Minute
	defaultSchedule     = "* * * * *"
	defaultCronDuration = 2 * time.Second
	// A fault that ends with a phase is held as long as kubeadm may wait in
	// one phase only if the scenario says so.
	defaultHoldPhase   = 3 * time.Minute
	defaultHoldFor     = 30 * time.Second // more than end.for and the proof
	defaultHoldInstant = time.Minute
	defaultDrawnHold   = 15 * time.Second
)

func (r *Random) setDefaults() { r.Budget, r.Hold = 1, defaultDrawnHold }

// MaxHold is the bound of a fault whose scenario gives none.
func MaxHold(k faults.Kind, e End) time.Duration {
	hold := defaultHoldInstant
	switch {
	case k.Instant:
		hold = max(hold, k.ProveWithin) // as long as it may take to do it
	case e.Phase != "":
		hold = defaultHoldPhase
	default:
		hold = k.ProveWithin + e.For + defaultHoldFor // it is there before it is proven
	}
	return min(hold, maxHold)
}

func (c *CronJobs) setDefaults() {
	c.Schedule, c.Duration, c.Policy, c.TimeZone = defaultSchedule, defaultCronDuration, "Allow", "Etc/UTC"
}

func (u *Upgrade) setDefaults() {
	u.Strategy, u.Drain = "kubeadm", "workers"
	u.DrainTimeout, u.Timeout = defaultDrainTimeout, defaultTimeout
}
