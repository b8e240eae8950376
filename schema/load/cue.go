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
	Limits  CUELimits // zero values are those of DefaultCUELimits
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
	c := &CUE{arguments: config.Command, limits: config.Limits, memory: &cueMemory{bound: config.Remember}}
	if c.limits.Memory == 0 {
		c.limits.Memory = DefaultCUELimits.Memory
	}
	if c.limits.CPU == 0 {
		c.limits.CPU = DefaultCUELimits.CPU
	}
	if c.limits.Wall == 0 {
		c.limits.Wall = DefaultCUELimits.Wall
	}
	if c.limits.Tree == 0 {
		c.limits.Tree = DefaultCUELimits.Tree
	}
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
	refuse := func(dir string, why *failure) {
		results[dir] = cueResponse{Directory: dir, Diagnostics: schema.Diagnostics{{
			Position: in.first(dir), Severity: schema.Error, Message: why.message, Hint: why.hint,
		}}}
	}
	ends := time.Now().Add(c.limits.Tree)
	for children := 0; len(missing) > 0; children++ {
		left := time.Until(ends)
		if children == maxCUEChildren || left <= 0 || ctx.Err() != nil {
			for _, dir := range missing {
				refuse(dir, c.givenUp(children, left))
			}
			return
		}
		req.Directories = missing
		late := failure{fmt.Sprintf("evaluating this directory takes longer than %v", c.limits.Wall), simplify}
		if req.Limits.Wall = c.limits.Wall; left < c.limits.Wall {
			req.Limits.Wall, late = left, *c.outOfTime()
		}
		answers, why := runChild(ctx, c.command, req, late)
		for _, answer := range answers {
			in.place(answer.Diagnostics, answer.Directory)
			results[answer.Directory] = answer
			c.memory.keep(answer, in)
		}
		if missing = missing[len(answers):]; why != nil {
			refuse(missing[0], why)
			missing = missing[1:]
		}
	}
}

func (c *CUE) givenUp(children int, left time.Duration) *failure {
	if left <= 0 {
		return c.outOfTime()
	}
	return &failure{message: fmt.Sprintf("not evaluated: %d directories of this tree broke their limits before", children)}
}

func (c *CUE) outOfTime() *failure {
	return &failure{fmt.Sprintf("not evaluated: the tree's CUE takes longer than %v", c.limits.Tree), "simplify what takes long, or split the source"}
}
