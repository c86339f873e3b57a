package faults

import "slices"

// The geometry of partitions: pure functions from who there is to what is cut. None of
// them cuts anybody off from himself, or says anything twice.

// lost is one direction in which nothing arrives any more.
type lost[T comparable] struct{ from, to T }

// apart cuts two groups off from each other, both ways.
func apart[T comparable](a, b []T) []lost[T] {
	var out []lost[T]
	for _, x := range a {
		for _, y := range b {
			if x != y {
				out = append(out, lost[T]{x, y}, lost[T]{y, x})
			}
		}
	}
	return unique(out)
}

// allApart cuts each off from each other one.
func allApart[T comparable](all []T) []lost[T] { return apart(all, all) }

// isolated cuts each of some off from everybody, the other ones of them too.
func isolated[T comparable](some, all []T) []lost[T] { return apart(some, all) }

// split cuts a side off from all the rest; each side stays together.
func split[T comparable](side, all []T) []lost[T] { return apart(side, without(all, side)) }

// bridged cuts the others in two halves (the first may be smaller) that only those of
// bridge see both of.
func bridged[T comparable](bridge, all []T) []lost[T] {
	rest := without(all, bridge)
	return apart(rest[:len(rest)/2], rest[len(rest)/2:])
}

// ringOfMajorities lets each hear a majority, itself included, which is another one for
// each: it and those that follow it in the ring. What the others send to it is lost.
// It comes from Jepsen: https://github.com/jepsen-io/jepsen, jepsen.nemesis/majorities-ring.
func ringOfMajorities[T comparable](all []T) []lost[T] {
	n := len(all)
	var out []lost[T]
	for i, x := range all {
		for d := n/2 + 1; d < n; d++ {
			out = append(out, lost[T]{all[(i+d)%n], x})
		}
	}
	return unique(out)
}

func without[T comparable](all, some []T) []T {
	return slices.DeleteFunc(slices.Clone(all), func(x T) bool { return slices.Contains(some, x) })
}

func unique[T comparable](in []lost[T]) []lost[T] {
	var out []lost[T]
	for _, x := range in {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}
