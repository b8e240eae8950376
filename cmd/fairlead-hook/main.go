// Command fairlead-hook is what git runs as pre-receive and post-receive in an
// embedded remote: it tells the master what is pushed, prints what the master
// says and exits with its code. It decides nothing. It is started for every
// push, so it is kept small: no network package, no JSON.
//
//	fairlead-hook pre-receive|post-receive SOCKET SOURCE  < lines "old new ref"
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"fairlead/reconciler/gitsource/hook"
)

func main() { os.Exit(run()) }

func run() int {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: fairlead-hook pre-receive|post-receive SOCKET SOURCE")
		return 2
	}
	phase, socket, source := hook.Phase(os.Args[1]), os.Args[2], os.Args[3]
	request, err := question(phase, source)
	if err != nil {
		fmt.Fprintf(os.Stderr, "fairlead: %v\n", err)
		return 1
	}
	code, err := ask(socket, request)
	if err != nil {
		fmt.Fprintln(os.Stderr, unanswered(phase, socket, err))
		return 1
	}
	return code
}

// errMidway is a master that took the call and went away before it said how the push ends.
var errMidway = errors.New("no answer")

func unanswered(phase hook.Phase, socket string, err error) string {
	fate := "nothing was changed; start it and push again"
	if phase == hook.Post {
		fate = "the push is stored and taken up when it is back"
	}
	if errors.Is(err, errMidway) {
		return fmt.Sprintf("fairlead: the master went away before it had judged this push; %s (%v)", fate, err)
	}
	return fmt.Sprintf("fairlead: the master does not answer on %s; %s (%v)", socket, fate, err)
}

// question is the request to send.
func question(phase hook.Phase, source string) ([]byte, error) {
	r, err := gather(phase, source)
	if err != nil {
		return nil, err
	}
	return r.Encode()
}

// gather collects what git tells a hook: updates on stdin, the rest in the
// environment (githooks(5)).
func gather(phase hook.Phase, source string) (hook.Request, error) {
	repo, err := os.Getwd()
	if err != nil {
		return hook.Request{}, err
	}
	r := hook.Request{
		Phase:      phase,
		Source:     source,
		Repo:       repo,
		Quarantine: os.Getenv("GIT_QUARANTINE_PATH"),
		Pusher:     pusher(),
		Entry:      os.Getenv(hook.EnvEntry),
		Allowed:    strings.Fields(os.Getenv(hook.EnvAllowed)),
	}
	count, _ := strconv.Atoi(os.Getenv("GIT_PUSH_OPTION_COUNT"))
	for i := range min(count, hook.MaxOptions+1) {
		r.Options = append(r.Options, os.Getenv("GIT_PUSH_OPTION_"+strconv.Itoa(i)))
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), " ", 3)
		if len(fields) != 3 {
			return r, fmt.Errorf("git said %q, want \"old new ref\"", lines.Text())
		}
		r.Updates = append(r.Updates, hook.Update{Old: fields[0], New: fields[1], Ref: fields[2]})
	}
	return r, lines.Err()
}

// pusher is whom the master's door authenticated, or the local user, by the
// name they had before sudo.
func pusher() string {
	if p := os.Getenv(hook.EnvPusher); p != "" {
		return p
	}
	for _, name := range []string{"SUDO_USER", "USER", "LOGNAME"} {
		if v := os.Getenv(name); v != "" {
			return "local:" + v
		}
	}
	return "local:" + strconv.Itoa(os.Getuid())
}

// ask holds the conversation and returns the exit code.
func ask(socket string, request []byte) (int, error) {
	conn, err := dial(socket)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(hook.Silence)); err != nil {
		return 0, err
	}
	if _, err := conn.Write(request); err != nil {
		return 0, err
	}
	replies := hook.NewReader(conn)
	for {
		if err := conn.SetDeadline(time.Now().Add(hook.Silence)); err != nil {
			return 0, err
		}
		reply, err := hook.ReadReply(replies)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errMidway, noEOF(err))
		}
		switch reply.Kind {
		case hook.IsText:
			fmt.Fprintln(os.Stderr, reply.Text)
		case hook.IsExit:
			return reply.Code, nil
		}
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("connection closed")
	}
	return err
}

// dial connects to a unix socket without package net, whose resolver would
// double the binary. The descriptor is then handed to the runtime's poller, so
// that deadlines work.
func dial(socket string) (*os.File, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	// The send time-out also bounds connect: a master that hangs stops
	// accepting, its backlog fills and connect would wait for ever.
	limit := syscall.NsecToTimeval(int64(hook.DialTimeout))
	err = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &limit)
	if err == nil {
		err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: socket})
	}
	if err == nil {
		err = syscall.SetNonblock(fd, true)
	}
	if err != nil {
		syscall.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), socket), nil
}
