package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/schema"
)

// tellMistakes prints what the cluster says of each mistake, to write the page by.
var tellMistakes = flag.Bool("tell", false, "print what is said of each mistake of docs/mistakes.md")

const (
	mistakesPage = "../../../../docs/mistakes.md"
	// saidTimeout bounds the wait for what status and why say of a rollout.
	saidTimeout = 3 * time.Minute
	// startsAtOnce are the stores that are started side by side, within their progress
	// deadline on a busy machine. The mistakes are then made all at once: each mostly
	// waits for that deadline.
	startsAtOnce = 4
)

// The page of ordinary mistakes is what a cluster says of them: each is made, and push,
// plan, status and why are asked.
func testMistakes(t *testing.T) {
	base, mistakes := readMistakes(t)
	c := fresh(t, 2)
	// A commit that is refused leaves what it was pushed to as it was: one source serves
	// them all.
	of := map[string][]mistake{}
	for _, m := range mistakes {
		of[m.source()] = append(of[m.source()], m)
	}
	main := c.clone(t)
	main.write(t, map[string]string{"sources.yaml": mistakenSources(sorted(of))})
	main.pushHealthy(t, "sources to make mistakes in")
	starts := make(chan struct{}, startsAtOnce)
	var all sync.WaitGroup
	for source, mistakes := range of {
		all.Go(func() {
			t.Run(source, func(t *testing.T) { makeMistakes(t, c, starts, schema.SourceName(source), base, mistakes) })
		})
	}
	all.Wait()
}

// makeMistakes pushes the tree to a source and then makes each of the mistakes in it.
func makeMistakes(t *testing.T, c *cluster, starts chan struct{}, source schema.SourceName, base string, mistakes []mistake) {
	w := c.cloneOf(t, source)
	w.write(t, map[string]string{"store.yaml": base})
	starts <- struct{}{}
	out, err := w.push(t, "the store")
	<-starts
	if err != nil || !strings.Contains(out, "remote: HEALTHY") {
		t.Fatalf("before the mistake: %v\n%s", err, out)
	}
	for _, m := range mistakes {
		m.make(t, c, w, base)
		w.git(t, "reset", "--quiet", "--hard", "origin/main")
	}
}

// mistakenSources declares a source and a namespace for each name.
func mistakenSources(names []string) string {
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: %[1]s}\n---\napiVersion: fairlead/v1\nkind: Source\nmetadata: {name: %[1]s}\nspec: {embedded: true, namespace: %[1]s, namespaces: [%[1]s], healthyFor: 1s}\n", name)
	}
	return b.String()
}

// mistake is a section of the page.
type mistake struct {
	number, title string
	changes       [][2]string // texts of the base tree and what they become
	asked         [][2]string // what is asked, as "git push", and what the page says is answered
}

// rejected is how git tells that a commit was refused.
const rejected = "[remote rejected]"

// source is where the mistake is made.
func (m mistake) source() string {
	for _, asked := range m.asked {
		if strings.Contains(asked[1], rejected) {
			return "refused"
		}
	}
	return "mistake-" + m.number
}

// heading is "### 7. A port that is text".
var heading = regexp.MustCompile(`(?m)^### (\d+)\. (.*)$`)

// readMistakes cuts the page: the tree that all begin with, and the sections.
func readMistakes(t *testing.T) (base string, out []mistake) {
	t.Helper()
	page, err := os.ReadFile(mistakesPage)
	if err != nil {
		t.Fatal(err)
	}
	places := heading.FindAllSubmatchIndex(page, -1)
	for i, at := range places {
		end := len(page)
		if i+1 < len(places) {
			end = places[i+1][0]
		}
		m := mistake{number: string(page[at[2]:at[3]]), title: string(page[at[4]:at[5]])}
		if m.number != fmt.Sprint(i+1) {
			t.Errorf("mistake %s is the page's %d.", m.number, i+1)
		}
		m.read(t, string(page[at[1]:end]))
		out = append(out, m)
	}
	_, base, _ = strings.Cut(string(page), "```yaml\n")
	base, _, ok := strings.Cut(base, "```")
	if !ok || len(out) < 25 {
		t.Fatalf("%d mistakes, want the tree and 25", len(out))
	}
	return base, out
}

// read takes the changes, fenced as diff, and the rows of the table.
func (m *mistake) read(t *testing.T, text string) {
	t.Helper()
	fence := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			fence = line == "```diff"
			if fence {
				m.changes = append(m.changes, [2]string{})
			}
		case fence && (line[0] == '-' || line[0] == '+'):
			side := &m.changes[len(m.changes)-1][strings.IndexByte("-+", line[0])]
			*side += line[1:] + "\n"
		case strings.HasPrefix(line, "| `"):
			cells := strings.SplitN(strings.Trim(line, "| "), " | ", 2)
			m.asked = append(m.asked, [2]string{strings.Trim(cells[0], "`"), cells[1]})
		}
	}
	if len(m.changes) == 0 || len(m.asked) < 3 {
		t.Fatalf("mistake %s: %d changes, %d answers", m.number, len(m.changes), len(m.asked))
	}
}

// make makes the mistake and compares what is said of it.
func (m mistake) make(t *testing.T, c *cluster, w worktree, base string) {
	t.Helper()
	for _, ch := range m.changes {
		if strings.Count(base, ch[0]) != 1 {
			t.Fatalf("%q stands %d times in the tree", ch[0], strings.Count(base, ch[0]))
		}
		base = strings.Replace(base, ch[0], ch[1], 1)
	}
	w.write(t, map[string]string{"store.yaml": base})
	for _, asked := range m.asked {
		said := m.ask(t, c, w, asked[0])
		if *tellMistakes {
			t.Logf("%s. %s\n%s\n%s", m.number, m.title, asked[0], said)
			continue
		}
		where := fmt.Sprintf("docs/mistakes.md, %s. %s: %s", m.number, m.title, asked[0])
		if missing := unsaidOf(asked[1], said); missing == "" {
			continue
		} else if strings.HasPrefix(asked[0], "git ") {
			t.Errorf("%s does not say %s but\n%s", where, missing, said)
			continue
		}
		// What is true of a rollout may not be so yet.
		eventually(t, saidTimeout, where, func() (bool, string) {
			said := m.ask(t, c, w, asked[0])
			missing := unsaidOf(asked[1], said)
			return missing == "", "not " + missing + " but\n" + said
		})
	}
}

// unsaidOf is the first pattern of a cell that what was said has not, "" if it has all.
func unsaidOf(cell, said string) string {
	for _, want := range quoted(cell) {
		if !want.MatchString(said) {
			return want.String()
		}
	}
	return ""
}

// ask does what the page says was done, and returns all that was said.
func (m mistake) ask(t *testing.T, c *cluster, w worktree, what string) string {
	t.Helper()
	switch what {
	case "git push":
		out, _ := w.push(t, m.title, "--no-follow-tags") // as it is, waiting for nothing
		return out
	case "git push -o wait":
		out, _ := w.push(t, m.title)
		return out
	}
	args := strings.Fields(what)[1:]
	switch args[0] {
	case "why":
		args = append(args, "-n", m.source())
	case "plan":
		args = append(args, w.dir)
		fallthrough
	case "status":
		args = append(args, "--source", m.source())
	}
	out, _ := c.fairlead(t, append(args, "--kubeconfig", c.Kubeconfig)...)
	return out
}

var codeSpan = regexp.MustCompile("`([^`]+)`")

// quoted are the texts in backquotes, each a pattern in which "…" is anything on a line
// and blanks are any.
func quoted(cell string) (out []*regexp.Regexp) {
	for _, span := range codeSpan.FindAllStringSubmatch(cell, -1) {
		var parts []string
		for _, part := range strings.Split(span[1], "…") {
			var words []string
			for _, word := range strings.Fields(part) {
				words = append(words, regexp.QuoteMeta(word))
			}
			text := strings.Join(words, `\s+`)
			if strings.HasPrefix(part, " ") {
				text = `\s+` + text
			}
			if strings.HasSuffix(part, " ") && len(words) > 0 {
				text += `\s+`
			}
			parts = append(parts, text)
		}
		out = append(out, regexp.MustCompile(strings.Join(parts, `[^\n]*?`)))
	}
	return out
}

// cloneOf is a clone of the embedded remote of a source, once that is there.
func (c *cluster) cloneOf(t *testing.T, source schema.SourceName) worktree {
	t.Helper()
	dir := filepath.Join(filepath.Dir(c.Git), string(source)+".git")
	eventually(t, pushTimeout, "the remote of "+string(source), func() (bool, string) {
		_, err := os.Stat(filepath.Join(dir, "hooks", "pre-receive"))
		return err == nil, fmt.Sprint(err)
	})
	other := *c
	other.Git = dir
	return other.clone(t)
}

// verdicts are what says how something ended and nothing else.
var verdicts = regexp.MustCompile(`(?i)(timed? ?out|deadline exceeded|failed|failure|error|unknown|refused|rejected|rolledback|stalled|degraded|invalid|held|went back|no progress for \d+s|revision|remote|plan|deployment|pod|container|in the tree|(?:\w+|…)/store|…|[0-9]+|[^\pL\s])`)

// leastSaid is how many words an answer has at least besides its verdict, in any language
// of errors.
const leastSaid = 3

// Nobody is told only that something failed or took too long, and of each mistake who must
// act.
func TestMistakesSayWhy(t *testing.T) {
	_, mistakes := readMistakes(t)
	for _, m := range mistakes {
		for _, asked := range m.asked {
			if !saysWhy(asked[1]) {
				t.Errorf("docs/mistakes.md, %s. %s: %s says only how it ended: %s", m.number, m.title, asked[0], asked[1])
			}
		}
		if actor, todo := m.actor(); actor == "" || todo == "" {
			t.Errorf("docs/mistakes.md, %s. %s: it is not said who must act, and what is to be done", m.number, m.title)
		}
	}
}

// saysWhy reports whether a cell has more than how something ended.
func saysWhy(cell string) bool {
	return len(strings.Fields(verdicts.ReplaceAllString(strings.Join(spans(cell), " "), " "))) >= leastSaid
}

func TestSaysWhy(t *testing.T) {
	for cell, want := range map[string]bool{
		"`timeout`":           false,
		"`Failed`":            false,
		"`[remote rejected]`": false,
		"`FAILED …: Deployment …/store: no progress for 45s`":                                                false,
		"`Revision …: RolledBack`<br>`Held since …: went back to …: Deployment …/store: deadline exceeded`":  false,
		"`Plan: refused: 1 error in the tree.`":                                                              false,
		"`store.yaml:54:23: 128Mi is more than the limit, 64Mi`":                                             true,
		"`FAILED …: Deployment …/store: no progress for 45s: container store runs, but: connection refused`": true,
	} {
		if got := saysWhy(cell); got != want {
			t.Errorf("%s says why: %v, want %v", cell, got, want)
		}
	}
}

// spans are the texts in backquotes.
func spans(cell string) (out []string) {
	for _, span := range codeSpan.FindAllStringSubmatch(cell, -1) {
		out = append(out, span[1])
	}
	return out
}

var (
	whoMustAct = regexp.MustCompile("`Who must act: (\\w+)[^`]*`")
	toDo       = regexp.MustCompile("`To do: ([^`]+)\\.`")
)

// actor is who must act and what is to be done, as why says it of what is in place.
func (m mistake) actor() (who, todo string) {
	for _, asked := range m.asked {
		if w, d := whoMustAct.FindStringSubmatch(asked[1]), toDo.FindStringSubmatch(asked[1]); strings.HasPrefix(asked[0], "fairlead why ") && w != nil && d != nil {
			who, todo = w[1], d[1]
		}
	}
	return who, todo
}

// deadline is that of the tree that all begin with.
const deadline = "progressDeadlineSeconds: 45"

// cameTo is what became of a mistake and after how long it was told, as the page's sections
// have it.
func (m mistake) cameTo() (what, after string) {
	all := fmt.Sprint(m.asked)
	switch {
	case strings.Contains(all, rejected):
		return "the push is refused", "at once"
	case strings.Contains(all, "Revision …: "+string(schema.PhaseRolledBack)):
		return "rolled back", strings.TrimPrefix(deadline, "progressDeadlineSeconds: ") + " s"
	case strings.Contains(all, "Revision …: "+string(schema.PhaseStalled)):
		return "waits", "at once"
	case strings.Contains(all, "warning: "):
		return "taken, with a warning", "at once"
	}
	return "", ""
}

// summary is the mistake's row of the page's first table. Who pushes what is refused must
// correct it: of what runs nobody has to do anything.
func (m mistake) summary() string {
	what, after := m.cameTo()
	who, _ := m.actor()
	if what == "the push is refused" {
		who = "developer"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s |", m.number, m.title, what, after, who)
}

// The page's first table is what its sections come to.
func TestMistakesAreSummedUp(t *testing.T) {
	base, mistakes := readMistakes(t)
	page, err := os.ReadFile(mistakesPage)
	if err != nil || !strings.Contains(base, deadline) {
		t.Fatalf("%v; the tree has %q: %v", err, deadline, strings.Contains(base, deadline))
	}
	var want []string
	for _, m := range mistakes {
		if what, _ := m.cameTo(); what == "" {
			t.Errorf("docs/mistakes.md, %s. %s: it is not said what became of it", m.number, m.title)
		}
		want = append(want, m.summary())
	}
	if table := strings.Join(want, "\n") + "\n"; !strings.Contains(string(page), "\n"+table) {
		t.Errorf("the page's table is not what its sections come to:\n%s", table)
	}
}
