package load

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"fairlead/schema"
)

// CUEConfig says how CUE is evaluated.
type CUEConfig struct {
	// Command is the program, with arguments, that calls RunCUEChild on its
	// standard input and output. By default it is this program, told
	// CUESubcommand; its main must then know that subcommand.
	Command []string
	Limits  CUELimits // zero values are those of DefaultCUELimits
	// Remember is how many bytes of results are kept, so that unchanged
	// directories are not evaluated again. Zero is 64 MiB, negative none.
	Remember int64
}

// CUE evaluates directories of CUE, each in a child process that can be killed,
// and remembers what came out. It may be used by several Loads at once.
type CUE struct {
	command []string
	limits  CUELimits
	memory  *cueMemory
}

const defaultRemember = 64 << 20

// NewCUE makes a CUE. Nothing is started before there is something to evaluate.
func NewCUE(config CUEConfig) *CUE {
	c := &CUE{command: config.Command, limits: config.Limits, memory: &cueMemory{bound: config.Remember}}
	if len(c.command) == 0 {
		c.command = []string{"/proc/self/exe", CUESubcommand}
	}
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
	for _, result := range evaluator.eval(ctx, cueInputs(l.tree, files)) {
		l.diagnostics = append(l.diagnostics, result.Diagnostics...)
		for _, encoded := range result.Objects {
			// A package reaches into the directories below it: what it holds comes
			// out of each of them.
			if sum := sha256.Sum256(encoded); !seen[sum] {
				seen[sum] = true
				out = append(out, l.decodeFlat(encoded))
			}
		}
	}
	return out
}

func (l *loader) decodeFlat(encoded []byte) decoded {
	doc := flatDocument(encoded)
	if doc == nil {
		return decoded{diagnostics: schema.Diagnostics{{Severity: schema.Error, Message: "CUE cannot be evaluated: " + errFlat.Error()}}}
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

// cueInput is the CUE of a tree: what is evaluated and what that can import.
type cueInput struct {
	files       []schema.File // by path
	hashes      map[string]string
	texts       map[string][]byte // of files that have been opened
	directories []string          // to be evaluated, sorted
	below       map[string][]int  // files by directory
	moduleFiles []int             // those below cue.mod
}

// cueInputs picks files: of a directory with selected ones just those, of others
// all, because what is left out of the source may still be imported.
func cueInputs(tree schema.Tree, selected []schema.File) *cueInput {
	in := &cueInput{hashes: make(map[string]string), texts: make(map[string][]byte), below: make(map[string][]int)}
	evaluated := make(map[string]bool)
	for _, f := range selected {
		if dir := path.Dir(f.Path); !evaluated[dir] {
			evaluated[dir] = true
			in.directories = append(in.directories, dir)
		}
	}
	slices.Sort(in.directories)
	in.files = slices.Clone(selected)
	for _, f := range tree.Files {
		if path.Ext(f.Path) == ".cue" && !evaluated[path.Dir(f.Path)] && f.Size <= schema.MaxFileSize {
			in.files = append(in.files, f)
		}
	}
	slices.SortFunc(in.files, func(a, b schema.File) int { return strings.Compare(a.Path, b.Path) })
	for i, f := range in.files {
		in.below[path.Dir(f.Path)] = append(in.below[path.Dir(f.Path)], i)
		if strings.Contains("/"+f.Path, "/cue.mod/") {
			in.moduleFiles = append(in.moduleFiles, i)
		}
	}
	return in
}

func (in *cueInput) first(dir string) schema.Position {
	return schema.Position{Path: in.files[in.below[dir][0]].Path}
}

// text opens a file once.
func (in *cueInput) text(f schema.File) ([]byte, error) {
	if text, ok := in.texts[f.Path]; ok {
		return text, nil
	}
	text, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if len(text) > schema.MaxFileSize {
		return nil, fmt.Errorf("more than the %d bytes that are read", schema.MaxFileSize)
	}
	in.texts[f.Path] = text
	return text, nil
}

// read opens every file and names those that cannot be.
func (in *cueInput) read() ([]cueFile, schema.Diagnostics) {
	var out []cueFile
	var problems schema.Diagnostics
	total := 0
	for _, f := range in.files {
		text, err := in.text(f)
		if err != nil {
			problems = append(problems, schema.Diagnostic{Position: schema.Position{Path: f.Path}, Severity: schema.Error, Message: err.Error()})
			continue
		}
		total += len(text)
		out = append(out, cueFile{Path: f.Path, Text: text})
	}
	if total > maxCUEText {
		problems = append(problems, schema.Diagnostic{
			Position: in.first(in.directories[0]), Severity: schema.Error,
			Message: fmt.Sprintf("the tree has %d bytes of CUE, at most %d are evaluated", total, maxCUEText),
		})
	}
	return out, problems
}

// hash is the file's blob hash, or one of its content; "" if it cannot be read.
func (in *cueInput) hash(i int) string {
	f := in.files[i]
	if f.Hash != "" {
		return f.Hash
	}
	if known, ok := in.hashes[f.Path]; ok {
		return known
	}
	sum := ""
	if text, err := in.text(f); err == nil {
		content := sha256.Sum256(text)
		sum = hex.EncodeToString(content[:])
	}
	in.hashes[f.Path] = sum
	return sum
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
		req.Limits.Wall = min(c.limits.Wall, left)
		answers, why := runChild(ctx, c.command, req)
		for _, answer := range answers {
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
		return &failure{fmt.Sprintf("not evaluated: the tree's CUE takes longer than %v", c.limits.Tree), "simplify what takes long, or split the source"}
	}
	return &failure{message: fmt.Sprintf("not evaluated: %d directories of this tree broke their limits before", children)}
}
