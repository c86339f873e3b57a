package slo

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"gameday/harness/history"
)

// Linearizable promises that each object of the API behaves as if there was one
// copy of it: every quorum read, create, update and delete, whichever API server
// it went through, takes effect at one moment between its invocation and its
// answer. An operation whose outcome nobody knows may have happened at any time
// after its invocation, or never.
//
// Two things are looked for. Revisions are etcd's own count of all changes, so
// that whatever was answered must be of a later one than what had been answered
// before: what breaks that is found in one pass, and named with both operations.
// All else needs a search for an order of all operations on an object, which is
// porcupine's.
type Linearizable struct {
	// Timeout bounds the search for each object; what is not decided by then is
	// inconclusive.
	Timeout time.Duration `yaml:"timeout"`
	// Min is the least number of operations that were answered.
	Min int `yaml:"min"`
}

func newLinearizable() Checker { return &Linearizable{Timeout: 10 * time.Second, Min: 100} }

// Validate implements Validator.
func (c *Linearizable) Validate() []error {
	errs := positive(map[string]time.Duration{"timeout": c.Timeout})
	if c.Min < 1 {
		errs = append(errs, fmt.Errorf("min: %d operations prove nothing; give at least 1", c.Min))
	}
	return errs
}

// Verbs and outcomes of an operation in the record, beside those of a write.
const (
	opRead   = "read"
	opCreate = "create"
	opUpdate = "update"
	opDelete = "delete"

	opAbsent   = "absent"
	opExists   = "exists"
	opConflict = "conflict"
)

// operation is one with its time.
type operation struct {
	history.Operation
	call, ret time.Duration
}

// Check implements Checker.
func (c *Linearizable) Check(h *history.History) []Result {
	r := Result{Name: "linearizable", Unit: "count", Promise: "every operation on an object takes effect at one moment between its invocation and its answer, as if there was one copy (0 violations)"}
	var g grounds
	around := look(h)
	byKey := map[string][]operation{}
	through := map[string]bool{} // endpoints that answered
	var all []operation
	unknown := 0
	for _, t := range h.Operations {
		o := operation{t.V, t.At, t.At + t.V.Took}
		switch o.Outcome {
		case writeOK, opAbsent, opExists, opConflict:
			r.Samples++
			through[o.Endpoint] = true
		case writeUnknown:
			unknown++
			o.ret = math.MaxInt64
		default:
			r.Excluded++
			continue
		}
		all = append(all, o)
		byKey[o.Key] = append(byKey[o.Key], o)
	}
	found := 0
	violated := func(key string, in span, text string) {
		found++
		g.fail("%s: %s", key, text)
		around.evidence(&r, in, key+": "+text)
	}
	broken := revisionOrder(all)
	for _, v := range broken {
		violated(v.key, v.in, v.text)
	}
	undecided := 0
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		if slices.ContainsFunc(broken, func(v violation) bool { return v.key == key }) {
			continue // it is known to be broken, and by what
		}
		switch result, v := c.search(byKey[key]); result {
		case porcupine.Illegal:
			violated(key, v.in, v.text)
		case porcupine.Unknown:
			undecided++
		}
	}
	if undecided > 0 {
		g.doubt("for %s no order was found nor ruled out in %s", count(undecided, "object", "objects"), length(c.Timeout))
	}
	if r.Samples < c.Min {
		g.doubt("%s answered, at least %d are needed", count(r.Samples, "operation was", "operations were"), c.Min)
	}
	servers, known := etcdMembers(h) // kubeadm puts an API server on each of their nodes
	if !known {
		g.doubt("the record does not say which API servers there are")
	}
	for _, s := range servers {
		if !through[s] {
			g.doubt("no operation was answered by the API server of %s", s)
		}
	}
	if found == 0 {
		g.note("%d operations on %s", r.Samples, count(len(byKey), "object", "objects"))
	}
	if unknown > 0 {
		g.note("%d of unknown outcome, which may have happened", unknown)
	}
	if r.Excluded > 0 {
		g.note("%d refused or not answered, without effect", r.Excluded)
	}
	r.Observed = float64(found)
	g.decide(&r)
	return []Result{r}
}

// violation is what cannot be, and when.
type violation struct {
	key, text string
	in        span
}

func (o operation) String() string {
	text := fmt.Sprintf("%s by client %d via %s at %s", o.Verb, o.Client, o.Endpoint, clock(o.call))
	if o.Expected > 0 {
		text += fmt.Sprintf(" of revision %d", o.Expected)
	}
	switch {
	case o.Outcome != writeOK:
		text += ": " + o.Outcome
	case o.Revision > 0:
		text += fmt.Sprintf(": %q at revision %d", o.Value, o.Revision)
	}
	return text
}

func (o operation) span() span { return span{o.call, o.ret} }

// wrote says that the operation is a write with a known revision.
func (o operation) wrote() bool {
	return o.Outcome == writeOK && (o.Verb == opCreate || o.Verb == opUpdate)
}

// revisionOrder finds what revisions alone rule out. All objects live in one
// etcd: a write's revision is higher than every one that had been answered when
// it was invoked, of whatever object; a read's is no lower than any that had been
// answered of its own. A revision belongs to one write of one value, and of the
// writes that demand the same revision one succeeds.
func revisionOrder(all []operation) []violation {
	var out []violation
	add := func(a, b operation, text string) {
		out = append(out, violation{b.Key, fmt.Sprintf("%s: %s; %s", text, a, b), span{min(a.call, b.call), max(a.ret, b.ret)}})
	}
	type version struct {
		key      string
		revision int64
	}
	values := map[version]operation{} // who told it first
	writers := map[int64]operation{}  // by revision
	swapped := map[version]operation{}
	for _, o := range all {
		if o.Outcome != writeOK {
			continue
		}
		if o.Expected > 0 {
			at := version{o.Key, o.Expected}
			if first, ok := swapped[at]; ok {
				add(first, o, fmt.Sprintf("a lost update: both were accepted upon revision %d", o.Expected))
			} else {
				swapped[at] = o
			}
		}
		if o.Verb == opDelete {
			continue
		}
		at := version{o.Key, o.Revision}
		if first, ok := values[at]; ok && first.Value != o.Value {
			add(first, o, "one revision with two values")
		} else if !ok {
			values[at] = o
		}
		if !o.wrote() {
			continue
		}
		if first, ok := writers[o.Revision]; ok {
			add(first, o, "two writes of one revision")
		} else {
			writers[o.Revision] = o
		}
		if o.Verb == opUpdate && o.Revision <= o.Expected {
			out = append(out, violation{o.Key, fmt.Sprintf("the revision did not grow: %s", o), o.span()})
		}
	}
	// In the order of time: what was answered before an invocation.
	calls, rets := slices.Clone(all), slices.DeleteFunc(slices.Clone(all), func(o operation) bool {
		return o.Outcome != writeOK || o.Verb == opDelete
	})
	slices.SortStableFunc(calls, func(a, b operation) int { return cmp.Compare(a.call, b.call) })
	slices.SortStableFunc(rets, func(a, b operation) int { return cmp.Compare(a.ret, b.ret) })
	highest, of := operation{}, map[string]operation{}
	for _, o := range calls {
		for len(rets) > 0 && rets[0].ret < o.call {
			done := rets[0]
			rets = rets[1:]
			if done.Revision > highest.Revision {
				highest = done
			}
			if done.Revision > of[done.Key].Revision {
				of[done.Key] = done
			}
		}
		switch {
		case o.wrote() && o.Revision <= highest.Revision:
			add(highest, o, "the revision went back")
		case o.Outcome == writeOK && o.Verb == opRead && o.Revision < of[o.Key].Revision:
			add(of[o.Key], o, "a stale read")
		}
	}
	return out
}

// object is the state of an object in an order of operations.
type object struct {
	exists bool
	value  string
	// revision of the object; 0: a write of unknown outcome made it, and nobody has
	// read it yet.
	revision int64
	// last is the highest revision known so far, also of what is deleted.
	last int64
}

// register is the sequential object that the API's are compared with.
var register = porcupine.Model{
	Init: func() any { return object{} },
	Step: func(state, input, _ any) (bool, any) { return input.(operation).on(state.(object)) },
}

// on says whether the operation can have its outcome in a state, and what the
// state is then.
//
// A client knows a revision from an answer, so that after it the state has that
// revision: one that nobody has read yet meets no demand.
func (o operation) on(s object) (bool, object) {
	meets := s.exists && s.revision > 0 && s.revision == o.Expected
	switch o.Outcome {
	case opAbsent:
		return !s.exists, s
	case opExists:
		return s.exists, s
	case opConflict:
		return s.exists && !meets, s
	case writeUnknown: // if it finds nothing to do, it did nothing
		switch {
		case o.Verb == opCreate && !s.exists, o.Verb == opUpdate && meets:
			return true, object{exists: true, value: o.Value, last: s.last}
		case o.Verb == opDelete && meets:
			return true, object{last: s.last}
		}
		return true, s
	}
	here := object{exists: true, value: o.Value, revision: o.Revision, last: max(s.last, o.Revision)}
	switch o.Verb {
	case opRead:
		same := s.revision == o.Revision || s.revision == 0 && o.Revision > s.last
		return s.exists && s.value == o.Value && same, here
	case opCreate:
		return !s.exists && o.Revision > s.last, here
	case opUpdate:
		return meets && o.Revision > s.last, here
	case opDelete:
		return meets, object{last: s.last}
	}
	return false, s
}

// search looks for an order of the operations on an object. If there is none, the
// violation names the first operation that none of the longest orders can hold.
func (c *Linearizable) search(list []operation) (porcupine.CheckResult, violation) {
	ops := make([]porcupine.Operation, 0, len(list))
	for _, o := range list {
		ops = append(ops, porcupine.Operation{ClientId: o.Client, Input: o, Call: int64(o.call), Return: int64(o.ret)})
	}
	result, info := porcupine.CheckOperationsVerbose(register, ops, c.Timeout)
	if result != porcupine.Illegal {
		return result, violation{}
	}
	var longest []porcupine.Operation
	for _, partition := range info.PartialLinearizationsOperations() {
		for _, p := range partition {
			if len(p) > len(longest) {
				longest = p
			}
		}
	}
	held := map[operation]bool{}
	state := object{}
	last := "nothing"
	for _, p := range longest {
		o := p.Input.(operation)
		held[o] = true
		_, state = o.on(state)
		last = o.String()
	}
	var first *operation
	for i, o := range list {
		if !held[o] && (first == nil || o.ret < first.ret) {
			first = &list[i]
		}
	}
	if first == nil { // porcupine says that there is no order, and gives one
		return porcupine.Unknown, violation{}
	}
	return result, violation{in: first.span(), text: fmt.Sprintf("no order of the %d operations explains %s; the longest one ends with %s, %s", len(list), first, last, state)}
}

func (s object) String() string {
	switch {
	case !s.exists:
		return "after which there is no object"
	case s.revision == 0:
		return fmt.Sprintf("after which it is %q at a revision that nobody read", s.value)
	}
	return fmt.Sprintf("after which it is %q at revision %d", s.value, s.revision)
}
