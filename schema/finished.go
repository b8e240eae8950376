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
	// Sized is Spec's hash without how much of the work there is, where that may change in
	// place; empty where it may not. What an earlier version remembers has it in Spec, where
	// the size was one that may change.
	Sized string `json:"sized,omitempty"`
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
	sized, _ := sizedWork(obj)
	return FinishedRecord{Object: KeyOf(obj).String(), Spec: Hash(writtenWork(obj)), Sized: sized, Whole: Hash(workOf(obj))}
}

// sizedWork is the hash of an object's work without its size, empty where that may not
// change, and whether any other size may change to its own.
func sizedWork(obj Object) (hash string, mayCome bool) {
	size := rowOf(obj).Work.Do.Size
	if size == nil {
		return "", false
	}
	spec := writtenWork(obj)
	has, mayCome := size(obj, spec)
	if !has {
		return "", false
	}
	return Hash(spec), mayCome
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

// Finished is the record among sorted ones of the work that an object asks for: of several
// one of what is asked for now, and rather of the same size than of one that may have
// changed to it.
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
	best := 0
	for _, had := range same {
		// What an earlier version remembers of work that is done has the hashes of all of it.
		isSame := had.Whole == failed.Whole || had.Spec == failed.Spec || !had.Failed && (had.Whole == done.Whole || had.Spec == done.Spec)
		fits := 0
		switch {
		case isSame:
			fits = 2
		case had.resized(obj, done):
			fits = 1
		default:
			continue
		}
		if !had.Left {
			fits += 2
		}
		if fits > best {
			r, best = had, fits
		}
	}
	return r, best > 0
}

// resized reports whether an object, whose work is now, asks for work that is done in
// another size, which may have changed in place to its own.
func (r FinishedRecord) resized(obj Object, now FinishedRecord) bool {
	if r.Failed || now.Sized == "" || r.Spec == now.Spec {
		return false
	}
	_, mayCome := sizedWork(obj)
	return r.Sized == now.Sized && mayCome || r.Sized == "" && r.Spec == now.Sized
}

// Resized is the record of the work that an object asks for, where r is of the same work
// in another size; false where it is of what the object asks for.
func (r FinishedRecord) Resized(obj Object) (now FinishedRecord, ok bool) {
	now = FinishedRecordOf(obj)
	return now, r.resized(obj, now)
}

// MayBeReplaced reports whether an object may ask to be replaced where it cannot change:
// one whose work has an end.
func MayBeReplaced(obj Object) bool { return rowOf(obj).Work.Do.Same != nil }

// Replaceable reports whether an object asks for that.
func Replaceable(obj Object) bool {
	return MayBeReplaced(obj) && obj.GetAnnotations()[AnnotationReplace] == "true"
}

// workOf is what an object whose work has an end is asked to do.
func workOf(obj Object) map[string]any { return onlyWork(obj, specOf(obj)) }

// writtenWork is the same without what Default fills in.
func writtenWork(obj Object) map[string]any { return onlyWork(obj, asWritten(obj)) }

func onlyWork(obj Object, spec map[string]any) map[string]any {
	if same := rowOf(obj).Work.Do.Same; same != nil {
		same(obj, spec)
	}
	return spec
}

// String identifies the work.
func (r FinishedRecord) String() string { return r.Object + " " + r.Spec }

func (r FinishedRecord) compare(o FinishedRecord) int {
	return cmp.Or(strings.Compare(r.Object, o.Object), strings.Compare(r.Spec, o.Spec))
}
