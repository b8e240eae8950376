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
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem/dotgit"

	"fairlead/schema"
)

// Bounds on single objects; files have schema.MaxFileSize.
const (
	maxCommitSize = 1 << 20
	maxTreeSize   = 16 << 20 // one directory of schema.MaxFiles entries with long names
	// objectCacheSize keeps delta bases near; blobs are read once.
	objectCacheSize = 16 * cache.MiByte
)

// ErrNotFound is a commit, tree or blob that the repository does not have.
var ErrNotFound = errors.New("not in the repository")

// Repo reads one bare repository: an embedded remote, or a cache that something
// else fetches into. Git may write to it at any time; every answer is of the
// moment it is asked for. A Repo may be used by many goroutines.
type Repo struct {
	dir string
	// stores are asked in this order: a push's quarantine, then the repository.
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
	return &Repo{
		dir:    dir,
		stores: []*objects{newObjects(acceptedOnly{osfs.New(dir)}, true)},
		sizes:  newGenerations[plumbing.Hash, int64](maxCachedEntries),
		dirs:   newGenerations[dirKey, *directory](maxCachedEntries),
	}, nil
}

// Dir is the repository's absolute path.
func (r *Repo) Dir() string { return r.dir }

// Close gives back open descriptors. The Repo may still be used, it opens them
// again. Closing a quarantine leaves the repository below it open.
func (r *Repo) Close() { r.stores[0].close() }

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
		stores: append([]*objects{newObjects(objectsAt(path), false)}, r.stores...),
		sizes:  r.sizes,
		dirs:   newGenerations[dirKey, *directory](maxCachedEntries),
		below:  r,
	}, nil
}

// Branch is the commit a branch is at; ok is false when there is no such
// branch. name is short, as main.
func (r *Repo) Branch(name string) (hash string, ok bool, err error) {
	ref, err := dotgit.New(osfs.New(r.dir)).Ref(plumbing.NewBranchReferenceName(name))
	switch {
	case errors.Is(err, plumbing.ErrReferenceNotFound):
		return "", false, nil
	case err != nil:
		return "", false, fmt.Errorf("read branch %s: %w", name, err)
	case ref.Type() != plumbing.HashReference:
		return "", false, fmt.Errorf("read branch %s: it points to %s, not to a commit", name, ref.Target())
	}
	return ref.Hash().String(), true, nil
}

// Commit reads one commit; hash is whole. Time is when it was committed.
func (r *Repo) Commit(hash string) (schema.Commit, error) {
	c, err := r.commit(plumbing.NewHash(hash))
	if err != nil {
		return schema.Commit{}, fmt.Errorf("read commit %s: %w", hash, err)
	}
	return toSchema(c), nil
}

func toSchema(c *object.Commit) schema.Commit {
	message := strings.ToValidUTF8(c.Message, "\uFFFD")
	out := schema.Commit{
		Hash:    c.Hash.String(),
		Tree:    c.TreeHash.String(),
		Author:  strings.ToValidUTF8(c.Author.Name+" <"+c.Author.Email+">", "\uFFFD"),
		Subject: subject(message),
		Message: message,
		Time:    c.Committer.When,
	}
	for _, p := range c.ParentHashes {
		out.Parents = append(out.Parents, p.String())
	}
	return out
}

// subject is the first paragraph on one line, as git log --format=%s has it.
func subject(message string) string {
	first, _, _ := strings.Cut(strings.TrimLeft(message, "\n"), "\n\n")
	return strings.Join(strings.Fields(first), " ")
}

func (r *Repo) commit(h plumbing.Hash) (*object.Commit, error) {
	o, err := r.object(plumbing.CommitObject, h, maxCommitSize)
	if err != nil {
		return nil, err
	}
	c := &object.Commit{}
	if err := c.Decode(o); err != nil {
		return nil, err
	}
	return c, nil
}

// blob reads one file's bytes.
func (r *Repo) blob(h plumbing.Hash) ([]byte, error) {
	o, err := r.object(plumbing.BlobObject, h, schema.MaxFileSize)
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", h, err)
	}
	data, err := content(o)
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", h, err)
	}
	return data, nil
}

func content(o plumbing.EncodedObject) ([]byte, error) {
	reader, err := o.Reader()
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	data := make([]byte, o.Size())
	if _, err := io.ReadFull(reader, data); err != nil {
		return nil, err
	}
	return data, nil
}

// object reads one object of at most limit bytes.
func (r *Repo) object(t plumbing.ObjectType, h plumbing.Hash, limit int64) (plumbing.EncodedObject, error) {
	size, err := r.size(h)
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%d bytes, at most %d are read", size, limit)
	}
	for _, s := range r.stores {
		o, err := s.read(t, h)
		if !errors.Is(err, ErrNotFound) {
			return o, err
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
