// Package chance is where tests have their chance from: fixed seeds, so that a test
// that passed passes again. Other seeds are for exploring, which is scripts/fuzz's
// and not the gate's: it gives every test that calls Check one of its own.
package chance

import (
	"flag"
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// Seed is what tests draw from unless they are given another.
const Seed = 1

// Check is rapid.Check from Seed, or from what -rapid.seed says.
func Check(tb testing.TB, prop func(*rapid.T)) {
	tb.Helper()
	fixSeed()
	rapid.Check(tb, prop)
}

// fixSeed is done once: rapid reads the flag without a lock.
var fixSeed = sync.OnceFunc(func() {
	f := flag.Lookup("rapid.seed")
	if f.Value.String() != "0" {
		return
	}
	if err := f.Value.Set("1"); err != nil {
		panic(err)
	}
})

// Rand is a source of Seed.
func Rand() *rand.Rand { return rand.New(rand.NewPCG(Seed, 0)) }

// Bytes are n bytes that do not compress. Equal whats give equal bytes, and others
// different ones.
func Bytes(n int, what uint64) []byte {
	source := rand.New(rand.NewPCG(Seed, what))
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(source.Uint32())
	}
	return out
}
