package child

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"fairlead/schema"
)

// Input is what of a tree an evaluator sees: what is evaluated and what that can use.
type Input struct {
	files       []schema.File // by path
	hashes      map[string]string
	texts       map[string][]byte // of files that have been opened
	directories []string          // to be evaluated, sorted
	below       map[string][]int  // files by directory
	common      []int             // files that every result depends on
}

// NewInput is those files, and the directories among them that are evaluated. Results
// depend on the files of the directories that they name, and on all that are common.
func NewInput(files []schema.File, directories []string, isCommon func(name string) bool) *Input {
	in := &Input{
		files: slices.Clone(files), directories: slices.Sorted(slices.Values(directories)),
		hashes: make(map[string]string), texts: make(map[string][]byte), below: make(map[string][]int),
	}
	slices.SortFunc(in.files, func(a, b schema.File) int { return strings.Compare(a.Path, b.Path) })
	for i, f := range in.files {
		in.below[path.Dir(f.Path)] = append(in.below[path.Dir(f.Path)], i)
		if isCommon(f.Path) {
			in.common = append(in.common, i)
		}
	}
	return in
}

// First is where the first file of a directory begins.
func (in *Input) First(dir string) schema.Position {
	return schema.Position{Path: in.files[in.below[dir][0]].Path}
}

// refused is the result of a directory that has none.
func (in *Input) refused(dir string, why *failure) Response {
	return Response{Directory: dir, Diagnostics: schema.Diagnostics{{
		Position: in.First(dir), Severity: schema.Error, Message: why.message, Hint: why.hint,
	}}}
}

// place keeps a child's diagnostics to files of the tree.
func (in *Input) place(ds schema.Diagnostics, dir string) {
	for i := range ds {
		if _, ok := in.texts[ds[i].Path]; !ok {
			ds[i].Position = in.First(dir)
		}
	}
}

// text opens a file once.
func (in *Input) text(f schema.File) ([]byte, error) {
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
func (in *Input) read(language Language) ([]File, schema.Diagnostics) {
	var out []File
	var problems schema.Diagnostics
	total := 0
	for _, f := range in.files {
		text, err := in.text(f)
		if err == nil && !fs.ValidPath(f.Path) {
			err = errors.New("its name is not valid UTF-8")
		}
		if err != nil {
			problems = append(problems, schema.Diagnostic{Position: schema.Position{Path: f.Path}, Severity: schema.Error, Message: err.Error()})
			continue
		}
		total += len(text)
		out = append(out, File{Path: f.Path, Text: text})
	}
	if total > maxText {
		problems = append(problems, schema.Diagnostic{
			Position: in.First(in.directories[0]), Severity: schema.Error,
			Message: fmt.Sprintf("the tree has %d bytes of %s, at most %d are evaluated", total, language.Called, maxText),
		})
	}
	return out, problems
}

// hash is the file's blob hash, or one of its content; "" if it cannot be read.
func (in *Input) hash(i int) string {
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
