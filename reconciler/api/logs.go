package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// Bounds on logs.
const (
	// maxNodeLogs of one node are read at a time by one reader: half of what its
	// agent answers, so that one reader leaves room for the others.
	maxNodeLogs = 16
	logChunk    = 32 << 10
)

// logDesk brings readers of logs and agents' answers together: the master never
// dials a node, so a request goes out in the node's work stream and the log
// comes back as the body of a POST.
type logDesk struct {
	mu      sync.Mutex
	calls   map[string]*logCall // that no node has answered yet
	readers map[logReader]int   // logs each reads of each node
}

type logReader struct {
	node   schema.NodeName
	reader string
}

// logCall is one log being asked for.
type logCall struct {
	logReader
	id     string
	answer chan *logAnswer // size one
	done   chan struct{}   // closed when the reader needs no more
}

// logAnswer is an agent's POST while its handler waits for the reader.
type logAnswer struct {
	body io.Reader
	err  string // why there is no log
	busy bool   // the node has no room for one more

	mu   sync.Mutex
	conn *http.ResponseController // nil once the handler has returned
}

// abort makes a blocked read of the body return.
func (a *logAnswer) abort() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != nil {
		_ = a.conn.SetReadDeadline(time.Unix(1, 0)) // nobody reads on either way
	}
}

func (a *logAnswer) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conn = nil
}

func newLogDesk() *logDesk {
	return &logDesk{calls: map[string]*logCall{}, readers: map[logReader]int{}}
}

// open registers a call under an id nobody can guess, unless its reader has as many
// of the node. Whoever opened it closes it.
func (l *logDesk) open(who logReader) (*logCall, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readers[who] >= maxNodeLogs {
		return nil, false
	}
	l.readers[who]++
	call := &logCall{logReader: who, id: rand.Text(), answer: make(chan *logAnswer, 1), done: make(chan struct{})}
	l.calls[call.id] = call
	return call, true
}

func (l *logDesk) close(call *logCall) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.calls, call.id)
	if l.readers[call.logReader]--; l.readers[call.logReader] == 0 {
		delete(l.readers, call.logReader)
	}
	close(call.done)
}

// take removes a call and returns it, once; only its node may.
func (l *logDesk) take(id string, node schema.NodeName) *logCall {
	l.mu.Lock()
	defer l.mu.Unlock()
	call := l.calls[id]
	if call == nil || call.node != node {
		return nil
	}
	delete(l.calls, id)
	return call
}

// serveLog answers .../pods/NAME/log.
func (s *Server) serveLog(w http.ResponseWriter, r *http.Request, t target) {
	pod, ok := state.Get[*corev1.Pod](s.cfg.Feed.Snapshot(), t.namespace, t.name)
	if !ok {
		writeError(w, apierrors.NewNotFound(t.res.groupResource(), t.name))
		return
	}
	opts, err := logOptions(r.URL.Query(), pod)
	if err == nil {
		err = noLogYet(&opts, pod)
	}
	if err != nil {
		writeError(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	node := schema.NodeName(pod.Spec.NodeName)
	call, ok := s.door.logs.open(logReader{node, callerOf(r).String()})
	if !ok {
		writeError(w, apierrors.NewTooManyRequests(fmt.Sprintf("you read %d logs of node %s already", maxNodeLogs, node), 1))
		return
	}
	defer s.door.logs.close(call)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	s.door.ask(node, wire.LogRequest{ID: call.id, Pod: pod.UID, Container: opts.Container, Options: opts})
	timeout := time.NewTimer(s.waits.log)
	defer timeout.Stop()
	select {
	case answer := <-call.answer:
		defer context.AfterFunc(ctx, answer.abort)()
		relay(w, ctx, answer, opts.LimitBytes)
	case <-timeout.C:
		s.door.unask(node, call.id)
		writeError(w, newStatus(http.StatusGatewayTimeout, metav1.StatusReasonTimeout, fmt.Sprintf("node %s has not answered for %s", node, s.waits.log)))
	case <-ctx.Done():
		s.door.unask(node, call.id)
	}
}

// relay copies an agent's answer to the reader as it comes.
func relay(w http.ResponseWriter, ctx context.Context, answer *logAnswer, limit *int64) {
	switch {
	case answer.busy:
		writeError(w, apierrors.NewTooManyRequests(answer.err, 1))
		return
	case answer.err != "":
		writeError(w, apierrors.NewBadRequest(answer.err))
		return
	}
	body := answer.body
	if limit != nil {
		body = io.LimitReader(body, *limit)
	}
	out := newStream(w, "text/plain")
	buf := make([]byte, logChunk)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if _, werr := out.Write(buf[:n]); werr != nil {
				return
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			panic(http.ErrAbortHandler) // a log cut short must not look complete
		}
	}
}

// serveLogAnswer takes an agent's POST, whose body is the log.
func (s *Server) serveLogAnswer(w http.ResponseWriter, r *http.Request) {
	call := s.door.logs.take(r.PathValue("id"), schema.NodeName(callerOf(r).name))
	if call == nil {
		writeError(w, newStatus(http.StatusGone, metav1.StatusReasonGone, "nobody waits for this log any more"))
		return
	}
	answer := &logAnswer{body: r.Body, err: r.Header.Get(wire.HeaderLogError), busy: r.Header.Get(wire.HeaderLogBusy) != "", conn: http.NewResponseController(w)}
	call.answer <- answer
	<-call.done
	answer.end()
	writeJSON(w, http.StatusOK, struct{}{})
}

// ask queues a log request for a node's stream, now or when it connects.
func (d *Door) ask(name schema.NodeName, req wire.LogRequest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.node(name)
	n.logs = append(n.logs, req)
	n.wake()
}

// unask takes a request back. An answer that comes at the same moment learns
// from its call's done that nobody reads it.
func (d *Door) unask(name schema.NodeName, id string) {
	d.logs.take(id, name)
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.nodes[name]; n != nil {
		n.logs = slices.DeleteFunc(n.logs, func(r wire.LogRequest) bool { return r.ID == id })
	}
}

// logOptions reads the query and settles which container is meant.
func logOptions(q url.Values, pod *corev1.Pod) (corev1.PodLogOptions, error) {
	opts := corev1.PodLogOptions{
		Container: q.Get("container"), Follow: isTrue(q.Get("follow")), Previous: isTrue(q.Get("previous")), Timestamps: isTrue(q.Get("timestamps")),
	}
	for name, field := range map[string]**int64{"tailLines": &opts.TailLines, "sinceSeconds": &opts.SinceSeconds, "limitBytes": &opts.LimitBytes} {
		text := q.Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || n == 0 && name != "tailLines" {
			return opts, fmt.Errorf("%s %q is not a positive number", name, text)
		}
		*field = &n
	}
	if text := q.Get("sinceTime"); text != "" {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return opts, fmt.Errorf("sinceTime %q is not an RFC 3339 time", text)
		}
		if opts.SinceSeconds != nil {
			return opts, errors.New("at most one of sinceTime and sinceSeconds may be given")
		}
		opts.SinceTime = &metav1.Time{Time: at}
	}
	return opts, settleContainer(&opts, pod)
}

// noLogYet says why a container that never ran, or never before, has no log, in the
// words of a kubelet and then its reason; nil where there may be one.
func noLogYet(opts *corev1.PodLogOptions, pod *corev1.Pod) error {
	if pod.Spec.NodeName == "" {
		why := "it waits for a node"
		if cond, ok := health.Condition(pod, corev1.PodScheduled); ok && cond.Message != "" {
			why = cond.Message
		}
		return fmt.Errorf("pod %q is not on a node yet: %s", pod.Name, why)
	}
	statuses := slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses)
	i := slices.IndexFunc(statuses, func(st corev1.ContainerStatus) bool { return st.Name == opts.Container })
	if i < 0 {
		return nil // its node has not told yet and is asked
	}
	st := statuses[i]
	ranBefore := st.LastTerminationState.Terminated != nil || st.RestartCount > 0
	switch {
	case opts.Previous && !ranBefore:
		return fmt.Errorf("previous terminated container %q in pod %q not found", st.Name, pod.Name)
	case st.State.Waiting != nil && !ranBefore:
		return fmt.Errorf("container %q in pod %q is waiting to start: %s", st.Name, pod.Name, waitsFor(st.State.Waiting, pod))
	}
	return nil
}

// waitsFor is what a container that never ran waits for. What the whole pod lacks stands
// in its condition.
func waitsFor(waiting *corev1.ContainerStateWaiting, pod *corev1.Pod) string {
	reason, message := waiting.Reason, waiting.Message
	if cond, ok := health.Condition(pod, corev1.PodReadyToStartContainers); ok && cond.Status == corev1.ConditionFalse && cond.Message != "" {
		reason, message = cond.Reason, cond.Message
	}
	if message == "" {
		return reason
	}
	return reason + ": " + message
}

func settleContainer(opts *corev1.PodLogOptions, pod *corev1.Pod) error {
	var names, inits []string
	for _, c := range pod.Spec.Containers {
		names = append(names, c.Name)
	}
	for _, c := range pod.Spec.InitContainers {
		inits = append(inits, c.Name)
	}
	switch {
	case opts.Container == "" && len(names) == 1:
		opts.Container = names[0]
	case opts.Container == "":
		msg := fmt.Sprintf("a container name must be specified for pod %s, choose one of: [%s]", pod.Name, strings.Join(names, " "))
		if len(inits) > 0 {
			msg += fmt.Sprintf(" or one of the init containers: [%s]", strings.Join(inits, " "))
		}
		return errors.New(msg)
	case !slices.Contains(names, opts.Container) && !slices.Contains(inits, opts.Container):
		return fmt.Errorf("container %s is not valid for pod %s", opts.Container, pod.Name)
	}
	return nil
}
