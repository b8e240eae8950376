package schema

import "fmt"

// Nearest is the candidate closest to what was written, for "did you mean";
// empty when none is close. Ties go to the first.
func Nearest(written string, candidates []string) string {
	if len(written) > maxNearest {
		return ""
	}
	best, bestDistance := "", len(written)/3+2
	for _, c := range candidates {
		if d := editDistance(written, c, bestDistance); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// maxNearest is how long a text is compared at most, which takes its length
// squared: Kubernetes has no longer name.
const maxNearest = 253

// nearestHint is `did you mean "x"?`, or empty.
func nearestHint(written string, candidates []string) string {
	if best := Nearest(written, candidates); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return ""
}

// editDistance counts insertions, deletions, substitutions and swaps of
// neighbours that turn a into b (optimal string alignment), ignoring the case of
// ASCII letters, which costs nothing but counts as not equal. It gives up at
// limit.
func editDistance(a, b string, limit int) int {
	if diff := len(a) - len(b); diff >= limit || -diff >= limit {
		return limit
	}
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if lower(a[i-1]) == lower(b[j-1]) {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && lower(a[i-1]) == lower(b[j-2]) && lower(a[i-2]) == lower(b[j-1]) {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return prev[len(b)]
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
