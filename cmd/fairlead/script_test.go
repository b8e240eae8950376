package main

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"fairlead/reconciler/trust"
	"fairlead/schema/load"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata/*/*.txtar")

// TestMain lets the test binary stand in for fairlead: a script's `fairlead`
// runs it again.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == load.ChildSubcommand { // a master of this process evaluates
		os.Exit(run())
	}
	testscript.Main(withoutLeaks{m}, map[string]func(){
		"fairlead": func() { os.Exit(run()) },
	})
}

// withoutLeaks fails a test run that leaves goroutines behind.
type withoutLeaks struct{ *testing.M }

func (m withoutLeaks) Run() (code int) {
	goleak.VerifyTestMain(m.M, goleak.Cleanup(func(c int) { code = c }))
	return code
}

// TestScripts runs every testdata/<group>/*.txtar.
func TestScripts(t *testing.T) {
	groups, err := filepath.Glob("../../testdata/*/*.txtar")
	if err != nil || len(groups) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	dirs := make(map[string]bool)
	for _, script := range groups {
		dirs[filepath.Dir(script)] = true
	}
	for dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, testscript.Params{
				Dir:                 dir,
				UpdateScripts:       *update,
				RequireExplicitExec: true,
				RequireUniqueNames:  true,
				Setup:               setUp,
				Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "until": until, "cluster": startCluster, "deliver": deliver, "authority": makeAuthority, "screen": onScreen},
			})
		})
	}
}

// makeAuthority is the script command "authority DIR": a cluster's, as a master's first
// start makes it.
func makeAuthority(ts *testscript.TestScript, negated bool, args []string) {
	if negated || len(args) != 1 {
		ts.Fatalf("usage: authority DIR")
	}
	_, err := trust.Open(ts.MkAbs(args[0]), trust.Config{
		PodCIDR: netip.MustParsePrefix("10.112.0.0/12"), ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), Now: time.Now,
	})
	ts.Check(err)
}

// setUp lets a script's `fairlead` end as soon as it is done: built with the race
// detector it would stay for another second.
func setUp(env *testscript.Env) error {
	env.Setenv("GORACE", "atexit_sleep_ms=0")
	return nil
}

// exits is the script command "exits CODE COMMAND...": the command must end with
// that code.
func exits(ts *testscript.TestScript, negated bool, args []string) {
	if negated || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	code := 0
	err := ts.Exec(args[1], args[2:]...)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("run %s: %v", args[1], err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// untilTimeout is for what takes a cluster a moment, and a busy machine longer.
const untilTimeout = time.Minute

// until is the script command "until PATTERN COMMAND...": the command is run, whatever its
// exit code, until its output has the pattern.
func until(ts *testscript.TestScript, negated bool, args []string) {
	if negated || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN COMMAND...")
	}
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	for end := time.Now().Add(untilTimeout); ; time.Sleep(50 * time.Millisecond) {
		_ = ts.Exec(args[1], args[2:]...) // what it ends with is not asked
		if pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s never says %s", args[1], args[0])
		}
	}
}
