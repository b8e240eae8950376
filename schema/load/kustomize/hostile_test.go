package kustomize

import (
	"encoding/base64"
	"fmt"
	"path"
	"strconv"
	"strings"
	"testing"

	"fairlead/schema"
	"fairlead/schema/load/child"
)

func pairs(pairs ...string) (out []child.File) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, child.File{Path: pairs[i], Text: []byte(pairs[i+1])})
	}
	return out
}

// What makes a survey long or endless has a bound, and ends in one word of why.
func TestHostileSurveys(t *testing.T) {
	chain := pairs("d0/a.yaml", "x: y\n")
	for i := range maxChain + 2 {
		chain = append(chain, pairs(fmt.Sprintf("c%d/kustomization.yaml", i), fmt.Sprintf("resources: [../c%d]\n", i+1))...)
	}
	chain = append(chain, pairs(fmt.Sprintf("c%d/kustomization.yaml", maxChain+2), "namePrefix: x-\n")...)
	ring := pairs()
	for i := range 10 {
		ring = append(ring, pairs(fmt.Sprintf("c%d/kustomization.yaml", i), fmt.Sprintf("resources: [../c%d]\n", (i+1)%10))...)
	}
	// From its end on: each is known when the one before it is entered.
	upwards := pairs()
	for i := range maxChain + 2 {
		upwards = append(upwards, pairs(fmt.Sprintf("c%02d/kustomization.yaml", i), "namePrefix: x-\n")...)
		if i > 0 {
			upwards[i].Text = fmt.Appendf(nil, "resources: [../c%02d]\n", i-1)
		}
	}
	doubling := "&a0 [{path: x}]"
	for i := range 30 {
		doubling += fmt.Sprintf(", &a%d [%s]", i+1, strings.Repeat(fmt.Sprintf("*a%d,", i), 9))
	}
	for _, test := range []struct {
		name  string
		files []child.File
		want  string
	}{
		{"generators without end", pairs("a/kustomization.yaml", "configMapGenerator:\n"+strings.Repeat("- {}\n", 600_000)), "a/kustomization.yaml:100000:3: this kustomization has more than the 100000 values that are read of one"},
		{"fields without end", pairs("a/kustomization.yaml", "commonLabels:\n"+manyFields(150_000)), "a/kustomization.yaml:100000:"},
		{"a long chain from its end on", upwards, "more than 64 kustomizations use each other in a row"},
		{"lists of aliases", pairs("a/kustomization.yaml", "patches: ["+doubling+"]\n"), "a/kustomization.yaml:1:"},
		{"aliases of long lists", pairs("a/kustomization.yaml", "replacements: [&r {targets: ["+strings.Repeat("{},", 100_000)+"]}"+strings.Repeat(",*r", 100_000)+"]\n"), "a/kustomization.yaml:1:"},
		{"a long chain", chain, "more than 64 kustomizations use each other in a row"},
		{"a ring", ring, "so they would use each other without end"},
		{"out of the tree", pairs("a/kustomization.yaml", "resources: [../../../../../../etc]\n"), "leads out of the repository"},
		{"out and in again", pairs("a/kustomization.yaml", "resources: [../../nonexistent/tree/b]\n", "b/kustomization.yaml", "namePrefix: x-\n"), "leads out of the repository"},
		{"absolute into the tree", pairs("a/kustomization.yaml", "resources: [/nonexistent/tree/b]\n", "b/kustomization.yaml", "namePrefix: x-\n"), "is an absolute path"},
		{"a file of another directory", pairs("a/kustomization.yaml", "configMapGenerator: [{name: c, files: [../b/secret.txt]}]\n", "b/secret.txt", "x"), "kustomize reads no other files"},
		{"a very long name", pairs("a/kustomization.yaml", "resources: ["+strings.Repeat("x", 100_000)+"]\n"), "there is no file or directory"},
		{"aliases of aliases", pairs("a/kustomization.yaml", "x: &a [1,1,1,1,1,1,1,1,1]\ny: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nresources: *b\n"), "unknown field"},
		{"deep nesting", pairs("a/kustomization.yaml", "resources: "+strings.Repeat("[", 10_000)+"\n"), "a/kustomization.yaml"},
		{"not UTF-8", pairs("a/kustomization.yaml", "resources: [\"\xff\"]\n"), "a/kustomization.yaml"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := surveyOf(test.files)
			if len(s.Diagnostics) == 0 || !strings.Contains(fmt.Sprint(s.Diagnostics), test.want) {
				t.Errorf("got %.500v, want %q", s.Diagnostics, test.want)
			}
		})
	}
}

func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  l%d: x\n", i)
	}
	return b.String()
}

// What becomes of each entry and reference of a kustomization is found without looking at
// all others: twice as many take about twice the work.
func TestWorkGrowsWithEntries(t *testing.T) {
	for what, text := range map[string]func(n int) string{
		"generators":         func(n int) string { return "configMapGenerator:\n" + strings.Repeat("- {name: c}\n", n) },
		"secrets":            func(n int) string { return "secretGenerator:\n" + strings.Repeat("- {name: c}\n", n) },
		"files of generator": func(n int) string { return "configMapGenerator:\n" + strings.Repeat("- {name: c, files: [f]}\n", n) },
		"patches":            func(n int) string { return "patches:\n" + strings.Repeat("- {path: f}\n", n) },
		"with an error":      func(n int) string { return "unknown: x\nconfigMapGenerator:\n" + strings.Repeat("- {name: c}\n", n) },
	} {
		work := func(n int) float64 {
			files := newBuilder(pairs("a/kustomization.yaml", text(n), "a/f", "x")).files
			return testing.AllocsPerRun(1, func() { Look(t.Context(), schema.Tree{Files: files}, func(string) bool { return true }) })
		}
		if once, twice := work(1_000), work(2_000); twice > 3*once {
			t.Errorf("%s: %.0f allocations for 1,000, %.0f for 2,000", what, once, twice)
		}
	}
}

// What stays of a kustomization's entries does not repeat the name of its directory.
func TestEntriesShareTheirNames(t *testing.T) {
	dir := strings.Repeat("d", 2_000)
	s := surveyOf(pairs(dir+"/kustomization.yaml", "configMapGenerator:\n"+strings.Repeat("- {name: c}\n", 1_000)))
	if len(s.Units) != 1 {
		t.Fatalf("%v", s.Diagnostics)
	}
	kept := 0
	for _, own := range s.Units[0].parts[0].own {
		kept += len(own.does.name)
	}
	if by := s.Units[0].By(schema.Position{Path: dir + "/kustomization.yaml", Line: 700, Column: 9}); kept != 1_000 || by != "configMapGenerator c of "+dir {
		t.Errorf("%d bytes of names are kept, %q", kept, by)
	}
}

// Of thousands of bases, what has made a value is found without asking each.
func TestMakersOfManyBases(t *testing.T) {
	const bases = 5_000
	files := pairs("kustomization.yaml", "resources:\n")
	for i := range bases {
		files[0].Text = fmt.Appendf(files[0].Text, "- b%d\n", i)
		files = append(files, pairs(fmt.Sprintf("b%d/kustomization.yaml", i), "namePrefix: x-\npatches: [{path: p.yaml}]\n", fmt.Sprintf("b%d/p.yaml", i), object)...)
	}
	s := surveyOf(files)
	if len(s.Units) != 1 {
		t.Fatalf("%d units, %v", len(s.Units), s.Diagnostics)
	}
	u := s.Units[0]
	for i := range bases {
		dir := fmt.Sprintf("b%d", i)
		for place, want := range map[schema.Position]string{
			{Path: dir + "/p.yaml", Line: 1, Column: 1}:              "a patch of " + dir,
			{Path: dir + "/kustomization.yaml", Line: 1, Column: 13}: "namePrefix of " + dir,
			{Path: dir + "/other.yaml", Line: 1, Column: 1}:          "",
		} {
			if by := u.By(place); by != want {
				t.Fatalf("%v is of %q, want %q", place, by, want)
			}
			if asked := len(u.places[place.Path]); asked > 1 {
				t.Fatalf("%d kustomizations are asked of %v", asked, place)
			}
		}
	}
}

// Bases that are reached in very many ways are surveyed once each, though the library
// would build them as often as they are reached.
func TestManyWays(t *testing.T) {
	files := pairs("z/kustomization.yaml", "namePrefix: z-\n")
	for i := range 30 {
		next := fmt.Sprintf("../k%02d", i+1)
		if i == 29 {
			next = "../z"
		}
		files = append(files, pairs(
			fmt.Sprintf("k%02d/kustomization.yaml", i), fmt.Sprintf("resources: [../l%02d, ../r%02d]\n", i, i),
			fmt.Sprintf("l%02d/kustomization.yaml", i), "resources: ["+next+"]\nnamePrefix: l-\n",
			fmt.Sprintf("r%02d/kustomization.yaml", i), "resources: ["+next+"]\nnamePrefix: r-\n")...)
	}
	s := surveyOf(files)
	if len(s.Units) != 1 || s.Units[0].Dir != "k00" {
		t.Fatalf("units %v, %v", s.Units, s.Diagnostics)
	}
	b := newBuilder(files)
	w := walker{Survey: &Survey{}, ctx: t.Context()}
	w.open(b.files, nil)
	root, _ := w.node("k00")
	w.visit(root, nil)
	if n := len(sourcesOf(root).ways); n != maxWays {
		t.Errorf("looked at in %d ways, want %d", n, maxWays)
	}
}

// A thousand overlays are a thousand units, each of its own files and the base's.
func TestManyOverlays(t *testing.T) {
	files := pairs("base/kustomization.yaml", "resources: [a.yaml]\n", "base/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
	for i := range 1_000 {
		files = append(files, pairs(fmt.Sprintf("o/%d/kustomization.yaml", i), fmt.Sprintf("resources: [../../base]\nnamePrefix: o%d-\n", i))...)
	}
	s := surveyOf(files)
	if len(s.Units) != 1_000 || len(s.Diagnostics) > 0 {
		t.Fatalf("%d units, %v", len(s.Units), s.Diagnostics)
	}
	for _, u := range s.Units {
		if len(u.Files) != 3 || path.Base(u.File) != "kustomization.yaml" {
			t.Fatalf("%s reads %v", u.Dir, u.Files)
		}
	}
}

// Files that a client sends may be in any order, twice, or named as none can be.
func TestUnsortedFiles(t *testing.T) {
	file := func(name, text string) schema.File {
		return schema.File{Path: name, Blob: &schema.Blob{Size: int64(len(text)), Open: func() ([]byte, error) { return []byte(text), nil }}}
	}
	s := Look(t.Context(), schema.Tree{Files: []schema.File{
		file("z/kustomization.yaml", "resources: [../a]\n"), file("z/kustomization.yaml", "resources: [../b]\n"), file("", ""), file("/kustomization.yaml", ""),
		file("../kustomization.yaml", "resources: [a]\n"), file("a/kustomization.yaml", "namePrefix: x-\n"), file("a//b", ""),
	}}, func(string) bool { return true })
	if len(s.Diagnostics) == 0 {
		t.Error("nothing is told")
	}
}

// Aliases of aliases are a few nodes, however many values they stand for.
func TestAliasesOfAliases(t *testing.T) {
	lists, texts := "", ""
	for i := range 40 {
		last := fmt.Sprintf("*a%d", i-1)
		if i == 0 {
			last = "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}"
		}
		lists += fmt.Sprintf("x%d: &a%d {apiVersion: v1, kind: List, items: [%s, %s]}\n", i, i, last, last)
		texts += fmt.Sprintf("x%d: &a%d [%s, %s]\n", i, i, last, last)
	}
	files := pairs("a/kustomization.yaml", "resources: [l.yaml]\npatches: [{patch: "+strconv.Quote("kind: ConfigMap\nmetadata: {name: c}\n"+texts+"y: *a39\n")+"}]\n",
		"a/l.yaml", "apiVersion: v1\nkind: List\n"+lists+"items: [*a39]\n")
	b := newBuilder(files)
	w := walker{Survey: &Survey{}, ctx: t.Context()}
	w.open(b.files, nil)
	root, _ := w.node("a")
	w.visit(root, nil)
	if s := sourcesOf(root); len(s.documents) != 2 || len(s.patches) != 1 {
		t.Errorf("%d documents, %d patches", len(s.documents), len(s.patches))
	}
}

// The library reads no variable after a line that is too long for it, without a word.
func TestLongVariables(t *testing.T) {
	for _, test := range []struct {
		length int
		end    string
		ok     bool
	}{{65_535, "", true}, {65_535, "\n", true}, {65_536, "", false}, {65_536, "\n", false}, {65_535, "\r\n", false}, {65_534, "\r\nB=2\n", true}, {100_000, "\nB=2\n", false}} {
		env := "A=" + strings.Repeat("x", test.length-2) + test.end
		generator := "apiVersion: builtin\nkind: ConfigMapGenerator\nmetadata: {name: c}\nenvs: [e]\n"
		for what, files := range map[string][]child.File{
			"envs":                  pairs("a/kustomization.yaml", "configMapGenerator: [{name: c, envs: [e]}]\n", "a/e", env),
			"env":                   pairs("a/kustomization.yaml", "configMapGenerator: [{name: c, env: e}]\n", "a/e", env),
			"a generator's":         pairs("a/kustomization.yaml", "generators: [g.yaml]\n", "a/g.yaml", generator, "a/e", env),
			"an inline generator's": pairs("a/kustomization.yaml", "generators: ["+strconv.Quote(generator)+"]\n", "a/e", env),
		} {
			resp := newBuilder(files).build("a")
			told := fmt.Sprint(resp.Diagnostics)
			if test.ok != (len(resp.Objects) == 1) || !test.ok && !strings.Contains(told, "a/e:1:1: this line is longer than the 65535 bytes") {
				t.Errorf("%s, %d and %q: %d objects, %.300s", what, test.length, test.end, len(resp.Objects), told)
			}
			if test.ok && !strings.Contains(string(resp.Objects[0]), strings.Repeat("x", test.length-2)) {
				t.Errorf("%s, %d and %q: the value is not there", what, test.length, test.end)
			}
		}
	}
}

// No message repeats the value of a Secret, whatever the library says.
func TestSecretsAreNotTold(t *testing.T) {
	const canary = "correct-horse-battery"
	generator := "secretGenerator:\n- name: s\n  literals: [\"PASSWORD=" + canary + "\"]\n"
	encoded := base64.StdEncoding.EncodeToString([]byte(canary))
	config := "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {list: \"a\"}\n"
	object := "apiVersion: v1\nkind: Secret\nmetadata: {name: s, finalizers: [a]}\ndata: {PASSWORD: " + encoded + "}\n" + config
	written := "apiVersion: v1\nkind: Secret\nmetadata: {name: s, finalizers: [a]}\nstringData: {PASSWORD: " + canary + "}\n" + config
	outOfBounds := "replacements:\n- source: {kind: ConfigMap, name: c, fieldPath: data.list}\n  targets: [{select: {kind: Secret}, fieldPaths: [metadata.finalizers.5]}]\ntransformers:\n- |\n  apiVersion: builtin\n  kind: PatchTransformer\n  metadata: {name: t}\n  target: {kind: Secret}\n  patch: '[{op: add, path: /metadata/finalizers, value: [a]}]'\n"
	noText := "replacements:\n- source: {kind: Secret, name: s, fieldPath: data.PASSWORD, options: {delimiter: x, index: 99}}\n  targets: [{select: {kind: ConfigMap}, fieldPaths: [data.list], options: {delimiter: \"-\", index: 9}}]\n"
	wrongPatch := "patches: [{target: {kind: S.*t}, patch: \"[{op: test, path: /data/PASSWORD, value: x}, {op: add, path: /data/PASSWORD/0/x, value: y}]\"}]\n"
	inline := "generators:\n- |\n  apiVersion: builtin\n  kind: SecretGenerator\n  metadata: {name: s}\n  literals: [\"PASSWORD=" + canary + "\"]\n"
	for name, files := range map[string][]child.File{
		"bounds of an object":    pairs("a/kustomization.yaml", "resources: [s.yaml]\n"+outOfBounds, "a/s.yaml", object),
		"bounds of text":         pairs("a/kustomization.yaml", "resources: [s.yaml]\n"+outOfBounds, "a/s.yaml", written),
		"bounds of a generator":  pairs("a/kustomization.yaml", "resources: [c.yaml]\n"+generator+outOfBounds, "a/c.yaml", config),
		"bounds of an inline":    pairs("a/kustomization.yaml", "resources: [c.yaml]\n"+inline+outOfBounds, "a/c.yaml", config),
		"bounds of a base":       pairs("a/kustomization.yaml", "resources: [../b]\n"+outOfBounds, "b/kustomization.yaml", "resources: [s.yaml]\n", "b/s.yaml", object),
		"bounds of a list":       pairs("a/kustomization.yaml", "resources: [s.json]\n"+outOfBounds, "a/s.json", `{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"S\u0065cret","metadata":{"name":"s","finalizers":["a"]},"data":{"PASSWORD":"`+encoded+`"}},{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"list":"a"}}]}`),
		"bounds of an alias":     pairs("a/kustomization.yaml", "resources: [s.yaml]\n"+outOfBounds, "a/s.yaml", "apiVersion: v1\nkind: &k Secret\nmetadata: {name: s, finalizers: [a], annotations: {kind: &v \""+encoded+"\"}}\ndata: {PASSWORD: *v}\n"+config),
		"a source out of bounds": pairs("a/kustomization.yaml", "resources: [s.yaml]\n"+noText, "a/s.yaml", object),
		"a patch of any":         pairs("a/kustomization.yaml", "resources: [s.yaml]\n"+wrongPatch, "a/s.yaml", object),
		"a node of another kind": pairs("a/kustomization.yaml", "resources: [s.yaml]\npatches: [{patch: \"{apiVersion: v1, kind: Secret, metadata: {name: s}, data: ["+encoded+"]}\"}]\n", "a/s.yaml", object),
		"a base's generator":     pairs("a/kustomization.yaml", "resources: [c.yaml]\ngenerators: [../g]\n"+outOfBounds, "a/c.yaml", config, "g/kustomization.yaml", "resources: [g.yaml]\n", "g/g.yaml", "apiVersion: builtin\nkind: SecretGenerator\nmetadata: {name: s}\nliterals: [\"PASSWORD="+canary+"\"]\n"),
		"becomes one":            pairs("a/kustomization.yaml", "resources: [c.yaml]\n"+outOfBounds+"patches: [{target: {kind: ConfigMap, name: s}, options: {allowKindChange: true}, patch: \"[{op: replace, path: /kind, value: Secret}]\"}]\n", "a/c.yaml", strings.Replace(object, "Secret", "ConfigMap", 1)),
		"a value as a file":      pairs("a/kustomization.yaml", "secretGenerator: [{name: s, files: [PASSWORD="+canary+"]}]\n"),
		"a value as a file's":    pairs("a/kustomization.yaml", "secretGenerator: [{name: s, files: ["+canary+", /"+canary+", \"x=../"+canary+"\", \"x=../../"+canary+"\", \"http://"+canary+"\"]}]\n"),
		"a value as variables":   pairs("a/kustomization.yaml", "secretGenerator: [{name: s, envs: [PASSWORD="+canary+"], env: "+canary+"}]\n"),
		"a value as a list":      pairs("a/kustomization.yaml", "secretGenerator: [{name: s, literals: {PASSWORD: "+canary+"}}]\n"),
		"a list of values":       pairs("a/kustomization.yaml", "secretGenerator: [{name: s, literals: [{PASSWORD: "+canary+"}]}]\n"),
		"one value":              pairs("a/kustomization.yaml", "secretGenerator: [{name: s, literals: PASSWORD="+canary+"}]\n"),
		"a patch in JSON":        pairs("a/kustomization.yaml", "resources: [s.yaml]\npatchesStrategicMerge: ['{\"kind\":\"Secret\",\"stringData\":{\"a\":\""+canary+"\"}}']\n", "a/s.yaml", object),
		"a patch that is none":   pairs("a/kustomization.yaml", "resources: [s.yaml]\npatchesStrategicMerge: ['stringData:{a:"+canary+"}', 'a="+canary+"']\n", "a/s.yaml", object),
		"a generator in JSON":    pairs("a/kustomization.yaml", "generators: ['{\"kind\":\"SecretGenerator\",\"literals\":[\"a="+canary+"\"]}']\n"),
		"a patch's text":         pairs("a/kustomization.yaml", "resources: [s.yaml]\npatches: [{patch: '{\"kind\":\"Secret\",\"stringData\":{\"a\":\""+canary+"\"}'}]\n", "a/s.yaml", object),
		"no key":                 pairs("a/kustomization.yaml", "secretGenerator: [{name: s, literals: ["+canary+"]}]\n"),
		"no name":                pairs("a/kustomization.yaml", "secretGenerator: [{literals: [\"P="+canary+"\"]}]\n"),
		"twice":                  pairs("a/kustomization.yaml", "secretGenerator: [{name: s, literals: [\"P="+canary+"\", \"P="+canary+"x\"]}]\n"),
		"behavior":               pairs("a/kustomization.yaml", generator+"  behavior: merge\n"),
		"env file":               pairs("a/kustomization.yaml", "secretGenerator: [{name: s, envs: [e]}]\n", "a/e", "P Q="+canary+"\n"),
		"env alone":              pairs("a/kustomization.yaml", "secretGenerator: [{name: s, envs: [e]}]\n", "a/e", canary+"\n"),
		"no UTF-8":               pairs("a/kustomization.yaml", "secretGenerator: [{name: s, envs: [e]}]\n", "a/e", "P="+canary+"\xff\n"),
		"type":                   pairs("a/kustomization.yaml", generator+"  type: [x]\n"),
		"options":                pairs("a/kustomization.yaml", generator+"  options: {labels: {\"a b\": \"c d\"}}\n"),
		"patch":                  pairs("a/kustomization.yaml", generator+"patches: [{target: {kind: Secret}, patch: \"[{op: replace, path: /data/none, value: "+canary+"}]\"}]\n"),
		"beside":                 pairs("a/kustomization.yaml", generator+"replicas: [{name: none, count: 1}]\nvars: [{name: X, objref: {kind: \"Y\", name: z}}]\n"),
		"same name":              pairs("a/kustomization.yaml", generator+"- name: s\n  literals: [\"PASSWORD="+canary+"\"]\n"),
	} {
		t.Run(name, func(t *testing.T) {
			told := fmt.Sprint(surveyOf(files).Diagnostics)
			for _, u := range surveyOf(files).Units {
				resp := newBuilder(files).build(u.Dir)
				told += fmt.Sprint(resp.Diagnostics)
				if len(resp.Objects) > 0 && !resp.Private {
					t.Error("what has a Secret in it is remembered")
				}
			}
			for _, form := range []string{canary, encoded, encoded[:16], base64.StdEncoding.EncodeToString([]byte(encoded))} {
				if strings.Contains(told, form) {
					t.Error(told)
				}
			}
		})
	}
}

// A panic of the library is the unit's error, and nobody else's.
func TestSchemaThatIsNone(t *testing.T) {
	files := pairs("a/kustomization.yaml", "resources: [c.yaml]\nopenapi: {path: s.yaml}\npatches: [{path: p.yaml}]\n", "a/s.yaml", "definitions: 5\n",
		"a/c.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {x: \"1\"}\n", "a/p.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {x: \"2\"}\n",
		"b/kustomization.yaml", "resources: [c.yaml]\n", "b/c.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n")
	b := newBuilder(files)
	if resp := b.build("a"); !resp.Diagnostics.HasErrors() || len(resp.Objects) > 0 {
		t.Errorf("got %d objects, %v", len(resp.Objects), resp.Diagnostics)
	}
	if resp := b.build("b"); resp.Diagnostics.HasErrors() || len(resp.Objects) != 1 {
		t.Errorf("got %d objects, %v", len(resp.Objects), resp.Diagnostics)
	}
}
