package schema

import (
	"fmt"
	"path"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"
)

// Tree is the files of one commit below a source's path, as gitsource or a
// directory walk found them; nothing is read until a file is opened.
type Tree struct {
	Commit CommitObject
	Hash   TreeHash // of the tree object below the source's path; "" for a directory
	Files  []File   // sorted by path
	// Outside is the rest of the repository; nil where there is none.
	Outside *Outside
	// Refused are entries that are not among Files, unless the source's include and
	// exclude leave them out: submodules, files over the size bound, names that are
	// almost a manifest's, symlinks. The only warnings are symlinks that have no
	// manifest's name.
	Refused Diagnostics
	// Faults are of the tree's own shape and of its commit; they are told whatever
	// the source leaves out.
	Faults Diagnostics
}

// File is one regular file of a Tree.
type File struct {
	Path string // slash-separated, relative to the repository's root
	*Blob
}

// Blob is what a file holds. The trees that a file did not change between may
// share it; it is never changed.
type Blob struct {
	Hash string                 // as Git names it; "" for a file on disk
	Size int64                  // in bytes, or UnknownSize
	Open func() ([]byte, error) // reads it all; nobody changes what it returns
}

// UnknownSize is that of a file which only reading it tells.
const UnknownSize = -1

// CommitObject is what matters of a Git commit. The zero value is "not committed".
type CommitObject struct {
	Hash    Commit
	Tree    TreeHash // of the repository's root
	Parents []Commit
	Author  string // "Name <mail>"
	Subject string
	Message string // whole, for trailers
	Time    time.Time
}

// Desired is one object a tree asks for, strict-decoded, defaulted and with its
// origin annotated. The trees it did not change between share it; it is never
// changed.
type Desired struct {
	Object   Object
	Position Position
	// Locate finds the position of a field, given as "spec.template.spec.containers[0].image",
	// or of its nearest ancestor that is written down. It may read the file again.
	Locate func(field string) Position
	// Maker says what has written the value at a position where the object is built from
	// several files, as "a patch of overlays/prod"; "" for its own document. May be nil.
	Maker func(Position) string
	// BuiltBy is the directory of the kustomization that the object is built by; "" for an
	// object that stands in the tree as it is.
	BuiltBy string
	// Same remembers the live object that was last found to have all this one asks
	// for; nil remembers nothing.
	Same *Same
	// Facts are what the loader knows of it besides; nobody else looks at them.
	Facts any
}

// Written is where a field stands, and what has written it there, as "a patch of
// overlays/prod for base/web.yaml:1"; "" where that is the object's own document.
func (d *Desired) Written(field string) (at Position, by string) {
	at = d.Locate(field)
	if d.Maker == nil {
		return at, ""
	}
	return at, MadeBy(d.Maker(at), at, d.Position)
}

// MadeBy completes what has written a value at a place with the object that it is for,
// unless that stands in the same file.
func MadeBy(by string, at, object Position) string {
	if by == "" || object.Path == "" || object.Path == at.Path {
		return by
	}
	return by + " for " + Position{Path: object.Path, Line: object.Line}.String()
}

// Made is what has made the object where its document alone does not say it: "configMapGenerator
// settings of base, built by overlays/prod".
func (d *Desired) Made() string {
	by := ""
	if d.Maker != nil {
		by = d.Maker(d.Position)
	}
	if d.BuiltBy == "" || d.BuiltBy == "." || strings.HasPrefix(d.Position.Path, d.BuiltBy+"/") {
		return by
	}
	return strings.TrimPrefix(by+", built by "+d.BuiltBy, ", ")
}

// Same is a live object that a desired one was found equal to. Objects in tables
// are never changed, so the same live object is equal still.
type Same struct{ live atomic.Value }

// As reports whether live is the object that was found equal.
func (s *Same) As(live Object) bool { return s != nil && s.live.Load() == live }

// Found remembers live.
func (s *Same) Found(live Object) {
	if s != nil {
		s.live.Store(live)
	}
}

// Bounds on what a tree may hold.
const (
	MaxFileSize  = 3 << 20 // bytes; above etcd's and Kubernetes' limit for one object
	MaxFiles     = 50_000
	MaxObjects   = 100_000
	MaxTreeBytes = 256 << 20
)

// IsManifest reports whether a file's name says that objects stand in it.
func IsManifest(name string) bool {
	switch path.Ext(name) {
	case ".yaml", ".yml", ".json", ".cue":
		return true
	}
	return false
}

// NameFault is a fault of a file's or directory's own name, which stands in a
// directory, or nil. No such name is read, and none is passed over: a manifest that
// was renamed to one would be pruned without a word.
func NameFault(directory, name string) *Diagnostic {
	why := ""
	switch {
	case name == "" || name == "." || name == ".." || strings.Contains(name, "/"):
		why = "is not a file's name"
	case !utf8.ValidString(name):
		why = "is a name that is not UTF-8"
	case strings.ContainsFunc(name, misleads):
		why = "is a name with characters that are not seen but change what is"
	case isGitDirectory(name):
		why = "is a name that git keeps for itself, here or on other systems"
	default:
		return nil
	}
	if directory == "" {
		directory = "."
	}
	return &Diagnostic{
		Position: Position{Path: directory}, Severity: Error,
		Message: fmt.Sprintf("%s %s", quoted(name), why), Hint: "rename it, or take it out of the tree",
	}
}

// maxQuoted bounds how much of a name a diagnostic repeats.
const maxQuoted = 200

func quoted(name string) string {
	if len(name) > maxQuoted {
		return fmt.Sprintf("%q...", name[:maxQuoted])
	}
	return fmt.Sprintf("%q", name)
}

// NameRefusal is why a file is not read whose name a reader takes for a manifest's,
// though it is none, or nil.
func NameRefusal(file string) *Diagnostic {
	name := path.Base(file)
	meant := strings.ToLower(strings.TrimRightFunc(name, func(r rune) bool { return r == '.' || unicode.IsSpace(r) || isIgnored(r) }))
	if IsManifest(name) || !IsManifest(meant) {
		return nil
	}
	return &Diagnostic{
		Position: Position{Path: file}, Severity: Error,
		Message: fmt.Sprintf("%s is almost a manifest's name, but not read as one", quoted(name)),
		Hint:    fmt.Sprintf("name it as %q, or exclude it", meant),
	}
}

// LinkRefusal is why a symlink is not followed: a warning where nothing says that
// manifests are behind it.
func LinkRefusal(file string) *Diagnostic {
	d := &Diagnostic{Position: Position{Path: file}, Severity: Error, Message: "a symlink, which is not followed", Hint: "write the file itself here"}
	if path.Ext(file) != "" && !IsManifest(file) && NameRefusal(file) == nil {
		d.Severity = Warning
	}
	return d
}

// SubmoduleRefusal is why a repository within a repository is not read.
func SubmoduleRefusal(directory string) *Diagnostic {
	return &Diagnostic{
		Position: Position{Path: directory}, Severity: Error,
		Message: "a submodule, which is not fetched", Hint: "copy its files here, or make its repository a source",
	}
}

// misleads reports whether a character in a name changes what others look like:
// control characters, line separators, and those that turn the direction of writing
// (UAX 9). It is less than what IsPrintable refuses, which is only shown escaped:
// names in use hold joiners and characters of one's own.
func misleads(r rune) bool {
	switch {
	case unicode.IsControl(r), r == '\u2028', r == '\u2029', r == '\uFEFF':
		return true
	case r == '\u061C', r == '\u200E', r == '\u200F', r >= '\u202A' && r <= '\u202E', r >= '\u2066' && r <= '\u2069':
		return true
	}
	return false
}

// isIgnored reports whether HFS+ leaves a character out when it compares names.
func isIgnored(r rune) bool {
	return r >= '\u200C' && r <= '\u200F' || r >= '\u202A' && r <= '\u202E' || r >= '\u206A' && r <= '\u206F' || r == '\uFEFF'
}

// isGitDirectory reports whether a name is git's own directory on some system: in
// any case, with characters that HFS+ ignores, or with what NTFS cuts off or its
// short form (git's is_hfs_dotgit and is_ntfs_dotgit).
func isGitDirectory(name string) bool {
	name = strings.Map(func(r rune) rune {
		if isIgnored(r) {
			return -1
		}
		return r
	}, name)
	if i := strings.IndexAny(name, `:\`); i >= 0 {
		name = name[:i]
	}
	name = strings.ToLower(strings.TrimRight(name, " ."))
	return name == ".git" || name == "git~1"
}
