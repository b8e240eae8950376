package progress

import "strings"

// briefReason is how long a reason may be, in bytes, to be told again: "workloads up to
// date and available: 12" is clearer than a hint at it.
const briefReason = 60

// asAbove stands for a reason that was told.
const asAbove = "as above"

// Once tells each long reason once: what repeats one, or quotes it, refers to it. The
// zero Once has told nothing.
type Once struct{ told []string }

// Tell is the text without what was told before. A line of a log stays as it is.
func (o *Once) Tell(text string) string {
	if strings.HasPrefix(text, LogMark) {
		return text
	}
	whole := text
	for _, told := range o.told {
		if len(text) > briefReason && strings.Contains(told, text) {
			return asAbove
		}
		text = strings.ReplaceAll(text, told, asAbove)
	}
	// What follows a colon is a reason that others quote without what stands before it.
	for rest, more := whole, true; more && len(rest) > briefReason; _, rest, more = strings.Cut(rest, ": ") {
		o.told = append(o.told, rest)
	}
	return text
}
