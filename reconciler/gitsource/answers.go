package gitsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"fairlead/reconciler/gitsource/hook"
	"fairlead/schema"
)

const (
	// maxPartialLine is how much of a line without end is kept before it is
	// shown.
	maxPartialLine = 4 << 10
	// maxDiagnostics printed for one push; the count of the rest is told.
	maxDiagnostics = 200
	// writeTimeout is how long the hook may leave our lines unread.
	writeTimeout = 30 * time.Second
)

// answers is the pusher's terminal: what is written goes to the hook line by
// line. One goroutine writes to it, another (send) owns the connection; in
// between is a short queue, so that a slow pusher slows the writer and never
// makes anything grow.
type answers struct {
	ctx     context.Context
	lines   chan string
	partial []byte
	doing   doing
}

// stillEvery is after how long without a line the pusher is told what is being done.
// It is looked at with every beat, so that nobody sees nothing for fifteen seconds.
const stillEvery = 10*time.Second - hook.Beat/2

// doing is what is being done for a push.
type doing struct {
	mu    sync.Mutex
	what  string
	began time.Time
}

func (d *doing) note(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.what, d.began = what, time.Now()
}

// line tells of it, "" when there is nothing to tell.
func (d *doing) line(now time.Time) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.what == "" {
		return ""
	}
	return hook.Text(fmt.Sprintf("still %s after %s", d.what, now.Sub(d.began).Round(time.Second)))
}

func newAnswers(ctx context.Context) *answers {
	return &answers{ctx: ctx, lines: make(chan string, 64)}
}

// Write shows every line that is complete. Once the pusher is gone it fails.
func (a *answers) Write(p []byte) (int, error) {
	n := len(p)
	for {
		line, rest, ok := bytes.Cut(p, []byte{'\n'})
		a.partial = append(a.partial, line...)
		if !ok && len(a.partial) < maxPartialLine {
			return n, nil
		}
		if err := a.line(); err != nil {
			return 0, err
		}
		p = rest
	}
}

// endLine shows what is left of a line without end.
func (a *answers) endLine() {
	if len(a.partial) > 0 {
		a.line()
	}
}

// line shows a line so that nothing in it, which may stand in someone's files,
// steers the pusher's terminal.
func (a *answers) line() error {
	text := hook.Text(schema.PrintableText(string(a.partial)))
	a.partial = a.partial[:0]
	select {
	case a.lines <- text:
		return nil
	default:
	}
	select {
	case a.lines <- text:
		return nil
	case <-a.ctx.Done():
		return context.Cause(a.ctx)
	}
}

// finish tells why the push is refused, if it is, and the exit code. Nothing is
// written after it.
func (a *answers) finish(err error) {
	a.endLine()
	code := 0
	if err != nil {
		code = 1
		a.tell(err)
	}
	a.lines <- hook.Exit(code)
	close(a.lines)
}

func (a *answers) tell(err error) {
	var diagnostics schema.Diagnostics
	if !errors.As(err, &diagnostics) {
		fmt.Fprintf(a, "fairlead: %v\n", err)
		return
	}
	for i, d := range diagnostics {
		if i == maxDiagnostics {
			fmt.Fprintf(a, "... and %d more\n", len(diagnostics)-i)
			return
		}
		fmt.Fprintln(a, d)
	}
}

// send writes lines until the exit code, and a beat when there are none, or now and then
// what is being done. When the
// hook does not take them it calls hangUp and drops the rest.
func (a *answers) send(conn net.Conn, hangUp func()) {
	beat := time.NewTicker(hook.Beat)
	defer beat.Stop()
	gone, spoke := false, time.Now()
	for {
		line := hook.Working()
		select {
		case next, more := <-a.lines:
			if !more {
				return
			}
			line, spoke = next, time.Now()
		case now := <-beat.C:
			if still := a.doing.line(now); still != "" && now.Sub(spoke) >= stillEvery {
				line, spoke = still, now
			}
		}
		if gone {
			continue
		}
		conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := io.WriteString(conn, line); err != nil {
			gone = true
			hangUp()
		}
	}
}
