package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	repositoryRoot = "../../../.."
	replayTimeout  = 5 * time.Minute
)

// The pages that a newcomer follows say what happens: their commands are run, in order
// and in one shell, and what the pages show has to be answered.
func testReadme(t *testing.T)   { testPage(t, "README.md", "## Two minutes", "## What it does") }
func testTutorial(t *testing.T) { testPage(t, "docs/tutorial.md", "## Build it", "## Take it away") }

// testPage replays what stands between two headings of a page.
func testPage(t *testing.T, path, first, after string) {
	text, err := os.ReadFile(filepath.Join(repositoryRoot, path))
	if err != nil {
		t.Fatal(err)
	}
	_, part, ok := strings.Cut(string(text), first)
	if part, _, _ = strings.Cut(part, after); !ok {
		t.Fatalf("%s has no heading %q", path, first)
	}
	replay(t, fresh(t, 3), part)
}

// block is what stands indented in a page: commands with what they answer.
type block struct {
	commands []string
	shown    []string // lines of the answers
}

// commandWords begin the lines of a block in which nothing is answered.
var commandWords = regexp.MustCompile(`^(\./justw|export|fairlead|kubectl|git|cp|sed|curl|examples=|cd)\b|^examples=`)

// blocks cuts a page. In a block that has lines with a prompt these are commands and all
// others answers; one that begins with a command has no answers; any other answers the
// block before.
func blocks(page string) (out []block) {
	var lines []string
	end := func() {
		if len(lines) == 0 {
			return
		}
		prompt := strings.Contains("\n"+strings.Join(lines, "\n"), "\n$ ")
		if prompt || commandWords.MatchString(lines[0]) {
			out = append(out, block{})
		}
		b := &out[len(out)-1]
		for _, line := range lines {
			switch command, ok := strings.CutPrefix(line, "$ "); {
			case ok:
				b.commands = append(b.commands, command)
			case !prompt && commandWords.MatchString(lines[0]):
				b.commands = append(b.commands, line)
			default:
				b.shown = append(b.shown, line)
			}
		}
		lines = nil
	}
	for line := range strings.Lines(page) {
		line = strings.TrimRight(line, "\n")
		code, indented := strings.CutPrefix(line, "    ")
		switch prompt := strings.Contains("\n"+strings.Join(lines, "\n"), "\n$ "); {
		case indented:
			lines = append(lines, code)
		case line != "" || !prompt: // an answer may have empty lines
			end()
		}
	}
	end()
	return out
}

// replay runs a page's commands on a cluster.
func replay(t *testing.T, c *cluster, page string) {
	t.Helper()
	page = strings.ReplaceAll(page, "/var/lib/fairlead/up", c.dir)
	page = strings.ReplaceAll(page, "172.31.0.2:", c.address("n1")+":")
	all := blocks(page)
	said := runBlocks(t, c, all)
	for i, b := range all {
		if missing := unsaid(b.shown, said[i]); missing != "" {
			t.Errorf("$ %s\nshows\n%s\nbut answers\n%s", strings.Join(b.commands, "\n$ "), missing, said[i])
		}
	}
}

const blockMark = "@@ block %d @@"

// runBlocks runs the commands of all blocks in one shell and returns what each answered.
func runBlocks(t *testing.T, c *cluster, all []block) []string {
	t.Helper()
	var script strings.Builder
	fmt.Fprintf(&script, "exec 2>&1\nfairlead() { case $1 in up) shift; command fairlead up --dir %[1]q --nodes %[2]d \"$@\";; *) command fairlead \"$@\";; esac; }\n", c.dir, len(c.Nodes))
	fmt.Fprintf(&script, "curl() { %s=$1 %q; }\njustw() { :; }\n", getVariable, os.Args[0])
	for i, b := range all {
		fmt.Fprintf(&script, "echo; echo "+blockMark+"\n%s\n", i, strings.ReplaceAll(strings.Join(b.commands, "\n"), "./justw", "justw"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), replayTimeout)
	defer cancel()
	dir := t.TempDir()
	file := filepath.Join(dir, "page.sh") // on standard input, a command could read it
	if err := os.WriteFile(file, []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "bash", file)
	cmd.Dir = dir
	if err := os.CopyFS(filepath.Join(cmd.Dir, "examples"), os.DirFS(filepath.Join(repositoryRoot, "examples"))); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "HOME="+c.home, "PATH="+binaries+":"+os.Getenv("PATH"), "KUBECONFIG="+c.Kubeconfig, "GIT_TERMINAL_PROMPT=0", "COLUMNS=400",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org")
	out, err := cmd.Output()
	if ctx.Err() != nil {
		t.Fatalf("the commands do not end: %v\n%s", err, out)
	}
	said := make([]string, len(all))
	rest := string(out)
	for i := range all {
		_, rest, _ = strings.Cut(rest, fmt.Sprintf(blockMark, i)+"\n")
		said[i], _, _ = strings.Cut(rest, "\n@@ block ")
	}
	return said
}

var (
	// differing are what differs from run to run, in the text of a page that was made
	// a pattern.
	differing = regexp.MustCompile(`[0-9a-f]{12,40}|[0-9][0-9A-Za-z:.\\-]*Z|[a-z0-9]{8,10}-[a-z0-9]{5}\b|[0-9]+(\\?\.[0-9]+)*`)
	spaces    = regexp.MustCompile(`\s+`)
)

// pattern is what a line of a page stands for: names that are made, numbers and widths
// may differ, "..." is anything.
func pattern(line string) *regexp.Regexp {
	text := regexp.QuoteMeta(strings.TrimSpace(line))
	text = strings.ReplaceAll(text, `\.\.\.`, "\x00")
	text = differing.ReplaceAllString(text, `[0-9A-Za-z:.-]+`)
	text = spaces.ReplaceAllString(text, `\s+`)
	return regexp.MustCompile(`^\s*` + strings.ReplaceAll(text, "\x00", `.*`) + `\s*$`)
}

// nodeRow begins a row of a table of nodes. Of a rollout's old pods the one that was ready
// last goes first, which is chance, and so is which of two equal nodes keeps its pod: the
// rows may stand in another order.
var nodeRow = regexp.MustCompile(`^\s*n[0-9]+\s`)

// unsaid is the first line that is shown and was not said after the ones before it, ""
// when all were.
func unsaid(shown []string, said string) string {
	lines := strings.Split(strings.ReplaceAll(said, "\r", "\n"), "\n")
	for _, want := range shown {
		if strings.TrimSpace(want) == "" || strings.TrimSpace(want) == "..." {
			continue
		}
		p := pattern(want)
		at := 0
		for at < len(lines) && !p.MatchString(lines[at]) {
			at++
		}
		if at == len(lines) {
			return want
		}
		if nodeRow.MatchString(want) {
			lines = slices.Delete(lines, at, at+1)
		} else {
			lines = lines[at+1:]
		}
	}
	return ""
}

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		shown, said string
		want        bool
	}{
		{"remote: HEALTHY main-0a6683d0900a: workloads up to date and available: 3", "remote: HEALTHY main-c65f329e3d49: workloads up to date and available: 3        ", true},
		{"remote: HEALTHY main-0a6683d0900a: ...", "remote: HEALTHY main-c65f329e3d49: all", true},
		{"remote: HEALTHY main-0a6683d0900a", "remote: FAILED main-c65f329e3d49", false},
		{"+ shop/web-xxb9t6p94r-74fcx  on n1  new", "  + shop/web-6ppzrmh262-9s2p8 on n3  new", true},
		{"+ shop/web-xxb9t6p94r-74fcx  on n1  new", "  + shop/api-6ppzrmh262-9s2p8 on n3  new", false},
		{"2026-11-21T23:13:43Z  Seen", "2027-01-01T00:00:00Z  Seen", true},
		{"readiness probe failed: Get \"http://10.112.4.3:9999/healthz\"", "readiness probe failed: Get \"http://10.113.0.7:9999/healthz\"", true},
		{"n2  40m -> 20m\nn3  40m of 666m\nPlan: 2 pods", "n2  40m of 512m\nn3  40m -> 20m\nPlan: 2 pods", true},
		{"n2  40m -> 20m\nn3  40m of 666m\nPlan: 2 pods", "n2  40m of 512m\nn3  40m of 512m\nPlan: 2 pods", false},
		{"n2  40m -> 20m\nn3  40m -> 20m", "n2  40m -> 20m", false},
	} {
		if got := unsaid(strings.Split(c.shown, "\n"), c.said) == ""; got != c.want {
			t.Errorf("%q stands for %q: %v, want %v", c.shown, c.said, got, c.want)
		}
	}
}
