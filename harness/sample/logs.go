package sample

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gameday/clusters"
	"gameday/harness/history"
)

const (
	// podLogs is where the kubelet keeps the logs of pods, as
	// NAMESPACE_NAME_UID/CONTAINER/ATTEMPT.log (k8s.io/kubernetes@v1.37.0
	// pkg/kubelet/kuberuntime/helpers.go, BuildPodLogsDirectory, and
	// kuberuntime_container.go, buildContainerLogsPath).
	podLogs = "/var/log/pods"
	// mostRotated is how many rotated files of a container there are before the
	// kubelet begins to remove them: containerLogMaxFiles less the current one
	// (pkg/kubelet/apis/config/v1beta1/defaults.go).
	mostRotated = 5 - 1
	// maxLine is how much of a line is looked at, linesTold how many lines with a
	// pattern are recorded of each log (beyond it they are counted), textTold how
	// much of each.
	maxLine   = 1 << 20
	linesTold = 50
	textTold  = 300
)

// logKeeper holds the logs of kube-system's containers open from when they
// start: the kubelet removes all but the last two of a container that restarts
// (maximum-dead-containers-per-container is 1), and all of a static pod whose
// manifest an upgrade has changed.
type logKeeper struct {
	// open opens a file of a node.
	open func(node, path string) (io.ReadCloser, error)
	// began is when it began to look: of what was there then only the present life
	// is to be kept.
	began time.Time

	mu sync.Mutex
	// attempts are the containers that were seen, with the file that is held
	// (nil: it could not be opened, for the reason in why).
	attempts map[attempt]*heldLog
	// last is the last attempt that was seen of a container.
	last map[attempt]int
}

// attempt is one life of a container; with number 0, the container.
type attempt struct {
	node, pod, container string // pod is NAMESPACE_NAME_UID
	number               int
}

func (a attempt) path() string {
	return path.Join(a.pod, a.container, strconv.Itoa(a.number)+".log")
}

type heldLog struct {
	file io.ReadCloser
	why  string
}

func newLogKeeper(open func(node, path string) (io.ReadCloser, error)) *logKeeper {
	return &logKeeper{open: open, began: time.Now(), attempts: map[attempt]*heldLog{}, last: map[attempt]int{}}
}

// begun is when the first life began that is told of a container.
func begun(c history.Container) time.Time {
	if c.Ended != nil && !c.Ended.Started.IsZero() {
		return c.Ended.Started
	}
	return c.Started
}

// openFor bounds the opening of a log: it is a file of this machine.
const openFor = 5 * time.Second

// opener opens files of a cluster's nodes, also when ctx has ended.
func opener(ctx context.Context, c clusters.Cluster) func(node, path string) (io.ReadCloser, error) {
	return func(name, path string) (io.ReadCloser, error) {
		o, ok := node(c, name).(clusters.Opener) // one that joined later, too
		if !ok {
			return nil, fmt.Errorf("%s does not show its files to this machine", name)
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openFor)
		defer cancel()
		return o.Open(ctx, path)
	}
}

// see opens the logs of the pod's containers that are new.
func (k *logKeeper) see(c history.Component) {
	uid := c.Manifest
	if uid == "" {
		uid = c.UID
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, one := range c.Containers {
		if one.ID == "" && one.Ended == nil || c.Deleted {
			continue // it has not begun
		}
		a := attempt{node: c.Node, pod: metav1.NamespaceSystem + "_" + c.Pod + "_" + uid, container: one.Name}
		from, now := int(one.Restarts), int(one.Restarts)
		if last, ok := k.last[a]; ok {
			from = min(last+1, now)
		} else if since := begun(one); since.After(k.began) {
			from = 0 // a new pod; its first lives were too short to be told
		}
		k.last[a] = now
		for n := from; n <= now; n++ {
			one := a
			one.number = n
			if h := k.attempts[one]; h != nil && h.file != nil {
				continue
			}
			h := &heldLog{}
			var err error
			if h.file, err = k.open(one.node, path.Join(podLogs, one.path())); err != nil {
				h.file, h.why = nil, short(err.Error())
			}
			k.attempts[one] = h
		}
	}
}

// save writes the logs that were not collected into the folder of their node, and
// says of each attempt that is still not there why.
func (k *logKeeper) save(dir string) []history.Log {
	k.mu.Lock()
	defer k.mu.Unlock()
	var missing []history.Log
	for a, held := range k.attempts {
		name := filepath.Join(dir, a.node, "pods", filepath.FromSlash(a.path()))
		why := held.why
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) && held.file != nil {
			why = ""
			if err := copyTo(name, held.file); err != nil {
				why = short(err.Error())
			}
		} else if err == nil {
			why = ""
		}
		if why != "" {
			missing = append(missing, history.Log{Node: a.node, Source: a.container, Missing: fmt.Sprintf("%s was removed before it was collected, and could not be held: %s", a.path(), why)})
		}
		if held.file != nil {
			// It was only read.
			_ = held.file.Close()
			held.file, held.why = nil, "it was let go"
		}
	}
	return missing
}

func copyTo(name string, from io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name)) // half a log would pass for a whole one
	}
	return nil
}

// CollectLogs adds to the logs that were collected below dir those of components
// that the kubelet has removed since, and seeks the patterns in all of
// components, kubelet and containerd. Each log becomes a Log of the record, with
// what of it is missing, and each find a LogLine.
func (s *Samplers) CollectLogs(dir string, patterns []string) error {
	sought := map[string]*regexp.Regexp{}
	for _, p := range patterns {
		re, err := regexp.Compile(p)
		if err != nil {
			return fmt.Errorf("seek in the logs: %w", err)
		}
		sought[p] = re
	}
	for _, l := range s.logs.save(dir) {
		s.cfg.Record.Add(history.Event{Log: &l})
	}
	for _, n := range s.cfg.Cluster.Nodes() {
		if n.Role() == clusters.LoadBalancer {
			continue
		}
		for _, f := range logFiles(dir, n.Name()) {
			l := scan(dir, f, sought, func(line history.LogLine) { s.cfg.Record.Add(history.Event{LogLine: &line}) })
			if l.Missing == "" && f.journal && l.From.After(s.began) {
				l.Missing = "it begins only at " + l.From.UTC().Format(time.RFC3339)
			}
			if l.Missing == "" && f.rotated >= mostRotated {
				l.Missing = fmt.Sprintf("it was rotated %d times: older parts may have been removed", f.rotated)
			}
			s.cfg.Record.Add(history.Event{Log: &l})
		}
	}
	return s.cfg.Record.Err()
}

// logFile is a log to look through.
type logFile struct {
	node, source, name string // name is below the folder of logs
	journal            bool
	rotated            int // files besides it
}

// logFiles are the logs of a node that should be there: the journals, and what is
// there of kube-system's containers.
func logFiles(dir, node string) []logFile {
	out := []logFile{
		{node: node, source: "kubelet", name: node + "/kubelet.log", journal: true},
		{node: node, source: "containerd", name: node + "/containerd.log", journal: true},
	}
	// A pattern that is well formed cannot fail.
	found, _ := filepath.Glob(filepath.Join(dir, node, "pods", metav1.NamespaceSystem+"_*", "*", "*.log*"))
	rotated := map[string]int{} // by the name of the current file
	for _, f := range found {
		if current, stamp, _ := strings.Cut(filepath.Base(f), ".log"); stamp != "" {
			rotated[filepath.Join(filepath.Dir(f), current+".log")]++
		}
	}
	for _, f := range found {
		name, err := filepath.Rel(dir, f)
		if err != nil {
			name = f
		}
		out = append(out, logFile{node: node, source: filepath.Base(filepath.Dir(f)), name: filepath.ToSlash(name), rotated: rotated[f]})
	}
	return out
}

// scan looks through one log.
func scan(dir string, f logFile, sought map[string]*regexp.Regexp, tell func(history.LogLine)) history.Log {
	l := history.Log{Node: f.node, Source: f.source}
	in, err := os.Open(filepath.Join(dir, filepath.FromSlash(f.name)))
	if err != nil {
		l.Missing = "it was not collected"
		return l
	}
	defer in.Close()
	l.File = f.name
	var from io.Reader = in
	if strings.HasSuffix(f.name, ".gz") { // the kubelet packs what it has rotated
		if from, err = gzip.NewReader(in); err != nil {
			l.Missing = "it cannot be read: " + short(err.Error())
			return l
		}
	}
	l.Found = map[string]int{}
	for p := range sought {
		l.Found[p] = 0
	}
	names := slices.Sorted(maps.Keys(sought))
	lines := logLines{in: bufio.NewReaderSize(from, 256<<10), journal: f.journal}
	for {
		line, err := lines.next()
		if len(line.text) > 0 {
			if l.From.IsZero() {
				l.From = line.at
			}
			if !line.at.IsZero() {
				l.To = line.at
			}
			if f.journal && suppressed.Match(line.text) && l.Missing == "" {
				l.Missing = fmt.Sprintf("line %d: the journal dropped lines: %s", line.number, clip(line.text))
			}
			for _, p := range names {
				if !sought[p].Match(line.text) {
					continue
				}
				if l.Found[p]++; l.Found[p] <= linesTold {
					tell(history.LogLine{Pattern: p, Node: f.node, Source: f.source, File: f.name, Line: line.number, Time: line.at, Text: clip(line.text)})
				}
			}
		}
		if err != nil {
			l.Lines, l.Bytes = lines.number, lines.bytes
			switch {
			case !errors.Is(err, io.EOF):
				l.Missing = fmt.Sprintf("it cannot be read beyond line %d: %s", lines.number, short(err.Error()))
			case lines.long > 0 && l.Missing == "":
				l.Missing = fmt.Sprintf("%d lines are longer than %d bytes: what is behind was not looked at", lines.long, maxLine)
			}
			return l
		}
	}
}

// suppressed is what journald says when a unit writes more than its rate allows
// (systemd src/journal/journald-server.c).
var suppressed = regexp.MustCompile(`^Suppressed \d+ messages? from `)

func clip(text []byte) string {
	if len(text) > textTold {
		text = text[:textTold]
	}
	return strings.ToValidUTF8(string(text), "?")
}

// logLines reads a journal (short-iso-precise) or the log of a container, in
// which long lines come in parts (k8s.io/cri-api docs: TIME STREAM P|F TEXT).
type logLines struct {
	in      *bufio.Reader
	journal bool

	number, long int
	bytes        int64
}

type logText struct {
	number int
	at     time.Time
	text   []byte
}

// next is the next whole line, without what stands before its text.
func (l *logLines) next() (logText, error) {
	var out logText
	for {
		raw, err := l.raw()
		if len(raw) == 0 && err != nil {
			return out, err
		}
		l.number++
		if out.number == 0 {
			out.number = l.number
		}
		at, text, part := l.split(raw)
		if out.at.IsZero() {
			out.at = at
		}
		if room := maxLine - len(out.text); len(text) <= room {
			out.text = append(out.text, text...)
		} else {
			out.text = append(out.text, text[:room]...)
			l.long++
		}
		if !part || err != nil {
			return out, err
		}
	}
}

// raw is one line of the file, as much of it as is looked at.
func (l *logLines) raw() ([]byte, error) {
	var out []byte
	for {
		piece, err := l.in.ReadSlice('\n')
		l.bytes += int64(len(piece))
		if room := maxLine + 256 - len(out); len(piece) <= room {
			out = append(out, piece...)
		} else {
			out = append(out, piece[:room]...)
			if !errors.Is(err, bufio.ErrBufferFull) {
				l.long++
			}
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimSuffix(out, []byte("\n")), err
		}
	}
}

// split takes a line apart. What has no known beginning is all text.
func (l *logLines) split(raw []byte) (at time.Time, text []byte, part bool) {
	first, rest, ok := bytes.Cut(raw, []byte(" "))
	if !ok {
		return at, raw, false
	}
	if l.journal {
		at = journalTime(string(first))
		if at.IsZero() {
			return at, raw, false
		}
		if _, text, ok = bytes.Cut(rest, []byte(": ")); !ok {
			return at, rest, false
		}
		return at, text, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(first))
	if err != nil {
		return time.Time{}, raw, false
	}
	_, rest, _ = bytes.Cut(rest, []byte(" ")) // the stream
	tag, text, _ := bytes.Cut(rest, []byte(" "))
	return at.UTC(), text, string(tag) == "P"
}

// journalTime is a time of short-iso-precise, whose zone older versions of
// systemd write without a colon.
func journalTime(s string) time.Time {
	for _, layout := range []string{"2006-01-02T15:04:05.999999Z07:00", "2006-01-02T15:04:05.999999Z0700"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at.UTC()
		}
	}
	return time.Time{}
}
