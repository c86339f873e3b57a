package matrix

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"gameday/harness/eviction"
	"gameday/harness/slo"
)

// Document is a matrix as it is written down (matrix.json). Times are seconds since
// the cut.
type Document struct {
	// Schema is 1.
	Schema  int       `json:"schema"`
	Gameday string    `json:"gameday"`
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	// Settings are those of each name, flat: controllerManager.nodeMonitorPeriod.
	Settings map[string]map[string]string `json:"settings"`
	Verdict  slo.Verdict                  `json:"verdict"`
	Cells    []Entry                      `json:"cells"`
}

// Entry is a cell of a Document.
type Entry struct {
	Settings string `json:"settings"`
	Version  string `json:"version"`
	Cut      Cut    `json:"cut"`
	Length   Length `json:"length"`
	// Predicted is what the model said before; null of a cell that cannot be had, of
	// which Why tells the reason. Observed is null of one that was not tried.
	Predicted *Answer `json:"predicted"`
	Observed  *Seen   `json:"observed"`
	// Verdict is "" of a cell that cannot be had.
	Verdict slo.Verdict          `json:"verdict"`
	Why     string               `json:"why,omitempty"`
	Broken  []eviction.Violation `json:"broken,omitempty"`
	// Change is what differs from the baseline, if there is one.
	Change *Change `json:"change,omitempty"`
}

// Seen is a Record as it is written down.
type Seen struct {
	Unknown map[string]float64 `json:"unknown"`
	Taints  []SeenTaint        `json:"taints"`
	Deleted map[string]float64 `json:"deleted"`
	Heal    float64            `json:"heal"`
	Back    float64            `json:"back"`
	Until   float64            `json:"until"`
	// Took and Late are what the windows were widened by.
	Took float64 `json:"took"`
	Late float64 `json:"late"`
}

// SeenTaint was put on, and taken off unless Off is 0.
type SeenTaint struct {
	Node string  `json:"node"`
	On   float64 `json:"on"`
	Off  float64 `json:"off"`
}

func secs(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

func secsOf(m map[string]time.Duration) map[string]float64 {
	out := map[string]float64{}
	for k, d := range m {
		out[k] = secs(d)
	}
	return out
}

// NewDocument writes outcomes down.
func NewDocument(gameday string, began time.Time, took time.Duration, all []Outcome) Document {
	d := Document{Schema: 1, Gameday: gameday, Began: began.UTC(), Seconds: secs(took), Settings: map[string]map[string]string{}, Verdict: Worst(all), Cells: []Entry{}}
	for _, o := range all {
		if d.Settings[o.Settings.Name] == nil {
			d.Settings[o.Settings.Name] = flat(o.Settings.File)
		}
		e := Entry{Settings: o.Settings.Name, Version: o.Settings.Version, Cut: o.Cut, Length: o.Length, Verdict: o.Verdict, Why: o.Why, Broken: o.Broken}
		if o.None == "" {
			a := o.Answer()
			e.Predicted = &a
		}
		if o.Seen.Until > 0 {
			e.Observed = &Seen{
				Unknown: secsOf(o.Seen.Unknown), Taints: []SeenTaint{}, Deleted: secsOf(o.Seen.Deleted),
				Heal: secs(o.Heal), Back: secs(o.Back), Until: secs(o.Seen.Until), Took: secs(o.Took), Late: secs(o.Late),
			}
			for _, t := range o.Seen.Taints {
				e.Observed.Taints = append(e.Observed.Taints, SeenTaint{t.Node, secs(t.On), secs(t.Off)})
			}
		}
		d.Cells = append(d.Cells, e)
	}
	return d
}

// ErrNoMatrix says that a file is not a matrix.
var ErrNoMatrix = errors.New("not a matrix that gameday eviction run has written")

// Load reads a matrix.json.
func Load(path string) (Document, error) {
	var d Document
	data, err := os.ReadFile(path)
	if err != nil {
		return d, fmt.Errorf("%w: %w", ErrNoMatrix, err)
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return d, fmt.Errorf("%s: %w: %w", path, ErrNoMatrix, err)
	}
	if d.Schema != 1 || len(d.Cells) == 0 {
		return d, fmt.Errorf("%s: %w: schema %d, %d cells", path, ErrNoMatrix, d.Schema, len(d.Cells))
	}
	return d, nil
}

// JSON is the document for programs.
func (d Document) JSON() ([]byte, error) {
	out, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the matrix: %w", err)
	}
	return append(out, '\n'), nil
}

// flat are the settings of a file but for its version, by their names in it.
func flat(f eviction.File) map[string]string {
	out := map[string]string{}
	var walk func(name string, v reflect.Value)
	walk = func(name string, v reflect.Value) {
		switch {
		case v.Type() == reflect.TypeFor[time.Duration]():
			out[name] = v.Interface().(time.Duration).String()
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				field, tag := v.Type().Field(i), ""
				if !field.Anonymous {
					tag = strings.TrimPrefix(name+"."+field.Tag.Get("yaml"), ".")
				}
				walk(tag, v.Field(i))
			}
		case v.Kind() == reflect.Slice:
			for i := range v.Len() {
				walk(fmt.Sprintf("%s[%d]", name, i), v.Index(i))
			}
		case v.Kind() == reflect.Pointer:
			if !v.IsNil() {
				walk(name, v.Elem())
			}
		default:
			out[name] = fmt.Sprint(v.Interface())
		}
	}
	walk("", reflect.ValueOf(f))
	delete(out, "version") // a cell has its own
	return out
}

// Text is the table for people: cells, then the evidence of what is not passed.
func (d Document) Text(to io.Writer) error {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SETTINGS\tVERSION\tCUT\tLENGTH\tPREDICTED\tOBSERVED\tVERDICT")
	counts := map[slo.Verdict]int{}
	for _, e := range d.Cells {
		counts[e.Verdict]++
		if e.Predicted == nil {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t-\t-\tnot there\n", e.Settings, e.Version, e.Cut, e.Length)
			continue
		}
		verdict, observed := string(e.Verdict), "nothing"
		if e.Observed != nil {
			observed = e.Observed.String()
		}
		if e.Change != nil {
			verdict += ", " + string(e.Change.Kind)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s %s\t%s\t%s\t%s\n", e.Settings, e.Version, e.Cut, e.Length, time.Duration(e.Predicted.Seconds*float64(time.Second)), e.Predicted, observed, verdict)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	const most = 8 // violations of a cell that are shown
	for _, e := range d.Cells {
		name := fmt.Sprintf("%s %s %s %s", e.Settings, e.Version, e.Cut, e.Length)
		switch {
		case e.Predicted == nil:
			fmt.Fprintf(&b, "\n%s: not there: %s\n", name, e.Why)
		case e.Verdict != slo.Pass:
			fmt.Fprintf(&b, "\n%s: %s: %s\n", name, e.Verdict, e.Why)
		case e.Change != nil:
			fmt.Fprintf(&b, "\n%s:\n", name)
		}
		for i, v := range e.Broken {
			if i == most {
				fmt.Fprintf(&b, "  ... and %d more\n", len(e.Broken)-i)
				break
			}
			fmt.Fprintf(&b, "  %s\n", v)
		}
		if e.Change != nil {
			fmt.Fprintf(&b, "  against the baseline: %s: %s\n", e.Change.Kind, e.Change.Text)
		}
	}
	fmt.Fprintf(&b, "\n%s: %d cells passed, %d failed, %d inconclusive, %d not there, in %s\n", strings.ToUpper(string(d.Verdict)),
		counts[slo.Pass], counts[slo.Fail], counts[slo.Inconclusive], counts[""], time.Duration(d.Seconds*float64(time.Second)).Round(time.Second))
	if _, err := to.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}

// String is what was seen, in a line.
func (s Seen) String() string {
	nodes, first := map[string]bool{}, math.Inf(1)
	for _, t := range s.Taints {
		nodes[t.Node] = true
		first = min(first, t.On)
	}
	out := fmt.Sprintf("%d tainted", len(nodes))
	if len(nodes) > 0 {
		out += fmt.Sprintf(" from %.1fs", first)
	}
	return out + fmt.Sprintf("; %d pods lost", len(s.Deleted))
}

// JUnit is the matrix for CI systems: a case for each cell. Inconclusive is a
// failure of that type; a cell that cannot be had is skipped.
func (d Document) JUnit() ([]byte, error) {
	suite := junit.Testsuite{Name: "gameday.eviction", Time: fmt.Sprintf("%.3f", d.Seconds), Timestamp: d.Began.Format("2006-01-02T15:04:05Z")}
	for _, e := range d.Cells {
		c := junit.Testcase{Classname: fmt.Sprintf("%s.%s.%s", suite.Name, e.Settings, e.Version), Name: fmt.Sprintf("%s %s", e.Cut, e.Length)}
		var detail strings.Builder
		for _, v := range e.Broken {
			fmt.Fprintln(&detail, v)
		}
		if e.Change != nil {
			fmt.Fprintf(&detail, "against the baseline: %s: %s\n", e.Change.Kind, e.Change.Text)
		}
		switch {
		case e.Predicted == nil:
			c.Skipped = &junit.Result{Message: e.Why}
		case e.Verdict != slo.Pass:
			c.Failure = &junit.Result{Type: string(e.Verdict), Message: e.Why, Data: detail.String()}
		}
		if e.Observed != nil {
			c.Time = fmt.Sprintf("%.3f", e.Observed.Until)
		}
		suite.AddTestcase(c)
	}
	var all junit.Testsuites
	all.AddSuite(suite)
	var out bytes.Buffer
	out.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	if err := all.WriteXML(&out); err != nil {
		return nil, fmt.Errorf("junit: %w", err)
	}
	return out.Bytes(), nil
}
