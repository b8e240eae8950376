package load

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
	"fairlead/schema/load/child"
	"fairlead/schema/load/cue"
)

// TestMain lets the test binary be the child that evaluates CUE, also one that counts
// or hangs.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if run, ok := testChildren[os.Args[1]]; ok {
			// Not os.Exit: there the race detector stays for another second.
			if err := run(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				syscall.Exit(1)
			}
			syscall.Exit(0)
		}
	}
	goleak.VerifyTestMain(m)
}

var testChildren = map[string]func(args []string) error{
	ChildSubcommand: func([]string) error { return RunChild(os.Stdin, os.Stdout) },
	"counted": func(args []string) error {
		log, err := os.OpenFile(args[0], os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		counted := cue.Language
		counted.Evaluate = func(files []child.File) func(string) child.Response {
			evaluate := cue.Language.Evaluate(files)
			return func(dir string) child.Response {
				fmt.Fprintln(log, dir)
				return evaluate(dir)
			}
		}
		return child.Serve(os.Stdin, os.Stdout, counted)
	},
	"hanging": func([]string) error {
		<-time.After(time.Hour)
		return nil
	},
}

// childCUE makes a CUE whose child is one of testChildren.
func childCUE(t *testing.T, limits child.Limits, args ...string) *CUE {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return NewCUE(CUEConfig{Command: append([]string{self}, args...), Limits: limits})
}

func loadCUE(evaluator *CUE, pairs ...string) Result {
	return Load(context.Background(), treeOf(pairs...), schema.SourceSpec{}, Options{CUE: evaluator})
}

// A ConfigMap in one line of CUE.
func configCUE(name, rest string) string {
	return fmt.Sprintf(`{apiVersion: "v1", kind: "ConfigMap", metadata: name: %q%s}`, name, rest)
}

func TestCUEObjects(t *testing.T) {
	text := `package a

import ("encoding/base64", "strings")

#config: {
	apiVersion: "v1"
	kind:       "ConfigMap"
	metadata: name: string
	data: [string]: string
	data: greeting: string | *"hello"
}
one: #config & {metadata: name: "one"}
deep: down: list: [#config & {metadata: name: "two", data: greeting: "yes"}, "skipped" if false]
for n in ["three"] {(n): #config & {metadata: name: n}}
_hidden: #config & {metadata: name: "hidden"}
maybe?:  #config
open:    string
secret: {
	apiVersion: "v1"
	kind:       "Secret"
	metadata: name: strings.ToLower("FOUR")
	data: {a: 'bytes', b: base64.Encode(null, "text")}
}
`
	text = strings.Replace(text, `, "skipped" if false]`, `, if false {1}]`, 1)
	result := loadCUE(nil, "a.cue", text)
	if len(result.Diagnostics) > 0 {
		t.Fatal(result.Diagnostics)
	}
	var got []string
	for _, d := range result.Objects {
		switch o := d.Object.(type) {
		case *corev1.ConfigMap:
			got = append(got, fmt.Sprintf("%v %s %v", d.Position, o.Name, o.Data))
		case *corev1.Secret:
			got = append(got, fmt.Sprintf("%v %s %s", d.Position, o.Name, o.Data))
		}
	}
	want := []string{
		"a.cue:12:1 one map[greeting:hello]",
		"a.cue:14:21 three map[greeting:hello]",
		"a.cue:13:13 two map[greeting:yes]",
		"a.cue:18:1 four map[a:bytes b:text]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A field stands where a person would change it.
func TestCUEPositions(t *testing.T) {
	result := loadCUE(nil,
		"a.cue", `package a
#config: {
	#text: string
	apiVersion: "v1"
	kind:       "ConfigMap"
	metadata: {
		name: string
		labels: app: metadata.name
		...
	}
	data: {
		text: #text
		own:  "template"
		...
	}
}
configs: [Name=string]: #config & {metadata: name: Name}
`,
		"b.cue", `package a
texts: #config & {
	#text: "x"
	metadata: {
		name: "texts"
		annotations: a: "b"
	}
}
configs: some: #text: "y"
configs: some: data: own2: "z"
`)
	if len(result.Diagnostics) > 0 {
		t.Fatal(result.Diagnostics)
	}
	some, texts := result.Objects[0], result.Objects[1]
	got := fmt.Sprintln(some.Position, some.Locate("data[text]"), some.Locate("data[own2]"), some.Locate("data"), some.Locate("data[own]"), some.Locate("metadata.name"), some.Locate("binaryData")) +
		fmt.Sprintln(texts.Position, texts.Locate("metadata.name"), texts.Locate("metadata.labels[app]"), texts.Locate("metadata.annotations"), texts.Locate("data[text]"), texts.Locate("kind"))
	want := "b.cue:9:10 b.cue:9:23 b.cue:10:28 b.cue:10:16 a.cue:13:9 a.cue:17:52 b.cue:9:10\n" +
		"b.cue:2:1 b.cue:5:9 b.cue:5:9 b.cue:6:3 b.cue:3:9 a.cue:5:14\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCUEPackages(t *testing.T) {
	module := "module: \"example.com/shop\"\nlanguage: version: \"v0.14.0\"\n"
	library := "package lib\n#Config: {apiVersion: \"v1\", kind: \"ConfigMap\", metadata: name: string}\n"
	uses := func(rest string) string {
		return "package app\nimport \"example.com/shop/lib\"\n" + rest
	}
	for _, test := range []struct {
		name  string
		files []string
		spec  schema.SourceSpec
		want  []string // objects, then diagnostics
	}{
		{
			name:  "imports from the tree",
			files: []string{"app/a.cue", uses(`a: lib.#Config & {metadata: name: "a"}`), "cue.mod/module.cue", module, "lib/lib.cue", library},
			want:  []string{"ConfigMap a at app/a.cue:3:1"},
		},
		{
			name:  "what is excluded can still be imported",
			files: []string{"app/a.cue", uses(`a: lib.#Config & {metadata: name: "a"}`), "cue.mod/module.cue", module, "lib/lib.cue", library + "name: \"x\"\n"},
			spec:  schema.SourceSpec{Exclude: []string{"lib"}},
			want:  []string{"ConfigMap a at app/a.cue:3:1"},
		},
		{
			name:  "a vendored package",
			files: []string{"a.cue", "package a\nimport \"other.org/v\"\na: v.#Config & {metadata: name: \"a\"}", "cue.mod/module.cue", module, "cue.mod/pkg/other.org/v/v.cue", strings.Replace(library, "lib", "v", 1)},
			want:  []string{"ConfigMap a at a.cue:3:1"},
		},
		{
			name:  "a package reaches into the directories below it",
			files: []string{"app/a.cue", "package app\na: " + configCUE("a", ""), "app/sub/b.cue", "package app\nb: " + configCUE("b", ""), "cue.mod/module.cue", module},
			want:  []string{"ConfigMap a at app/a.cue:2:1", "ConfigMap b at app/sub/b.cue:2:1"},
		},
		{
			name:  "modules of their own",
			files: []string{"x/a.cue", uses(`a: lib.#Config & {metadata: name: "a"}`), "x/cue.mod/module.cue", module, "x/lib/lib.cue", library, "y/b.cue", "b: " + configCUE("b", "")},
			want:  []string{"ConfigMap a at x/a.cue:3:1", "ConfigMap b at y/b.cue:1:1"},
		},
		{
			name:  "a package that is not there",
			files: []string{"app/a.cue", uses(`a: lib.#Config`), "cue.mod/module.cue", module},
			want:  []string{`app/a.cue:2:8: import failed: cannot find package "example.com/shop/lib": cannot find module providing package example.com/shop/lib`},
		},
		{
			name:  "a module that would have to be fetched",
			files: []string{"a.cue", "package a\nimport \"foo.com/bar\"\nx: bar.y", "cue.mod/module.cue", module + `deps: "foo.com/bar@v0": v: "v0.1.0"`},
			want:  []string{`a.cue:2:8: import failed: cannot find package "foo.com/bar": cannot fetch foo.com/bar@v0.1.0: foo.com/bar@v0.1.0 is not fetched: a tree must hold what it imports, below cue.mod/pkg or as a package of its own`},
		},
		{
			name:  "an import without a module",
			files: []string{"a.cue", uses(`a: lib.#Config`)},
			want:  []string{"a.cue:2:8: import failed: imports are unavailable because there is no cue.mod/module.cue file"},
		},
		{
			name:  "a file of the machine",
			files: []string{"a.cue", "@extern(embed)\npackage a\n_x: _ @embed(file=\"../../../../etc/passwd\",type=text)\n_y: _ @embed(file=passwd.txt,type=text)\n", "cue.mod/module.cue", module},
			want:  []string{"a.cue:3:7: @embed: cannot refer to parent directory", "a.cue:4:7: @embed: open passwd.txt: no such file or directory"},
		},
		{
			name:  "a module file without a version",
			files: []string{"a.cue", "a: " + configCUE("a", ""), "cue.mod/module.cue", `module: "example.com/shop"`},
			want:  []string{"cue.mod/module.cue: no language version declared in module.cue"},
		},
		{
			name:  "two packages in one directory",
			files: []string{"a.cue", "package a", "b.cue", "// b\npackage b"},
			want:  []string{"b.cue:2:9: package b, but a.cue is of package a: one directory is one package (move it to a directory of its own, or exclude it in the Source)"},
		},
		{
			name:  "files that are the cue command's own",
			files: []string{"a.cue", "package a\na: " + configCUE("a", ""), "a_test.cue", "package a\ntest: 1", "a_tool.cue", "package a\ncommand: 1", "off.cue", "@if(never)\npackage a\nx: 1"},
			want:  []string{"ConfigMap a at a.cue:2:1"},
		},
		{
			name:  "a file that is not there to CUE",
			files: []string{"_a.cue", "package a\na: " + configCUE("a", "")},
			want:  []string{"_a.cue: warning: not read: to CUE, a file whose name begins with _ is not there"},
		},
		{
			name:  "a name with all kinds of characters",
			files: []string{"my app@v1:x/ü b.cue", "b: " + configCUE("b", "")},
			want:  []string{"ConfigMap b at my app@v1:x/ü b.cue:1:1"},
		},
		{
			name:  "a name that CUE cannot open",
			files: []string{"a:c.cue", "a: " + configCUE("a", "")},
			want:  []string{`a:c.cue: invalid io/fs path "a:c.cue"`},
		},
		{
			name:  "a name that is no text",
			files: []string{"a\xff.cue", "a: 1"},
			want:  []string{`a\xff.cue: its name is not valid UTF-8`},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			result := Load(context.Background(), treeOf(test.files...), test.spec, Options{})
			var got []string
			for _, d := range result.Objects {
				got = append(got, fmt.Sprintf("%s %s at %v", schema.KeyOf(d.Object).Kind, d.Object.GetName(), d.Position))
			}
			got = append(got, lines(result.Diagnostics)...)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// cpuBomb is ten three-way disjunctions, 3^10 ways to combine them.
func cpuBomb() string {
	var choices []string
	for i := range 12 {
		choices = append(choices, fmt.Sprintf("({a%d: 1} | {a%d: 2} | {a%d: 3})", i, i, i))
	}
	return "package a\n#d: " + strings.Join(choices, " & ") + "\nx: #d\n"
}

const memoryBomb = "package a\nimport \"list\"\nx: list.Range(0, 100000000, 1)\n"

func TestCUELimits(t *testing.T) {
	good := "good: " + configCUE("good", "")
	for _, test := range []struct {
		name   string
		limits child.Limits
		bomb   string
		want   string
	}{
		{"memory", child.Limits{Memory: 64 << 20}, memoryBomb, "evaluating this directory takes more than 64 MiB of memory"},
		{"CPU time", child.Limits{CPU: time.Second}, cpuBomb(), "evaluating this directory takes more than 1s of CPU time"},
		{"wall clock", child.Limits{Wall: 2 * time.Second}, cpuBomb(), "evaluating this directory takes longer than 2s"},
		{"nesting", child.Limits{}, "x: " + strings.Repeat("(", 200_000) + "1" + strings.Repeat(")", 200_000), "expression exceeds maximum nesting depth of 10000"},
		{"depth", child.Limits{}, "x: " + strings.Repeat("{a: ", 200) + "1" + strings.Repeat("}", 200), "nested deeper than 100 levels"},
		{"recursion", child.Limits{}, "#f: {n: int, r: (#f & {n: n+1}).r}\nx: (#f & {n: 0}).r", "structural cycle"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.limits.Wall == 0 { // a busy machine's clock is not what ends it
				test.limits.Wall, test.limits.Tree = 5*time.Minute, 10*time.Minute
			}
			result := loadCUE(childCUE(t, test.limits, ChildSubcommand), "a/good.cue", good, "b/bomb.cue", test.bomb, "c/good.cue", strings.ReplaceAll(good, `"good"`, `"more"`))
			if len(result.Diagnostics) == 0 || result.Diagnostics[0].Path != "b/bomb.cue" || !strings.Contains(result.Diagnostics[0].Message, test.want) {
				t.Errorf("got %v, want %q", result.Diagnostics, test.want)
			}
			if len(result.Objects) != 2 {
				t.Errorf("%d objects beside the bomb, want 2: %v", len(result.Objects), result.Diagnostics)
			}
		})
	}
}

func TestCUECancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(300*time.Millisecond, cancel)
	result := Load(ctx, treeOf("a/a.cue", "x: 1", "b/b.cue", "x: 1"), schema.SourceSpec{}, Options{CUE: childCUE(t, child.Limits{}, "hanging")})
	want := []string{
		": reading the tree was stopped: context canceled",
		"a/a.cue: evaluation was stopped: context canceled",
		"b/b.cue: evaluation was stopped: context canceled",
	}
	if diff := cmp.Diff(want, lines(result.Diagnostics)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What has not changed is not evaluated again.
func TestCUERemembers(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	evaluator := childCUE(t, child.Limits{}, "counted", log)
	evaluated := func(files map[string]string) string {
		t.Helper()
		var pairs []string
		for _, name := range []string{"app/a.cue", "cue.mod/module.cue", "lib/l.cue", "other/o.cue", "other/p.cue"} {
			if text, ok := files[name]; ok {
				pairs = append(pairs, name, text)
			}
		}
		if err := os.Truncate(log, 0); err != nil {
			t.Fatal(err)
		}
		if result := loadCUE(evaluator, pairs...); len(result.Diagnostics) > 0 || len(result.Objects) < 2 {
			t.Fatal(len(result.Objects), result.Diagnostics)
		}
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(string(text)), " ")
	}
	files := map[string]string{
		"app/a.cue":          "package app\nimport \"example.com/x/lib\"\na: " + configCUE("a", ", data: k: lib.#k"),
		"cue.mod/module.cue": "module: \"example.com/x\"\nlanguage: version: \"v0.14.0\"\n",
		"lib/l.cue":          "package lib\n#k: \"1\"\n",
		"other/o.cue":        "package other\no: " + configCUE("o", ""),
	}
	var got []string
	got = append(got, "at first: "+evaluated(files))
	got = append(got, "unchanged: "+evaluated(files))
	files["lib/l.cue"] = "package lib\n#k: \"2\"\n"
	got = append(got, "an import changed: "+evaluated(files))
	files["other/p.cue"] = "package other\np: " + configCUE("p", "")
	got = append(got, "a file came: "+evaluated(files))
	delete(files, "other/p.cue")
	got = append(got, "and went: "+evaluated(files))
	files["cue.mod/module.cue"] = "module: \"example.com/x\"\nlanguage: version: \"v0.15.0\"\n"
	got = append(got, "the module changed: "+evaluated(files))
	want := []string{
		"at first: app lib other", "unchanged: ", "an import changed: app lib", "a file came: other", "and went: ", "the module changed: app lib other",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
