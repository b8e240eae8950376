package sim_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"fairlead/cmd/fairlead/internal/sim"
)

var (
	seeds = flag.Int("seeds", 10, "how many seeds to run")
	first = flag.Uint64("first", 1, "the first of them")
	all   = flag.Bool("all", false, "go on after a failure, and name it only")
	brief = flag.Bool("brief", false, "name a failure only")
	twice = flag.Bool("twice", false, "run every seed twice, and want the same twice")
	one   = flag.Uint64("seed", 0, "run this one alone and tell every event")
)

// shortenRuns bounds the search for the faults that a failure needs.
const shortenRuns = 40

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func fail(t *testing.T, r sim.Result) {
	t.Helper()
	o, short := sim.Shorten(sim.Options{Seed: r.Seed}, r, shortenRuns)
	revision, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		revision = []byte("unknown")
	}
	t.Errorf("at revision %s%s\nagain: just sim-seed %d", revision, short.Tell(o.Skip), r.Seed)
}

// Whatever goes wrong, the invariants hold, and once nothing does, the cluster
// comes to be as Git asks.
func TestSeeds(t *testing.T) {
	if *one != 0 {
		r := sim.Run(sim.Options{Seed: *one, Out: os.Stdout})
		if r.Violation != nil {
			fail(t, r)
		}
		return
	}
	var next atomic.Uint64
	next.Store(*first)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for seed := next.Add(1) - 1; seed < *first+uint64(*seeds) && (*all || !t.Failed()); seed = next.Add(1) - 1 {
				r := sim.Run(sim.Options{Seed: seed})
				if *twice && r.Violation == nil && sim.Run(sim.Options{Seed: seed}).Hash != r.Hash {
					r.Violation = &sim.Violation{ID: "replay", Detail: "it ran otherwise the second time"}
				}
				switch {
				case r.Violation == nil:
				case *all, *brief:
					t.Errorf("seed %d: %v", seed, r.Violation)
				default:
					fail(t, r)
				}
			}
		})
	}
	workers.Wait()
	t.Logf("%d seeds from %d", *seeds, *first)
}

// A seed replays exactly.
func TestReplay(t *testing.T) {
	for seed := range uint64(3) {
		a, b := sim.Run(sim.Options{Seed: 1000 + seed}), sim.Run(sim.Options{Seed: 1000 + seed})
		if a.Hash == b.Hash {
			continue
		}
		for i := range min(len(a.Events), len(b.Events)) {
			if a.Events[i] != b.Events[i] {
				t.Fatalf("seed %d: two runs differ, after %d events told at\n%s\n%s", 1000+seed, i, a.Events[i], b.Events[i])
			}
		}
		t.Fatalf("seed %d: two runs differ", 1000+seed)
	}
}

func TestScenarios(t *testing.T) {
	paths, err := filepath.Glob("../../../../testdata/sim/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Parallel()
			s, err := sim.ReadScript(path)
			if err != nil {
				t.Fatal(err)
			}
			if r := sim.Run(sim.Options{Seed: 1, Script: s}); r.Violation != nil {
				t.Errorf("%s", fmt.Sprint(r.Tell(nil)))
			}
		})
	}
}
