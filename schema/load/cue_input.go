package load

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

// refused is the result of a directory that has none.
func (in *cueInput) refused(dir string, why *failure) cueResponse {
	return cueResponse{Directory: dir, Diagnostics: schema.Diagnostics{{
		Position: in.first(dir), Severity: schema.Error, Message: why.message, Hint: why.hint,
	}}}
}

// place keeps a child's diagnostics to files of the tree.
func (in *cueInput) place(ds schema.Diagnostics, dir string) {
	for i := range ds {
		if _, ok := in.texts[ds[i].Path]; !ok {
			ds[i].Position = in.first(dir)
		}
	}
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
		if err == nil && !fs.ValidPath(f.Path) {
			err = errors.New("its name is not valid UTF-8")
		}
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
