package preflight

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"gameday/clusters"
)

// The annotations with which an API server marks requests for deprecated APIs:
// k8s.io/apiserver@v0.37.0 pkg/endpoints/metrics/metrics.go.
const (
	annotationDeprecated = "k8s.io/deprecated"
	annotationRemoved    = "k8s.io/removed-release"
)

// auditLine is what is read of a line of an audit log.
type auditLine struct {
	Kind      string    `json:"kind"`
	At        time.Time `json:"requestReceivedTimestamp"`
	Stage     string    `json:"stage"`
	UserAgent string    `json:"userAgent"`
	User      struct {
		Username string `json:"username"`
	} `json:"user"`
	Object struct {
		Resource  string `json:"resource"`
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
		Group     string `json:"apiGroup"`
		Version   string `json:"apiVersion"`
	} `json:"objectRef"`
	Annotations map[string]string `json:"annotations"`
}

// read adds a log to what is known of it. Only what is marked is decoded whole: a log
// can be a gigabyte.
func (a *AuditLog) read(ctx context.Context, r io.Reader) error {
	lines := bufio.NewReaderSize(r, 1<<20)
	for n := 0; ; n++ {
		line, err := lines.ReadBytes('\n')
		if n%1000 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, io.EOF) {
			// The last line of a log that is being written can be half there.
			if json.Valid(line) {
				err = a.add(line)
				return err
			}
			return nil
		}
		if err != nil {
			return err
		}
		if err := a.add(line); err != nil {
			return fmt.Errorf("line %d: %w", n+1, err)
		}
	}
}

// stamp finds the time of a line without decoding it.
var stampKey = []byte(`"requestReceivedTimestamp":"`)

func (a *AuditLog) add(line []byte) error {
	_, rest, ok := bytes.Cut(line, stampKey)
	text, _, closed := bytes.Cut(rest, []byte{'"'})
	at, err := time.Parse(time.RFC3339, string(text))
	if !ok || !closed || err != nil {
		return errors.New("is not an event of audit.k8s.io/v1 in JSON")
	}
	a.Requests++
	if a.First.IsZero() || at.Before(a.First) {
		a.First = at
	}
	if at.After(a.Last) {
		a.Last = at
	}
	if !bytes.Contains(line, []byte(`"`+annotationDeprecated+`":"true"`)) {
		return nil
	}
	var e auditLine
	if err := json.Unmarshal(line, &e); err != nil {
		return err
	}
	if e.Annotations[annotationDeprecated] != "true" {
		return nil // in the content of an object
	}
	r := Request{
		Resource: schema.GroupVersionResource{Group: e.Object.Group, Version: e.Object.Version, Resource: e.Object.Resource},
		Removed:  e.Annotations[annotationRemoved], User: e.User.Username, Agent: e.UserAgent,
		Object: strings.TrimPrefix(path.Join(e.Object.Namespace, e.Object.Resource, e.Object.Name), "/"), Count: 1, Last: at,
	}
	for i := range a.Deprecated {
		d := &a.Deprecated[i]
		if d.Resource == r.Resource && d.User == r.User && d.Agent == r.Agent {
			if d.Count++; at.After(d.Last) {
				d.Last, d.Object = at, r.Object
			}
			return nil
		}
	}
	a.Deprecated = append(a.Deprecated, r)
	return nil
}

// auditFile reads a file on this machine.
func auditFile(ctx context.Context, name string) (a AuditLog, err error) {
	a.Where = name
	f, err := os.Open(name)
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return a, a.readMaybeZipped(ctx, name, f)
}

func (a *AuditLog) readMaybeZipped(ctx context.Context, name string, r io.Reader) error {
	if !strings.HasSuffix(name, ".gz") {
		return a.read(ctx, r)
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	return errors.Join(a.read(ctx, z), z.Close())
}

// auditOnNode reads the log of the API server on a node, and the ones that it has put
// aside: NAME-TIMESTAMP.EXT beside NAME.EXT, with .gz if they are compressed.
func auditOnNode(ctx context.Context, n clusters.Node, name string) (a AuditLog, err error) {
	a.Where, a.Node = n.Name()+":"+name, n.Name()
	files, ok := n.(clusters.Files)
	open, streams := n.(clusters.Opener)
	if !ok || !streams {
		return a, fmt.Errorf("%s gives no files (capability %s)", n.Name(), clusters.CapFiles)
	}
	names, err := files.ReadDir(ctx, path.Dir(name))
	if err != nil {
		return a, err
	}
	base := path.Base(name)
	ext := path.Ext(base)
	aside := strings.TrimSuffix(base, ext) + "-"
	slices.SortFunc(names, func(x, y string) int { return cmp.Compare(x, y) })
	for _, file := range names {
		if file != base && (!strings.HasPrefix(file, aside) || !strings.HasSuffix(strings.TrimSuffix(file, ".gz"), ext)) {
			continue
		}
		r, err := open.Open(ctx, path.Join(path.Dir(name), file))
		if err != nil {
			return a, err
		}
		if err := errors.Join(a.readMaybeZipped(ctx, file, r), r.Close()); err != nil {
			return a, fmt.Errorf("%s: %w", file, err)
		}
	}
	return a, nil
}
