package nodeagent

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/dirfd"
	"fairlead/schema"
)

const (
	// logPoll is how often a followed log is looked at when nothing came.
	logPoll = 100 * time.Millisecond
	// logLine bounds one line; what is longer is passed on in pieces.
	logLine = 1 << 20
	// logTailMost bounds the lines that `tail` keeps in memory.
	logTailMost = 100_000
)

// ErrNoLog says that the container has no log: it never started here.
var ErrNoLog = errors.New("no log")

// logReader copies one attempt's k8s-file log.
type logReader struct {
	path    string
	options corev1.PodLogOptions
	// alive tells whether the container still writes.
	alive func() bool
	now   time.Time
}

// logAttempt finds the newest attempt that has a log, or the one before it.
func (d podDirs) logAttempt(uid types.UID, container string, previous bool) (int, error) {
	entries, err := os.ReadDir(filepath.Join(d.logs(uid), container))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("find log: %w", err)
	}
	var attempts []int
	for _, e := range entries {
		if n, err := strconv.Atoi(strings.TrimSuffix(e.Name(), ".log")); err == nil {
			attempts = append(attempts, n)
		}
	}
	slices.Sort(attempts)
	i := len(attempts) - 1
	if previous {
		i--
	}
	if i < 0 {
		which := "container"
		if previous {
			which = "previous container"
		}
		return 0, fmt.Errorf("%w of %s %q in pod %s", ErrNoLog, which, container, uid)
	}
	return attempts[i], nil
}

// copy writes the log to w as the options ask, until its end or, following,
// until the container is dead or ctx ends.
func (l logReader) copy(ctx context.Context, w io.Writer) error {
	f, err := openItself(l.path)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { f.Close() }()
	out := &logWriter{w: w, timestamps: l.options.Timestamps, left: -1}
	if n := l.options.LimitBytes; n != nil {
		out.left = *n
	}
	switch {
	case l.options.SinceTime != nil:
		out.since = l.options.SinceTime.Time
	case l.options.SinceSeconds != nil:
		out.since = l.now.Add(-time.Duration(*l.options.SinceSeconds) * time.Second)
	}
	if n := l.options.TailLines; n != nil {
		if err := tail(f, min(*n, logTailMost)); err != nil {
			return fmt.Errorf("find the log's last lines: %w", err)
		}
	}
	r := bufio.NewReaderSize(f, 64<<10)
	var part []byte
	for {
		wasAlive := l.options.Follow && l.alive()
		more, err := drain(r, &part, out)
		if err != nil || !more {
			return err
		}
		if !wasAlive {
			return nil
		}
		if replaced(f, l.path) {
			// The size bound was reached: the file began anew.
			next, err := openItself(l.path)
			if err != nil {
				return fmt.Errorf("open log: %w", err)
			}
			f.Close()
			f, part = next, nil
			r.Reset(f)
			continue
		}
		if err := out.flush(); err != nil {
			return err
		}
		if !sleep(ctx, logPoll) {
			return nil
		}
	}
}

// openItself opens a file that a container writes, not what a link in its place leads to.
func openItself(path string) (*os.File, error) {
	dir, err := dirfd.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Read(filepath.Base(path))
}

// drain passes on every whole line there is; more is false when the limit is reached.
func drain(r *bufio.Reader, part *[]byte, out *logWriter) (more bool, err error) {
	for {
		line, err := r.ReadSlice('\n')
		*part = append(*part, line...)
		switch {
		case err == nil, errors.Is(err, bufio.ErrBufferFull) && len(*part) >= logLine:
			if more, err := out.line(*part); err != nil || !more {
				return false, err
			}
			*part = (*part)[:0]
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return true, out.flush()
		default:
			return false, fmt.Errorf("read log: %w", err)
		}
	}
}

func replaced(f *os.File, path string) bool {
	have, err1 := f.Stat()
	now, err2 := os.Lstat(path)
	return err1 == nil && err2 == nil && !os.SameFile(have, now)
}

// logWriter turns lines of the form "time stream F|P text" into what was asked for.
type logWriter struct {
	w          io.Writer
	timestamps bool
	since      time.Time
	left       int64 // bytes that may still go out; negative is no limit
	buf        bytes.Buffer
	inside     bool // the last line was a part: the next continues it
}

func (o *logWriter) line(line []byte) (more bool, err error) {
	stamp, rest, ok := bytes.Cut(line, []byte(" "))
	_, rest, ok2 := bytes.Cut(rest, []byte(" "))
	tag, text, ok3 := bytes.Cut(rest, []byte(" "))
	if !ok || !ok2 || !ok3 {
		return true, nil
	}
	if !o.since.IsZero() {
		if at, err := time.Parse(time.RFC3339Nano, string(stamp)); err == nil && at.Before(o.since) {
			return true, nil
		}
	}
	if o.timestamps && !o.inside {
		o.buf.Write(stamp)
		o.buf.WriteByte(' ')
	}
	if o.inside = string(tag) == "P"; o.inside {
		text = bytes.TrimSuffix(text, []byte("\n"))
	}
	o.buf.Write(text)
	if o.left >= 0 && int64(o.buf.Len()) >= o.left {
		return false, o.flush()
	}
	if o.buf.Len() >= 64<<10 {
		return true, o.flush()
	}
	return true, nil
}

func (o *logWriter) flush() error {
	data := o.buf.Bytes()
	if o.left >= 0 {
		data = data[:min(int64(len(data)), o.left)]
		o.left -= int64(len(data))
	}
	o.buf.Reset()
	if len(data) == 0 {
		return nil
	}
	_, err := o.w.Write(data)
	return err
}

// tail moves f to the start of its last n whole lines.
func tail(f *os.File, n int64) error {
	const block = 64 << 10
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	buf := make([]byte, block)
	lines, end := int64(0), size
	for end > 0 {
		start := max(0, end-block)
		chunk := buf[:end-start]
		if _, err := f.ReadAt(chunk, start); err != nil {
			return err
		}
		for i := len(chunk) - 1; i >= 0; i-- {
			// The newline that ends the file ends a line, it starts none.
			if chunk[i] != '\n' || start+int64(i) == size-1 {
				continue
			}
			if lines++; lines == n {
				_, err := f.Seek(start+int64(i)+1, io.SeekStart)
				return err
			}
		}
		end = start
	}
	if n == 0 {
		return nil // stays at the end
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

// tailLines are the last lines of an attempt's log; none where it cannot be read,
// which is told once: what a pod writes must not stop a report.
func (c *Core) tailLines(uid types.UID, container string, attempt int) []string {
	lines := int64(schema.MaxEvidenceLines)
	most := int64(tailRead)
	var out bytes.Buffer
	log := logReader{path: c.dirs.log(uid, container, attempt), options: corev1.PodLogOptions{TailLines: &lines, LimitBytes: &most}}
	if err := log.copy(context.Background(), &out); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.WithError(err).WithField("pod", uid).Warn("a container's last lines could not be read")
	}
	return schema.LogTail(out.Bytes())
}
