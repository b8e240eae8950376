package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"fairlead/cmd/fairlead/internal/validation"
	"fairlead/reconciler/plan"
	"fairlead/reconciler/progress"
	"fairlead/reconciler/progress/why"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/chance"
	"fairlead/schema/layout"
)

// hostile is what a name, a subject or a line of a log may hold: an escape
// sequence, its one-character form, a byte that is not UTF-8, a line and a cell of
// their own, and an order of reading that is not the order of the characters.
const hostile = "a\x1b[2J\x1b]0;t\a\u009b31m\x9b\r\nHEALTHY main-1: forged\tcell\u202egpj.exe\u2066\u200b\u2028\U000e0041\x7f"

func TestEveryCommandWritesToTheTerminal(t *testing.T) {
	out, complaints := newTerminal(os.Stdout), newTerminal(os.Stderr)
	var check func(*cobra.Command)
	check = func(c *cobra.Command) {
		if c.OutOrStdout() != io.Writer(out) || c.ErrOrStderr() != io.Writer(complaints) {
			t.Errorf("%s writes past the terminal", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			check(sub)
		}
	}
	cmd := root(out, complaints)
	cmd.InitDefaultCompletionCmd()
	cmd.InitDefaultHelpCmd()
	check(cmd)
}

// toTerminal is what a terminal is sent when write writes to it.
func toTerminal(t *testing.T, write func(*terminal)) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "terminal"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	term := newTerminal(f)
	write(term)
	term.close()
	shown, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(shown)
}

func TestTerminalShowsCharactersThatComeInPieces(t *testing.T) {
	text := "grün 東 👩 \u202e \U000e0041 \x1b \xff é"
	for size := 1; size < 6; size++ {
		got := toTerminal(t, func(w *terminal) {
			for rest := []byte(text + "\xe2\x80"); len(rest) > 0; rest = rest[min(size, len(rest)):] {
				if n, err := w.Write(rest[:min(size, len(rest))]); err != nil || n != min(size, len(rest)) {
					t.Fatalf("wrote %d: %v", n, err)
				}
			}
		})
		if want := schema.PrintableText(text) + `\xe2\x80`; got != want {
			t.Errorf("in pieces of %d: %q, want %q", size, got, want)
		}
	}
}

// openTerminal is a terminal of that many columns and what it was sent.
func openTerminal(columns uint16) (*terminal, func() string, error) {
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	number, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(screen.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns})
	}
	var program *os.File
	if err == nil {
		program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		screen.Close()
		return nil, nil, err
	}
	shown := make(chan string, 1)
	go func() { // what nobody reads would stop the program
		text, _ := io.ReadAll(screen) // ends with an error when the other side is closed
		screen.Close()
		shown <- strings.ReplaceAll(string(text), "\r\n", "\n")
	}()
	return newTerminal(program), func() string {
		program.Close()
		return <-shown
	}, nil
}

func TestWidthOfTheTerminal(t *testing.T) {
	for _, c := range []struct {
		columns uint16
		asked   string
		want    int
	}{
		{132, "", 132},
		{132, "60", 60},
		{132, "wide", 132},
		{132, "0", 132},
		{0, "", usualColumns},
		{0, "100", 100},
		{12, "", leastColumns},
	} {
		t.Setenv("COLUMNS", c.asked)
		term, end, err := openTerminal(c.columns)
		if err != nil {
			t.Fatal(err)
		}
		if got := term.Columns(); got != c.want {
			t.Errorf("a terminal of %d columns, COLUMNS=%q: %d columns, want %d", c.columns, c.asked, got, c.want)
		}
		end()
	}
	t.Setenv("COLUMNS", "60")
	toTerminal(t, func(file *terminal) {
		if got := file.Columns(); got != 0 {
			t.Errorf("a file: %d columns, want any number", got)
		}
	})
}

func TestColoursAreOursAlone(t *testing.T) {
	got := toTerminal(t, func(w *terminal) {
		if err := w.paint("Objects:\n  + ConfigMap a\x1b[2J\n  x - \u202e\n- gone\n"); err != nil {
			t.Fatal(err)
		}
	})
	want := "Objects:\n\x1b[32m  + ConfigMap a" + `\x1b[2J` + "\x1b[0m\n  x - " + `\u202e` + "\n\x1b[31m- gone\x1b[0m\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// renderers are what commands show to people, with text in every string of it.
func renderers(t *testing.T) map[string]func(w io.Writer, text string) {
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	return map[string]func(w io.Writer, text string){
		"up": func(w io.Writer, text string) {
			printResult(w, resultOf(text))
			tellNotServing(w, slices.Repeat([]string{text}, maxNotServing+2))
		},
		"validate": func(w io.Writer, text string) {
			layout.WriteText(w, validation.Report{Diagnostics: filled[schema.Diagnostics](text)}.Text())
		},
		"plan":             func(w io.Writer, text string) { p := planOf(text); p.WriteText(w) },
		"plan in Markdown": func(w io.Writer, text string) { p := planOf(text); p.WriteMarkdown(w) },
		"diff":             func(w io.Writer, text string) { p := planOf(text); p.WriteObjects(w) },
		"why":              func(w io.Writer, text string) { c := filled[why.Chain](text); c.WriteText(w, now) },
		"history": func(w io.Writer, text string) {
			writeHistory(w, []*schema.Revision{new(filled[schema.Revision](text)), new(filled[schema.Revision](text))}, now)
		},
		"status": func(w io.Writer, text string) {
			s := status{Source: new(filled[schema.Source](text)), Revision: new(filled[schema.Revision](text))}
			s.Source.Status.Conditions = []metav1.Condition{{Reason: text, Message: text}}
			cluster := podsThatSay(text)
			s.lines, s.Trouble = progress.Lines(cluster, "main", now), progress.Troubles(cluster, "main", now)
			if len(s.Trouble) != 2 {
				t.Errorf("troubles: %q", s.Trouble)
			}
			s.Nodes = progress.Nodes([]*corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: text}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Reason: text, Message: text}}}}})
			s.write(w)
		},
		"rollback": func(w io.Writer, text string) { r := filled[rollbackCommit](text); r.write(w) },
	}
}

// TestTextOfOthersSteersNoTerminal fills everything that commands show with hostile
// text, each string of it, and wants the lines and columns that harmless text has.
func TestTextOfOthersSteersNoTerminal(t *testing.T) {
	for name, write := range renderers(t) {
		t.Run(name, func(t *testing.T) {
			var plain bytes.Buffer
			write(&plain, strings.Repeat("harmless ", len(hostile)/8))
			got := toTerminal(t, func(w *terminal) { write(w, hostile) })
			if !strings.Contains(got, `gpj.exe`) {
				t.Fatalf("the text is not shown at all:\n%s", got)
			}
			if want := strings.Count(plain.String(), "\n"); strings.Count(got, "\n") != want {
				t.Errorf("%d lines, want %d:\n%s", strings.Count(got, "\n"), want, got)
			}
			if strings.Contains(got, "\t") || strings.Contains(got, "\nHEALTHY") {
				t.Errorf("text of others has a cell or line of its own:\n%q", got)
			}
			for _, r := range got {
				if r != '\n' && !schema.IsPrintable(r) {
					t.Fatalf("%U reaches the terminal: %q", r, got)
				}
			}
		})
	}
}

// podsThatSay is a cluster of two pods, one that no node takes and one whose container
// waits, both for what text says.
func podsThatSay(text string) state.Reader {
	lacks := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: text}, Status: corev1.PodStatus{
		Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: text}},
	}}
	waits := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "waits"}, Spec: corev1.PodSpec{NodeName: "n1"}, Status: corev1.PodStatus{
		Phase:             corev1.PodPhase(text),
		ContainerStatuses: []corev1.ContainerStatus{{Name: text, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: schema.ReasonCrashLoop, Message: text}}}},
	}}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
	tx := state.Empty(state.Counters{}).Begin()
	for _, obj := range []schema.Object{lacks, waits, node} {
		schema.SetOrigin(obj, schema.Origin{Source: "main"})
		tx.Restore(obj)
	}
	return tx.Commit()
}

// planOf is a plan full of text. Values with several lines are shown as such: the
// lines of its one are left out, so that lines can be counted.
func planOf(text string) plan.Plan {
	p := filled[plan.Plan](text)
	field := &p.Objects[0].Fields[0]
	field.From, field.To = strings.ReplaceAll(text, "\n", ""), strings.ReplaceAll(text, "\n", "")
	return p
}

// filled is a value with text in every string of it, lists and maps with one
// element, and no pointer nil.
func filled[T any](text string) (v T) {
	fill(reflect.ValueOf(&v).Elem(), text, 0)
	return v
}

// maxDepth bounds types that hold themselves, as the schemas of custom resources.
const maxDepth = 12

func fill(v reflect.Value, text string, depth int) {
	if depth > maxDepth || !v.CanSet() {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(2)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), text, depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), text, depth+1)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), text, depth+1)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, text, depth+1)
		fill(value, text, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	}
}

func TestOutputForProgramsIsExactAndHarmless(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.SampledFrom([]rune("a: #\n\t\"'\\\x1b\x7f\u0080\u202e\u2028\u200b\ufeff\U000e0041\U000f0000é"))))
		want := map[string][]string{text.Draw(t, "key"): rapid.SliceOf(text).Draw(t, "values")}
		for format, read := range map[string]func([]byte, any) error{"json": json.Unmarshal, "yaml": func(b []byte, v any) error { return yaml.Unmarshal(b, v) }} {
			var out bytes.Buffer
			if err := writeAs(&out, format, want); err != nil {
				t.Fatal(err)
			}
			if shown := schema.PrintableText(out.String()); shown != out.String() {
				t.Fatalf("%s would be changed on its way to a terminal:\n%q\n%q", format, out.String(), shown)
			}
			var got map[string][]string
			if err := read(out.Bytes(), &got); err != nil {
				t.Fatalf("%s: %v in %s", format, err, out.String())
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s: %s", format, diff)
			}
		}
	})
}

// What status writes as JSON is a contract: workloads of each kind under their plural,
// none left out where there are none.
func TestStatusNamesWorkloadsByTheirPlural(t *testing.T) {
	d := schema.Info("Deployment").New()
	d.SetName("api")
	s := &status{Revision: &schema.Revision{}, Workloads: map[schema.Kind][]schema.Object{schema.KindOf(d): {d}}, Trouble: list[string](nil), Nodes: []string{"n1 <is> away"}}
	text, err := jsonText(s)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	dec := json.NewDecoder(bytes.NewReader(text))
	for depth := 0; ; {
		token, err := dec.Token()
		if err != nil {
			break
		}
		if delim, ok := token.(json.Delim); ok {
			depth += map[json.Delim]int{'{': 1, '[': 1, '}': -1, ']': -1}[delim]
		} else if key, ok := token.(string); ok && depth == 1 {
			keys = append(keys, key)
		}
	}
	want := []string{"source", "revision", "deployments", "jobs", "cronjobs", "trouble", "nodes"}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(string(text), `"name": "api"`) {
		t.Errorf("the Deployment is not told: %s", text)
	}
	s.Workloads, s.Master = nil, []string{"the disk is full"}
	if text, err = jsonText(s); err != nil || !strings.Contains(string(text), "\"deployments\": [],") || !strings.Contains(string(text), `"master": [`) {
		t.Errorf("got %v %s", err, text)
	}
}
