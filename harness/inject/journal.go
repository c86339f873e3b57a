package inject

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gameday/faults"
	"gameday/faults/mechanism/process"
)

// State of an injection.
type State string

// The states, as in the diagram at Injection. Ready is never in a journal.
const (
	Ready  State = "ready"
	Armed  State = "armed"
	Active State = "active"
	Healed State = "healed"
	Stuck  State = "stuck"
)

// ErrTakenOver is wrapped when another process (the guard, `gameday heal`) has
// taken the journal over: this process may break nothing any more.
var ErrTakenOver = errors.New("the journal was taken over by another process, which heals what was open")

// Header says whose journal it is.
type Header struct {
	Run      string `json:"run"`
	Provider string `json:"provider"`
	Cluster  string `json:"cluster"`
}

// Holder is a process that works with a journal. The last one in the file holds
// it.
type Holder struct {
	Header
	// As is harness, guard or heal; Why says why it took over.
	As      string      `json:"as"`
	Why     string      `json:"why,omitempty"`
	Process process.Ref `json:"process"`
}

// Alive says whether the process is there.
func (h Holder) Alive() (bool, error) {
	p, err := process.Open(h.Process)
	if errors.Is(err, process.ErrGone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, p.Close()
}

// Busy says whether the holder may be at work with the journal just now: it is
// there, and is no heal of this very process, which is over.
func (h Holder) Busy() (bool, error) {
	alive, err := h.Alive()
	return alive && (h.As != asHeal || h.Process.PID != os.Getpid()), err
}

// asHeal is the As of `gameday heal`.
const asHeal = "heal"

// Intent is what is about to be done.
type Intent struct {
	Fault  string         `json:"fault"`
	Params map[string]any `json:"params"`
	Places []string       `json:"places"`
	Nodes  []string       `json:"nodes"`
	Tag    string         `json:"tag"`
	Phase  string         `json:"phase,omitempty"`
	// Deadline is when it has to be over at the latest.
	Deadline time.Time `json:"deadline"`
}

// line is a line of the file: either about a holder, or about an injection.
type line struct {
	Seq       int64           `json:"seq"`
	At        time.Time       `json:"at"`
	Holder    *Holder         `json:"holder,omitempty"`
	Injection string          `json:"injection,omitempty"`
	State     State           `json:"state,omitempty"`
	Intent    *Intent         `json:"intent,omitempty"`
	Notes     json.RawMessage `json:"notes,omitempty"`
	Error     string          `json:"error,omitempty"`
}

// Entry is an injection as its lines in the journal leave it.
type Entry struct {
	ID string
	Intent
	State State
	Notes json.RawMessage
	Error string
	// Damaged says that the line with the intent cannot be read.
	Damaged bool
}

// Contents is a journal as read.
type Contents struct {
	Holder Holder
	// Entries in the order in which they were armed.
	Entries []Entry
	// Torn counts lines that cannot be read. A line is on disk before its fault
	// is applied, so a torn last one stands for a fault that never was; more than
	// that is a damaged file. An injection whose first line is damaged is an entry
	// without an intent: Stuck, unless a later line says that it was healed.
	Torn int

	seq  int64
	size int64
	// ended says that the file ends with a whole line.
	ended bool
}

// Open are the entries that are not healed.
func (c Contents) Open() []Entry {
	var out []Entry
	for _, e := range c.Entries {
		if e.State != Healed {
			out = append(out, e)
		}
	}
	return out
}

// errDamaged is what is known of an injection whose first line cannot be read.
var errDamaged = errors.New("the line of the journal that announced it is damaged, so that nobody knows what it broke: look at the nodes")

// ReadJournal reads a journal as far as it is whole.
func ReadJournal(path string) (Contents, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Contents{}, fmt.Errorf("read the journal: %w", err)
	}
	c, err := parse(b)
	if err != nil {
		return Contents{}, fmt.Errorf("journal %s: %w", path, err)
	}
	return c, nil
}

func parse(b []byte) (Contents, error) {
	c := Contents{size: int64(len(b)), ended: len(b) == 0 || b[len(b)-1] == '\n'}
	at := map[string]int{}
	r := bufio.NewReader(bytes.NewReader(b))
	for {
		text, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(text) == 0 {
			break
		}
		var l line
		if json.Unmarshal(text, &l) != nil {
			c.Torn++
			continue
		}
		c.seq = max(c.seq, l.Seq)
		if l.Holder != nil {
			c.Holder = *l.Holder
			continue
		}
		if l.Injection == "" { // JSON, but no line of ours
			c.Torn++
			continue
		}
		i, ok := at[l.Injection]
		if !ok {
			i = len(c.Entries)
			at[l.Injection] = i
			e := Entry{ID: l.Injection}
			if e.Damaged = l.Intent == nil; e.Damaged {
				e.State, e.Error = Stuck, errDamaged.Error()
			}
			c.Entries = append(c.Entries, e)
		}
		e := &c.Entries[i]
		if e.Damaged && l.State != Healed {
			continue // active or stuck, nobody can heal it
		}
		if l.Intent != nil {
			e.Intent = *l.Intent
		}
		if l.State != "" {
			e.State, e.Error = l.State, l.Error
		}
		if l.Notes != nil {
			e.Notes = l.Notes
		}
	}
	if c.Holder.Run == "" {
		return c, errors.New("no line says which run it belongs to")
	}
	return c, nil
}

// Journal is a journal that this process holds. It is safe for concurrent use.
type Journal struct {
	path   string
	holder Holder

	mu    sync.Mutex
	file  *os.File
	seq   int64
	size  int64 // of the file, if nobody else wrote to it
	lost  bool
	notes map[string]json.RawMessage
	open  map[string]State
	guard *Guard

	// alone is the lock of a process that took over; nil for the run.
	alone *os.File
}

// OpenJournal creates the journal of a run at path, which must not exist, and
// notes it in the index of open journals, so that `gameday heal` finds it from
// any folder.
func OpenJournal(path string, h Header) (*Journal, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("create the journal: %w", err)
	}
	me, err := process.Of(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("create the journal: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create the journal: %w", err)
	}
	j := newJournal(path, f, Holder{Header: h, As: "harness", Process: me})
	err = j.append(line{Holder: &j.holder})
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err == nil {
		err = addToIndex(h.Run, path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return j, nil
}

func newJournal(path string, f *os.File, h Holder) *Journal {
	return &Journal{path: path, holder: h, file: f, notes: map[string]json.RawMessage{}, open: map[string]State{}}
}

// takeOver makes this process the one that acts on the journal. It waits until
// every act of the run that is under way has ended, and keeps everybody else
// out until Close.
func takeOver(ctx context.Context, path, as, why string) (*Journal, error) {
	me, err := process.Of(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("take over %s: %w", path, err)
	}
	alone, err := lock(ctx, path, unix.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("take over %s: %w", path, err)
	}
	c, err := ReadJournal(path)
	if err != nil {
		return nil, errors.Join(err, alone.Close())
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("take over the journal: %w", err), alone.Close())
	}
	j := newJournal(path, f, Holder{Header: c.Holder.Header, As: as, Why: why, Process: me})
	j.seq, j.size, j.alone = c.seq, c.size, alone
	for _, e := range c.Entries {
		j.notes[e.ID], j.open[e.ID] = e.Notes, e.State
	}
	if !c.ended { // what follows shall not be glued to a torn line
		if _, err := f.Write([]byte("\n")); err != nil {
			return nil, errors.Join(fmt.Errorf("write the journal: %w", err), j.Close())
		}
		j.size++
	}
	if err := j.append(line{Holder: &j.holder}); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return j, nil
}

// act runs fn while nobody can take the journal over. It does not run it if
// somebody has.
func (j *Journal) act(ctx context.Context, fn func() error) error {
	return j.locked(ctx, func() error {
		if j.takenOver() {
			return ErrTakenOver
		}
		return fn()
	})
}

// locked runs fn while nobody else works with the journal.
func (j *Journal) locked(ctx context.Context, fn func() error) (err error) {
	if j.alone == nil {
		shared, lerr := lock(ctx, j.path, unix.LOCK_SH)
		if lerr != nil {
			return fmt.Errorf("use the journal: %w", lerr)
		}
		defer func() { err = errors.Join(err, shared.Close()) }()
		return fn()
	}
	return fn()
}

// takenOver says whether another process has written to the file.
func (j *Journal) takenOver() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.checkLost() != nil
}

func (j *Journal) checkLost() error {
	if j.file == nil {
		return fmt.Errorf("journal %s: %w", j.path, os.ErrClosed)
	}
	st, err := j.file.Stat()
	if err != nil {
		return fmt.Errorf("journal %s: %w", j.path, err)
	}
	if st.Size() != j.size {
		j.lost = true
	}
	if j.lost {
		return ErrTakenOver
	}
	return nil
}

// append makes a line durable.
func (j *Journal) append(l line) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.checkLost(); err != nil {
		return err
	}
	l.Seq, l.At = j.seq+1, time.Now()
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	b = append(b, '\n')
	n, err := j.file.Write(b)
	j.size += int64(n)
	if err == nil {
		j.seq++
		err = j.file.Sync()
	} else if n > 0 {
		// The next line must not be glued to half a line.
		if terr := j.file.Truncate(j.size - int64(n)); terr != nil {
			j.lost = true
			err = errors.Join(err, terr)
		} else {
			j.size -= int64(n)
		}
	}
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if l.Injection != "" && l.State != "" {
		j.open[l.Injection] = l.State
	}
	if l.Notes != nil {
		j.notes[l.Injection] = l.Notes
	}
	return nil
}

// arm writes down what is about to be done.
func (j *Journal) arm(id string, in Intent) error {
	j.mu.Lock()
	_, again := j.open[id]
	j.mu.Unlock()
	if again {
		return fmt.Errorf("the journal has an injection %s already", id)
	}
	return j.append(line{Injection: id, State: Armed, Intent: &in})
}

// mark writes down what has become of it.
func (j *Journal) mark(id string, s State, cause error) error {
	l := line{Injection: id, State: s}
	if cause != nil {
		l.Error = cause.Error()
	}
	return j.append(l)
}

// notesOf are the fault's own lines.
func (j *Journal) notesOf(id string) faults.Notes { return notes{j, id} }

type notes struct {
	j  *Journal
	id string
}

func (n notes) Save(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("notes of %s: %w", n.id, err)
	}
	return n.j.append(line{Injection: n.id, Notes: b})
}

func (n notes) Load(v any) (bool, error) {
	n.j.mu.Lock()
	b := n.j.notes[n.id]
	n.j.mu.Unlock()
	if b == nil {
		return false, nil
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, fmt.Errorf("notes of %s: %w", n.id, err)
	}
	return true, nil
}

// Close lets go of the journal. Once everything in it is healed it leaves the
// index of open journals.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	var errs []error
	healed := j.checkLost() == nil
	for _, s := range j.open {
		healed = healed && s == Healed
	}
	if healed {
		errs = append(errs, removeFromIndex(j.holder.Run, j.path))
	}
	if err := j.file.Close(); err != nil {
		errs = append(errs, fmt.Errorf("close the journal: %w", err))
	}
	j.file = nil
	if j.alone != nil {
		errs = append(errs, j.alone.Close()) // and with it the lock
	}
	return errors.Join(errs...)
}

// lock takes a lock on the file (flock(2)); closing the file that it returns
// lets go of it, as does the end of the process. It asks again and again,
// because a call that blocks could not be ended by ctx.
func lock(ctx context.Context, path string, how int) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock: %w", err), f.Close())
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return nil, errors.Join(fmt.Errorf("wait for the lock, which another process holds: %w", err), f.Close())
		}
	}
}

// pause waits for d, or for the end of ctx, which is an error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Found is an entry of the index of open journals.
type Found struct {
	// Run that left it.
	Run string
	// Path of the journal. The file may be gone.
	Path string
}

// OpenJournals lists the journals of this machine's runs that are not known to
// be healed: of runs that are under way, and of dead ones.
func OpenJournals() ([]Found, error) {
	dir, err := indexDir()
	if err != nil {
		return nil, err
	}
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list open journals: %w", err)
	}
	var out []Found
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".") { // half written
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list open journals: %w", err)
		}
		out = append(out, Found{Run: f.Name(), Path: strings.TrimSpace(string(b))})
	}
	return out, nil
}

// Left is what a dead run left open.
type Left struct {
	Found
	Open []Entry
}

// Leftovers lists the dead runs of this machine that left faults open. Runs whose
// journal is gone are no part of it: they are HealDead's. An error is about
// journals that cannot be read; the others are listed beside it.
func Leftovers() ([]Left, error) {
	found, err := OpenJournals()
	if err != nil {
		return nil, err
	}
	var out []Left
	var errs []error
	for _, f := range found {
		c, err := ReadJournal(f.Path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		open, alive := c.Open(), false
		if err == nil && len(open) > 0 {
			alive, err = c.Holder.Busy()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("run %s: %w", f.Run, err))
		} else if len(open) > 0 && !alive {
			out = append(out, Left{f, open})
		}
	}
	return out, errors.Join(errs...)
}

// Forget takes a run out of the index of open journals: for one whose journal
// is gone.
func Forget(run string) error { return removeFromIndex(run, "") }

// indexDir is $XDG_STATE_HOME/gameday/open, by default below ~/.local/state
// (XDG Base Directory Specification 0.8).
func indexDir() (string, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("index of open journals (set HOME or XDG_STATE_HOME): %w", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "gameday", "open"), nil
}

func addToIndex(run, path string) error {
	dir, err := indexDir()
	if err != nil {
		return err
	}
	if run == "" || run != filepath.Base(run) || strings.HasPrefix(run, ".") {
		return fmt.Errorf("index of open journals: %q is no name of a run", run)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("index of open journals: %w", err)
	}
	if err := freeInIndex(dir, run, path); err != nil {
		return fmt.Errorf("index of open journals: %w", err)
	}
	tmp := filepath.Join(dir, "."+run)
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(path + "\n")
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err == nil {
		err = os.Rename(tmp, filepath.Join(dir, run))
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("index of open journals: %w", err)
	}
	return nil
}

// freeInIndex refuses a name that another run has, which is alive or left faults:
// its journal would be found no more, and both would name what they make alike.
func freeInIndex(dir, run, path string) error {
	old, err := indexed(dir, run)
	if err != nil || old == "" || old == path {
		return err
	}
	c, err := ReadJournal(old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	alive, err := c.Holder.Alive()
	if err != nil {
		return err
	}
	if alive || len(c.Open()) > 0 {
		return fmt.Errorf("there is another run %s, with the journal %s, which is not healed", run, old)
	}
	return nil
}

// indexed is the path that the index has for a run, or empty.
func indexed(dir, run string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, run))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

// removeFromIndex takes a run out of the index, if it has this journal there (or
// whichever, if path is empty).
func removeFromIndex(run, path string) error {
	dir, err := indexDir()
	if err != nil {
		return err
	}
	if path != "" {
		if old, err := indexed(dir, run); err != nil || old != path {
			return err
		}
	}
	if err := os.Remove(filepath.Join(dir, run)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("index of open journals: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
