// Package inject is the only caller of faults. It makes sure that what is broken
// on purpose is written down before it is broken, proven while it lasts, and
// mended whatever happens to this process.
//
//	Injection   one fault from its request to the proof that it is gone
//	Journal     what is open, on disk before it is done (journal.jsonl)
//	Guard       a process of its own that heals when this one ends or hangs
//	HealAll     the same from any other process, any time later
//
// # Who may act
//
// Two processes must never work on one fault at the same time: a member added
// to etcd twice is a worse fault than the one that was to be mended. So every
// act (breaking or mending) of the run holds a shared lock on the journal, and
// whoever takes the journal over (the guard, `gameday heal`) holds it alone and
// says so in it. A run that hung and wakes up finds that its journal was taken
// over, and breaks nothing any more.
package inject
