package uplink

import (
	"bufio"
	"bytes"
	"encoding/json"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/schema/wire"
)

// Frame by frame, the work is what joining all its items anew would give, or it
// stays as it was. truthful gives each frame the hash it should have, which a
// fuzzer does not guess.
func FuzzStream(f *testing.F) {
	one, two := wire.Split(work(1, 1)), wire.Split(work(2, 2))
	var stream []byte
	for _, frame := range []wire.Frame{wire.Delta(nil, one, 0, 1), {}, {Recover: true, Logs: []wire.LogRequest{{ID: "l1"}}}, wire.Delta(one, two, 1, 2), wire.Delta(two, one, 2, 3)} {
		line, err := json.Marshal(frame)
		if err != nil {
			f.Fatal(err)
		}
		stream = append(append(stream, line...), '\n')
	}
	f.Add(stream, true)
	f.Add(stream, false)
	f.Add([]byte(`{"version":1,"since":0,"set":{"pods/u":{"pod":null},"pods/v":{"pod":{}},"node":[],"peers/n2":{}}}`+"\n"), true)
	f.Add([]byte(`{"version":1,"set":{"services/a/b":{},"secrets/":{"k":"eA=="}}}`+"\n"+`{"version":2,"since":1,"delete":["services/a/b","services/a/b"],"set":{"services/a/b":{"clusterIP":""}}}`+"\n"), true)
	f.Fuzz(func(t *testing.T, stream []byte, truthful bool) {
		v, err := NewView(0, nil)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReaderSize(bytes.NewReader(stream), 16)
		for {
			line, err := readLine(lines)
			var frame wire.Frame
			if err != nil || json.Unmarshal(line, &frame) != nil {
				return
			}
			if truthful {
				frame.Hash = hashAfter(v.items, frame)
			}
			before := *v
			u, err := v.Apply(frame)
			if err != nil {
				if diff := cmp.Diff(before.items, v.items); diff != "" || v.version != before.version || v.work != before.work {
					t.Fatalf("refused (%v), and yet: %s", err, diff)
				}
				continue
			}
			if v.items.Hash() != frame.Hash || u.Version != frame.Version {
				t.Fatalf("hash %s, the frame says %s", v.items.Hash(), frame.Hash)
			}
			want, err := wire.Join(v.items)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := json.Marshal(u.Work)
			if whole, _ := json.Marshal(want); !bytes.Equal(got, whole) {
				t.Fatalf("work\n%s\nof the items\n%s", got, whole)
			}
		}
	})
}

func hashAfter(items wire.Items, f wire.Frame) string {
	out := wire.Items{}
	if f.Since != 0 && items != nil {
		out = maps.Clone(items)
	}
	for _, key := range f.Delete {
		delete(out, key)
	}
	maps.Copy(out, f.Set)
	return out.Hash()
}
