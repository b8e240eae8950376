package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"fairlead/cmd/fairlead/internal/local"
	"fairlead/schema"
	"fairlead/schema/layout"
)

// tooWide are the lines that a screen of so many columns would break. Words that cannot
// be broken are left out, and so are commands: they are copied.
func tooWide(text string, columns int) (out []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		shown := strings.TrimSpace(line)
		if layout.Width(line) <= columns || !strings.Contains(shown, " ") || strings.HasPrefix(shown, "git ") {
			continue
		}
		out = append(out, fmt.Sprintf("%d cells: %s", layout.Width(line), line))
	}
	return out
}

// anyCode is for a command whose exit code is the machine's to decide.
const anyCode = "-"

// onScreen is the script command "screen COLUMNS CODE COMMAND...": the command writes to a
// terminal of so many columns, fits on it and ends with that code. What it wrote is the
// script's stdout.
func onScreen(ts *testscript.TestScript, negated bool, args []string) {
	if negated || len(args) < 3 {
		ts.Fatalf("usage: screen COLUMNS CODE COMMAND...")
	}
	columns, err := strconv.Atoi(args[0])
	ts.Check(err)
	term, shown, err := openTerminal(uint16(columns))
	ts.Check(err)
	program, err := lookPath(ts.Getenv("PATH"), args[2])
	ts.Check(err)
	cmd := exec.Command(program, args[3:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = ts.MkAbs("."), term.out, term.out
	for _, name := range []string{"HOME", "PATH", "WORK", "KUBECONFIG", "GIT_CONFIG_GLOBAL", "GORACE", "GOCOVERDIR", "TMPDIR"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	cmd.Env = append(cmd.Env, "NO_COLOR=1") // else there is more than what is seen
	code := 0
	if err := cmd.Run(); err != nil {
		exit := (*exec.ExitError)(nil)
		if !errors.As(err, &exit) {
			ts.Fatalf("run %s: %v", args[2], err)
		}
		code = exit.ExitCode()
	}
	text := shown()
	_, _ = io.WriteString(ts.Stdout(), text)
	if lines := tooWide(text, columns); len(lines) > 0 {
		ts.Fatalf("wider than %d columns:\n%s", columns, strings.Join(lines, "\n"))
	}
	if args[1] != anyCode && strconv.Itoa(code) != args[1] {
		ts.Fatalf("exit code %d, want %s:\n%s", code, args[1], text)
	}
}

// lookPath finds a program as a script's own shell would.
func lookPath(path, name string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if file := filepath.Join(dir, name); unix.Access(file, unix.X_OK) == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("no %s in %s", name, path)
}

// long is what names, reasons and subjects are at their longest, with a path and an image
// that have no spaces.
const long = "container recommendation-engine of pod recommendation-engine-with-a-rather-long-name-4z7q926kgf-f4z8d waits: " +
	"image localhost/team-of-recommendations/subproject/recommendation-engine-service:2026.11.28-build.4711-g0123456789ab is not on node n3"

// What is written for people fits on their screens, whatever the texts in it.
func TestNothingIsWiderThanTheScreen(t *testing.T) {
	shown := renderers(t)
	delete(shown, "plan in Markdown") // forges fold it
	for name, write := range shown {
		for columns := leastColumns; columns <= 130; columns += 15 {
			for _, text := range []string{long, "short text", strings.ReplaceAll(long, " ", "-")} {
				var b bytes.Buffer
				write(layout.Sized(&b, columns), text)
				if lines := tooWide(b.String(), columns); len(lines) > 0 {
					t.Errorf("%s on %d columns:\n%s", name, columns, strings.Join(lines, "\n"))
				}
			}
		}
	}
}

// Help fits on the screen, that of every command, and says all on a wide one that it
// says in a file.
func TestHelpFitsOnTheScreen(t *testing.T) {
	help := func(path []string, columns int) string {
		var b bytes.Buffer
		out := io.Writer(&b)
		if columns > 0 {
			out = layout.Sized(&b, columns)
		}
		cmd := root(out, out)
		cmd.SetArgs(append(path, "--help"))
		if err := cmd.Execute(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	var check func(*cobra.Command, []string)
	check = func(c *cobra.Command, path []string) {
		whole := strings.Join(strings.Fields(help(path, 0)), " ")
		for _, columns := range []int{60, 80, 300} {
			text := help(path, columns)
			if lines := tooWide(text, columns); len(lines) > 0 {
				t.Errorf("help of %s on %d columns:\n%s", c.CommandPath(), columns, strings.Join(lines, "\n"))
			}
			if got := strings.Join(strings.Fields(text), " "); columns == 300 && got != whole {
				t.Errorf("help of %s on a wide screen:\n%s\nin a file:\n%s", c.CommandPath(), got, whole)
			}
		}
		for _, sub := range c.Commands() {
			if !sub.Hidden && !sub.DisableFlagParsing { // kubectl helps itself
				check(sub, append(path[:len(path):len(path)], sub.Name()))
			}
		}
	}
	cmd := root(io.Discard, io.Discard)
	cmd.InitDefaultCompletionCmd()
	cmd.InitDefaultHelpCmd()
	check(cmd, nil)
}

// resultOf is what up says of a cluster of many nodes.
func resultOf(text string) local.Result {
	r := filled[local.Result](text)
	for range local.MaxNodes {
		r.Nodes = append(r.Nodes, local.ResultNode{Name: schema.NodeName("n1"), Address: "172.31.0.2"})
	}
	return r
}

// leftOut are the commands that the script screen.txtar does not run, and why.
var leftOut = map[string]string{
	"up":         "it needs root; what it prints is among the renderers",
	"down":       "it needs root",
	"master":     "a daemon writes a log",
	"agent":      "a daemon writes a log",
	"dns":        "a daemon writes a log",
	"kubectl":    "kubectl writes for itself",
	"completion": "it writes a program",
}

// No command is forgotten.
func TestEveryCommandIsSeenOnAScreen(t *testing.T) {
	script, err := os.ReadFile("../../testdata/cli/screen.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range root(io.Discard, io.Discard).Commands() {
		if c.Hidden || leftOut[c.Name()] != "" {
			continue
		}
		for _, columns := range []string{"60", "80"} {
			if !strings.Contains(string(script), "screen "+columns+" ") || !strings.Contains(string(script), " fairlead "+c.Name()) {
				t.Errorf("screen.txtar does not run `fairlead %s` on %s columns", c.Name(), columns)
			}
		}
	}
}
