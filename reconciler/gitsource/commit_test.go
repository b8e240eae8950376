package gitsource

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"
	"pgregory.net/rapid"

	"fairlead/reconciler/follow"
	"fairlead/schema"
	"fairlead/schema/chance"
)

const emptyTree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

func parsed(t testing.TB, data string) rawCommit {
	t.Helper()
	c, err := parseCommit(plumbing.NewHash(strings.Repeat("a", 40)), []byte(data))
	if err != nil {
		t.Fatalf("%.200q: %v", data, err)
	}
	return c
}

func TestCommitsThatNobodyCanShow(t *testing.T) {
	head := "tree " + emptyTree + "\n"
	plain := "author A <a@b> 1700000000 +0000\ncommitter A <a@b> 1700000000 +0000\n\nx\n"
	day := time.Unix(1700000000, 0).UTC()
	end := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	epoch := time.Unix(0, 0).UTC()
	dated := func(date string) string {
		return head + "author A <a@b> 0 +0000\ncommitter A <a@b> " + date + "\n\nx"
	}
	for _, c := range []struct {
		name, data      string
		author, subject string
		time            time.Time
	}{
		{"plain", head + plain, "A <a@b>", "x", day},
		{"the last second", dated("253402300799 +0000"), "A <a@b>", "x", end},
		{"the year 10000", dated("253402300800 +0000"), "A <a@b>", "x", end},
		{"no integer holds it", dated("99999999999999999999999999 +0000"), "A <a@b>", "x", end},
		{"before git's time", dated("-62135596801 +0000"), "A <a@b>", "x", epoch},
		{"no date", dated(""), "A <a@b>", "x", epoch},
		{"a zone beyond the day", dated("1700000000 +9959"), "A <a@b>", "x", day},
		{"no zone", dated("1700000000"), "A <a@b>", "x", day},
		{"no author", head + "\nx\n", "unknown", "x", epoch},
		{"no message", head + "author A <a@b> 0 +0000\n", "A <a@b>", "", epoch},
		{"an author without mail", head + "author A\n\nx", "A", "x", epoch},
		{"an author of mail alone", head + "author <a@b> 0 +0000\n\nx", "<a@b>", "x", epoch},
		{"latin1", head + "author Jos\xe9 <a@b> 0 +0000\nencoding ISO-8859-1\n\ncaf\xe9", "José <a@b>", "café", epoch},
		{"an unknown encoding", head + "author Jos\xe9 <a@b> 0 +0000\nencoding x-none\n\ncaf\xe9", "Jos\uFFFD <a@b>", "caf\uFFFD", epoch},
		{"CRLF", head + "author A <a@b> 0 +0000\n\none\r\ntwo\r\n\r\nbody\r\n", "A <a@b>", "one two", epoch},
		{"a terminal", head + "author \x1b[31mA\u202e <a\x07@b> 0 +0000\n\nx\x1b[2J\u2066y\x00z", `\x1b[31mA\u202e <a\x07@b>`, `x\x1b[2J\u2066y` + "\uFFFDz", epoch},
		{"a signature", head + "author A <a@b> 0 +0000\ngpgsig -----BEGIN\n tree x\n parent x\n\n\nx", "A <a@b>", "x", epoch},
	} {
		got := toSchema(parsed(t, c.data))
		if got.Author != c.author || got.Subject != c.subject || !got.Time.Equal(c.time) || got.Time.Location() != time.UTC {
			t.Errorf("%s: %q, %q, %v, want %q, %q, %v", c.name, got.Author, got.Subject, got.Time, c.author, c.subject, c.time)
		}
	}
	for _, bad := range []string{"", "\nx", "tree x\n\nx", head + "parent " + strings.Repeat("z", 40) + "\n\nx", "parent " + emptyTree + "\n\nx"} {
		if c, err := parseCommit(plumbing.ZeroHash, []byte(bad)); err == nil {
			t.Errorf("%q was taken for a commit: %+v", bad, c)
		}
	}
}

// Whatever stands in a commit, what comes out is bounded and can be stored and
// shown.
func TestCommitsAreBounded(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		long := func(label string) string {
			piece := rapid.StringN(0, 20, -1).Draw(t, label) + string(rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, label+" bytes"))
			return strings.Repeat(piece, rapid.SampledFrom([]int{0, 1, 3, 4_000}).Draw(t, label+" times"))
		}
		oneLine := func(label string) string { return strings.ReplaceAll(long(label), "\n", " ") }
		data := "tree " + emptyTree + "\n" + strings.Repeat("parent "+emptyTree+"\n", rapid.SampledFrom([]int{0, 1, 5_000}).Draw(t, "parents")) +
			"author " + oneLine("author") + " <" + oneLine("mail") + "> " + oneLine("date") + "\ncommitter " + oneLine("committer") + "\nencoding " + oneLine("encoding") + "\n\n" + long("message")
		c, err := parseCommit(plumbing.ZeroHash, []byte(data))
		if err != nil {
			return
		}
		got := toSchema(c)
		for what, s := range map[string]struct {
			text  string
			limit int
		}{"author": {got.Author, 2*maxAuthor + 20}, "subject": {got.Subject, maxSubject + 3}, "message": {got.Message, 3*maxMessage + 20}} {
			if !utf8.ValidString(s.text) || len(s.text) > s.limit || strings.Contains(s.text, "\x00") {
				t.Errorf("%s: %d bytes, %.100q", what, len(s.text), s.text)
			}
			if what != "message" && strings.ContainsFunc(s.text, func(r rune) bool { return !schema.IsPrintable(r) }) {
				t.Errorf("%s misleads: %.100q", what, s.text)
			}
		}
		if text, err := got.Time.MarshalJSON(); err != nil || len(text) != len(`"2006-01-02T15:04:05Z"`) || len(got.Parents) > maxParents {
			t.Errorf("time %s, %v; %d parents", text, err, len(got.Parents))
		}
	})
}

// Trailers stand at the end: a long message does not hide them.
func TestTrailersOfALongMessage(t *testing.T) {
	long := "tree " + emptyTree + "\n\nsubject\n\n" + strings.Repeat("a line of the body\n", 50_000) + "\nFairlead-Allow-Prune: 3\n"
	got := toSchema(parsed(t, long))
	if v := follow.TrailerValues(got.Message, schema.TrailerAllowPrune); !slices.Equal(v, []string{"3"}) || len(got.Message) > 2*maxMessage {
		t.Errorf("%q in %d bytes", v, len(got.Message))
	}
}

// A date that no clock can tell is told of, and breaks nothing: not the history
// that it stands in, and no tree.
func TestMisdatedHistory(t *testing.T) {
	w := newWork(t)
	var commits []schema.Commit
	for i, date := range []string{"1700000000", "253402300800", "9223372036854775807", "1700000001", "1"} {
		w.env = []string{"GIT_COMMITTER_DATE=@" + date + " +0000"}
		w.write("a.yaml", fmt.Sprint(i))
		w.commit(fmt.Sprintf("c%d\n\nFairlead-Allow-Prune: %d", i, i+1))
		commits = append(commits, schema.Commit(w.git("rev-parse", "HEAD")))
	}
	w.env = nil
	repo := open(t, w.bare())
	for i, a := range commits {
		for j, b := range commits {
			if got, err := repo.IsAncestor(a, b); err != nil || got != (i <= j) {
				t.Errorf("IsAncestor(%d, %d) = %v, %v", i, j, got, err)
			}
		}
		faults := tree(t, repo, a, ".").Faults
		if misdated := i == 1 || i == 2; misdated != (len(faults) == 1) || faults.HasErrors() {
			t.Errorf("commit %d: %v", i, faults)
		}
	}
	seen, err := follow.Ways(repo, follow.Known{Applied: commits[0], Desired: commits[0]}, commits[4])
	if o := follow.Overrides(seen); err != nil || o.AllowPrune != 5 {
		t.Errorf("%+v, %v", o, err)
	}
}
