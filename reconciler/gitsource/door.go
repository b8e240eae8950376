package gitsource

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/sirupsen/logrus"

	"fairlead/reconciler/gitsource/hook"
	"fairlead/schema"
)

const (
	// maxSourceRequests to one source at once, the waiting pushes among them: the
	// pushers of one leave those of the others their turn.
	maxSourceRequests = 16
	// maxComplaint is how much of git's stderr is logged.
	maxComplaint = 2 << 10
	doorPrefix   = "/git/"
)

// The three calls of git's smart protocol (gitprotocol-http(5)); files are not
// served.
var gitCalls = map[string]string{
	"info/refs":       http.MethodGet,
	"git-upload-pack": http.MethodPost,
	callReceive:       http.MethodPost,
}

const callReceive = "git-receive-pack"

// Pusher is who calls at the door, and what they may push.
type Pusher struct {
	Name string
	Refs []string // full names of the only refs they may push; none is any
}

// HTTPHandler serves the embedded remotes <root>/<source>.git at /git/<source>
// by git's smart protocol, for clones and pushes alike. authorize says whose
// token it is at a source; it is sent as a bearer token or as the password, with
// any user. Whoever authorize does not know is asked for one.
//
// Whoever serves the handler bounds the requests in all, a request's size, and the time
// that its client may take to send and to take it: a push that waits for its rollout is
// long. programs bounds the gits that work at once; see Programs.
func HTTPHandler(root string, programs *Programs, authorize func(token string, source schema.SourceName) (Pusher, bool)) http.Handler {
	busy := &underWay{of: map[schema.SourceName]int{}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		source, call, ok := splitDoor(r.URL.Path)
		if !ok {
			http.Error(w, "fairlead: not found; the remote of a source is /git/<source>", http.StatusNotFound)
			return
		}
		pusher, ok := authorize(tokenOf(r), source)
		if !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="fairlead", charset="UTF-8"`)
			http.Error(w, "fairlead: source "+string(source)+" takes a pusher's token, as the password", http.StatusUnauthorized)
			return
		}
		if _, err := os.Stat(filepath.Join(root, string(source)+".git", "HEAD")); err != nil {
			http.Error(w, "fairlead: there is no source "+string(source)+" with an embedded remote", http.StatusNotFound)
			return
		}
		if gitCalls[call] != r.Method {
			http.Error(w, "fairlead: this is for git, not for browsers: git clone "+doorPrefix+string(source), http.StatusMethodNotAllowed)
			return
		}
		if !busy.begin(source) {
			http.Error(w, fmt.Sprintf("fairlead: %d git requests to this source are under way already; try again when one has ended", maxSourceRequests), http.StatusServiceUnavailable)
			return
		}
		defer busy.end(source)
		entry := ""
		if r.Method == http.MethodPost {
			body := &slowBody{ReadCloser: r.Body}
			r.Body = body
			ctx, cancel := context.WithTimeout(r.Context(), programWait)
			leave, err := programs.enterDoor(ctx, source, pusher.Name, body)
			cancel()
			if err != nil {
				http.Error(w, fmt.Sprintf("fairlead: %d git requests are running already, or %d of yours, and none ended within %s; try again", maxPrograms, maxPusherPrograms, programWait), http.StatusServiceUnavailable)
				return
			}
			defer leave()
			var forget func()
			entry, forget = programs.name(leave)
			defer forget()
		}
		backend(w, r, root, source, call, pusher, entry)
		if call == callReceive {
			tidy(context.WithoutCancel(r.Context()), filepath.Join(root, string(source)+".git"), source, programs)
		}
	})
}

// tidy packs a remote that has had many pushes, in a place of its own: the push gave its
// place up before it waited. Where it gets none or fails, the next push tries again.
func tidy(ctx context.Context, dir string, source schema.SourceName, programs *Programs) {
	leave, err := programs.enterTidy(ctx, source, false)
	if err != nil {
		return
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	command := limits{memory: packMemory, processor: gitProcessor, file: maxPackFile}.command("gc", "--auto", "--quiet")
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = dir
	cmd.Env = append(gitEnv(), "PATH="+os.Getenv("PATH"), "GIT_DIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killDelay
	if err := cmd.Run(); err != nil {
		logrus.WithError(err).WithField("source", source).Warn("could not tidy a remote up; the next push tries again")
	}
}

// underWay counts a door's requests by source.
type underWay struct {
	mu sync.Mutex
	of map[schema.SourceName]int // none is 0
}

func (u *underWay) begin(source schema.SourceName) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.of[source] == maxSourceRequests {
		return false
	}
	u.of[source]++
	return true
}

func (u *underWay) end(source schema.SourceName) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.of[source]--; u.of[source] == 0 {
		delete(u.of, source)
	}
}

// PusherOf tells whose token a request to HTTPHandler carries.
func PusherOf(r *http.Request, authorize func(token string, source schema.SourceName) (Pusher, bool)) (Pusher, bool) {
	source, _, ok := splitDoor(r.URL.Path)
	if !ok {
		return Pusher{}, false
	}
	return authorize(tokenOf(r), source)
}

// tokenOf is the token a request carries, "" without one.
func tokenOf(r *http.Request) string {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return strings.TrimSpace(token)
	}
	_, password, _ := r.BasicAuth()
	return password
}

// splitDoor takes /git/<source>[.git]/<call> apart.
func splitDoor(path string) (source schema.SourceName, call string, ok bool) {
	rest, ok := strings.CutPrefix(path, doorPrefix)
	if !ok {
		return "", "", false
	}
	name, call, _ := strings.Cut(rest, "/")
	source, ok = schema.ParseSourceName(strings.TrimSuffix(name, ".git"))
	return source, call, ok
}

// backend lets git http-backend answer (git-http-backend(1)).
func backend(w http.ResponseWriter, r *http.Request, root string, source schema.SourceName, call string, pusher Pusher, entry string) {
	if _, err := exec.LookPath("git"); err != nil {
		http.Error(w, "fairlead: git is not installed on the master", http.StatusInternalServerError)
		return
	}
	inner := r.Clone(r.Context())
	inner.URL.Path = "/" + string(source) + ".git/" + call
	inner.URL.RawPath = ""
	inner.Header.Del("Authorization")
	inner.Header.Del("Cookie")
	// CGI has no chunked bodies; without a length, git reads to the end.
	inner.TransferEncoding = nil
	complaint := tail{limit: maxComplaint}
	memory := int64(packMemory)
	if call == callReceive {
		memory = receiveMemory
	}
	command := limits{memory: memory, processor: gitProcessor, file: maxPackFile}.command("http-backend")
	handler := cgi.Handler{
		Path: command[0],
		Args: command[1:],
		Dir:  root,
		Env: append(gitEnv(),
			"GIT_PROJECT_ROOT="+root,
			"GIT_HTTP_EXPORT_ALL=1",
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=receive.autogc", "GIT_CONFIG_VALUE_0=false", // see tidy
			"REMOTE_USER="+pusher.Name,
			hook.EnvPusher+"="+pusher.Name,
			hook.EnvEntry+"="+entry,
			hook.EnvAllowed+"="+strings.Join(pusher.Refs, " "),
		),
		Stderr: &complaint,
		Logger: log.New(&complaint, "", 0),
	}
	answer := &flushed{ResponseWriter: w, flush: http.NewResponseController(w).Flush}
	if body, ok := r.Body.(*slowBody); ok {
		answer.lines.also = body.complaint
	}
	handler.ServeHTTP(answer, inner)
	if text := strings.TrimSpace(string(complaint.text)); text != "" {
		logrus.WithFields(logrus.Fields{"source": source, "call": call, "pusher": pusher.Name, "git": text}).Warn("git request")
	}
}

// tail keeps the last of what is written to it.
type tail struct {
	mu    sync.Mutex // git's stderr and the CGI handler both write
	limit int
	text  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-t.limit):]
	return len(p), nil
}

// flushed sends what git writes as it writes it. Where git says that it met a limit, what
// that means is told after it.
type flushed struct {
	http.ResponseWriter
	flush func() error
	lines sideband
}

func (f *flushed) Write(p []byte) (int, error) {
	out := p
	if f.Header().Get("Content-Type") == "application/x-git-receive-pack-result" {
		out = f.lines.explained(p)
	}
	if _, err := f.ResponseWriter.Write(out); err != nil {
		return 0, err
	}
	_ = f.flush() // a recorder has none
	return len(p), nil
}
