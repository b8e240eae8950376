package schema

import (
	"sync/atomic"
	"time"
)

// Tree is the files of one commit below a source's path, as gitsource or a
// directory walk found them; nothing is read until a file is opened.
type Tree struct {
	Commit  Commit
	Hash    string      // of the tree object below the source's path; "" for a directory
	Files   []File      // sorted by path
	Refused Diagnostics // symlinks, submodules, files over the size bound: refused by name
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

// Commit is what matters of a Git commit. The zero value is "not committed".
type Commit struct {
	Hash    string
	Tree    string // of the repository's root
	Parents []string
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
	// Same remembers the live object that was last found to have all this one asks
	// for; nil remembers nothing.
	Same *Same
	// Facts are what the loader knows of it besides; nobody else looks at them.
	Facts any
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
