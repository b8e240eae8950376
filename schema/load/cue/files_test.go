package cue

import (
	"encoding/json"
	"path"
	"testing"

	"fairlead/schema/load/child"
)

// What comes to a child makes a file system that holds to its own rules.
func FuzzFiles(f *testing.F) {
	f.Add([]byte(`{"version": 1, "limits": {"memory": 1}, "files": [{"path": "a/b.cue", "text": "YTogMQ=="}], "directories": ["a"]}`))
	f.Add([]byte(`{"version": 1, "files": [{"path": "../x.cue"}, {"path": "/etc/x.cue"}, {"path": "a//b.cue"}, {"path": ""}, {"path": "a.cue"}, {"path": "a.cue"}]}`))
	f.Add([]byte(`{"version": 2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var req child.Request
		if err := json.Unmarshal(text, &req); err != nil {
			return
		}
		files := newFiles(req.Files)
		for name := range files.overlay {
			if path.Clean(name) != name || fromCUE(name) == name {
				t.Errorf("%q is not below %s", name, treeRoot)
			}
		}
		for dir := range files.names {
			root := files.moduleRoot(dir)
			if _, ok := files.texts[path.Join(root, moduleFile)]; !ok && root != dir {
				t.Errorf("module root %q of %q has no module file", root, dir)
			}
			for _, file := range files.manifests(dir) {
				if path.Dir(file) != dir {
					t.Errorf("%q in %q", file, dir)
				}
			}
		}
	})
}
