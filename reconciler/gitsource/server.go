package gitsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"fairlead/reconciler/gitsource/hook"
	"fairlead/schema"
)

// Bounds on pushes being judged.
const (
	// maxTalks at once, most of them waiting for a rollout; more are told to
	// come back.
	maxTalks = 256
	// maxJudged at once; more wait for their turn.
	maxJudged = 4
	// judgeTimeout bounds a pre-receive: load, validate, plan.
	judgeTimeout = 2 * time.Minute
	// followTimeout bounds a post-receive that waits for a rollout.
	followTimeout = time.Hour
)

// Push is one push that moves a source's followed branch.
type Push struct {
	Phase    hook.Phase
	Source   schema.SourceName
	Followed hook.Update   // of the followed branch
	Updates  []hook.Update // every ref of the push, Followed included
	Options  []string      // push options
	Pusher   string        // "local:<user>", or what the door authenticated
	// Doing takes note of what is being done, which the pusher is told every now and
	// then while nothing else is written; "" is for what tells of itself.
	Doing func(what string)
	// Repo reads what was pushed, before git has accepted it too. It is good
	// until Judge returns.
	Repo *Repo
}

// Tip is the commit that the push moves the followed branch to.
func (p Push) Tip() schema.Commit { return schema.Commit(p.Followed.New) }

// Wait reports whether the pusher asked to follow the rollout.
func (p Push) Wait() bool { return slices.Contains(p.Options, OptionWait) }

// Judge is asked about each push that moves a followed branch, after the
// branch's own rules were kept: never deleted, rewound only by trailer.
type Judge interface {
	// Judge runs in the pusher's terminal: each line written to out is shown
	// at once. In phase hook.Pre an error refuses the push; in hook.Post the
	// push has happened, Judge may follow what becomes of it, and an error is
	// only told. The error is printed, schema.Diagnostics one a line. out is
	// for one goroutine; ctx ends when the pusher hangs up.
	Judge(ctx context.Context, p Push, out io.Writer) error
}

// Remote is an embedded remote that pushes may come from.
type Remote struct {
	Repo   *Repo
	Branch string // followed
}

// ServerConfig is what a Server needs.
type ServerConfig struct {
	Socket string                                        // absolute path, at most 107 bytes
	Remote func(source schema.SourceName) (Remote, bool) // may be called by many goroutines
	Judge  Judge
	// Programs are those of HTTPHandler: they are told of each push that is taken in.
	Programs *Programs
	Log      *logrus.Entry
}

// Server answers the hooks of embedded remotes on a unix socket.
type Server struct {
	ServerConfig
	listener *net.UnixListener
	turns    chan struct{} // to judge
}

// Listen takes the socket, in a directory that exists: one that a dead master
// left behind is replaced, one that answers is an error.
func Listen(c ServerConfig) (*Server, error) {
	if len(c.Socket) > maxSocketPath {
		return nil, fmt.Errorf("hook socket %s: longer than %d bytes", c.Socket, maxSocketPath)
	}
	if conn, err := net.DialTimeout("unix", c.Socket, hook.DialTimeout); err == nil {
		conn.Close()
		return nil, fmt.Errorf("hook socket %s: another master answers on it", c.Socket)
	}
	if err := os.Remove(c.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("hook socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: c.Socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("hook socket: %w", err)
	}
	if err := os.Chmod(c.Socket, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("hook socket: %w", err)
	}
	return &Server{ServerConfig: c, listener: l, turns: make(chan struct{}, maxJudged)}, nil
}

// Run serves until ctx ends, then waits for the conversations to end.
func (s *Server) Run(ctx context.Context) error {
	defer s.listener.Close()
	stop := context.AfterFunc(ctx, func() { s.listener.Close() })
	defer stop()
	var talks sync.WaitGroup
	defer talks.Wait()
	free := make(chan struct{}, maxTalks)
	for {
		conn, err := s.listener.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("hook socket: %w", err)
		}
		select {
		case free <- struct{}{}:
			talks.Go(func() {
				defer func() { <-free }()
				s.talk(ctx, conn)
			})
		default:
			turnAway(conn)
		}
	}
}

func turnAway(conn *net.UnixConn) {
	conn.SetWriteDeadline(time.Now().Add(time.Second))
	io.WriteString(conn, hook.Text(fmt.Sprintf("fairlead: %d pushes are under way already; push again", maxTalks))+hook.Exit(1))
	conn.Close()
}

// talk is one conversation. The request is read here; from then on one
// goroutine writes, one notices when the hook hangs up.
func (s *Server) talk(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	log := s.Log.WithField("step", "hook")
	if err := trusted(conn); err != nil {
		log.WithError(err).Warn("refused a connection")
		return
	}
	conn.SetDeadline(time.Now().Add(hook.Silence))
	request, err := hook.ReadRequest(hook.NewReader(conn))
	log = log.WithFields(logrus.Fields{"source": request.Source, "phase": request.Phase, "pusher": request.Pusher})
	if err != nil {
		io.WriteString(conn, hook.Text("fairlead: "+schema.Printable(err.Error()))+hook.Exit(1))
		log.WithError(err).Warn("refused a request")
		return
	}
	conn.SetReadDeadline(time.Time{})
	s.Programs.received(request.Entry)
	talk, cancel := deadline(ctx, request.Phase)
	defer cancel()
	answers := newAnswers(talk)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	helpers.Go(func() { answers.send(conn, cancel) })
	helpers.Go(func() {
		// The hook says nothing more: whatever ends this read is its end, or
		// ours.
		io.ReadFull(conn, make([]byte, 1))
		cancel()
	})
	err = s.answer(talk, request, answers)
	switch {
	case ctx.Err() != nil:
		err = errStopping
	case talk.Err() != nil && (err != nil || request.Phase == hook.Pre):
		err = context.Cause(talk)
	}
	answers.finish(err)
	conn.CloseRead()
	if err != nil {
		log = log.WithError(err)
	}
	log.WithField("refused", err != nil && request.Phase == hook.Pre).Info("push")
}

var errStopping = errors.New("the master is stopping; push again when it is back")

func deadline(ctx context.Context, phase hook.Phase) (context.Context, context.CancelFunc) {
	if phase == hook.Post {
		return context.WithTimeoutCause(ctx, followTimeout, fmt.Errorf("not followed for more than %s", followTimeout))
	}
	return context.WithTimeoutCause(ctx, judgeTimeout, fmt.Errorf("not judged within %s", judgeTimeout))
}

// trusted checks that the other end is root's or our own user's: the socket
// file says so too, but only after the moment in which it is made.
func trusted(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *syscall.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) {
		peer, peerErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if peerErr != nil {
		return peerErr
	}
	if peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		return fmt.Errorf("uid %d may not push here", peer.Uid)
	}
	return nil
}

// answer judges a request; the error is why the push is refused.
func (s *Server) answer(ctx context.Context, r hook.Request, out *answers) error {
	remote, ok := s.Remote(schema.SourceName(r.Source))
	if !ok {
		return fmt.Errorf("there is no source %s with an embedded remote", r.Source)
	}
	if !sameFile(r.Repo, remote.Repo.Dir()) {
		return fmt.Errorf("%s is a copy, source %s lives in %s; push there", r.Repo, r.Source, remote.Repo.Dir())
	}
	if err := allowed(r); err != nil {
		return err
	}
	followed := slices.IndexFunc(r.Updates, func(u hook.Update) bool { return u.Ref == "refs/heads/"+remote.Branch })
	if followed < 0 {
		return nil
	}
	push := Push{
		Phase: r.Phase, Source: schema.SourceName(r.Source), Pusher: r.Pusher, Options: r.Options,
		Followed: r.Updates[followed], Updates: r.Updates, Repo: remote.Repo, Doing: out.doing.note,
	}
	if r.Phase == hook.Post {
		return s.Judge.Judge(ctx, push, out)
	}
	push.Doing("waiting until other pushes are judged")
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if r.Quarantine != "" {
		repo, err := remote.Repo.WithQuarantine(r.Quarantine)
		if err != nil {
			return err
		}
		defer repo.Close()
		push.Repo = repo
	}
	return s.judge(ctx, push, out)
}

// allowed refuses a push of refs that its token is not for.
func allowed(r hook.Request) error {
	if len(r.Allowed) == 0 {
		return nil
	}
	for _, u := range r.Updates {
		if !slices.Contains(r.Allowed, u.Ref) {
			return fmt.Errorf("%s may push %s only, not %s", r.Pusher, strings.Join(r.Allowed, ", "), u.Ref)
		}
	}
	return nil
}

// judge keeps the followed branch's own rules, then asks the Judge.
func (s *Server) judge(ctx context.Context, p Push, out io.Writer) error {
	for _, w := range unknownOptions(p.Options) {
		fmt.Fprintln(out, w)
	}
	why, err := refusal(p.Repo, p.Source, p.Followed)
	if err != nil {
		return err
	}
	if why != "" {
		return errors.New(why)
	}
	return s.Judge.Judge(ctx, p, out)
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
