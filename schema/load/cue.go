package load

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"fairlead/schema"
	"fairlead/schema/load/child"
	"fairlead/schema/load/cue"
	"fairlead/schema/load/kustomize"
)

// What is evaluated in a child, and how: see package child.
type (
	CUE       = child.Evaluator
	CUEConfig = child.Config
)

// ChildSubcommand is the argument by which a program is told to be a child.
const ChildSubcommand = child.Subcommand

// RunChild is the whole of a child process, which evaluates what a loader asks it to.
func RunChild(in io.Reader, out io.Writer) error {
	return child.Serve(in, out, cue.Language, kustomize.Language)
}

// NewCUE makes what evaluates CUE and remembers what came out.
func NewCUE(config CUEConfig) *CUE { return child.New(cue.Language, config) }

// decodeCUE evaluates the CUE files of each directory and decodes what they hold.
func (l *loader) decodeCUE(ctx context.Context, files []schema.File) []decoded {
	if len(files) == 0 {
		return nil
	}
	evaluator := l.opts.CUE
	if evaluator == nil {
		evaluator = NewCUE(CUEConfig{Remember: -1})
	}
	return l.decodeEvaluated(ctx, evaluator, cue.Input(l.tree, files))
}

// decodeEvaluated decodes what a child makes of the directories of an input.
func (l *loader) decodeEvaluated(ctx context.Context, evaluator *child.Evaluator, in *child.Input) []decoded {
	var out []decoded
	seen := make(map[[sha256.Size]byte]bool)
	for _, result := range evaluator.Eval(ctx, in) {
		l.diagnostics = append(l.diagnostics, result.Diagnostics...)
		l.hides = l.hides || result.Diagnostics.HasErrors()
		for _, encoded := range result.Objects {
			// A package reaches into the directories below it: what it holds comes
			// out of each of them.
			if sum := sha256.Sum256(encoded); !seen[sum] {
				seen[sum] = true
				out = append(out, l.decodeFlat(encoded, in.First(result.Directory)))
			}
		}
	}
	return out
}

func (l *loader) decodeFlat(encoded []byte, at schema.Position) decoded {
	doc, err := child.Document(encoded)
	if err != nil {
		return notDecoded(err, at)
	}
	return l.decodeDocument(*doc)
}

// notDecoded is what a child sent and nobody can read.
func notDecoded(err error, at schema.Position) decoded {
	return decoded{hides: true, diagnostics: schema.Diagnostics{{Position: at, Severity: schema.Error, Message: fmt.Sprintf("what was evaluated cannot be read: %v", err)}}}
}
