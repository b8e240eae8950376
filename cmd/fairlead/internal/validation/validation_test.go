package validation

import (
	"testing"

	"fairlead/schema"
)

func TestWhatAPathComesTo(t *testing.T) {
	wrong := schema.Diagnostic{Position: schema.Position{Path: "a.yaml", Line: 1}, Severity: schema.Error, Message: "is wrong"}
	odd := schema.Diagnostic{Position: schema.Position{Path: "a.yaml", Line: 2}, Severity: schema.Warning, Message: "is odd"}
	for name, c := range map[string]struct {
		n     Checked
		told  schema.Diagnostics
		valid bool
		text  string
	}{
		"valid":               {Checked{1, 2, 1}, nil, true, "2 objects in 1 file, valid\n"},
		"warned of":           {Checked{2, 1, 2}, schema.Diagnostics{odd}, true, odd.String() + "\n1 object in 2 files, valid, 1 warning\n"},
		"wrong":               {Checked{1, 1, 1}, schema.Diagnostics{wrong}, false, wrong.String() + "\n1 error in 1 file\n"},
		"both":                {Checked{1, 1, 1}, schema.Diagnostics{wrong, odd}, false, wrong.String() + "\n" + odd.String() + "\n1 error, 1 warning in 1 file\n"},
		"nothing is read":     {Checked{}, nil, false, "here: there are no manifests here, so nothing was checked (manifests are the files named .yaml, .yml, .json and .cue that are not left out)\n1 error in 0 files\n"},
		"read beside it only": {Checked{Files: 3, Objects: 3}, nil, false, "here: there are no manifests here, so nothing was checked (manifests are the files named .yaml, .yml, .json and .cue that are not left out)\n1 error in 3 files\n"},
		"no objects":          {Checked{Files: 1, Below: 1}, nil, true, "here: warning: there are no objects in the manifests here\n0 objects in 1 file, valid, 1 warning\n"},
	} {
		r := Of("here", c.n, c.told)
		if r.Valid != c.valid || r.Text() != c.text {
			t.Errorf("%s: valid: %v, want %v\n%s\nwant\n%s", name, r.Valid, c.valid, r.Text(), c.text)
		}
	}
}
