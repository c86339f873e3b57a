package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// batchBytes is about how much of a file is decoded at a time by one worker: JSON
// is most of the time that it takes to judge a long run.
const batchBytes = 256 << 10

// batch is some whole lines of the file.
type batch struct {
	first int64 // number of its first line
	text  []byte
	// events of the lines before the first bad one, and what is wrong with that.
	events []Event
	err    error
	ready  chan struct{}
}

// decode reads a history line by line, and gives each to take, in order. A last
// line without its newline is not whole: it is left out, and torn is called.
func decode(r io.Reader, take func(line int64, e Event) error, torn func()) error {
	work := make(chan *batch)
	order := make(chan *batch, 2*runtime.GOMAXPROCS(0))
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for b := range work {
				b.decode()
				close(b.ready)
			}
		})
	}
	var rest []byte
	var readErr error
	workers.Go(func() {
		defer close(order)
		defer close(work)
		rest, readErr = split(r, func(b *batch) bool {
			select {
			case order <- b:
			case <-stop:
				return false
			}
			work <- b // the workers always come to it
			return true
		})
	})
	var err error
	for b := range order {
		<-b.ready
		if err != nil {
			continue // only those that were read already
		}
		for i, e := range b.events {
			if err = take(b.first+int64(i), e); err != nil {
				break
			}
		}
		if err == nil {
			err = b.err
		}
		if err != nil {
			close(stop)
		}
	}
	workers.Wait()
	if err == nil {
		err = readErr
	}
	if err == nil && len(bytes.TrimSpace(rest)) > 0 {
		torn()
	}
	return err
}

// split cuts a file into batches of whole lines, and returns what is behind the
// last of them.
func split(r io.Reader, give func(*batch) bool) (rest []byte, err error) {
	in := bufio.NewReaderSize(r, 1<<20)
	for line := int64(1); ; {
		b := &batch{first: line, ready: make(chan struct{})}
		whole := 0 // bytes of whole lines
		for err == nil && (whole < batchBytes || whole < len(b.text)) {
			var part []byte
			part, err = in.ReadSlice('\n')
			b.text = append(b.text, part...)
			switch {
			case err == nil:
				line++
				whole = len(b.text)
			case errors.Is(err, bufio.ErrBufferFull): // a long line goes on
				err = nil
			}
		}
		rest, b.text = b.text[whole:], b.text[:whole]
		if len(b.text) > 0 && !give(b) {
			return nil, nil
		}
		if errors.Is(err, io.EOF) {
			return rest, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (b *batch) decode() {
	for line := range bytes.Lines(b.text) {
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			b.err = fmt.Errorf("line %d: %w: %w", b.first+int64(len(b.events)), ErrHole, err)
			return
		}
		b.events = append(b.events, e)
	}
}
