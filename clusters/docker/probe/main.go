// Command probe does nothing and ends well. Run in a privileged container it
// shows that this machine can run one.
package main

func main() {}
