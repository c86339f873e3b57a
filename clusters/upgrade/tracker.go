package upgrade

import (
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"
)

// tracker turns what is seen of one node into phases. It does no input or
// output: observers feed it, in any order and from any goroutine, and what they
// could not see they do not report. It tells a part of a step apart in five
// states:
//
//	unseen   nothing is known yet
//	old      the manifest names another version than the target
//	resumed  the manifest named the target when it was first seen (an earlier
//	         run did it); the component was not seen to serve yet
//	changed  the manifest was seen to change to the target
//	served   the component was seen to serve at the target
type tracker struct {
	node string
	emit func(Phase)

	mu    sync.Mutex
	parts map[string]*part
	open  map[string]bool // tool phases that began and did not end, by path
	first string          // the tool phase that ends with the first change
}

type partState int

const (
	unseen partState = iota
	old
	resumed
	changed
	served
)

type part struct {
	path, want string
	state      partState
	version    string // as the manifest last said
	detail     string // what the last probe said
	restored   bool   // put back to another version, in this attempt
	touched    bool   // changed to the target, in this attempt
	ours       bool   // changed to the target in this run, in any attempt
}

// newTracker follows the given components of a step, by name with the version
// that each shall reach.
func newTracker(step Step, node string, want map[string]string, emit func(Phase)) *tracker {
	t := &tracker{node: node, emit: emit, parts: map[string]*part{}, open: map[string]bool{}}
	for name, v := range want {
		t.parts[name] = &part{path: step.Phase + "/" + name, want: v}
	}
	return t
}

func (t *tracker) say(path string, s State, o Outcome, at time.Time, format string, args ...any) {
	t.emit(Phase{Path: path, Node: t.node, State: s, Outcome: o, At: at, Seen: fmt.Sprintf(format, args...)})
}

// attempt starts the bookkeeping of one run of the upgrade tool.
func (t *tracker) attempt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.parts {
		p.restored, p.touched = false, false
	}
}

// toolBegan opens a phase that the tool is in rather than a component. With
// untilChange it ends when the first manifest is seen to change.
func (t *tracker) toolBegan(path string, untilChange bool, at time.Time, seen string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[path] = true
	if untilChange {
		t.first = path
	}
	t.say(path, Began, "", at, "%s", seen)
}

// toolEnded closes it, if it is open still.
func (t *tracker) toolEnded(path string, o Outcome, at time.Time, seen string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.toolEndedLocked(path, o, at, seen)
}

func (t *tracker) toolEndedLocked(path string, o Outcome, at time.Time, seen string) {
	if !t.open[path] {
		return
	}
	delete(t.open, path)
	t.say(path, Ended, o, at, "%s", seen)
}

// manifest reports what version a component's manifest names. A manifest that
// is not there, or cannot be read, is not reported: it is on its way.
func (t *tracker) manifest(name, version string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.parts[name]
	if p == nil {
		return
	}
	p.version = version
	switch {
	case version == p.want && p.state == unseen:
		p.state = resumed
	case version == p.want && p.state == old:
		p.state, p.touched, p.ours, p.detail = changed, true, true, ""
		if t.first != "" {
			t.toolEndedLocked(t.first, Proceeded, at, fmt.Sprintf("%s manifest names %s", name, version))
			t.first = ""
		}
		t.say(p.path, Began, "", at, "%s manifest names %s", name, version)
	case version != p.want && p.state == unseen:
		p.state = old
	case version != p.want && p.state == changed:
		p.state, p.restored = old, true
		t.say(p.path, Ended, RolledBack, at, "%s manifest names %s again; %s", name, version, p.lastSeen())
	case version != p.want && (p.state == served || p.state == resumed):
		p.state, p.restored = old, true
		t.say(p.path, Began, "", at, "%s manifest names %s again", name, version)
		t.say(p.path, Ended, RolledBack, at, "%s manifest names %s again", name, version)
	}
}

// begin says that a part without a manifest (the kubelet) is on its way to the
// target.
func (t *tracker) begin(name string, at time.Time, seen string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.parts[name]
	p.touched, p.ours = true, true
	if p.state == changed || p.state == served {
		return
	}
	p.state, p.detail = changed, ""
	t.say(p.path, Began, "", at, "%s", seen)
}

// probe reports what a component was seen to serve, from a look that started at
// the given time.
func (t *tracker) probe(name string, s sighting, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.parts[name]
	if p == nil {
		return
	}
	p.detail = s.seen
	if !s.well || s.version != p.want {
		return
	}
	switch p.state {
	case changed:
		p.state = served
		t.say(p.path, Ended, Proceeded, at, "%s", s.seen)
	case resumed:
		p.state = served
		o := Skipped
		if p.ours {
			o = Proceeded
		}
		t.say(p.path, Began, "", at, "%s was changed to %s before", name, p.want)
		t.say(p.path, Ended, o, at, "%s", s.seen)
	}
}

// missed reports that a component could not be seen.
func (t *tracker) missed(name string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.parts[name]; p != nil {
		p.detail = err.Error()
	}
}

// wants says whether a look at the component would tell something new.
func (t *tracker) wants(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.parts[name]
	return p != nil && (p.state == changed || p.state == resumed)
}

// missing lists those of the named components that were not seen to serve at
// the target, each with what was seen last.
func (t *tracker) missing(names ...string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for _, n := range names {
		if p := t.parts[n]; p != nil && p.state != served {
			out = append(out, n+": "+p.lastSeen())
		}
	}
	sort.Strings(out)
	return out
}

func (p *part) lastSeen() string {
	switch {
	case p.state == unseen:
		return "nothing was seen of it"
	case p.state == old:
		return "manifest names " + p.version
	case p.detail == "":
		return "not seen to serve yet"
	}
	return "last seen: " + p.detail
}

// close ends every part that is under way, when nobody waits for it any more.
func (t *tracker) close(at time.Time, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, path := range sortedKeys(t.open) {
		t.toolEndedLocked(path, Failed, at, why)
	}
	for _, name := range sortedKeys(t.parts) {
		if p := t.parts[name]; p.state == changed {
			// A later attempt may still see it serve: resumed, not failed for good.
			p.state = resumed
			t.say(p.path, Ended, Failed, at, "%s; %s", why, p.lastSeen())
		}
	}
}

// evidence is what one run of the upgrade tool did to the node.
type evidence struct {
	touched, restored, between []string
}

// attempted sums up the attempt.
func (t *tracker) attempted() evidence {
	t.mu.Lock()
	defer t.mu.Unlock()
	var e evidence
	for _, name := range sortedKeys(t.parts) {
		p := t.parts[name]
		if p.touched {
			e.touched = append(e.touched, name)
		}
		switch {
		case p.restored && p.state == old:
			e.restored = append(e.restored, name)
		case p.touched && p.state != served:
			e.between = append(e.between, name)
		}
	}
	return e
}

// outcome judges an attempt that did not reach its end, by what happened to the
// node and not by what the tool said.
func (e evidence) outcome() Outcome {
	switch {
	case len(e.touched) == 0 && len(e.restored) == 0:
		return Blocked
	case len(e.restored) > 0 && len(e.between) == 0:
		return RolledBack
	}
	return Failed
}

func (e evidence) String() string {
	if len(e.touched) == 0 && len(e.restored) == 0 {
		return "nothing on the node was changed"
	}
	var parts []string
	for _, x := range []struct {
		verb  string
		names []string
	}{{"changed", e.touched}, {"put back", e.restored}, {"in between", e.between}} {
		if len(x.names) > 0 {
			parts = append(parts, x.verb+" "+strings.Join(x.names, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
