package plan_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"fairlead/reconciler/plan"
	"fairlead/schema"
	"fairlead/schema/layout"
)

var update = flag.Bool("update", false, "rewrite the expected plans in testdata/plan")

const golden = "../../testdata/plan"

// example is testdata/plan/<name>/case.yaml: what is planned there. The trees are
// directories beside it: `before` is applied first, `after` is planned, `against`
// is what it is compared with. A directory that is missing is left out.
type example struct {
	Nodes  int               `json:"nodes"`
	CPU    string            `json:"cpu"`
	Memory string            `json:"memory"`
	Drain  []schema.NodeName `json:"drain"`
	Lose   []schema.NodeName `json:"lose"`
}

// TestExamples holds every example's plan against plan.txt, plan.json and plan.md.
func TestExamples(t *testing.T) {
	cases, err := filepath.Glob(filepath.Join(golden, "*", "case.yaml"))
	if err != nil || len(cases) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, path := range cases {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			p := planExample(t, dir)
			for name, got := range map[string]string{"plan.txt": text(p), "plan.json": indented(t, p), "plan.md": markdown(p)} {
				compare(t, filepath.Join(dir, name), got)
			}
		})
	}
}

// TestTextFitsTheScreen: on a screen no line is wider than it is, and nothing is lost;
// elsewhere no line is folded.
func TestTextFitsTheScreen(t *testing.T) {
	cases, err := filepath.Glob(filepath.Join(golden, "*", "case.yaml"))
	if err != nil || len(cases) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, path := range cases {
		p := planExample(t, filepath.Dir(path))
		whole := text(p)
		for _, columns := range []int{40, 80, 132} {
			for form, write := range map[string]func(io.Writer){"plan": p.WriteText, "diff": p.WriteObjects} {
				var b strings.Builder
				write(layout.Sized(&b, columns))
				for line := range strings.Lines(b.String()) {
					if width := layout.Width(strings.TrimSuffix(line, "\n")); width > columns {
						t.Errorf("%s of %s: %d of %d columns: %s", form, path, width, columns, line)
					}
				}
				if form == "plan" && inOrder(b.String()) != inOrder(whole) {
					t.Errorf("%s: on %d columns something is lost:\n%s\nof\n%s", path, columns, b.String(), whole)
				}
			}
		}
	}
}

// inOrder are the letters of a text, sorted: folding moves them between lines of a
// table, and adds and takes away spaces only.
func inOrder(text string) string {
	letters := []rune(strings.Join(strings.Fields(text), ""))
	slices.Sort(letters)
	return string(letters)
}

func planExample(t *testing.T, dir string) *plan.Plan {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "case.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	e := example{Nodes: 3, CPU: "1", Memory: "1Gi"}
	if err := yaml.UnmarshalStrict(data, &e); err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, uniform(e.Nodes, e.CPU, e.Memory)...)
	if before := filepath.Join(dir, "before"); exists(before) {
		c.push(c.tree(before, 1))
	}
	cand := plan.Candidate{Drain: e.Drain, Lose: e.Lose}
	if after := filepath.Join(dir, "after"); exists(after) {
		cand = planned(c.tree(after, 2))
		cand.Drain, cand.Lose = e.Drain, e.Lose
	}
	if against := filepath.Join(dir, "against"); exists(against) {
		other := c.tree(against, 3)
		cand.Against = &plan.Against{Commit: other.Commit.Hash, Tree: other.Tree, Objects: other.Objects, Diagnostics: other.Diagnostics}
	}
	return c.plan(cand)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func text(p *plan.Plan) string {
	var b bytes.Buffer
	p.WriteText(&b)
	return b.String()
}

func markdown(p *plan.Plan) string {
	var b bytes.Buffer
	p.WriteMarkdown(&b)
	return b.String()
}

func indented(t *testing.T, p *plan.Plan) string {
	t.Helper()
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data) + "\n"
}

func compare(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run the test with -update)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: %s", path, diff)
	}
}

// TestSecretValuesNeverShow looks for the values of the example's Secrets in every
// form of its plan.
func TestSecretValuesNeverShow(t *testing.T) {
	p := planExample(t, filepath.Join(golden, "secret"))
	if len(p.Objects) != 1 || len(p.Objects[0].Fields) == 0 {
		t.Fatalf("the Secret's change is not told: %+v", p.Objects)
	}
	for form, out := range map[string]string{"text": text(p), "JSON": indented(t, p), "Markdown": markdown(p)} {
		for _, secret := range []string{"before-value", "after-value", "YmVmb3JlLXZhbHVl", "YWZ0ZXItdmFsdWU"} {
			if strings.Contains(out, secret) {
				t.Errorf("%s tells %q: %s", form, secret, out)
			}
		}
	}
}

// TestControlCharactersAreShownAsText: whoever reads the plan of a foreign branch
// keeps power over the terminal.
func TestControlCharactersAreShownAsText(t *testing.T) {
	p := &plan.Plan{Verdict: plan.Changes, Source: "main", Objects: []plan.Object{{
		Action: "update", Kind: schema.KindConfigMap, Name: "c", Position: "a\x1b[31m.yaml:1:1",
		Fields: []schema.FieldChange{{Path: "data[\x1b]0;t]", From: "a\x1b[2J", To: "b"}, {Path: "data[lines]", From: "x\n\x1b[H\n", To: "y\n"}},
	}}}
	for form, out := range map[string]string{"text": text(p), "Markdown": markdown(p)} {
		if slices.Contains([]byte(out), 0x1b) {
			t.Errorf("%s has an escape in it: %q", form, out)
		}
	}
}

// TestNothingOfOthersIsMarkup: a plan stands as a comment on a pull request, where
// HTML, links, images and mentions act, and a pipe would make a cell of its own.
func TestNothingOfOthersIsMarkup(t *testing.T) {
	for _, text := range []string{
		`</summary><script>x</script>`, `[see](http://evil.example)`, `![](http://evil.example/pixel)`, "`code`", `a | b`, `a \| b`, `a \\| b`, `a \\\| b`,
		`\`, `**bold** _it_ ~~no~~`, `@team #12`, `https://evil.example www.evil.example`, `&#x202e;gpj`, "<!--\n\n-->", "x\r\n\r\n# title",
	} {
		p := &plan.Plan{Verdict: plan.Held, Source: schema.SourceName(text), Reasons: []string{text}, Objects: []plan.Object{{
			Action: "update", Kind: schema.KindConfigMap, Namespace: text, Name: text, Position: text, Reason: text,
			Fields: []schema.FieldChange{{Path: text, From: text, To: text}},
		}}, Pods: []plan.Pod{{Action: "start", Namespace: text, Name: text, Node: schema.NodeName(text), Reason: text}},
			Diagnostics: schema.Diagnostics{{Position: schema.Position{Path: text}, Message: text, Hint: text}}}
		out := markdown(p)
		var cells int
		for _, line := range strings.Split(out, "\n") {
			switch {
			case !strings.HasPrefix(line, "|"):
				cells = 0
			case cells == 0:
				cells = unescapedPipes(line)
			case unescapedPipes(line) != cells:
				t.Errorf("%q makes cells of its own: %s", text, line)
			}
		}
		prose := regexp.MustCompile("`[^`\n]*`").ReplaceAllString(out, "") // in code spans nothing acts
		for _, acts := range []string{"<script", "</script", "<!--", "\n# ", "@team", " #12", "http://", "https://", "www.", "&#x", "**bold"} {
			if strings.Contains(prose, acts) {
				t.Errorf("%q: %q acts in\n%s", text, acts, out)
			}
		}
		if regexp.MustCompile(`(^|[^\\])\[see`).MatchString(prose) || strings.Count(prose, "<summary>") != strings.Count(prose, "</summary>") {
			t.Errorf("%q acts in\n%s", text, out)
		}
	}
}

// unescapedPipes counts the pipes that divide cells as cmark-gfm does: a backslash
// takes the next character with it, even in a code span.
func unescapedPipes(line string) (n int) {
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case '\\':
			i++
		case '|':
			n++
		}
	}
	return n
}
