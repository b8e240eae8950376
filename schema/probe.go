package schema

import (
	"fmt"
	"strings"
)

const (
	probeFailed = " probe failed"
	timesInARow = " times: "
)

// ProbeFailure is what is said of a probe that failed: "Readiness probe failed: ..."
// of one try, with times "liveness probe failed 3 times: ..." of what that came to.
func ProbeFailure(kind string, times int32, answer string) string {
	if times > 0 {
		return fmt.Sprintf("%s%s %d%s%s", strings.ToLower(kind), probeFailed, times, timesInARow, answer)
	}
	return kind + probeFailed + ": " + answer
}

// ReadProbeFailure is the probe, in lower case, and the answer that a text of
// ProbeFailure tells of; false for any other text.
func ReadProbeFailure(text string) (kind, answer string, ok bool) {
	kind, rest, ok := strings.Cut(text, probeFailed)
	if !ok || strings.ContainsAny(kind, " :") {
		return "", "", false
	}
	if answer, ok = strings.CutPrefix(rest, ": "); ok {
		return strings.ToLower(kind), answer, true
	}
	_, answer, ok = strings.Cut(rest, timesInARow)
	return strings.ToLower(kind), answer, ok
}
