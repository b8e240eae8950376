package plan

import (
	"bytes"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/settle"
	"fairlead/schema"
)

// Where a field is set by something else than its object's document, and where an object
// is built from elsewhere, both are told in every form.
func TestWhatSetsAFieldIsTold(t *testing.T) {
	patch := schema.Position{Path: "overlays/prod/patch.yaml", Line: 4, Column: 11}
	d := &schema.Desired{
		Object: &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "default"}}, Position: schema.Position{Path: "base/a.yaml", Line: 1, Column: 1},
		Locate: func(field string) schema.Position {
			if field == "data[x]" {
				return patch
			}
			return schema.Position{Path: "base/a.yaml", Line: 5, Column: 6}
		},
		Maker: func(at schema.Position) string {
			if at == patch {
				return "a patch of overlays/prod"
			}
			return ""
		},
		BuiltBy: "overlays/prod",
	}
	var p Plan
	p.tellObjects([]settle.ObjectChange{{
		Action: settle.Update, Key: schema.KeyOf(d.Object), Position: d.Position, Desired: d,
		Fields: []schema.FieldChange{{Path: "data[gone]", From: "1"}, {Path: "data[x]", From: "1", To: "2"}, {Path: "data[y]", From: "1", To: "2"}},
	}})
	var text, markdown bytes.Buffer
	p.writeObjects(&text, "  ")
	p.WriteMarkdown(&markdown)
	for _, want := range []string{
		"base/a.yaml:1:1, built by overlays/prod\n",
		"      data[x]     1 -> 2\n        set by a patch of overlays/prod, overlays/prod/patch.yaml:4:11\n      data[y]     1 -> 2\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, text.String())
		}
	}
	if got := markdown.String(); !strings.Contains(got, "Set by") || strings.Count(got, "a patch of overlays/prod, overlays/prod/patch.yaml:4:11") != 1 {
		t.Errorf("the Markdown:\n%s", got)
	}
	if len(p.Objects[0].SetBy) != 1 || p.Objects[0].By != "built by overlays/prod" {
		t.Errorf("%+v", p.Objects[0])
	}
}
