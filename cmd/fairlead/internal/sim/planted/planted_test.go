// Package planted shows that the simulation can fail: it builds it once more
// with bugs planted into the product, each behind a switch, and wants every one
// found. The product's own files stay as they are: the compiler is given others
// in their place.
package planted

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"text/tabwriter"
)

// bug is an edit of the product: old becomes new wherever ON is true.
type bug struct {
	name     string
	file     string
	old, new string
	twice    bool // found by running a seed twice
}

const (
	root = "../../../../.."
	// seeds is within how many a bug must be found.
	seeds = "500"
	// mayEscape is how many bugs may be missed.
	mayEscape = 1
	// variable names the bug that is on.
	variable = "FAIRLEAD_PLANTED"
)

var bugs = []bug{
	{name: "prune on empty", file: "reconciler/settle/guard.go",
		old: "if count == 0 || o.AllowPrune >= count {", new: "if count == 0 || o.AllowPrune >= count || ON {"},
	{name: "reuse an address at once", file: "nodeagent/addresses.go",
		old: "case now.Sub(at) < addressRest:", new: "case now.Sub(at) < addressRest && !ON:"},
	{name: "adopt by label only", file: "nodeagent/adopt.go",
		old: "case known && c.ID == f.ID:", new: "case known && (c.ID == f.ID || ON):"},
	{name: "SIGTERM before the acknowledgement", file: "reconciler/reconciler.go",
		old: "if c.Now.Sub(m.heard[name]) < NodeStaleAfter && m.acked[name] < version {", new: "if c.Now.Sub(m.heard[name]) < NodeStaleAfter && m.acked[name] < version && !ON {"},
	{name: "SIGTERM before the own table", file: "nodeagent/machine.go",
		old: "e.wanted.Drained && m.tablesDone >= e.drained {", new: "e.wanted.Drained && (m.tablesDone >= e.drained || ON) {"},
	{name: "SIGTERM without a word of the tables", file: "nodeagent/pod/plan.go",
		old: "\t\tif !w.Drained {", new: "\t\tif !w.Drained && !ON {"},
	{name: "drop one watch event", file: "reconciler/state/feed.go",
		old: "i := sort.Search(len(f.log), func(i int) bool { return f.log[i].RV > rv })",
		new: "i := sort.Search(len(f.log), func(i int) bool { return f.log[i].RV > rv })\n\tif ON && len(f.log)-i > 20 {\n\t\ti++\n\t}"},
	{name: "treat a time-out as a failure", file: "nodeagent/machine.go",
		old: "if errors.Is(r.err, ErrUnavailable) {", new: "if errors.Is(r.err, ErrUnavailable) && !ON {"},
	{name: "double-count a surge", file: "reconciler/control/rollout.go",
		old: "func (b bounds) most() int32  { return b.desired + b.surge }",
		new: "func (b bounds) most() int32 {\n\tif ON {\n\t\treturn b.desired + 2*b.surge\n\t}\n\treturn b.desired + b.surge\n}"},
	{name: "forget a fork's isolation", file: "reconciler/state/state.go",
		old: "t.tables[i] = t.tables[i].copy()", new: "if !ON {\n\t\t\tt.tables[i] = t.tables[i].copy()\n\t\t}"},
	{name: "lose a batch's tail", file: "reconciler/store/ledger.go",
		old: "batch := ops[:n:n]", new: "batch := ops[:n:n]\n\t\tif ON && n > 8 {\n\t\t\tbatch = ops[: n-1 : n-1]\n\t\t}"},
	{name: "write without a fence", file: "reconciler/store/ledger.go",
		old: "term := condition{keyTerm, string(decimal(l.term))}", new: "term := condition{keyTerm, string(decimal(l.term))}\n\tif ON {\n\t\tterm = condition{keySchema, schemaVersion}\n\t}"},
	{name: "trust Podman's state", file: "nodeagent/adopt.go",
		old: "n := seenAgain(c, f, now)", new: "n := seenAgain(c, f, now)\n\t\t\tif ON && f.State != pod.StateRunning && c.State == pod.StateRunning {\n\t\t\t\tn = c.Exited(exitOf(f))\n\t\t\t}"},
	{name: "never doubt", file: "reconciler/report.go",
		old: "doubt := 2*quiet > total && total > 1", new: "doubt := 2*quiet > total && total > 1 && !ON"},
	{name: "give up who is late after a doubt", file: "reconciler/report.go",
		old: "if m.doubting && !doubt {", new: "if m.doubting && !doubt && !ON {"},
	{name: "act before the work is on disk", file: "nodeagent/core.go",
		old: "if u.Changed.Pods || u.Changed.Data || u.Changed.Head || u.Changed.Records {", new: "if (u.Changed.Pods || u.Changed.Data || u.Changed.Head || u.Changed.Records) && !ON {"},
	{name: "keep who is not ready among the endpoints", file: "reconciler/work/work.go",
		old: "!ready && !svc.Spec.PublishNotReadyAddresses {", new: "!ready && !svc.Spec.PublishNotReadyAddresses && !ON {"},
}

var violation = regexp.MustCompile(`seed (\d+): (\w+): (.*)`)

func TestEveryPlantedBugIsFound(t *testing.T) {
	binary := build(t)
	var table bytes.Buffer
	tab := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "BUG\tSEED\tBROKEN\tHOW")
	escaped := 0
	for _, b := range bugs {
		args := []string{"-test.run=^TestSeeds$", "-seeds=" + seeds, "-brief"}
		if b.twice {
			args = append(args, "-twice")
		}
		cmd := exec.Command(binary, args...)
		cmd.Dir = ".." // where a test of the simulation runs
		cmd.Env = append(os.Environ(), variable+"="+b.name)
		out, err := cmd.CombinedOutput()
		found := violation.FindStringSubmatch(string(out))
		switch {
		case found != nil && errors.As(err, new(*exec.ExitError)):
			fmt.Fprintf(tab, "%s\t%s\t%s\t%.90s\n", b.name, found[1], found[2], found[3])
		case err == nil:
			escaped++
			fmt.Fprintf(tab, "%s\t-\t-\tnot found within %s seeds\n", b.name, seeds)
		default:
			t.Fatalf("%s: %v\n%s", b.name, err, out)
		}
	}
	tab.Flush()
	fmt.Print(table.String())
	if escaped > mayEscape {
		t.Errorf("%d of %d planted bugs escape, at most %d may", escaped, len(bugs), mayEscape)
	}
}

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
	put("schema/planted.go", "package schema\n\nimport \"os\"\n\n// Planted names the bug that is on.\nvar Planted = os.Getenv(\""+variable+"\")\n")
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
		if strings.Count(text, b.old) != 1 {
			t.Fatalf("%s: %s has %d times\n%s\nplant the bug anew", b.name, b.file, strings.Count(text, b.old), b.old)
		}
		edited[b.file] = strings.Replace(text, b.old, strings.ReplaceAll(b.new, "ON", fmt.Sprintf("(planted.Planted == %q)", b.name)), 1)
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
