package podman

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containers/podman/v4/pkg/bindings"
	"github.com/sirupsen/logrus"

	"fairlead/nodeagent"
	"fairlead/nodeagent/pod"
)

// liar is a Podman service that answers what it is told to. It gives no answer
// for a single container unless it is asked to lie about those.
type liar struct {
	mu     sync.Mutex
	code   int
	body   []byte
	single bool
	dying  int // so many answers more are that the process ends while it is looked at
}

func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case strings.HasSuffix(r.URL.Path, "/_ping"):
		w.Header().Set("Libpod-API-Version", "4.3.1")
	case !l.single && strings.Contains(r.URL.Path, "/containers/") && strings.HasSuffix(r.URL.Path, "/json") && !strings.HasSuffix(r.URL.Path, "/containers/json"),
		strings.HasSuffix(r.URL.Path, "/start"):
		http.Error(w, `{"cause":"no such container","response":404}`, http.StatusNotFound)
	case l.dying > 0:
		l.dying--
		http.Error(w, `{"cause":"no such process","message":"read /proc/27558/cgroup: no such process","response":500}`, http.StatusInternalServerError)
	default:
		w.WriteHeader(l.code)
		w.Write(l.body)
	}
}

// lying is a Podman whose service is l.
func lying(f testing.TB, l http.Handler) *Podman {
	dir, err := os.MkdirTemp("", "fl-liar-") // a socket's path is short
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { os.RemoveAll(dir) })
	log := logrus.New()
	log.SetOutput(io.Discard)
	p := &Podman{
		cfg:    Config{Node: "n1", RunDir: dir, CgroupParent: "/fairlead/none/n1", NoImage: nodeagent.ErrNoImage, NoRegistry: nodeagent.ErrNoRegistry, Denied: nodeagent.ErrDenied, NodeFails: nodeagent.ErrNode, Unavailable: nodeagent.ErrUnavailable, Log: logrus.NewEntry(log)},
		cgroup: findCgroups("/fairlead/none/n1"), procs: map[string]*process{}, lost: map[string]pod.Exit{},
	}
	listener, err := net.Listen("unix", p.socket())
	if err != nil {
		f.Fatal(err)
	}
	server := &http.Server{Handler: l}
	served := make(chan struct{})
	go func() { defer close(served); server.Serve(listener) }()
	f.Cleanup(func() { server.Close(); <-served })
	if p.conn, err = bindings.NewConnection(context.Background(), "unix://"+p.socket()); err != nil {
		f.Fatal(err)
	}
	return p
}

// A process that ends while Podman looks at it has ended; nothing is wrong.
func TestProcessEndsWhileInspected(t *testing.T) {
	l := &liar{single: true, dying: 1, code: 200, body: []byte(`{"Id":"c1","State":{"Status":"exited","ExitCode":5}}`)}
	p := lying(t, l)
	if e, err := p.Wait(t.Context(), "c1"); err != nil || e.Code != 5 {
		t.Errorf("got %+v, %v, want code 5", e, err)
	}
	l.mu.Lock()
	l.dying = inspectTries
	l.mu.Unlock()
	if _, err := p.Wait(t.Context(), "c1"); err == nil {
		t.Error("asked for ever")
	}
}

// Whatever the service answers, it is an error or a list that says of every
// container who it is and how it is.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`[{"Id":"c1","State":"running","Pid":1,"Labels":{"fairlead/pod-uid":"u"},"ImageID":"x","StartedAt":1,"ExitedAt":-62135596800}]`), 200, false)
	f.Add([]byte(`[{"Id":"c1","State":"exited","ExitCode":300},{"State":"?"},null,{}]`), 200, false)
	f.Add([]byte(`{}`), 200, true)
	f.Add([]byte(`null`), 200, true)
	f.Add([]byte(`{"Id":"c1","State":{"Pid":1,"Status":"exited","ExitCode":1},"Config":{"Labels":{"fairlead/node":"n1"}}}`), 200, true)
	f.Add([]byte(`{"cause":"x","message":"image not known","response":500}`), 500, false)
	f.Add([]byte("\x00"), 204, true)
	l := &liar{}
	p := lying(f, l)
	f.Fuzz(func(t *testing.T, body []byte, code int, single bool) {
		if code < 200 || code > 599 {
			code = 200
		}
		l.mu.Lock()
		l.code, l.body, l.single = code, body, single
		l.mu.Unlock()
		// What is looked for in vain is looked for again; not here.
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if single {
			_ = p.freeName(ctx, "c1")
			_, _ = p.hold(ctx, "c1")
			_, _ = p.askExit(ctx, "c1")
			if image, err := p.Image(ctx, "x"); err == nil && image.ID != "" && !strings.HasPrefix(image.ID, "sha256:") {
				t.Errorf("image %+v", image)
			}
			return
		}
		found, err := p.List(ctx)
		if err != nil {
			return
		}
		for i, c := range found {
			if c.State == "" || i > 0 && found[i-1].ID > c.ID {
				t.Errorf("container %+v", c)
			}
		}
		_, _ = p.Images(ctx)
	})
}
