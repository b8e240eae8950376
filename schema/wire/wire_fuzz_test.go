package wire

import (
	"bytes"
	"encoding/json"
	"testing"
)

// A frame is applied whole or refused, and what it makes is what its hash says.
func FuzzFrame(f *testing.F) {
	first := Items{"node": json.RawMessage(`{"node":"n1"}`), "services/a/b": json.RawMessage(`{"clusterIP":"10.96.0.7"}`)}
	next := Items{"node": first["node"], "services/a/c": json.RawMessage(`{}`)}
	for _, frame := range []Frame{Delta(nil, first, 0, 1), Delta(first, next, 1, 2), {Recover: true}, {Logs: []LogRequest{{ID: "1"}}}} {
		data, err := json.Marshal(frame)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"version":2,"since":1,"hash":"","delete":["node","node"],"set":{"":null}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var frame Frame
		if json.Unmarshal(data, &frame) != nil {
			return
		}
		before := first.Hash()
		after, err := first.Apply(frame)
		if first.Hash() != before {
			t.Fatal("the frame changed what it was applied to")
		}
		if err == nil && after.Hash() != frame.Hash {
			t.Errorf("hash %s, the frame says %s", after.Hash(), frame.Hash)
		}
		if err == nil { // the same change made anew is the same change
			if again, err := first.Apply(Delta(first, after, 1, frame.Version)); err != nil || again.Hash() != after.Hash() {
				t.Errorf("made anew: %v", err)
			}
		}
	})
}

// What is kept for a master that lost its store has no Secret and survives its
// own encoding.
func FuzzKept(f *testing.F) {
	f.Add([]byte(`{"version":3,"items":{"records/Source//main":"c2VhbGVk","pods/u":{"pod":{}},"seals/u":"eA==","secrets/a/b":{"k":"eA=="}}}`))
	f.Add([]byte(`{"items":{"pods":null,"records/":1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var kept Kept
		if json.Unmarshal(data, &kept) != nil {
			return
		}
		kept.Items = kept.Items.Keepsakes()
		for key := range kept.Items {
			if key == "secrets" || bytes.HasPrefix([]byte(key), []byte("secrets/")) {
				t.Errorf("%q is kept", key)
			}
		}
		once, err := json.Marshal(kept)
		if err != nil {
			t.Fatal(err)
		}
		var again Kept
		if err := json.Unmarshal(once, &again); err != nil {
			t.Fatal(err)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s, then %s, %v", once, twice, err)
		}
	})
}

// A token is refused, without being repeated, or is what it says.
func FuzzToken(f *testing.F) {
	f.Add("0123456789ab.0123456789abcdef0123456789abcdef.0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	f.Add("0123456789AB..\n")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err == nil && token.String() != text {
			t.Errorf("%q is read as %q", text, token)
		}
		if err != nil && len(text) > 20 && bytes.Contains([]byte(err.Error()), []byte(text)) {
			t.Error("the error repeats the secret")
		}
	})
}
