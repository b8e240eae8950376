package control

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// spans is a set of numbers as its unbroken runs, in order: the completions of a Job
// and the pods that it has counted, thousands in a few bytes. The zero spans is empty.
type spans []span

// span is a run of numbers, both included.
type span struct{ first, last int }

// parseSpans reads what String writes, "1,3-5,7". What is no number is left out.
func parseSpans(text string) (s spans) {
	for part := range strings.SplitSeq(text, ",") {
		low, high, ranged := strings.Cut(part, "-")
		first, err := strconv.Atoi(low)
		last := first
		if err == nil && ranged {
			last, err = strconv.Atoi(high)
		}
		if err == nil && last >= first {
			s = s.with(span{first, last})
		}
	}
	return s
}

// spansOf is the set of these numbers, which it sorts.
func spansOf(numbers []int) (s spans) {
	slices.Sort(numbers)
	for _, n := range numbers {
		s = s.add(n)
	}
	return s
}

// String is Kubernetes' form: three numbers and more in a row are told by the first
// and the last.
func (s spans) String() string {
	var out []string
	for _, r := range s {
		switch r.last - r.first {
		case 0:
			out = append(out, strconv.Itoa(r.first))
		case 1:
			out = append(out, fmt.Sprintf("%d,%d", r.first, r.last))
		default:
			out = append(out, fmt.Sprintf("%d-%d", r.first, r.last))
		}
	}
	return strings.Join(out, ",")
}

// at is the place of the first run that ends at n or later.
func (s spans) at(n int) int {
	i, _ := slices.BinarySearchFunc(s, n, func(r span, n int) int { return r.last - n })
	return i
}

func (s spans) has(n int) bool {
	i := s.at(n)
	return i < len(s) && s[i].first <= n
}

// add is the set with n in it; s is not to be used any more.
func (s spans) add(n int) spans { return s.with(span{n, n}) }

// with joins a run with those that it meets or touches.
func (s spans) with(r span) spans {
	from := s.at(r.first - 1)
	to := from
	for to < len(s) && s[to].first <= r.last+1 {
		r.first, r.last = min(r.first, s[to].first), max(r.last, s[to].last)
		to++
	}
	return slices.Replace(s, from, to, r)
}

// below is the part of the set under n.
func (s spans) below(n int) (out spans) {
	for _, r := range s {
		if r.first < n {
			out = append(out, span{r.first, min(r.last, n-1)})
		}
	}
	return out
}

func (s spans) count() (n int) {
	for _, r := range s {
		n += r.last - r.first + 1
	}
	return n
}

// common is how many numbers two sets share.
func (s spans) common(o spans) (n int) {
	for i, j := 0, 0; i < len(s) && j < len(o); {
		n += max(0, min(s[i].last, o[j].last)-max(s[i].first, o[j].first)+1)
		if s[i].last < o[j].last {
			i++
		} else {
			j++
		}
	}
	return n
}

// free is the first number from n on that is in none of the sets.
func free(n int, sets ...spans) int {
	for moved := true; moved; {
		moved = false
		for _, s := range sets {
			if i := s.at(n); i < len(s) && s[i].first <= n {
				n, moved = s[i].last+1, true
			}
		}
	}
	return n
}
