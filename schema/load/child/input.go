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
	needs       map[string]need   // of directories of which it is known beforehand
}

// need is what evaluating a directory reads.
type need struct {
	first string // where it begins
	files []int
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

// Needs says that evaluating a directory begins at the file first and reads these files,
// which are all among the input's, and no others: its result depends on them alone.
func (in *Input) Needs(dir, first string, files []schema.File) {
	if in.needs == nil {
		in.needs = make(map[string]need)
	}
	n := need{first: first}
	for _, f := range files {
		if i, ok := slices.BinarySearchFunc(in.files, f.Path, func(have schema.File, name string) int { return strings.Compare(have.Path, name) }); ok {
			n.files = append(n.files, i)
		}
	}
	in.needs[dir] = n
}

// First is where the first file of a directory begins.
func (in *Input) First(dir string) schema.Position {
	if n, ok := in.needs[dir]; ok {
		return schema.Position{Path: n.first}
	}
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
	if f.Size > schema.MaxFileSize {
		return nil, fmt.Errorf("%d bytes, at most %d are read", f.Size, schema.MaxFileSize)
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

// neededBy says which files evaluating some directories may read.
func (in *Input) neededBy(directories []string) []bool {
	chosen := make([]bool, len(in.files))
	for _, dir := range directories {
		n, ok := in.needs[dir]
		if !ok {
			for i := range chosen {
				chosen[i] = true
			}
			break
		}
		for _, i := range n.files {
			chosen[i] = true
		}
	}
	return chosen
}

// read opens the files that some directories need, and returns those directories for
// which all could be: the others are refused in results, so that none of them looks like
// one that comes to nothing.
func (in *Input) read(language Language, directories []string, results map[string]Response) (files []File, readable []string) {
	problems := make(map[int]schema.Diagnostic)
	var all schema.Diagnostics // the same, by path
	total := 0
	for i, isNeeded := range in.neededBy(directories) {
		if !isNeeded {
			continue
		}
		file, problem := in.open(i)
		if problem != nil {
			problems[i], all = *problem, append(all, *problem)
			continue
		}
		total += len(file.Text)
		files = append(files, file)
	}
	for _, dir := range directories {
		told := in.problemsOf(dir, problems, all)
		if len(told) == 0 {
			readable = append(readable, dir)
			continue
		}
		results[dir] = Response{Directory: dir, Diagnostics: told}
		if _, ok := in.needs[dir]; !ok {
			all = all[:1] // once is enough of all
		}
	}
	if total <= maxText {
		return files, readable
	}
	for _, dir := range readable {
		results[dir] = in.refused(dir, &failure{message: fmt.Sprintf("not evaluated: the files of %s have %d bytes together, at most %d are evaluated", language.OfTree, total, maxText), hint: "split the source"})
	}
	return nil, nil
}

// problemsOf are those of the files that a directory needs.
func (in *Input) problemsOf(dir string, problems map[int]schema.Diagnostic, all schema.Diagnostics) (out schema.Diagnostics) {
	n, ok := in.needs[dir]
	if !ok || len(all) == 0 {
		return slices.Clone(all)
	}
	for _, i := range n.files {
		if d, ok := problems[i]; ok {
			out = append(out, d)
		}
	}
	return out
}

// open is a file as the child gets it, or what is wrong with it.
func (in *Input) open(i int) (File, *schema.Diagnostic) {
	f := in.files[i]
	text, err := in.text(f)
	if err == nil && !fs.ValidPath(f.Path) {
		err = errors.New("its name is not valid UTF-8")
	}
	if err != nil {
		return File{}, &schema.Diagnostic{Position: schema.Position{Path: f.Path}, Severity: schema.Error, Message: err.Error()}
	}
	return File{Path: f.Path, Text: text}, nil
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
