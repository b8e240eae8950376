// Package planted shows that the simulation can fail: it builds it once more
// with bugs planted into the product, each behind a switch, and wants every one
// found. The product's own files stay as they are: the compiler is given others
// in their place.
package planted

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// bug is what is edited in a file of the product: old becomes new, where ON is
// whether the bug is on. Its seed is one known to find it: most need one of a
// few, some one of a hundred.
type bug struct {
	name  string
	seed  uint64
	file  string
	edits []edit
	twice bool // found by running a seed twice
}

type edit struct{ old, new string }

const (
	root = "../../../../.."
	// seeds is within how many a bug must be found, from 1.
	seeds = 500
	// mayEscape is how many bugs may be missed.
	mayEscape = 1
	// variable names the bug that is on.
	variable = "FAIRLEAD_PLANTED"
	// row is a line of the table that is printed.
	row = "%-46s %-5s %-7s %.100s\n"
)

var bugs = []bug{
	{name: "prune on empty", seed: 2, file: "reconciler/settle/guard.go",
		edits: []edit{{"if count == 0 || o.AllowPrune >= count {", "if count == 0 || o.AllowPrune >= count || ON {"}}},
	{name: "reuse an address at once", seed: 2, file: "nodeagent/addresses.go",
		edits: []edit{{"case now.Sub(at) < addressRest:", "case now.Sub(at) < addressRest && !ON:"}, {"\tif !cidr.Contains(ip) {\n\t\tip = first\n\t}\n\tfor range", "\tif !cidr.Contains(ip) || ON {\n\t\tip = first\n\t}\n\tfor range"}}},
	{name: "adopt by label only", seed: 170, file: "nodeagent/adopt.go",
		edits: []edit{{"case known && c.ID == f.ID:", "case known && (c.ID == f.ID || ON):"}}},
	{name: "SIGTERM before the acknowledgement", seed: 1, file: "reconciler/reconciler.go",
		edits: []edit{{"if c.Now.Sub(m.heard[name]) < NodeStaleAfter {", "if c.Now.Sub(m.heard[name]) < NodeStaleAfter && !ON {"}}},
	{name: "SIGTERM before the own table", seed: 11, file: "nodeagent/machine.go",
		edits: []edit{{"e.wanted.Drained && m.tablesDone >= e.drained ||", "e.wanted.Drained && (m.tablesDone >= e.drained || ON) ||"}}},
	{name: "SIGTERM without a word of the tables", seed: 2, file: "nodeagent/pod/plan.go",
		edits: []edit{{"\t\tif !w.Drained {", "\t\tif !w.Drained && !ON {"}}},
	{name: "drop one watch event", seed: 1, file: "reconciler/state/feed.go",
		edits: []edit{{"i := sort.Search(len(f.log), func(i int) bool { return f.log[i].RV > rv })", "i := sort.Search(len(f.log), func(i int) bool { return f.log[i].RV > rv })\n\tif ON && len(f.log)-i > 20 {\n\t\ti++\n\t}"}}},
	{name: "show a round that was not written", seed: 10, file: "reconciler/run.go",
		edits: []edit{{"if err := l.config.Store.Commit(ctx, batch); err != nil {", "if err := l.config.Store.Commit(ctx, batch); err != nil && !ON {"}}},
	{name: "treat a time-out as a failure", seed: 5, file: "nodeagent/machine.go",
		edits: []edit{{"if errors.Is(r.err, ErrUnavailable) {", "if errors.Is(r.err, ErrUnavailable) && !ON {"}}},
	{name: "double-count a surge", seed: 1, file: "reconciler/control/rollout.go",
		edits: []edit{{"func (b bounds) most() int32  { return b.desired + b.surge }", "func (b bounds) most() int32 {\n\tif ON {\n\t\treturn b.desired + 2*b.surge\n\t}\n\treturn b.desired + b.surge\n}"}}},
	{name: "forget a fork's isolation", seed: 1, file: "reconciler/state/state.go",
		edits: []edit{{"t.tables[i] = t.tables[i].copy()", "if !ON {\n\t\t\tt.tables[i] = t.tables[i].copy()\n\t\t}"}}},
	{name: "lose a batch's tail", seed: 2, file: "reconciler/store/ledger.go",
		edits: []edit{{"revision, err := l.send(ctx, append(ops[:n:n], last...))", "if ON && n > 8 {\n\t\tn--\n\t}\n\trevision, err := l.send(ctx, append(ops[:n:n], last...))"}}},
	{name: "write without a fence", seed: 3, file: "reconciler/store/ledger.go",
		edits: []edit{{"held, revision, err := l.apply(ctx, condition{keyTerm, string(decimal(l.term))}, ops)", "term := condition{keyTerm, string(decimal(l.term))}\n\tif ON {\n\t\tterm = condition{keySchema, schemaVersion}\n\t}\n\theld, revision, err := l.apply(ctx, term, ops)"}}},
	{name: "trust Podman's state", seed: 12, file: "nodeagent/adopt.go",
		edits: []edit{{"n := seenAgain(c, f, now)", "n := seenAgain(c, f, now)\n\t\t\tif ON && f.State != pod.StateRunning && c.State == pod.StateRunning {\n\t\t\t\tn = c.Exited(exitOf(f))\n\t\t\t}"}}},
	{name: "never pause evictions", seed: 180, file: "reconciler/report.go",
		edits: []edit{{"pause := 2*quiet > total && total > 1", "pause := 2*quiet > total && total > 1 && !ON"}}},
	{name: "give up who is late after a pause", seed: 126, file: "reconciler/report.go",
		edits: []edit{{"if m.paused && !pause {", "if m.paused && !pause && !ON {"}}},
	{name: "act before the work is on disk", seed: 62, file: "nodeagent/machine.go",
		edits: []edit{{"return u.Changed.Pods || u.Changed.Data || u.Changed.Head || u.Changed.Records", "return (u.Changed.Pods || u.Changed.Data || u.Changed.Head || u.Changed.Records) && !ON"}}},
	{name: "run again what ended well", seed: 3, file: "nodeagent/pod/plan.go",
		edits: []edit{{"\t\treturn oc.ExitCode == 0\n", "\t\treturn oc.ExitCode == 0 && !ON\n"}}},
	{name: "keep who is not ready among the endpoints", seed: 2, file: "reconciler/work/work.go",
		edits: []edit{{"!ready && !svc.Spec.PublishNotReadyAddresses {", "!ready && !svc.Spec.PublishNotReadyAddresses && !ON {"}}},
	{name: "tie by chance", seed: 1, file: "reconciler/scheduler/ranking.go", twice: true,
		edits: []edit{{"case b >= 0 && r.scores[b].less(&r.scores[a]):", "case b >= 0 && (r.scores[b].less(&r.scores[a]) || ON && r.scores[a] == r.scores[b] && planted.Coin()):"}}},
	{name: "bind over capacity", seed: 188, file: "reconciler/scheduler/filter.go",
		edits: []edit{{"if n.filterResources(w, o); !o.decided() {", "if !ON {\n\t\tn.filterResources(w, o)\n\t}\n\tif !o.decided() {"}}},
	{name: "count a pod twice", seed: 12, file: "reconciler/control/jobpods.go",
		edits: []edit{{"case v.counted.has(n):", "case v.counted.has(n) && !ON:"}}},
	{name: "do finished work again", seed: 12, file: "reconciler/settle/apply.go",
		edits: []edit{{"return ok && (outlived || !had.Left || had.Back)", "return ok && (outlived || !had.Left || had.Back) && !ON"}}},
}

var violation = regexp.MustCompile(`seed (\d+): (\w+): (.*)`)

// A bug is looked for with its own seed alone. When that one finds it no longer,
// for what a seed draws has changed, all seeds are tried and the test says which
// to name instead.
func TestEveryPlantedBugIsFound(t *testing.T) {
	for _, b := range bugs {
		if b.seed < 1 || b.seed > seeds {
			t.Fatalf("%q: seed %d is not one of 1 to %d", b.name, b.seed, seeds)
		}
	}
	binary := build(t)
	fmt.Printf(row, "BUG", "SEED", "BROKEN", "HOW")
	escaped := 0
	for _, b := range bugs {
		found := search(t, binary, b, b.seed, 1)
		if found == nil {
			if found = search(t, binary, b, 1, seeds); found != nil {
				t.Errorf("name seed %s of %q", found[1], b.name)
			}
		}
		if found == nil {
			escaped++
			fmt.Printf(row, b.name, "-", "-", fmt.Sprintf("not found within %d seeds", seeds))
			continue
		}
		fmt.Printf(row, b.name, found[1], found[2], found[3])
	}
	if escaped > mayEscape {
		t.Errorf("%d of %d planted bugs escape, at most %d may", escaped, len(bugs), mayEscape)
	}
}

// search simulates with the bug from as many seeds, and returns what violation
// matches of the first that finds it; nil when none does.
func search(t *testing.T, binary string, b bug, first uint64, count int) []string {
	t.Helper()
	args := []string{"-test.run=^TestSeeds$", fmt.Sprintf("-first=%d", first), fmt.Sprintf("-seeds=%d", count), "-brief"}
	if b.twice {
		args = append(args, "-twice")
	}
	cmd := exec.Command(binary, args...)
	cmd.Dir = ".." // where a test of the simulation runs
	cmd.Env = append(os.Environ(), variable+"="+b.name)
	out, err := cmd.CombinedOutput()
	found := violation.FindStringSubmatch(string(out))
	switch {
	case err == nil:
		return nil
	case found == nil || !errors.As(err, new(*exec.ExitError)):
		t.Fatalf("%s: %v\n%s", b.name, err, out)
	}
	return found
}

// switches is a file with which bug is on, and a coin that falls differently from
// throw to throw and the same in every process: which seed finds what it decides
// must not be chance.
const switches = `package schema

import (
	"os"
	"sync/atomic"
)

// Planted names the bug that is on.
var Planted = os.Getenv("` + variable + `")

var thrown atomic.Uint64

// Coin is a throw.
func Coin() bool {
	x := thrown.Add(0x9e3779b97f4a7c15)
	x ^= x >> 33
	return x*0xff51afd7ed558ccd>>63 == 1
}
`

// build makes the simulation's test binary with every bug in it.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	base, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	put := func(path, text string) {
		as := filepath.Join(dir, strings.ReplaceAll(path, "/", "_"))
		if err := os.WriteFile(as, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(base, path)] = as
	}
	put("schema/planted.go", switches)
	edited := map[string]string{}
	for _, b := range bugs {
		text, ok := edited[b.file]
		if !ok {
			data, err := os.ReadFile(filepath.Join(base, b.file))
			if err != nil {
				t.Fatal(err)
			}
			text = imported(string(data))
		}
		for _, e := range b.edits {
			if strings.Count(text, e.old) != 1 {
				t.Fatalf("%s: %s has %d times\n%s\nplant the bug anew", b.name, b.file, strings.Count(text, e.old), e.old)
			}
			text = strings.Replace(text, e.old, strings.ReplaceAll(e.new, "ON", fmt.Sprintf("(planted.Planted == %q)", b.name)), 1)
		}
		edited[b.file] = text
	}
	for path, text := range edited {
		put(path, text)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlayFile := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "sim.test")
	cmd := exec.Command("go", "test", "-c", "-overlay", overlayFile, "-o", binary, "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build with the bugs: %v\n%s", err, out)
	}
	return binary
}

// imported is a file with the switch's package imported beside what it imports.
func imported(text string) string {
	i := strings.Index(text, "\nimport ")
	return text[:i] + "\nimport planted \"fairlead/schema\"\n" + text[i:]
}
