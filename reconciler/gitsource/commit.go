package gitsource

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"

	"fairlead/schema"
)

// Bounds on what is shown of a commit: anyone may write anything into one, and it
// is kept, sent and printed.
const (
	maxAuthor  = 200
	maxSubject = 500
	maxParents = 100
	// maxMessage is kept of a message, half of it from its end, where the trailers
	// stand.
	maxMessage = 64 << 10
)

// lastSecond is the last that a Kubernetes time can hold, of the year 9999 (RFC
// 3339). Git knows none before 1970.
const lastSecond = 253402300799

// rawCommit is a commit as git keeps it (gitformat: commit objects), its parts
// not looked into.
type rawCommit struct {
	hash      plumbing.Hash
	tree      plumbing.Hash
	parents   []plumbing.Hash
	author    []byte
	committer []byte
	encoding  string
	message   []byte
}

// parseCommit takes a commit apart. Whatever stands in it but its tree and its
// parents may be wrong or missing.
func parseCommit(hash plumbing.Hash, data []byte) (rawCommit, error) {
	c := rawCommit{hash: hash}
	hasTree := false
	for len(data) > 0 {
		var line []byte
		line, data, _ = bytes.Cut(data, []byte{'\n'})
		if len(line) == 0 {
			c.message = data
			break
		}
		key, value, _ := bytes.Cut(line, []byte{' '})
		switch string(key) {
		case "tree", "parent":
			name := string(value)
			if !isObjectName(name) {
				return c, fmt.Errorf("%q is not an object's name", shown(value, len(plumbing.Hash{})*2))
			}
			if string(key) == "parent" {
				c.parents = append(c.parents, plumbing.NewHash(name))
			} else if !hasTree {
				c.tree, hasTree = plumbing.NewHash(name), true
			}
		case "author":
			c.author = value
		case "committer":
			c.committer = value
		case "encoding":
			c.encoding = string(value)
		}
	}
	if !hasTree {
		return c, fmt.Errorf("it names no tree")
	}
	return c, nil
}

func isObjectName(s string) bool {
	return len(s) == 2*len(plumbing.Hash{}) && strings.Trim(s, "0123456789abcdef") == ""
}

// when is a signature's date in seconds since 1970, which orders commits; a date
// that is none is 0, one that no integer holds the greatest.
func when(signature []byte) int64 {
	fields := bytes.Fields(signature[bytes.LastIndexByte(signature, '>')+1:])
	if len(fields) == 0 {
		return 0
	}
	// An error of range comes with the nearest value, one of syntax with 0.
	seconds, _ := strconv.ParseInt(string(fields[0]), 10, 64)
	return max(seconds, 0)
}

// Commit reads one commit; hash is whole. Time is when it was committed, in UTC and
// within the years that can be told: a tree's Faults tell of one outside them. Author
// and Subject are one line of text, Message is valid UTF-8; all are bounded, and so
// are Parents.
func (r *Repo) Commit(hash schema.Commit) (schema.CommitObject, error) {
	c, err := r.commit(plumbing.NewHash(string(hash)))
	if err != nil {
		return schema.CommitObject{}, fmt.Errorf("read commit %s: %w", hash, err)
	}
	return toSchema(c), nil
}

func (r *Repo) commit(h plumbing.Hash) (rawCommit, error) {
	data, err := r.object(plumbing.CommitObject, h, maxCommitSize)
	if err != nil {
		return rawCommit{}, err
	}
	return parseCommit(h, data)
}

func toSchema(c rawCommit) schema.CommitObject {
	out := schema.CommitObject{
		Hash:    schema.Commit(c.hash.String()),
		Tree:    schema.TreeHash(c.tree.String()),
		Author:  c.authorLine(),
		Subject: c.subject(),
		Message: c.shortMessage(),
		Time:    time.Unix(min(when(c.committer), lastSecond), 0).UTC(),
	}
	for _, p := range c.parents[:min(len(c.parents), maxParents)] {
		out.Parents = append(out.Parents, schema.Commit(p.String()))
	}
	return out
}

// misdated is a warning about a date that cannot be told, or nothing.
func misdated(c rawCommit) schema.Diagnostics {
	if when(c.committer) <= lastSecond {
		return nil
	}
	return schema.Diagnostics{{
		Position: schema.Position{Path: "."}, Severity: schema.Warning,
		Message: fmt.Sprintf("commit %s is dated after the year 9999, which cannot be stored; it is shown as %s", schema.Commit(c.hash.String()).Short(), "9999-12-31"),
		Hint:    "set the clock right, then git commit --amend --no-edit --date=now",
	}}
}

// authorLine is "Name <mail>".
func (c rawCommit) authorLine() string {
	line := c.text(c.author)
	name, rest, ok := strings.Cut(line, "<")
	if !ok {
		name = line
	}
	mail, _, _ := strings.Cut(rest, ">")
	name, mail = oneLine(name, maxAuthor), oneLine(mail, maxAuthor)
	switch {
	case name == "" && mail == "":
		return "unknown"
	case mail == "":
		return name
	}
	return strings.TrimLeft(name+" <"+mail+">", " ")
}

// subject is the first paragraph on one line, as git log --format=%s has it.
func (c rawCommit) subject() string {
	// More than a subject's bytes are white space only in a commit that hides
	// something.
	head := c.message[:min(len(c.message), maxMessage)]
	var words []string
	for line := range strings.Lines(c.text(head)) {
		line = strings.TrimSpace(line)
		if line == "" && len(words) > 0 {
			break
		}
		if line != "" {
			words = append(words, line)
		}
	}
	return oneLine(strings.Join(words, " "), maxSubject)
}

// shortMessage is the message, of a long one its beginning and its end.
func (c rawCommit) shortMessage() string {
	message := c.message
	if len(message) <= maxMessage {
		return c.text(message)
	}
	const half = maxMessage / 2
	return c.text(message[:half]) + "\n[...]\n" + c.text(message[len(message)-half:])
}

// text is what bytes of the commit say, in valid UTF-8 and without NUL. Of the
// encodings that a commit may name the one is read that old commits are in.
func (c rawCommit) text(b []byte) string {
	var s string
	switch strings.ToLower(c.encoding) {
	case "iso-8859-1", "iso8859-1", "latin-1", "latin1":
		runes := make([]rune, len(b))
		for i, v := range b {
			runes[i] = rune(v)
		}
		s = string(runes)
	default:
		s = strings.ToValidUTF8(string(b), "\uFFFD")
	}
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

// oneLine is s on one line of at most limit bytes, as any terminal may show it.
func oneLine(s string, limit int) string {
	return shown([]byte(schema.Printable(strings.Join(strings.Fields(s), " "))), limit)
}

// shown is valid UTF-8 of at most limit bytes and three dots.
func shown(b []byte, limit int) string {
	if len(b) <= limit {
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	for limit > 0 && !utf8.RuneStart(b[limit]) {
		limit--
	}
	return strings.ToValidUTF8(string(b[:limit]), "\uFFFD") + "..."
}
