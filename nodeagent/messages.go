package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/pod"
)

// hear looks for what containers that ended left to be said of it, once for each end,
// before anything follows from it.
func (c *Core) hear() {
	for _, end := range c.machine.unheard() {
		c.machine.hear(end, c.message(end.uid, end.spec, end.name, end.container))
	}
}

// message is what an attempt left in its file, or in its log where its spec says so.
func (c *Core) message(uid types.UID, spec *corev1.Container, name string, ctr pod.Container) string {
	said, err := lastBytes(c.dirs.message(uid, name, ctr.Attempt), pod.MessageBytes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Sprintf("its termination message cannot be read: %v", err)
	}
	if len(said) == 0 && spec != nil && pod.MessageFromLog(spec, ctr.ExitCode) {
		lines := int64(pod.MessageLogLines)
		last := lastOf{most: pod.MessageLogBytes}
		log := logReader{path: c.dirs.log(uid, name, ctr.Attempt), options: corev1.PodLogOptions{TailLines: &lines}}
		if err := log.copy(context.Background(), &last); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Sprintf("its log cannot be read: %v", err)
		}
		said = last.bytes
	}
	return pod.TerminationMessage(said)
}

// lastBytes reads the end of a file. The container whose it is may have written there
// without end.
func lastBytes(path string, most int64) ([]byte, error) {
	f, err := openItself(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-most), most))
}

// lastOf keeps the last bytes of what is written to it.
type lastOf struct {
	most  int
	bytes []byte
}

func (l *lastOf) Write(p []byte) (int, error) {
	l.bytes = append(l.bytes, p...)
	l.bytes = l.bytes[max(0, len(l.bytes)-l.most):]
	return len(p), nil
}
