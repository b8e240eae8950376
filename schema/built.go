package schema

import (
	"encoding/json"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AnnotationBuilt is on objects that a kustomization builds: what Built says, as JSON.
// What is derived from them does not have it.
const AnnotationBuilt = "fairlead/built"

// Built is what is known of an object that is built from several files: which kustomization
// is built, and what sets the fields that the object's own document does not.
type Built struct {
	By  string     `json:"by"` // its directory
	Set []BuiltSet `json:"set,omitempty"`
}

// BuiltSet is what sets some fields.
type BuiltSet struct {
	By     string   `json:"by"` // "a patch of overlays/prod"
	At     string   `json:"at"` // path:line of the first of them
	Fields []string `json:"fields"`
	More   int      `json:"more,omitempty"` // fields that are not named
}

// Bounds on what an object says of how it was built: it is stored with each, beside what
// the object itself may take.
const (
	maxBuiltSets   = 8
	maxBuiltFields = 8
	// MaxBuiltBytes bounds the annotation: it shows a few long paths, or fifty fields.
	MaxBuiltBytes = 2 << 10
)

// Add notes what sets a field, as long as there is room; at is where.
func (b *Built) Add(field, by string, at Position) {
	for i := range b.Set {
		if s := &b.Set[i]; s.By == by {
			if s.More == 0 && len(s.Fields) < maxBuiltFields && b.fits(len(field)) {
				s.Fields = append(s.Fields, field)
			} else {
				s.More++
			}
			return
		}
	}
	if at.Column = 0; len(b.Set) < maxBuiltSets && b.fits(len(by)+len(at.Path)+len(field)) {
		b.Set = append(b.Set, BuiltSet{By: by, At: at.String(), Fields: []string{field}})
	}
}

// fits reports whether there may be room for so many bytes more. What JSON adds to them
// is for SetBuilt to find.
func (b *Built) fits(more int) bool {
	bytes := len(b.By) + more
	for i := range b.Set {
		s := &b.Set[i]
		bytes += len(s.By) + len(s.At)
		for _, field := range s.Fields {
			bytes += len(field)
		}
	}
	return bytes <= MaxBuiltBytes
}

// shorten leaves out the last that is said; false where nothing is left that could be.
func (b *Built) shorten() bool {
	if len(b.Set) == 0 {
		return false
	}
	last := &b.Set[len(b.Set)-1]
	if len(last.Fields) <= 1 {
		b.Set = b.Set[:len(b.Set)-1]
		return true
	}
	last.Fields = last.Fields[:len(last.Fields)-1]
	last.More++
	return true
}

// BuiltOf reads what SetBuilt wrote, and no more than that writes; the zero Built is of an
// object that nothing builds.
func BuiltOf(obj metav1.Object) (b Built) {
	text := obj.GetAnnotations()[AnnotationBuilt]
	if text == "" || len(text) > MaxBuiltBytes || json.Unmarshal([]byte(text), &b) != nil {
		return Built{}
	}
	b.Set = b.Set[:min(len(b.Set), maxBuiltSets)]
	for i := range b.Set {
		s := &b.Set[i]
		s.Fields = s.Fields[:min(len(s.Fields), maxBuiltFields)]
	}
	return b
}

// SetBuilt notes on obj, which it changes in place, how it was built, as far as there is
// room for it.
func SetBuilt(obj metav1.Object, b Built) {
	b.Set = slices.Clone(b.Set)
	text := b.encoded()
	for len(text) > MaxBuiltBytes && b.shorten() {
		text = b.encoded()
	}
	if len(text) > MaxBuiltBytes {
		return // the directory's name alone is longer
	}
	a := obj.GetAnnotations()
	if a == nil {
		a = make(map[string]string, 1)
	}
	a[AnnotationBuilt] = text
	obj.SetAnnotations(a)
}

func (b *Built) encoded() string {
	text, err := json.Marshal(b)
	if err != nil {
		panic("what built an object is no JSON: " + err.Error())
	}
	return string(text)
}

// ClearBuilt has obj, which it changes in place, say nothing of how it was built.
func ClearBuilt(obj metav1.Object) { delete(obj.GetAnnotations(), AnnotationBuilt) }
