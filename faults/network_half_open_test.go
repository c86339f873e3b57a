package faults

import "testing"

func TestSockets(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 030012AC:D2A4 020012AC:192B 01 00000025:00000000 01:00000019 00000004     0        0 2 2 0 20 4 30 10 -1
`
	got, err := sockets(table)
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	if got[0].established || got[0].retried != 0 {
		t.Errorf("a listener: %+v", got[0])
	}
	if s := got[1]; !s.established || s.retried != 4 || s.ends.String() != "172.18.0.3:53924 - 172.18.0.2:6443" {
		t.Errorf("got %+v", s)
	}
	if _, err := sockets("0: x:y z:0 01 0:0 0:0 0\n"); err == nil {
		t.Error("nonsense was taken")
	}
}
