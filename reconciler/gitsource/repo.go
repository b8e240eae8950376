// Package gitsource answers "what does Git have?": which commit a branch is at,
// what a commit's tree holds, what lies between two commits. It keeps caches of
// outside repositories (Upstream) and hosts the embedded remote that users push
// to: git's own receive-pack does the pushing, its hooks ask the master (package
// hook, Server), HTTPHandler serves it to remote users. Watch, WebhookHandler and
// Keep tell when to look again.
//
// It never checks anything out, judges no tree and decides nothing about what
// runs: that is the Judge's, whom cmd brings. It is the only importer of go-git.
package gitsource

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage/filesystem/dotgit"

	"fairlead/schema"
)

// Bounds on single objects; files have schema.MaxFileSize.
const (
	maxCommitSize = 16 << 20 // signatures and merged tags stand in it
	maxTreeSize   = 16 << 20 // one directory of schema.MaxFiles entries with long names
)

// ErrNotFound is a commit, tree or blob that the repository does not have.
var ErrNotFound = errors.New("not in the repository")

// Repo reads one bare repository: an embedded remote, or a cache that something
// else fetches into. Git may write to it at any time; every answer is of the
// moment it is asked for. A Repo may be used by many goroutines.
type Repo struct {
	dir string
	// stores are asked in this order: a push's quarantine, the repository, and
	// those that it borrows objects from, as they were named when it was opened.
	stores []*objects
	sizes  *generations[plumbing.Hash, int64]
	dirs   *generations[dirKey, *directory]
	// below is set on a quarantine: it uses the directories of the repository
	// but keeps its own to itself, because a refused push takes its files away.
	below *Repo
	files atomic.Int64 // in the tree listed last
}

// Open reads the bare repository at dir, which exists. Nothing is locked and
// nothing is written.
func Open(dir string) (*Repo, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	for _, part := range []string{"HEAD", "objects", "refs"} {
		if _, err := os.Stat(filepath.Join(dir, part)); err != nil {
			return nil, fmt.Errorf("open repository %s: %w", dir, err)
		}
	}
	stores, err := openStores(filepath.Join(dir, "objects"))
	if err != nil {
		return nil, fmt.Errorf("open repository %s: %w", dir, err)
	}
	return &Repo{
		dir:    dir,
		stores: stores,
		sizes:  newGenerations[plumbing.Hash, int64](maxCachedEntries),
		dirs:   newGenerations[dirKey, *directory](maxCachedEntries),
	}, nil
}

// Dir is the repository's absolute path.
func (r *Repo) Dir() string { return r.dir }

// Close gives back open descriptors. The Repo may still be used, it opens them
// again. Closing a quarantine leaves the repository below it open.
func (r *Repo) Close() {
	if r.below != nil {
		r.stores[0].close()
		return
	}
	for _, s := range r.stores {
		s.close()
	}
}

// WithQuarantine reads r and, before it, the objects of a push that git has not
// accepted yet: path is what git gave the hook as GIT_QUARANTINE_PATH. What was
// read through it stays readable after git accepted the push. Close it when the
// push is judged; r stays open.
func (r *Repo) WithQuarantine(path string) (*Repo, error) {
	// Git makes quarantines beside the objects they will join.
	if filepath.Dir(filepath.Clean(path)) != filepath.Join(r.dir, "objects") {
		real, err := filepath.EvalSymlinks(filepath.Join(r.dir, "objects"))
		if err != nil || filepath.Dir(filepath.Clean(path)) != real {
			return nil, fmt.Errorf("quarantine %s is not one of %s", path, r.dir)
		}
	}
	return &Repo{
		dir:    r.dir,
		stores: append([]*objects{newObjects(osfs.New(path), false)}, r.stores...),
		sizes:  r.sizes,
		dirs:   newGenerations[dirKey, *directory](maxCachedEntries),
		below:  r,
	}, nil
}

// Branch is the commit a branch is at; ok is false when there is no such
// branch. name is short, as main.
func (r *Repo) Branch(name string) (hash schema.Commit, ok bool, err error) {
	ref, err := dotgit.New(osfs.New(r.dir)).Ref(plumbing.NewBranchReferenceName(name))
	switch {
	case errors.Is(err, plumbing.ErrReferenceNotFound):
		return "", false, nil
	case err != nil:
		return "", false, fmt.Errorf("read branch %s: %w", name, err)
	case ref.Type() != plumbing.HashReference:
		return "", false, fmt.Errorf("read branch %s: it points to %s, not to a commit", name, ref.Target())
	}
	return schema.Commit(ref.Hash().String()), true, nil
}

// blob reads one file's bytes.
func (r *Repo) blob(h plumbing.Hash) ([]byte, error) {
	data, err := r.object(plumbing.BlobObject, h, schema.MaxFileSize)
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", h, err)
	}
	return data, nil
}

// object reads one object of at most limit bytes.
func (r *Repo) object(t plumbing.ObjectType, h plumbing.Hash, limit int64) ([]byte, error) {
	for _, s := range r.stores {
		data, err := s.read(t, h, limit)
		if !errors.Is(err, ErrNotFound) {
			return data, err
		}
	}
	return nil, ErrNotFound
}

// size is an object's size without its content.
func (r *Repo) size(h plumbing.Hash) (int64, error) {
	if size, ok := r.sizes.get(h); ok {
		return size, nil
	}
	for _, s := range r.stores {
		size, err := s.size(h)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err == nil {
			r.sizes.put(h, size, 1)
		}
		return size, err
	}
	return 0, ErrNotFound
}
