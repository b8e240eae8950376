// Package hook is the conversation between git's hooks and the master: what
// was pushed goes to the master over its unix socket, text for the pusher and
// an exit code come back. It imports only the standard library, because the hook
// binary that speaks it is started for every push.
//
// A hook opens the conversation with one field a line, values quoted as Go
// strings:
//
//	fairlead-hook 2
//	phase "pre-receive"
//	source "main"
//	repo "/var/lib/fairlead/git/main.git"
//	quarantine "/var/lib/fairlead/git/main.git/objects/tmp_objdir-incoming-x"
//	pusher "local:root"
//	entry "17"
//	allowed "refs/heads/main"
//	update "refs/heads/main" <old> <new>
//	option "wait"
//	end
//
// and the master answers with lines, the last of which has the hook's exit code:
//
//	> text for the pusher
//	.                       still working
//	= 0
package hook

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Version is the protocol's; a master refuses any other.
const Version = 2

// Bounds of a conversation. Both sides keep them.
const (
	MaxUpdates = 10_000  // refs in one push: a mirror's first push carries all its tags
	MaxOptions = 32      // push options
	MaxAllowed = 32      // refs that a pusher is held to
	MaxLine    = 8 << 10 // bytes of one line, its newline included
)

// Deadlines of a conversation.
const (
	// DialTimeout is how long a hook waits for the master to take its call.
	DialTimeout = 5 * time.Second
	// Beat is how often a busy master says that it is still there.
	Beat = 5 * time.Second
	// Silence is how long either side waits for the other's next line.
	Silence = 6 * Beat
)

// What the master's door tells the hooks of a push that came through it.
const (
	EnvPusher  = "FAIRLEAD_PUSHER"       // who it is
	EnvEntry   = "FAIRLEAD_ENTRY"        // Request.Entry
	EnvAllowed = "FAIRLEAD_ALLOWED_REFS" // Request.Allowed, separated by spaces
)

// Phase is the hook that asks.
type Phase string

// The phases, named as git names the hooks.
const (
	Pre  Phase = "pre-receive"
	Post Phase = "post-receive"
)

// Update is one ref that a push moves. Old is Zero for a ref that is made, New
// is Zero for one that is deleted.
type Update struct {
	Ref string // full, as refs/heads/main
	Old string
	New string
}

// Zero is git's "no object".
const Zero = "0000000000000000000000000000000000000000"

// Request is one push as a hook tells it.
type Request struct {
	Phase      Phase
	Source     string
	Repo       string // absolute path of the bare repository
	Quarantine string // objects not accepted yet; empty after the fact
	Pusher     string
	Entry      string   // the door's name for the push; empty for a local one
	Allowed    []string // the only refs the pusher may move; none is any
	Updates    []Update
	Options    []string
}

// Encode is r as it is sent. A request beyond the bounds is an error.
func (r Request) Encode() ([]byte, error) {
	if len(r.Updates) > MaxUpdates {
		return nil, fmt.Errorf("%d refs in one push, at most %d are taken", len(r.Updates), MaxUpdates)
	}
	if len(r.Allowed) > MaxAllowed {
		return nil, fmt.Errorf("a pusher held to %d refs, at most %d are taken", len(r.Allowed), MaxAllowed)
	}
	if len(r.Options) > MaxOptions {
		return nil, fmt.Errorf("%d push options, at most %d are taken", len(r.Options), MaxOptions)
	}
	lines := []string{fmt.Sprintf("fairlead-hook %d", Version)}
	add := func(field, value, rest string) {
		lines = append(lines, field+" "+strconv.Quote(value)+rest)
	}
	add("phase", string(r.Phase), "")
	add("source", r.Source, "")
	add("repo", r.Repo, "")
	add("quarantine", r.Quarantine, "")
	add("pusher", r.Pusher, "")
	if r.Entry != "" {
		add("entry", r.Entry, "")
	}
	for _, ref := range r.Allowed {
		add("allowed", ref, "")
	}
	for _, u := range r.Updates {
		add("update", u.Ref, " "+u.Old+" "+u.New)
	}
	for _, o := range r.Options {
		add("option", o, "")
	}
	lines = append(lines, "end")
	for _, l := range lines {
		if len(l) >= MaxLine {
			return nil, fmt.Errorf("%.40s...: %d bytes, at most %d are taken", l, len(l), MaxLine)
		}
	}
	return []byte(strings.Join(lines, "\n") + "\n"), nil
}

// NewReader reads lines within MaxLine.
func NewReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, MaxLine) }

// ReadRequest reads one request from a reader made by NewReader and checks its
// shape.
func ReadRequest(r *bufio.Reader) (Request, error) {
	var req Request
	first, err := readLine(r)
	if err != nil {
		return req, err
	}
	if want := fmt.Sprintf("fairlead-hook %d", Version); first != want {
		return req, fmt.Errorf("the hook speaks %q, this master %q: restart the master to refresh the hooks", first, want)
	}
	for {
		line, err := readLine(r)
		if err != nil {
			return req, err
		}
		if line == "end" {
			return req, req.check()
		}
		if err := req.field(line); err != nil {
			return req, fmt.Errorf("hook line %q: %w", line, err)
		}
	}
}

func (r *Request) field(line string) error {
	name, rest, _ := strings.Cut(line, " ")
	quoted, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return err
	}
	value, err := strconv.Unquote(quoted)
	if err != nil {
		return err
	}
	rest = rest[len(quoted):]
	switch name {
	case "phase":
		r.Phase = Phase(value)
	case "source":
		r.Source = value
	case "repo":
		r.Repo = value
	case "quarantine":
		r.Quarantine = value
	case "pusher":
		r.Pusher = value
	case "entry":
		r.Entry = value
	case "allowed":
		r.Allowed = append(r.Allowed, value)
	case "option":
		r.Options = append(r.Options, value)
	case "update":
		hashes := strings.Fields(rest)
		if len(hashes) != 2 || !IsHash(hashes[0]) || !IsHash(hashes[1]) {
			return errors.New("want two object names")
		}
		r.Updates = append(r.Updates, Update{Ref: value, Old: hashes[0], New: hashes[1]})
	default:
		return errors.New("unknown field")
	}
	if len(r.Updates) > MaxUpdates || len(r.Options) > MaxOptions || len(r.Allowed) > MaxAllowed {
		return errors.New("too many")
	}
	return nil
}

func (r *Request) check() error {
	switch {
	case r.Phase != Pre && r.Phase != Post:
		return fmt.Errorf("unknown phase %q", r.Phase)
	case r.Source == "" || r.Repo == "":
		return errors.New("source and repo are required")
	case len(r.Updates) == 0:
		return errors.New("no ref is updated")
	}
	return nil
}

// IsHash reports whether s is a whole object name.
func IsHash(s string) bool {
	if len(s) != len(Zero) {
		return false
	}
	return strings.Trim(s, "0123456789abcdef") == ""
}

// Text, Working and Exit are the lines a master answers with.
func Text(line string) string {
	if most := MaxLine - len("> \n"); len(line) > most {
		line = strings.ToValidUTF8(line[:most-len("...")], "") + "..."
	}
	return "> " + line + "\n"
}

// Working is the line that says "still there".
func Working() string { return ".\n" }

// Exit is the last line; code becomes the hook's exit code.
func Exit(code int) string { return "= " + strconv.Itoa(code) + "\n" }

// Reply is one line of the master's answer.
type Reply struct {
	Text string
	Code int
	Kind ReplyKind
}

// ReplyKind tells which line a Reply was.
type ReplyKind byte

// The kinds of reply.
const (
	IsText    ReplyKind = '>'
	IsWorking ReplyKind = '.'
	IsExit    ReplyKind = '='
)

// ReadReply reads one line of the answer. io.EOF and io.ErrUnexpectedEOF mean
// that the master went away.
func ReadReply(r *bufio.Reader) (Reply, error) {
	line, err := readLine(r)
	if err != nil {
		return Reply{}, err
	}
	if line == "." {
		return Reply{Kind: IsWorking}, nil
	}
	if text, ok := strings.CutPrefix(line, "> "); ok {
		return Reply{Kind: IsText, Text: text}, nil
	}
	if number, ok := strings.CutPrefix(line, "= "); ok {
		code, err := strconv.Atoi(number)
		if err == nil {
			return Reply{Kind: IsExit, Code: code}, nil
		}
	}
	return Reply{}, fmt.Errorf("the master answered %q", line)
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", fmt.Errorf("a line is longer than %d bytes", MaxLine)
	case errors.Is(err, io.EOF) && len(line) > 0:
		return "", io.ErrUnexpectedEOF
	case err != nil:
		return "", err
	}
	return string(line[:len(line)-1]), nil
}
