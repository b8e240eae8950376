// Package child evaluates in a process of its own what may cost anything: a language
// whose evaluator has no bound is given one of memory, CPU and wall time there, without
// network, environment or files, and is killed when it goes beyond. It knows no language:
// each has a room that says how a directory of it is evaluated, and is called in the
// child only. What comes out is remembered by the hash of what went in.
package child

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"fairlead/schema"
)

// Language is one that is evaluated in a child, and how that is told.
type Language struct {
	Name      string // of it in requests
	Called    string // one directory of it in messages
	OfTree    string // all of a tree, in messages
	Simplify  string // what to do about a directory that costs too much
	Recursion string // what to look for in one that never ends
	// Prepare loads what evaluating anything needs, in a child that has been asked nothing
	// yet. May be nil.
	Prepare func()
	// Evaluate takes the files of a request and is what evaluates one directory of them.
	// It runs in the child only: nothing bounds what it costs.
	Evaluate func(files []File) func(dir string) Response
}

// Config says how a language is evaluated.
type Config struct {
	// Command is the program, with arguments, that calls Serve on its standard input and
	// output. By default it is this program, told Subcommand: its main must know that.
	Command []string
	Limits  Limits // zero values are the default's
	// Remember is how many bytes of results are kept, so that unchanged
	// directories are not evaluated again. Zero is 64 MiB, negative none.
	Remember int64
	// Keep has a child wait for what is evaluated next, once something was: starting one
	// takes longer than most evaluations. Close ends it.
	Keep bool
}

// room is what the results of one tree may still take: they are all held until they are
// decoded.
type room struct {
	bytes, objects int
	name           string   // of what is evaluated
	full           *failure // why nothing more is taken
}

// newRoom is for as many objects as a tree may have, and as many bytes as its files.
func newRoom(language Language) *room {
	return &room{bytes: schema.MaxTreeBytes, objects: schema.MaxObjects, name: language.OfTree}
}

// take counts a result; it returns why it is one too many.
func (r *room) take(resp Response) *failure {
	for _, o := range resp.Objects {
		r.bytes -= len(o)
	}
	r.objects -= len(resp.Objects)
	switch {
	case r.full != nil:
	case r.objects < 0:
		r.full = &failure{message: fmt.Sprintf("not evaluated: evaluating %s gives more than %d objects", r.name, schema.MaxObjects), hint: "split the source"}
	case r.bytes < 0:
		r.full = &failure{message: fmt.Sprintf("not evaluated: evaluating %s gives more than %d MiB", r.name, schema.MaxTreeBytes>>20), hint: "split the source"}
	}
	return r.full
}

// Evaluator evaluates directories of one language, each in a child process that can be
// killed, and remembers what came out. It may be used by several Loads at once.
type Evaluator struct {
	language  Language
	arguments []string // empty: this program
	limits    Limits
	memory    *memory
	isKept    bool // see Config.Keep
	spare     spare
}

const defaultRemember = 64 << 20

// New makes an Evaluator. Nothing is started before there is something to evaluate.
func New(language Language, config Config) *Evaluator {
	e := &Evaluator{language: language, arguments: config.Command, limits: config.Limits.orDefault(), memory: &memory{bound: config.Remember}, isKept: config.Keep}
	if e.memory.bound == 0 {
		e.memory.bound = defaultRemember
	}
	return e
}

// command is the child, yet to be started. /proc/self/exe is the running program
// even when an update has replaced its file.
func (e *Evaluator) command() *exec.Cmd {
	if len(e.arguments) > 0 {
		return exec.Command(e.arguments[0], e.arguments[1:]...)
	}
	cmd := exec.Command("/proc/self/exe", Subcommand)
	cmd.Args[0] = os.Args[0]
	return cmd
}

// Eval evaluates the input's directories and returns the results in their order. Those
// that do not fit into what one tree may come to are refused.
func (e *Evaluator) Eval(ctx context.Context, in *Input) []Response {
	results := make(map[string]Response)
	room := newRoom(e.language)
	var missing []string
	for _, dir := range in.directories {
		remembered, ok := e.memory.recall(dir, in)
		if !ok {
			missing = append(missing, dir)
			continue
		}
		if why := room.take(remembered); why != nil {
			remembered = in.refused(dir, why)
		}
		results[dir] = remembered
	}
	if len(missing) > 0 {
		e.evalMissing(ctx, in, missing, room, results)
	}
	out := make([]Response, 0, len(in.directories))
	for _, dir := range in.directories {
		out = append(out, results[dir])
	}
	return out
}

func (e *Evaluator) evalMissing(ctx context.Context, in *Input, missing []string, room *room, results map[string]Response) {
	defer e.prepare()
	files, missing := in.read(e.language, missing, results)
	req := Request{Version: version, Language: e.language.Name, Limits: e.limits, Files: files}
	ends := time.Now().Add(e.limits.Tree)
	for children := 0; len(missing) > 0; children++ {
		if why := e.givenUp(ctx, children, ends, room); why != nil {
			for _, dir := range missing {
				results[dir] = in.refused(dir, why)
			}
			return
		}
		req.Directories = missing
		answers, why := e.runChild(ctx, req, ends, room)
		for _, answer := range answers {
			in.place(answer.Diagnostics, answer.Directory)
			e.memory.keep(&answer, in)
			results[answer.Directory] = answer
		}
		if missing = missing[len(answers):]; why != nil {
			results[missing[0]] = in.refused(missing[0], why)
			missing = missing[1:]
		}
	}
}

// givenUp is why no child is started any more.
func (e *Evaluator) givenUp(ctx context.Context, children int, ends time.Time, room *room) *failure {
	switch {
	case room.full != nil:
		return room.full
	case ctx.Err() != nil:
		return stopped(ctx)
	case !time.Now().Before(ends):
		why := e.language.outOfTime(e.limits)
		return &why
	case children == maxChildren:
		return &failure{message: fmt.Sprintf("not evaluated: evaluation of this tree has been ended %d times", children)}
	}
	return nil
}
