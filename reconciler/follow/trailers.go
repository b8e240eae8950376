package follow

import (
	"strconv"
	"strings"

	"fairlead/schema"
)

// minRewindName is how much of a commit's name a rewind trailer must give.
const minRewindName = 7

// AllowsRewind reports whether a commit's message says that old is left.
func AllowsRewind(message string, old schema.Commit) bool {
	for _, v := range TrailerValues(message, schema.TrailerAllowRewind) {
		if len(v) >= minRewindName && strings.HasPrefix(string(old), strings.ToLower(v)) {
			return true
		}
	}
	return false
}

// Overrides are the guards lifted on the way to the tip: a prune by any commit since
// the applied one, a retry by any since the one judged last. Without such a commit,
// or where history was rewritten, the tip's own count.
func Overrides(s Seen) schema.Overrides {
	var out schema.Overrides
	for _, c := range s.Applied.since(s.Commit) {
		for _, v := range TrailerValues(c.Message, schema.TrailerAllowPrune) {
			if n, err := strconv.Atoi(v); err == nil {
				out.AllowPrune = max(out.AllowPrune, n)
			}
		}
	}
	for _, c := range s.Desired.since(s.Commit) {
		for _, v := range TrailerValues(c.Message, schema.TrailerRetry) {
			out.Retry = v
		}
	}
	return out
}

// Trailer is one "Key: value" line at the end of a commit message.
type Trailer struct {
	Key   string
	Value string // continuation lines joined by a space
}

// Trailers are those of a commit message, in order, by git's rules
// (git-interpret-trailers(1)) with Fairlead-* as configured keys: the last
// paragraph, unless it is the only one, when it is all trailers, or has one
// that git or Fairlead knows and at least a quarter of its lines are trailers.
func Trailers(message string) []Trailer {
	lines := lastParagraph(message)
	var out []Trailer
	known, other := false, 0
	inTrailer := false
	for _, line := range lines {
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			switch {
			case inTrailer:
				last := &out[len(out)-1]
				last.Value = strings.TrimSpace(last.Value + " " + strings.TrimSpace(line))
			default:
				other++
			}
			continue
		}
		t, ok := parseTrailer(line)
		inTrailer = ok
		switch {
		case ok:
			out = append(out, t)
			known = known || isKnown(t.Key)
		case strings.HasPrefix(line, "(cherry picked from commit "):
			known = true
		default:
			other++
		}
	}
	if other > 0 && (!known || len(out)*3 < other) {
		return nil
	}
	return out
}

// TrailerValues are the values of one key, which is compared without case.
func TrailerValues(message, key string) []string {
	var out []string
	for _, t := range Trailers(message) {
		if strings.EqualFold(t.Key, key) {
			out = append(out, t.Value)
		}
	}
	return out
}

func isKnown(key string) bool {
	lower := strings.ToLower(key)
	return lower == "signed-off-by" || strings.HasPrefix(lower, "fairlead-")
}

// lastParagraph is nil when there is no other: a subject has no trailers.
func lastParagraph(message string) []string {
	lines := strings.Split(strings.TrimRight(message, " \t\r\n"), "\n")
	for i := len(lines) - 1; i > 0; i-- {
		if strings.TrimSpace(lines[i]) == "" {
			return lines[i+1:]
		}
	}
	return nil
}

func parseTrailer(line string) (Trailer, bool) {
	key, value, ok := strings.Cut(line, ":")
	key = strings.TrimRight(key, " \t")
	if !ok || key == "" {
		return Trailer{}, false
	}
	for _, c := range key {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && !(c >= '0' && c <= '9') && c != '-' {
			return Trailer{}, false
		}
	}
	return Trailer{Key: key, Value: strings.TrimSpace(value)}, true
}
