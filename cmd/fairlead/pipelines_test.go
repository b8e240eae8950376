package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

var (
	ourCommand = regexp.MustCompile(`\bfairlead [a-z][^|>;'\n]*`)
	yamlBlock  = regexp.MustCompile("(?s)```yaml\n(.*?)```")
)

// TestPipelinesOfDocsAreRun holds the commands of the pages about pull requests and
// pipelines to testdata/cli/pipeline.txtar, which runs them, and their pipelines to be
// YAML. A script may give a command more flags than a page.
func TestPipelinesOfDocsAreRun(t *testing.T) {
	script := readDoc(t, "testdata/cli/pipeline.txtar")
	var run [][]string
	for _, command := range ourCommand.FindAllString(script, -1) {
		run = append(run, strings.Fields(command))
	}
	for _, page := range []string{"docs/pull-requests.md", "docs/continuous-integration.md"} {
		text, told := readDoc(t, page), 0
		for _, block := range yamlBlock.FindAllStringSubmatch(text, -1) {
			if err := yaml.Unmarshal([]byte(block[1]), &map[string]any{}); err != nil {
				t.Errorf("%s: %v in\n%s", page, err, block[1])
			}
		}
		for _, line := range codeLines(text) {
			for _, command := range ourCommand.FindAllString(line, -1) {
				told++
				words := strings.Fields(strings.ReplaceAll(command, `"`, ""))
				if !slices.ContainsFunc(run, func(has []string) bool { return among(words, has) }) {
					t.Errorf("%s: %q is in no script", page, command)
				}
			}
		}
		if told < 5 {
			t.Errorf("%s: only %d commands were found", page, told)
		}
	}
}

// codeLines are the lines of a page's code blocks, fenced or indented.
func codeLines(page string) (out []string) {
	fenced := false
	for line := range strings.Lines(page) {
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case fenced || strings.HasPrefix(line, "    "):
			out = append(out, line)
		}
	}
	return out
}

// among reports whether words stand in others, in their order.
func among(words, others []string) bool {
	for _, word := range others {
		if len(words) > 0 && words[0] == word {
			words = words[1:]
		}
	}
	return len(words) == 0
}
