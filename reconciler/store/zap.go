package store

import (
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/sirupsen/logrus"
	"go.uber.org/zap/zapcore"
)

// logrusCore passes etcd's warnings and errors on to our log and drops the
// rest. Etcd says Fatal and Panic of states it cannot go on from: at its start
// these become the start's error, later zap ends the process after this core has
// told them.
type logrusCore struct {
	log *logrus.Entry
	// start is nil once etcd serves. Until then it warns of what we configured on
	// purpose: such warnings are for debugging.
	start *atomic.Pointer[starting]
}

// starting is an etcd that does not serve yet.
type starting struct {
	died chan error // why it never will; the first reason is kept
}

func (s *starting) die(err error) {
	select {
	case s.died <- err:
	default:
	}
}

func newLogrusCore(log *logrus.Entry) *logrusCore {
	c := &logrusCore{log: log.WithField("component", "etcd"), start: new(atomic.Pointer[starting])}
	c.start.Store(&starting{died: make(chan error, 1)})
	return c
}

// end is what becomes of the goroutine in which etcd says Fatal or Panic.
func (c *logrusCore) end(later zapcore.CheckWriteHook) zapcore.CheckWriteHook {
	return endHook{c.start, later}
}

type endHook struct {
	start *atomic.Pointer[starting]
	later zapcore.CheckWriteHook
}

func (h endHook) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	start := h.start.Load()
	if start == nil {
		h.later.OnWrite(e, fields)
		return
	}
	err := fmt.Errorf("etcd: %s", e.Message)
	for _, f := range fields {
		if cause, ok := f.Interface.(error); ok {
			err = fmt.Errorf("%w: %w", err, cause)
		}
	}
	start.die(err)
	runtime.Goexit()
}

func (c *logrusCore) Enabled(level zapcore.Level) bool { return level >= zapcore.WarnLevel }

func (c *logrusCore) With(fields []zapcore.Field) zapcore.Core {
	return &logrusCore{c.log.WithFields(logrusFields(fields)), c.start}
}

func (c *logrusCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *logrusCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := logrus.ErrorLevel
	switch {
	case e.Level == zapcore.WarnLevel && c.start.Load() == nil:
		level = logrus.WarnLevel
	case e.Level == zapcore.WarnLevel:
		level = logrus.DebugLevel
	}
	c.log.WithFields(logrusFields(fields)).Log(level, e.Message)
	return nil
}

func (c *logrusCore) Sync() error { return nil }

func logrusFields(fields []zapcore.Field) logrus.Fields {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	return logrus.Fields(enc.Fields)
}
