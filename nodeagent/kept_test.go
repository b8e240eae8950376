package nodeagent_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"fairlead/nodeagent"
	"fairlead/schema/wire"
)

// What is kept for the master is on disk as soon as it comes, although the
// agent does nothing about it.
func TestRecordsAreKeptOnDisk(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "containers: [{name: c, args: [stay]}]")
	r.awaitStatus("uid-1", "Running Ready")
	calls := len(r.runtime.Calls())
	r.master.mu.Lock()
	u := r.master.update()
	u.Version++
	u.Items["records/Source//main"] = json.RawMessage(`"c2VhbGVk"`)
	u.Changed = nodeagent.Families{Records: true}
	r.master.emit(u)
	r.master.mu.Unlock()
	r.await("the record is on disk", func() bool {
		data, err := os.ReadFile(filepath.Join(r.dir, "work"))
		return err == nil && bytes.Contains(data, []byte("c2VhbGVk"))
	})
	if got := r.runtime.Calls(); len(got) != calls {
		t.Errorf("a record made the agent call %v", got[calls:])
	}
	r.master.publish(func(w *wire.Work) { delete(w.Pods, "uid-1") })
	r.await("the pod is gone", func() bool { return r.report("uid-1").UID == "" })
}
