package sample

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/harness/history"
)

// auditDir is where the nodes keep the API server's audit logs, whatever their
// names; a rotated file's name sorts before the current one's
// (gopkg.in/natefinch/lumberjack.v2: audit-TIME.log before audit.log).
const auditDir = "/var/log/kubernetes"

// auditScript prints the first line of each audit log, then "--", then every
// line that may matter, oldest file first. It runs on the node, so that the
// thousands of other lines stay there. $1 is the folder, $2 the namespace. In a
// line the verb comes before the object (k8s.io/apiserver@v0.37.0
// pkg/apis/audit/v1/types.go). grep exits 1 when it found nothing, 2 when it
// could not read.
const auditScript = `files=$(find "$1" -type f -name '*audit*.log' | sort)
[ -n "$files" ] || { echo "no audit log below $1" >&2; exit 3; }
head -qn 1 $files || exit 4
echo --
grep -hE "\"verb\":\"(delete|deletecollection|create)\".*\"namespace\":\"$2\"" $files
[ $? -le 1 ]`

// CollectAudit takes from every API server's audit log who deleted or evicted
// pods of the workload and who created or deleted its jobs. A log that is
// missing, cannot be read, or no longer goes back to the start of the sampling
// is a Gap of the source audit/NODE.
func (s *Samplers) CollectAudit(ctx context.Context) error {
	var all sync.WaitGroup
	for _, n := range clusters.ByRole(s.cfg.Cluster.Nodes(), clusters.ControlPlane) {
		all.Go(func() {
			from, reason := s.auditOf(ctx, n)
			if reason == "" {
				return
			}
			s.cfg.Record.Add(history.Event{Gap: &history.Gap{
				Source: "audit/" + n.Name(), From: s.cfg.Record.Since(s.began), To: from, Reason: reason,
			}})
		})
	}
	all.Wait()
	return s.cfg.Record.Err()
}

// auditOf records the lines of one node. If there is a reason to distrust them,
// it is returned with the end of the time that it is about.
func (s *Samplers) auditOf(ctx context.Context, n clusters.Node) (until time.Duration, reason string) {
	x, ok := n.(clusters.Execer)
	if !ok {
		return s.cfg.Record.Now(), fmt.Sprintf("%s cannot run commands (capability %s)", n.Name(), clusters.CapExec)
	}
	r, w := io.Pipe()
	parsed := make(chan auditResult, 1)
	go func() {
		res := readAudit(r, s.cfg.Namespace, func(a history.Audit) {
			a.Endpoint = n.Name()
			s.cfg.Record.Add(history.Event{Audit: &a})
		})
		r.CloseWithError(res.err) // unblocks a writer after a reader's failure
		parsed <- res
	}()
	err := x.Exec(ctx, clusters.Command{Argv: []string{"sh", "-c", auditScript, "sh", auditDir, s.cfg.Namespace}, Stdout: w})
	w.CloseWithError(errors.Join(err, io.EOF))
	res := <-parsed
	now := s.cfg.Record.Now()
	switch {
	case err != nil:
		return now, "the audit log could not be read: " + short(err.Error())
	case res.err != nil && !errors.Is(res.err, io.EOF):
		return now, "the audit log could not be read: " + short(res.err.Error())
	case res.broken > 0:
		return now, fmt.Sprintf("%d lines of the audit log are not whole", res.broken)
	case res.oldest.IsZero():
		return now, "the audit log is empty"
	case res.oldest.After(s.began):
		return s.cfg.Record.Since(s.began) + res.oldest.Sub(s.began), "the audit log was rotated away before " + res.oldest.UTC().Format(time.RFC3339)
	}
	return 0, ""
}

type auditResult struct {
	oldest time.Time // of all lines in the logs
	broken int
	err    error
}

// auditEvent is as much as is needed of audit.k8s.io/v1 Event.
type auditEvent struct {
	AuditID   string
	Stage     string
	Verb      string
	UserAgent string
	User      struct{ Username string }
	ObjectRef struct{ Resource, Namespace, Name, UID, Subresource string }

	ResponseStatus           struct{ Code int32 }
	RequestReceivedTimestamp time.Time
	StageTimestamp           time.Time

	// At level Request and above: an eviction's or deletion's precondition.
	RequestObject struct {
		DeleteOptions struct{ Preconditions struct{ UID string } }
		Preconditions struct{ UID string }
	}
	// At level RequestResponse: the object that was deleted or created, or a
	// Status about it.
	ResponseObject struct {
		Metadata struct{ UID, Name string }
		Details  struct{ UID string }
	}
}

// readAudit parses what auditScript printed.
func readAudit(from io.Reader, namespace string, take func(history.Audit)) auditResult {
	var res auditResult
	in := bufio.NewReaderSize(from, 256<<10)
	heads := true
	for {
		line, err := in.ReadBytes('\n')
		line = bytes.TrimSpace(line)
		switch {
		case len(line) == 0:
		case heads && string(line) == "--":
			heads = false
		default:
			var e auditEvent
			if json.Unmarshal(line, &e) != nil {
				res.broken++
				break
			}
			if heads {
				if at := e.RequestReceivedTimestamp; res.oldest.IsZero() || at.Before(res.oldest) {
					res.oldest = at
				}
				break
			}
			if a, ok := e.wanted(namespace); ok {
				take(a)
			}
		}
		if err != nil {
			res.err = err
			return res
		}
	}
}

// wanted says whether a line is one that a checker needs, and what of it.
func (e auditEvent) wanted(namespace string) (history.Audit, bool) {
	o := e.ObjectRef
	if o.Namespace != namespace || e.Stage != "ResponseComplete" && e.Stage != "Panic" {
		return history.Audit{}, false
	}
	switch kind := strings.TrimSuffix(o.Resource+"/"+o.Subresource, "/"); {
	case kind == "pods" && (e.Verb == "delete" || e.Verb == "deletecollection"):
	case kind == "pods/eviction" && e.Verb == "create":
	case kind == "jobs" && (e.Verb == "create" || e.Verb == "delete" || e.Verb == "deletecollection"):
	default:
		return history.Audit{}, false
	}
	a := history.Audit{
		ID: e.AuditID, User: e.User.Username, Verb: e.Verb, Resource: o.Resource, Subresource: o.Subresource,
		Namespace: o.Namespace, Name: o.Name, Code: e.ResponseStatus.Code,
		Time: e.StageTimestamp.UTC(), Agent: e.UserAgent,
	}
	if a.Name == "" {
		a.Name = e.ResponseObject.Metadata.Name // a create with a generated name
	}
	a.UID = cmp.Or(o.UID, e.ResponseObject.Metadata.UID, e.ResponseObject.Details.UID,
		e.RequestObject.DeleteOptions.Preconditions.UID, e.RequestObject.Preconditions.UID)
	return a, true
}
