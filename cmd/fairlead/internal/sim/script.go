package sim

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// Script is a scenario: what is done and what is wanted, line by line. README.md
// in testdata/sim lists the sentences.
type Script struct {
	Path  string
	Nodes int
	lines []scriptLine
}

type scriptLine struct {
	number int
	text   string
}

// ReadScript reads a scenario.
func ReadScript(path string) (*Script, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &Script{Path: path, Nodes: 3}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		text = strings.Join(strings.Fields(text), " ")
		switch count, ok := strings.CutSuffix(text, " nodes"); {
		case text == "":
		case ok:
			if s.Nodes, err = strconv.Atoi(count); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", path, n, err)
			}
		default:
			s.lines = append(s.lines, scriptLine{n, text})
		}
	}
	return s, lines.Err()
}

// sentences are what a script can say.
var sentences = slices.Concat(deploymentSentences, podSentences, []sentence{
	{regexp.MustCompile(`^(\w+) is no more(?:, (\d+) may go)?$`), func(w *World, of []string) string {
		var next []workload
		for _, a := range w.team.asked {
			if a.name != of[1] {
				next = append(next, a)
			}
		}
		message := "without " + of[1]
		if of[2] != "" {
			message += "\n\nFairlead-Allow-Prune: " + of[2]
		}
		return w.pushNow(message, next)
	}},
	{regexp.MustCompile(`^(\S+) passes?$`), func(w *World, of []string) string {
		d, err := time.ParseDuration(of[1])
		if err != nil {
			return err.Error()
		}
		w.pass(d)
		return ""
	}},
	{regexp.MustCompile(`^fault: (.+?)(?: on n(\d+))?(?: for (\S+))?$`), func(w *World, of []string) string {
		f := Fault{Kind: of[1], N: 1}
		if of[2] != "" {
			n, _ := strconv.Atoi(of[2])
			f.Node = n - 1
		}
		if of[3] != "" {
			d, err := time.ParseDuration(of[3])
			if err != nil {
				return err.Error()
			}
			f.For = d
		}
		for _, k := range faultKinds {
			if k.kind == f.Kind {
				w.strike(f)
				return ""
			}
		}
		return "no such fault"
	}},
	{regexp.MustCompile(`^within (\S+): (.+)$`), func(w *World, of []string) string {
		d, err := time.ParseDuration(of[1])
		if err != nil {
			return err.Error()
		}
		why := "it never looked"
		if !w.await(d, func() bool { why = w.claim(of[2]); return why == "" }) {
			return why
		}
		return ""
	}},
	{regexp.MustCompile(`^for (\S+): (.+)$`), func(w *World, of []string) string {
		d, err := time.ParseDuration(of[1])
		if err != nil {
			return err.Error()
		}
		for end := w.now.Add(d); w.violation == nil && w.now.Before(end); w.pass(time.Second) {
			if why := w.claim(of[2]); why != "" {
				return why
			}
		}
		return ""
	}},
	{regexp.MustCompile(`^now: (.+)$`), func(w *World, of []string) string { return w.claim(of[1]) }},
	{regexp.MustCompile(`^quiet$`), func(w *World, _ []string) string { w.quiet(); return "" }},
})

type sentence struct {
	form *regexp.Regexp
	do   func(w *World, of []string) string // "" or what is wrong
}

func (w *World) pushWorkload(a workload) string {
	next := make([]workload, 0, len(w.team.asked)+1)
	found := false
	for _, b := range w.team.asked {
		if b.name == a.name {
			b, found = a, true
		}
		next = append(next, b)
	}
	if !found {
		next = append(next, a)
	}
	return w.pushNow(fmt.Sprintf("%s: %s x %d of %s", a.kind, a.name, a.replicas, a.tag), next)
}

// pushNow pushes, again and again for a minute where there is no master.
func (w *World) pushNow(message string, apps []workload) string {
	w.team.asked = apps
	var failed error
	taken := false
	w.await(time.Minute, func() bool {
		if !taken {
			w.push(message, apps, func(_ schema.Commit, err error) { taken, failed = err == nil, err })
			w.pass(time.Second)
		}
		return taken
	})
	if !taken {
		return fmt.Sprintf("the push is refused: %v", failed)
	}
	return ""
}

// claims are what a script can say of the cluster.
var claims = slices.Concat(deploymentClaims, podClaims, []claim{
	{regexp.MustCompile(`^all is as Git asks$`), func(w *World, _ []string) string {
		tip, _, _ := w.git.Branch("main")
		return w.truth.rest(tip)
	}},
	{regexp.MustCompile(`^the revision is (\w+)$`), func(w *World, of []string) string {
		src, ok := state.Source(w.truth.latest, sourceName)
		if !ok {
			return "there is no source"
		}
		rev, ok := state.Revision(w.truth.latest, schema.RevisionOf(sourceName, src.Status.Desired.Commit))
		if !ok {
			return "there is none"
		}
		if string(rev.Status.Phase) != of[1] {
			return fmt.Sprintf("it is %s", rev.Status.Phase)
		}
		return ""
	}},
	{regexp.MustCompile(`^n(\d+) is (Ready|not Ready)$`), func(w *World, of []string) string {
		if nodeReady(w.truth.latest, "n"+of[1]) != (of[2] == "Ready") {
			return "it is not so"
		}
		return ""
	}},
})

type claim struct {
	form *regexp.Regexp
	hold func(w *World, of []string) string // "" or what is wrong
}

func (w *World) claim(text string) string {
	for _, c := range claims {
		if of := c.form.FindStringSubmatch(text); of != nil {
			return c.hold(w, of)
		}
	}
	return "no such claim"
}

// play says line after line.
func (s *Script) play(w *World) {
	for _, l := range s.lines {
		said := false
		for _, sentence := range sentences {
			of := sentence.form.FindStringSubmatch(l.text)
			if of == nil {
				continue
			}
			said = true
			w.note("> %s", l.text)
			if why := sentence.do(w, of); why != "" {
				w.broken("scenario", "%s:%d: %s: %s", s.Path, l.number, l.text, why)
			}
			break
		}
		if !said {
			w.broken("scenario", "%s:%d: not a sentence: %s", s.Path, l.number, l.text)
		}
		if w.violation != nil {
			return
		}
	}
}
