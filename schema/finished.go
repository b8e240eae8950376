package schema

import (
	"slices"
	"strings"
)

// FinishedRecord says of an object that it did its work.
type FinishedRecord struct {
	Object string `json:"object"` // its key, "Job shop/migrate"
	Spec   string `json:"spec"`   // what it was asked for, as SpecHash has it
}

// MaxFinished bounds SourceStatus.Finished: at some 150 bytes each they take a third of
// what an object may have.
const MaxFinished = 3_000

// Remember is the records, which are sorted, with one more in the place of an earlier
// one of the same object; false where there are too many.
func Remember(have []FinishedRecord, r FinishedRecord) (out []FinishedRecord, ok bool) {
	at, found := findFinished(have, r.Object)
	switch out = slices.Clone(have); {
	case found:
		out[at] = r
	default:
		out = slices.Insert(out, at, r)
	}
	return out, len(out) <= MaxFinished
}

// Finished is the record of an object among sorted ones.
func Finished(records []FinishedRecord, object string) (r FinishedRecord, ok bool) {
	at, ok := findFinished(records, object)
	if ok {
		r = records[at]
	}
	return r, ok
}

func findFinished(records []FinishedRecord, object string) (at int, found bool) {
	return slices.BinarySearchFunc(records, object, func(r FinishedRecord, object string) int { return strings.Compare(r.Object, object) })
}
