package progress

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

// lookMargin is how long after its interval a source has surely been looked at.
const lookMargin = 10 * time.Second

// Before are the lines that are new of a commit of which the source has no revision
// yet, named as NotThere has it, "" for the first one it will have: it may be pushed and
// not fetched, and may never come.
func (s *Story) Before(src *schema.Source, named string, now time.Time) (lines []string) {
	s.begin(now)
	commit, _ := src.SourceName().CommitIn(named)
	waits := awaitedCommit(src, commit)
	lines = s.once(lines, line("waiting for %s: %s", waits, lookedAt(src)), waits)
	if cond := meta.FindStatusCondition(src.Status.Conditions, schema.ConditionFetched); cond != nil && cond.Status != metav1.ConditionTrue {
		lines = s.once(lines, line("source %s cannot be read: %s: %s", src.Name, cond.Reason, cond.Message), cond.Message)
	}
	switch at := src.Status.Observed.Commit; {
	case commit != "" && strings.HasPrefix(string(at), string(commit)):
		read := line("%s is fetched and is being judged", waits)
		lines = s.once(lines, read, read)
	case commit != "" && now.Sub(s.began) >= interval(src)+lookMargin:
		missing := line("%s was looked at meanwhile and is at %s: %s is not on it, or a newer commit came before it was judged", branch(src), orNone(at), waits)
		lines = s.once(lines, missing, missing)
	}
	if len(lines) == 0 && now.Sub(s.spoke) >= WaitingEvery {
		lines = []string{line("still waiting for %s after %s: %s", waits, now.Sub(s.began).Round(time.Second), lookedAt(src))}
	}
	if len(lines) > 0 {
		s.spoke = now
	}
	return lines
}

// NotThere says in one line that a source has no revision of a commit, which is named by
// the beginning of its hash or by its Revision's name.
func NotThere(src *schema.Source, named string) string {
	if named == "" {
		return line("source %s has no commit yet: push one to its branch %s", src.Name, src.Spec.Branch)
	}
	return line("source %s has no revision %q: %s is at %s; see `fairlead history`", src.Name, named, branch(src), orNone(src.Status.Observed.Commit))
}

func awaitedCommit(src *schema.Source, commit schema.Commit) string {
	if commit == "" {
		return "the first commit of source " + src.Name
	}
	return "commit " + commit.Short()
}

// lookedAt says where a source's branch is and when it is looked at again.
func lookedAt(src *schema.Source) string {
	told := branch(src) + " is at " + orNone(src.Status.Observed.Commit)
	if src.Spec.Embedded {
		return told + ", push it there"
	}
	return told + fmt.Sprintf(" and is looked at every %s", interval(src))
}

func interval(src *schema.Source) time.Duration {
	return schema.DefaultSourceSpec(src.Spec).Interval.Duration
}

func branch(src *schema.Source) string { return "branch " + src.Spec.Branch + " of source " + src.Name }

func orNone(commit schema.Commit) string {
	if commit == "" {
		return "no commit"
	}
	return commit.Short()
}
