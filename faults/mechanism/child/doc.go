// Package child runs a part of this program as a process of its own, so that what it does to the machine ends when that
// process ends, however its parent ends.
//
// A program names its entry points once, as the first thing in main or TestMain:
//
//	child.Main(map[string]child.Func{slowfsync.Child: slowfsync.Run})
//
// and starts one with [Start]. The child is the same executable, in a session of its own (a Ctrl-C on the terminal does
// not reach it). Three pipes connect it:
//
//	parent                      child
//	  lease  ------ stdin ----->  end of file: the parent is gone or has called Stop; ctx ends, undo and return
//	         ----- request ---->  one JSON value a line, handled in Conn.Serve
//	         <--- stdout ------   first line: ready, or the error that kept it from that; then the answers
//	  log    <--- stderr ------   passed on as it is
//
// The lease is held by nothing but the parent's end of the pipe, so the kernel ends it when the parent is killed. A parent
// that hangs keeps it; [Command].MaxHold bounds that from inside the child. A child that hangs can only be ended from
// outside, with SIGKILL: an entry point whose effect must not outlive it therefore uses effects that the kernel removes
// with the process.
package child
