package schema

import (
	"cmp"
	"slices"
	"strings"
)

// FinishedRecord says of an object that it did its work, or failed for good.
type FinishedRecord struct {
	Object string `json:"object"` // its key, "Job shop/migrate"
	// Spec is the hash of its work: of what it was asked for, without what may change while
	// the work stays the same, and without what Default fills in: a later version fills in
	// more, and the work is the same. Of one that failed it is the hash of all that it was
	// asked for.
	Spec string `json:"spec"`
	// Whole is the hash of its work with what was filled in when it was done: where it is
	// the same nothing else needs to be compared.
	Whole string `json:"whole"`
	// Failed is set where it failed: any change of what it is asked for is another try.
	Failed bool `json:"failed,omitempty"`
	// Left is set where the tree that is applied does not ask for it: the one before may
	// be gone back to.
	Left bool `json:"left,omitempty"`
	// Back is set beside Left where that tree was gone back to: whoever took the object
	// out has failed, and the commit that fixes it may ask for the work again.
	Back bool `json:"back,omitempty"`
}

// FinishedRecordOf says of an object that it did its work.
func FinishedRecordOf(obj Object) FinishedRecord {
	return FinishedRecord{Object: KeyOf(obj).String(), Spec: Hash(writtenWork(obj)), Whole: Hash(workOf(obj))}
}

// FailedRecordOf says of an object that it was at its work and failed.
func FailedRecordOf(obj Object) FinishedRecord {
	return FinishedRecord{Object: KeyOf(obj).String(), Spec: Hash(asWritten(obj)), Whole: Hash(specOf(obj)), Failed: true}
}

// MaxFinished bounds SourceStatus.Finished: at some 150 bytes each they take a third of
// what an object may have.
const MaxFinished = 3_000

// Remember is the records, which are sorted, with one more in the place of the one of
// the same work; false where there are too many.
func Remember(have []FinishedRecord, r FinishedRecord) (out []FinishedRecord, ok bool) {
	at, found := slices.BinarySearchFunc(have, r, FinishedRecord.compare)
	switch out = slices.Clone(have); {
	case found:
		out[at] = r
	default:
		out = slices.Insert(out, at, r)
	}
	return out, len(out) <= MaxFinished
}

// Finished is the record among sorted ones of the work that an object asks for.
func Finished(records []FinishedRecord, obj Object) (r FinishedRecord, ok bool) {
	name := KeyOf(obj).String()
	at, _ := slices.BinarySearchFunc(records, FinishedRecord{Object: name}, FinishedRecord.compare)
	same := records[at:]
	for n := range same {
		if same[n].Object != name {
			same = same[:n]
			break
		}
	}
	if len(same) == 0 {
		return r, false // most objects: nothing is hashed
	}
	done, failed := FinishedRecordOf(obj), FailedRecordOf(obj)
	at = slices.IndexFunc(same, func(r FinishedRecord) bool {
		// What an earlier version remembers of work that is done has the hashes of all of it.
		return r.Whole == failed.Whole || r.Spec == failed.Spec || !r.Failed && (r.Whole == done.Whole || r.Spec == done.Spec)
	})
	if at < 0 {
		return r, false
	}
	return same[at], true
}

// MayBeReplaced reports whether an object may ask to be replaced where it cannot change:
// one whose work has an end.
func MayBeReplaced(obj Object) bool { return rowOf(obj).Work.Do != nil }

// Replaceable reports whether an object asks for that.
func Replaceable(obj Object) bool {
	return MayBeReplaced(obj) && obj.GetAnnotations()[AnnotationReplace] == "true"
}

// workOf is what an object whose work has an end is asked to do.
func workOf(obj Object) map[string]any { return onlyWork(obj, specOf(obj)) }

// writtenWork is the same without what Default fills in.
func writtenWork(obj Object) map[string]any { return onlyWork(obj, asWritten(obj)) }

func onlyWork(obj Object, spec map[string]any) map[string]any {
	if row := rowOf(obj); row.Work.Do != nil {
		row.Work.Do(obj, spec)
	}
	return spec
}

// String identifies the work.
func (r FinishedRecord) String() string { return r.Object + " " + r.Spec }

func (r FinishedRecord) compare(o FinishedRecord) int {
	return cmp.Or(strings.Compare(r.Object, o.Object), strings.Compare(r.Spec, o.Spec))
}
