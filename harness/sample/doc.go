// Package sample measures a cluster from outside while things are done to it,
// and writes what it sees into the history.
//
// It samples the API (cached reads, quorum reads, writes; on pooled and on new
// connections; through the load balancer and at each API server directly),
// holds a watch on each endpoint, follows the workload's objects and the nodes
// in etcd's own history, and the state of each etcd member. In the end it looks
// whether every acknowledged write is on every member, and takes from the audit
// logs who deleted what.
//
// It judges nothing. What it could not see is in the record too: as a sample
// that was not sent, as a sample's lateness, as a Gap.
package sample
