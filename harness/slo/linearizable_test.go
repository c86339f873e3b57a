package slo

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"gameday/harness/history"
)

// op adds an operation on an object, from and to in seconds.
func (b *book) op(from, to float64, o history.Operation) *book {
	o.Took = sec(to) - sec(from)
	if o.Key == "" {
		o.Key = "x"
	}
	if o.Outcome == "" {
		o.Outcome = writeOK
	}
	if o.Endpoint == "" {
		o.Endpoint = "lb"
	}
	return add(b, &b.h.Operations, from, o)
}

func create(value string, rev int64) history.Operation {
	return history.Operation{Verb: opCreate, Value: value, Revision: rev}
}
func read(value string, rev int64) history.Operation {
	return history.Operation{Verb: opRead, Value: value, Revision: rev}
}
func update(expected int64, value string, rev int64) history.Operation {
	return history.Operation{Verb: opUpdate, Expected: expected, Value: value, Revision: rev}
}
func remove(expected int64) history.Operation {
	return history.Operation{Verb: opDelete, Expected: expected}
}
func with(o history.Operation, outcome string) history.Operation {
	o.Outcome = outcome
	return o
}

func TestLinearizable(t *testing.T) {
	for _, c := range []struct {
		name   string
		make   func(b *book)
		want   Verdict
		reason string
	}{
		{name: "one after the other", make: func(b *book) {
			b.op(1, 2, with(read("", 0), opAbsent)).op(3, 4, create("a", 10)).op(5, 6, read("a", 10)).op(7, 8, update(10, "b", 11)).
				op(9, 10, with(update(10, "c", 0), opConflict)).op(11, 12, remove(11)).op(13, 14, with(read("", 0), opAbsent)).op(15, 16, create("d", 14))
		}, want: Pass, reason: "8 operations on 1 object"},
		{name: "a read that meets a write may see either", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(3, 9, update(10, "b", 11)).op(4, 5, read("a", 10)).op(6, 7, read("b", 11))
		}, want: Pass},
		{name: "an unknown update that happened", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(3, 4, with(update(10, "b", 0), writeUnknown)).op(8, 9, read("a", 10)).op(10, 11, read("b", 12))
		}, want: Pass, reason: "1 of unknown outcome, which may have happened"},
		{name: "an unknown update that never happened", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(3, 4, with(update(10, "b", 0), writeUnknown)).op(8, 9, read("a", 10)).op(10, 11, update(10, "c", 12)).op(12, 13, read("c", 12))
		}, want: Pass},
		{name: "an unknown create behind a delete", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(3, 4, with(create("b", 0), writeUnknown)).op(5, 6, remove(10)).op(7, 8, read("b", 13)).op(9, 10, update(13, "c", 14))
		}, want: Pass},
		{name: "an unknown delete that happened", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(3, 4, with(remove(10), writeUnknown)).op(8, 9, with(create("b", 0), opExists)).op(10, 11, create("c", 13))
		}, want: Pass},
		{name: "what failed had no effect", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(3, 4, with(update(10, "b", 0), writeFail)).op(5, 6, read("a", 10))
		}, want: Pass, reason: "1 refused or not answered, without effect"},

		{name: "a lost update", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(3, 5, update(10, "b", 11)).op(4, 6, update(10, "c", 12))
		}, want: Fail, reason: `x: a lost update: both were accepted upon revision 10: update by client 0 via lb at 0:03.00 of revision 10: "b" at revision 11; update by client 0 via lb at 0:04.00 of revision 10: "c" at revision 12`},
		{name: "a delete of what was updated", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(3, 4, update(10, "b", 11)).op(5, 6, remove(10))
		}, want: Fail, reason: "a lost update"},
		{name: "a stale read", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(3, 4, update(10, "b", 11)).op(5, 6, read("a", 10))
		}, want: Fail, reason: "x: a stale read: update"},
		{name: "reads that go back", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(3, 9, update(10, "b", 11)).op(4, 5, read("b", 11)).op(6, 7, read("a", 10))
		}, want: Fail, reason: "a stale read: read"},
		{name: "a stale absence", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(3, 4, with(read("", 0), opAbsent)).op(5, 6, read("a", 10))
		}, want: Fail, reason: `no order of the 3 operations explains read by client 0 via lb at 0:03.00: absent; the longest one ends with create by client 0 via lb at 0:01.00: "a" at revision 10, after which it is "a" at revision 10`},
		{name: "a stale conflict", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(3, 4, with(update(10, "b", 0), opConflict)).op(5, 6, read("a", 10))
		}, want: Fail, reason: "0:03.00 of revision 10: conflict"},
		{name: "read after it was deleted", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(3, 4, remove(10)).op(5, 6, read("a", 10))
		}, want: Fail, reason: "explains read by client 0 via lb at 0:05.00"},
		{name: "a duplicated create", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(3, 4, create("b", 11))
		}, want: Fail, reason: `explains create by client 0 via lb at 0:03.00: "b" at revision 11`},
		{name: "an acknowledged create that is gone", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(3, 4, create("b", 11)).op(5, 6, read("b", 11))
		}, want: Fail, reason: "create by client 0 via lb at 0:03.00"},
		{name: "an acknowledged update that is gone", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(3, 4, update(10, "b", 11)).op(5, 6, remove(10))
		}, want: Fail, reason: "a lost update"},
		{name: "a value that nobody wrote", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(3, 4, read("z", 12))
		}, want: Fail, reason: `read by client 0 via lb at 0:03.00: "z" at revision 12`},
		{name: "one revision with two values", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(3, 4, read("b", 10))
		}, want: Fail, reason: "one revision with two values"},
		{name: "two writes of one revision", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(1, 2, history.Operation{Key: "y", Verb: opCreate, Value: "b", Revision: 10})
		}, want: Fail, reason: "two writes of one revision"},
		{name: "the revision of another object's write goes back", make: func(b *book) {
			b.op(1, 2, create("a", 10)).op(3, 4, history.Operation{Key: "y", Verb: opCreate, Value: "b", Revision: 9})
		}, want: Fail, reason: "y: the revision went back"},
		{name: "an update that does not grow", make: func(b *book) {
			b.op(1, 4, create("a", 10)).op(1, 4, update(10, "b", 9))
		}, want: Fail, reason: "the revision did not grow"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(200)
			for i := range 3 { // every API server answers
				b.op(100, 101, history.Operation{Key: fmt.Sprintf("k%d", i), Verb: opRead, Outcome: opAbsent, Endpoint: fmt.Sprintf("cp%d", i)})
			}
			c.make(b)
			k := newLinearizable().(*Linearizable)
			k.Min = 1
			r := named(t, k.Check(b.h), "linearizable")
			if c.want == Pass && c.name == "one after the other" {
				c.reason = "11 operations on 4 objects"
			}
			want(t, r, c.want, c.reason)
			if (r.Observed > 0) != (c.want == Fail) || (len(r.Evidence) > 0) != (c.want == Fail) {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestLinearizableUnmeasured(t *testing.T) {
	r := named(t, newLinearizable().Check(newBook(200).h), "linearizable")
	want(t, r, Inconclusive, "0 operations were answered, at least 100 are needed; no operation was answered by the API server of cp0")
	b := newBook(200)
	for i := range 120 {
		b.op(float64(i), float64(i)+.5, history.Operation{Verb: opRead, Outcome: opAbsent, Endpoint: fmt.Sprintf("cp%d", i%2)})
	}
	want(t, named(t, newLinearizable().Check(b.h), "linearizable"), Inconclusive, "no operation was answered by the API server of cp2")
	b.h.Nodes = nil
	want(t, named(t, newLinearizable().Check(b.h), "linearizable"), Inconclusive, "does not say which API servers")

	// Many concurrent updates upon nothing that is known: no time is enough.
	b = newBook(200)
	for i := range 100 {
		b.op(1, 2, create(fmt.Sprint("a", i), int64(100+i)))
		b.op(1, 2, with(remove(int64(100+i)), writeUnknown))
	}
	k := newLinearizable().(*Linearizable)
	k.Timeout = time.Nanosecond
	want(t, named(t, k.Check(b.h), "linearizable"), Inconclusive, "for 1 object no order was found nor ruled out")
	if errs := (&Linearizable{}).Validate(); len(errs) != 2 {
		t.Errorf("%v", errs)
	}
}

// simulate is clients on a store that is linearizable, each operation taking
// effect somewhere within its time, or with an unknown outcome at any time later,
// or never.
func simulate(seed uint64, rounds int) *book {
	r := rand.New(rand.NewPCG(seed, 1))
	b := newBook(float64(rounds) + 100)
	type effect struct {
		at   float64
		from float64
		to   float64
		op   history.Operation
	}
	state, rev, known := object{}, int64(100), int64(0)
	var due []effect
	apply := func(e *effect) {
		unknown := e.op.Outcome == writeUnknown
		_, next := operation{Operation: with(e.op, writeUnknown)}.on(state)
		out := writeOK
		switch o := &e.op; {
		case o.Verb == opRead && state.exists:
			o.Value, o.Revision, known = state.value, state.revision, state.revision
		case o.Verb == opRead:
			out, known = opAbsent, 0
		case o.Verb == opCreate && state.exists:
			out = opExists
		case o.Verb != opCreate && !state.exists:
			out = opAbsent
		case o.Verb != opCreate && state.revision != o.Expected:
			out = opConflict
		default:
			rev += 1 + r.Int64N(3)
			state = next
			if state.exists {
				state.revision = rev
				if !unknown {
					o.Revision = rev
				}
			}
		}
		if !unknown {
			e.op.Outcome = out
		}
	}
	for i := range rounds {
		for client := range 4 {
			from := float64(i) + r.Float64()*.1
			to := from + .1 + r.Float64()*.7
			e := effect{from: from, to: to, at: from + (to-from)*r.Float64(), op: history.Operation{Client: client, Key: "x", Verb: opRead}}
			value := fmt.Sprintf("%d-%d", client, i)
			switch p := r.Float64(); {
			case p < .2:
				e.op = history.Operation{Client: client, Verb: opCreate, Value: value}
			case p < .5 && known > 0:
				e.op = update(known, value, 0)
			case p < .6 && known > 0:
				e.op = remove(known)
			}
			if e.op.Verb != opRead && r.Float64() < .1 {
				e.op.Outcome = writeUnknown
				e.at += r.Float64() * 5
			}
			due = append(due, e)
		}
		// What is due takes effect in the order of its moments.
		for {
			next := -1
			for j := range due {
				if due[j].at < float64(i+1) && (next < 0 || due[j].at < due[next].at) {
					next = j
				}
			}
			if next < 0 {
				break
			}
			e := due[next]
			due = append(due[:next], due[next+1:]...)
			if e.op.Outcome != writeUnknown || r.Float64() < .5 {
				apply(&e)
			}
			b.op(e.from, e.to, e.op)
		}
	}
	return b
}

func TestLinearizableStoreNeverFails(t *testing.T) {
	c := newLinearizable().(*Linearizable)
	for seed := range uint64(20) {
		b := simulate(seed, 100)
		r := named(t, c.Check(b.h), "linearizable")
		if r.Verdict == Fail || r.Samples < 300 {
			t.Fatalf("seed %d: %s: %s", seed, r.Verdict, r.Reason)
		}

		// The same with one read of long ago.
		ops := b.h.Operations
		var old, young history.Operation
		for i := len(ops) - 1; i >= 0 && old.Revision == 0; i-- {
			switch o := ops[i].V; {
			case o.Outcome != writeOK || o.Verb != opRead:
			case young.Revision == 0:
				young = o
			case o.Revision < young.Revision-50:
				old = o
			}
		}
		for i := range ops {
			if ops[i].V == young {
				ops[i].V.Value, ops[i].V.Revision = old.Value, old.Revision
			}
		}
		if old.Revision == 0 {
			t.Fatalf("seed %d has no two reads that are far apart", seed)
		}
		want(t, named(t, c.Check(b.h), "linearizable"), Fail, "a stale read")
	}
}
