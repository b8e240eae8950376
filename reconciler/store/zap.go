package store

import (
	"sync/atomic"

	"github.com/sirupsen/logrus"
	"go.uber.org/zap/zapcore"
)

// logrusCore passes etcd's warnings and errors on to our log and drops the
// rest. Etcd says Fatal and Panic of states it cannot go on from; zap ends the
// process after this core has told them.
type logrusCore struct {
	log *logrus.Entry
	// started is false while etcd warns of what we configured on purpose: such
	// warnings are for debugging.
	started *atomic.Bool
}

func newLogrusCore(log *logrus.Entry) *logrusCore {
	return &logrusCore{log: log.WithField("component", "etcd"), started: new(atomic.Bool)}
}

func (c *logrusCore) Enabled(level zapcore.Level) bool { return level >= zapcore.WarnLevel }

func (c *logrusCore) With(fields []zapcore.Field) zapcore.Core {
	return &logrusCore{c.log.WithFields(logrusFields(fields)), c.started}
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
	case e.Level == zapcore.WarnLevel && c.started.Load():
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
