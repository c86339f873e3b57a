package run

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// files are what a run writes beside its history, from its first moment on, so
// that a run that dies has said what it was about to do.
type files struct {
	dir  string
	log  *log.Logger
	file *os.File

	mu    sync.Mutex
	steps map[string]*os.File
}

func openFiles(cfg Config) (*files, error) {
	if err := os.MkdirAll(filepath.Dir(cfg.Dir), 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of runs: %w", err)
	}
	if err := os.Mkdir(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of the run: %w", err)
	}
	if err := os.Mkdir(filepath.Join(cfg.Dir, "logs"), 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of logs: %w", err)
	}
	scenario, err := cfg.Scenario.Marshal()
	if err != nil {
		return nil, err
	}
	planned, err := cfg.Plan.JSON()
	if err != nil {
		return nil, err
	}
	for name, text := range map[string][]byte{
		"scenario.yaml": scenario,
		"plan.txt":      []byte(cfg.Plan.String()),
		"plan.json":     planned,
		"rerun.txt":     []byte(fmt.Sprintf("%s\n# gameday %s, seed %d\n", cfg.Rerun, cfg.Gameday, cfg.Seed)),
	} {
		if err := os.WriteFile(filepath.Join(cfg.Dir, name), text, 0o644); err != nil {
			return nil, fmt.Errorf("write the run's files: %w", err)
		}
	}
	f, err := os.Create(filepath.Join(cfg.Dir, "logs", "gameday.log"))
	if err != nil {
		return nil, fmt.Errorf("open the run's log: %w", err)
	}
	return &files{
		dir: cfg.Dir, file: f, steps: map[string]*os.File{},
		log: log.New(f, "", log.LstdFlags|log.Lmicroseconds),
	}, nil
}

// step is the file that takes what the tools of an upgrade step print. If it
// cannot be opened the output goes to the run's log.
func (f *files) step(step string) io.Writer {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w, ok := f.steps[step]; ok {
		return w
	}
	name := strings.NewReplacer("/", "-", "[", "", "]", "").Replace(step) + ".log"
	w, err := os.OpenFile(filepath.Join(f.dir, "logs", name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		f.log.Printf("%s: its output is here: %v", step, err)
		return f.file
	}
	f.steps[step] = w
	return w
}

func (f *files) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	errs := []error{f.file.Close()}
	for _, w := range f.steps {
		errs = append(errs, w.Close())
	}
	return errors.Join(errs...)
}
