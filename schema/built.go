package schema

import (
	"encoding/json"

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

// Bounds on what an object says of how it was built: it is stored with each.
const (
	maxBuiltSets   = 8
	maxBuiltFields = 8
)

// Add notes what sets a field, as long as there is room; at is where.
func (b *Built) Add(field, by string, at Position) {
	for i := range b.Set {
		if s := &b.Set[i]; s.By == by {
			if len(s.Fields) < maxBuiltFields {
				s.Fields = append(s.Fields, field)
			} else {
				s.More++
			}
			return
		}
	}
	if len(b.Set) < maxBuiltSets {
		at.Column = 0
		b.Set = append(b.Set, BuiltSet{By: by, At: at.String(), Fields: []string{field}})
	}
}

// BuiltOf reads what SetBuilt wrote; the zero Built is of an object that nothing builds.
func BuiltOf(obj metav1.Object) (b Built) {
	text := obj.GetAnnotations()[AnnotationBuilt]
	if text == "" || json.Unmarshal([]byte(text), &b) != nil {
		return Built{}
	}
	return b
}

// SetBuilt notes on obj, which it changes in place, how it was built.
func SetBuilt(obj metav1.Object, b Built) {
	text, err := json.Marshal(b)
	if err != nil {
		panic("what built an object is no JSON: " + err.Error())
	}
	a := obj.GetAnnotations()
	if a == nil {
		a = make(map[string]string, 1)
	}
	a[AnnotationBuilt] = string(text)
	obj.SetAnnotations(a)
}
