package schema

import "strings"

// Commit names a commit as Git does: its full hash in hexadecimal. The zero value is
// "no commit".
type Commit string

// Short is how a commit is named for people: its first 12 digits, as in a Revision's
// name.
func (c Commit) Short() string { return string(c[:min(12, len(c))]) }

// SourceName names a source: a Source object's own name. The zero value is "no source".
type SourceName string

// ParseSourceName takes what a request calls a source; ok says that it may be one's name.
func ParseSourceName(s string) (name SourceName, ok bool) {
	name = SourceName(s)
	return name, name.Valid()
}

// Valid reports whether the name is one that a source with a repository on the master
// may have: safe as a file's name and in a URL.
func (n SourceName) Valid() bool {
	return n != "" && len(n) <= 63 && n[0] != '-' &&
		strings.Trim(string(n), "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// TreeHash names a tree as Git does; equal trees have equal hashes. The zero value is
// "not in a repository".
type TreeHash string

// RevisionName names a Revision: RevisionOf its source and commit.
type RevisionName string

// RevisionOf is "<source>-<first 12 digits of commit>".
func RevisionOf(source SourceName, commit Commit) RevisionName {
	return RevisionName(string(source) + "-" + commit.Short())
}

// CommitIn is the beginning of a commit in what a person calls one of the source's
// revisions: the commit, its beginning, or the Revision's name, which named tells of.
func (n SourceName) CommitIn(called string) (commit Commit, named bool) {
	rest, named := strings.CutPrefix(called, string(n)+"-")
	return Commit(rest), named
}
