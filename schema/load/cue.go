package load

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"time"

	"fairlead/schema"
)

// CUEConfig says how CUE is evaluated.
type CUEConfig struct {
	// Command is the program, with arguments, that calls RunCUEChild on its
	// standard input and output. By default it is this program, told
	// CUESubcommand: its main must know that.
	Command []string
	Limits  CUELimits // zero values are the default's
	// Remember is how many bytes of results are kept, so that unchanged
	// directories are not evaluated again. Zero is 64 MiB, negative none.
	Remember int64
}

// CUE evaluates directories of CUE, each in a child process that can be killed,
// and remembers what came out. It may be used by several Loads at once.
type CUE struct {
	arguments []string // empty: this program
	limits    CUELimits
	memory    *cueMemory
}

const defaultRemember = 64 << 20

// NewCUE makes a CUE. Nothing is started before there is something to evaluate.
func NewCUE(config CUEConfig) *CUE {
	c := &CUE{arguments: config.Command, limits: config.Limits.orDefault(), memory: &cueMemory{bound: config.Remember}}
	if c.memory.bound == 0 {
		c.memory.bound = defaultRemember
	}
	return c
}

// command is the child, yet to be started. /proc/self/exe is the running program
// even when an update has replaced its file.
func (c *CUE) command() *exec.Cmd {
	if len(c.arguments) > 0 {
		return exec.Command(c.arguments[0], c.arguments[1:]...)
	}
	cmd := exec.Command("/proc/self/exe", CUESubcommand)
	cmd.Args[0] = os.Args[0]
	return cmd
}

// decodeCUE evaluates the CUE files of each directory and decodes what they hold.
func (l *loader) decodeCUE(ctx context.Context, files []schema.File) []decoded {
	if len(files) == 0 {
		return nil
	}
	evaluator := l.opts.CUE
	if evaluator == nil {
		evaluator = NewCUE(CUEConfig{Remember: -1})
	}
	var out []decoded
	seen := make(map[[sha256.Size]byte]bool)
	in := cueInputs(l.tree, files)
	for _, result := range evaluator.eval(ctx, in) {
		l.diagnostics = append(l.diagnostics, result.Diagnostics...)
		for _, encoded := range result.Objects {
			// A package reaches into the directories below it: what it holds comes
			// out of each of them.
			if sum := sha256.Sum256(encoded); !seen[sum] {
				seen[sum] = true
				out = append(out, l.decodeFlat(encoded, in.first(result.Directory)))
			}
		}
	}
	return out
}

func (l *loader) decodeFlat(encoded []byte, at schema.Position) decoded {
	doc := flatDocument(encoded)
	if doc == nil {
		return decoded{diagnostics: schema.Diagnostics{{Position: at, Severity: schema.Error, Message: "CUE cannot be evaluated: " + errFlat.Error()}}}
	}
	return l.decodeDocument(*doc)
}

func flatDocument(encoded []byte) *document {
	root, path, paths, err := readFlat(encoded)
	if err != nil {
		return nil
	}
	return &document{path: path, node: root, paths: paths, again: func() *document { return flatDocument(encoded) }}
}

// eval returns the results in the order of the directories.
func (c *CUE) eval(ctx context.Context, in *cueInput) []cueResponse {
	results := make(map[string]cueResponse)
	var missing []string
	for _, dir := range in.directories {
		if remembered, ok := c.memory.recall(dir, in); ok {
			results[dir] = remembered
		} else {
			missing = append(missing, dir)
		}
	}
	if len(missing) > 0 {
		c.evalMissing(ctx, in, missing, results)
	}
	out := make([]cueResponse, 0, len(in.directories))
	for _, dir := range in.directories {
		out = append(out, results[dir])
	}
	return out
}

func (c *CUE) evalMissing(ctx context.Context, in *cueInput, missing []string, results map[string]cueResponse) {
	files, problems := in.read()
	if len(problems) > 0 {
		results[missing[0]] = cueResponse{Directory: missing[0], Diagnostics: problems}
		return
	}
	req := cueRequest{Version: cueVersion, Limits: c.limits, Files: files}
	ends := time.Now().Add(c.limits.Tree)
	for children := 0; len(missing) > 0; children++ {
		if why := c.givenUp(ctx, children, ends); why != nil {
			for _, dir := range missing {
				results[dir] = in.refused(dir, why)
			}
			return
		}
		req.Directories = missing
		answers, why := runChild(ctx, c.command, req, ends)
		for _, answer := range answers {
			in.place(answer.Diagnostics, answer.Directory)
			results[answer.Directory] = answer
			c.memory.keep(answer, in)
		}
		if missing = missing[len(answers):]; why != nil {
			results[missing[0]] = in.refused(missing[0], why)
			missing = missing[1:]
		}
	}
}

// givenUp is why no child is started any more.
func (c *CUE) givenUp(ctx context.Context, children int, ends time.Time) *failure {
	switch {
	case ctx.Err() != nil:
		return stopped(ctx)
	case !time.Now().Before(ends):
		why := c.limits.outOfTime()
		return &why
	case children == maxCUEChildren:
		return &failure{message: fmt.Sprintf("not evaluated: evaluation of this tree has been ended %d times", children)}
	}
	return nil
}
