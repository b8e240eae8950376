package gitsource

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"fairlead/reconciler/follow"
	"fairlead/schema"
)

func troublef(reason follow.Reason, format string, args ...any) *follow.Problem {
	return &follow.Problem{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// signs are what git, curl and ssh say, looked for in this order; they speak
// English under LC_ALL=C.
var signs = []struct {
	reason follow.Reason
	words  []string
}{
	{follow.BranchGone, []string{"couldn't find remote ref"}},
	{follow.TooLarge, []string{
		"died of signal 25", "file too large", "file size limit exceeded", "out of memory", "cannot allocate memory", "died of signal 24", "cpu time limit exceeded",
	}},
	{follow.NotStored, []string{"no space left on device", "read-only file system", "disk quota exceeded", "unable to create temporary file", "cannot lock ref"}},
	{follow.Unauthorized, []string{
		"authentication failed", "could not read username", "could not read password", "permission denied", "host key verification failed",
		"returned error: 401", "returned error: 403", "ssl certificate problem", "server certificate verification failed", "access denied",
		"remote host identification has changed",
	}},
	{follow.Unreachable, []string{
		"could not resolve host", "failed to connect", "couldn't connect", "connection refused", "connection timed out", "operation timed out",
		"no route to host", "network is unreachable", "connection reset", "operation too slow", "returned error: 404", "returned error: 5", "not found",
	}},
}

// classify reads git's complaint. stage is the reason where it says nothing
// better.
func classify(stage follow.Reason, what, complaint string) *follow.Problem {
	reason, ok := sign(complaint)
	if !ok {
		reason = stage
	}
	return troublef(reason, "%s: %s", what, gist(complaint))
}

// sign is the reason that the first of the signs in a text stands for.
func sign(text string) (follow.Reason, bool) {
	lower := strings.ToLower(text)
	for _, s := range signs {
		for _, w := range s.words {
			if strings.Contains(lower, w) {
				return s.reason, true
			}
		}
	}
	return "", false
}

// maxGist bounds how much of a complaint a condition repeats.
const maxGist = 300

var (
	// elapsed times and process ids differ each time: the same trouble must read
	// the same.
	changing = regexp.MustCompile(` after \d+ (ms|milliseconds|seconds)|\(\d+ milliseconds\)|\d+ bytes of body|; \d+ out of \d+ bytes received`)
	noise    = regexp.MustCompile(`^(remote: *|warning: .*|and the repository exists\.|Please make sure.*|hint: .*|@.*|)$`)
)

// gist is git's complaint on one line: what it calls fatal or an error and what
// is a sign; all of it where there is no such line. Sorted, because git's
// processes speak in no fixed order.
func gist(complaint string) string {
	var weighty, rest []string
	for line := range strings.Lines(complaint) {
		line = strings.TrimSpace(changing.ReplaceAllString(schema.Printable(strings.TrimSpace(line)), ""))
		text, isFatal := strings.CutPrefix(line, "fatal: ")
		text, isError := strings.CutPrefix(text, "error: ")
		_, isSign := sign(line)
		switch {
		case noise.MatchString(line):
		case isFatal || isError || isSign:
			weighty = append(weighty, text)
		default:
			rest = append(rest, line)
		}
	}
	if len(weighty) == 0 {
		weighty = rest
	}
	slices.Sort(weighty)
	text := strings.Join(slices.Compact(weighty), "; ")
	if text == "" {
		return "git gave no reason"
	}
	if len(text) > maxGist {
		text = strings.ToValidUTF8(text[:maxGist], "") + "..."
	}
	return text
}
