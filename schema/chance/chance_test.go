package chance

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestChanceIsTheSameEachTime(t *testing.T) {
	drawn := func() (out []uint64) {
		Check(t, func(t *rapid.T) { out = append(out, rapid.Uint64().Draw(t, "number")) })
		return out
	}
	if a, b := drawn(), drawn(); !slices.Equal(a, b) {
		t.Errorf("drawn %v, then %v", a, b)
	}
	if Rand().Uint64() != Rand().Uint64() {
		t.Error("Rand differs from itself")
	}
	if !bytes.Equal(Bytes(64, 1), Bytes(64, 1)) || bytes.Equal(Bytes(64, 1), Bytes(64, 2)) {
		t.Error("Bytes are not those of their number")
	}
}
