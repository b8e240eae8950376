package load

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"fairlead/schema"
	"fairlead/schema/chance"
)

// blobFile is a file as Git has it: with a hash, counting how often it is read.
func blobFile(path, text string, reads *atomic.Int64) schema.File {
	sum := sha1.Sum([]byte(text))
	f := memoryFile(path, text)
	f.Hash = hex.EncodeToString(sum[:])
	open := f.Open
	f.Open = func() ([]byte, error) {
		if reads != nil {
			reads.Add(1)
		}
		return open()
	}
	return f
}

// told is a result as far as anyone can tell it from another.
func told(r Result) []string {
	out := []string{fmt.Sprint(r.Files)}
	for _, d := range r.Objects {
		text, err := json.Marshal(d.Object)
		out = append(out, fmt.Sprintf("%s at %s, name at %s: %#v %s %v", schema.KeyOf(d.Object), d.Position, d.Locate("metadata.name"), schema.OriginOf(d.Object), text, err))
	}
	for _, d := range r.Diagnostics {
		out = append(out, fmt.Sprintf("%s: %s (%s)", d.Severity, d, d.Hint))
	}
	return out
}

// A Load with a cache tells exactly what one without would, whatever trees came
// before.
func TestCacheChangesNothing(t *testing.T) {
	texts := []string{
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}\n",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: w}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n",
		"apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: v}\n",
		"apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: w}\n",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {app: p}}\nspec: {containers: [{name: c, image: i, envFrom: [{configMapRef: {name: b}}]}]}\n",
		"apiVersion: v1\nkind: Service\nmetadata: {name: svc}\nspec: {selector: {app: p}, ports: [{port: 80}]}\n",
		"apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: x}\n",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: wrong}\ndatta: {}\n",
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n",
		"nothing: here\n",
		"{",
		"",
	}
	specs := []schema.SourceSpec{{}, {Exclude: []string{"b*.yaml"}}, {Namespace: "shop"}}
	chance.Check(t, func(t *rapid.T) {
		cache := NewCache(rapid.SampledFrom([]int64{0, 1, 4000}).Draw(t, "bound"))
		for step := range rapid.IntRange(1, 6).Draw(t, "trees") {
			tree := schema.Tree{Commit: schema.CommitObject{Hash: schema.Commit(fmt.Sprintf("%040d", step)), Author: "Ada"}}
			for _, name := range []string{"a.yaml", "b.yaml", "c/a.yaml", "c/b.yaml", "notes.txt"} {
				if i := rapid.IntRange(-2, len(texts)-1).Draw(t, name); i >= 0 {
					tree.Files = append(tree.Files, blobFile(name, texts[i], nil))
				}
			}
			spec := rapid.SampledFrom(specs).Draw(t, "spec")
			source := rapid.SampledFrom([]schema.SourceName{"main", "other"}).Draw(t, "source")
			want := told(Load(context.Background(), tree, spec, Options{Source: source}))
			got := told(Load(context.Background(), tree, spec, Options{Source: source, Cache: cache}))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("tree %d: %s", step, diff)
			}
		}
	})
}

// drawManifest is a manifest of a small world in which everything collides: names,
// namespaces, keys, labels and ports are drawn from very few.
func drawManifest(t *rapid.T) string {
	draw := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	meta := func(labels string) string {
		return fmt.Sprintf("metadata: {name: %s, namespace: %s%s}\n", draw("name", "a", "b"), draw("namespace", "default", "default", "default", "default", "shop"), labels)
	}
	const keyed = "env: [{name: X, valueFrom: {configMapKeyRef: {name: b, key: k}}}]"
	pod := func() string {
		needs := draw("needs", "", "envFrom: [{configMapRef: {name: a}}]", "envFrom: [{secretRef: {name: b}}]", keyed, keyed, keyed)
		if needs != "" {
			needs = ", " + needs
		}
		return fmt.Sprintf("{containers: [{name: c, image: i:%s, ports: [{name: %s, containerPort: 80%s}]%s}]}", draw("tag", "1", "2"), draw("port", "http", "web"), draw("host", "", "", ", hostPort: 80"), needs)
	}
	data := func() string { return draw("data", "{k: v}", "{k: w}", "{l: v}", "{}") }
	switch draw("kind", "ConfigMap", "ConfigMap", "ConfigMap", "ConfigMap", "Secret", "Namespace", "Pod", "Deployment", "Deployment", "Service", "Source", "wrong", "nameless", "unreadable", "nothing") {
	case "ConfigMap":
		return "apiVersion: v1\nkind: ConfigMap\n" + meta("") + "data: " + data() + "\n" + draw("mistake", "", "datta: {}\n")
	case "Secret":
		return "apiVersion: v1\nkind: Secret\n" + meta("") + "stringData: " + data() + "\n"
	case "Namespace":
		asks := draw("asks", "", "", "enforce: baseline", "warn: baseline", "audit: restricted", "enforce-version: v1.30")
		if asks != "" {
			asks = ", labels: {pod-security.kubernetes.io/" + asks + "}"
		}
		return "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop" + asks + "}\n"
	case "Pod":
		return "apiVersion: v1\nkind: Pod\n" + meta(", labels: {app: "+draw("app", "x", "y")+"}") + "spec: " + pod() + "\n"
	case "Deployment":
		app := draw("app", "x", "y")
		return "apiVersion: apps/v1\nkind: Deployment\n" + meta("") + "spec: {selector: {matchLabels: {app: " + app + "}}, template: {metadata: {labels: {app: " + app + "}}, spec: " + pod() + "}}\n"
	case "Service":
		return "apiVersion: v1\nkind: Service\n" + meta("") + fmt.Sprintf("spec: {type: NodePort, selector: {app: %s}, ports: [{port: 80, targetPort: %s, nodePort: %s}]}\n",
			draw("app", "x", "y"), draw("port", "http", "80"), draw("nodePort", "30001", "30002", "1"))
	case "Source":
		return "apiVersion: fairlead/v1\nkind: Source\nmetadata: {name: " + draw("source", "main", "other") + "}\nspec: {url: \"https://example.org/x\"}\n"
	case "wrong":
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: wrong}\ndatta: {}\n"
	case "nameless":
		return "nothing: here\n"
	case "unreadable":
		return unreadable
	}
	return ""
}

// unreadable is the text of a file that never opens.
const unreadable = "unreadable"

// soundWorld is a tree with nothing to say about, whose objects lean on each other.
var soundWorld = map[string]string{
	"0.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n",
	"1.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\ndata: {k: v}\n",
	"2.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, namespace: default}\ndata: {k: v}\n",
	"3.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: b, namespace: default}\nstringData: {k: v}\n",
	"4.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: default}\n" +
		"spec: {selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}}, spec: {containers: [{name: c, image: i:1, ports: [{name: http, containerPort: 80}], " +
		"env: [{name: X, valueFrom: {configMapKeyRef: {name: b, key: k}}}]}]}}}\n",
	"5.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: y}}\nspec: {containers: [{name: c, image: i:1, envFrom: [{configMapRef: {name: a}}]}]}\n",
	"6.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: default}\nspec: {type: NodePort, selector: {app: x}, ports: [{port: 80, targetPort: http, nodePort: 30001}]}\n",
}

// tweaks are edits of one word.
var tweaks = [][2]string{
	{"{k: v}", "{l: v}"}, {"{k: v}", "{k: w}"}, {"{l: v}", "{k: v}"}, {"app: x", "app: y"}, {"app: y", "app: x"}, {"name: http", "name: web"}, {"name: web", "name: http"},
	{"i:1", "i:2"}, {"i:2", "i:1"}, {"data:", "datta: {}\ndata:"}, {"datta: {}\n", ""}, {"default", "shop"}, {"shop", "default"}, {"name: a", "name: b"}, {"name: b", "name: a"},
}

// verdictDiffers says how a Load that hands out no objects tells otherwise than one
// that does.
func verdictDiffers(whole Result, tree schema.Tree, opts Options) string {
	opts.DiagnosticsOnly = true
	found := Load(context.Background(), tree, schema.SourceSpec{}, opts)
	if found.Objects != nil || found.Count != len(whole.Objects) || found.Files != whole.Files {
		return fmt.Sprintf("%d objects of which %d are handed out, from %d files; want %d, 0 and %d", found.Count, len(found.Objects), found.Files, len(whole.Objects), whole.Files)
	}
	return cmp.Diff(lines(whole.Diagnostics), lines(found.Diagnostics))
}

// After any history of edits a Load with a cache tells what one without does: of
// the whole tree too, which is not judged anew when it was sound before. So does one
// that hands out no objects.
func TestCacheAfterEdits(t *testing.T) {
	sound, shared := 0, 0
	chance.Check(t, func(t *rapid.T) {
		cache := NewCache(rapid.SampledFrom([]int64{0, 0, 0, 5000}).Draw(t, "bound"))
		files := maps.Clone(rapid.SampledFrom([]map[string]string{{}, soundWorld, soundWorld, soundWorld}).Draw(t, "files"))
		foreign := &corev1.ConfigMap{Data: map[string]string{"k": "v"}}
		var commit, applied schema.Commit
		notes := rapid.SampledFrom([]int{0, 3 * filesPerPart}).Draw(t, "notes")
		blobs := make(map[string]schema.File) // by path and text
		var last Result
		var lastTold []string
		for step := range rapid.IntRange(5, 25).Draw(t, "steps") {
			for range rapid.IntRange(0, 2).Draw(t, "edits") {
				name := fmt.Sprintf("%d.yaml", rapid.IntRange(0, 7).Draw(t, "file"))
				switch rapid.IntRange(0, 9).Draw(t, "edit") {
				case 0:
					delete(files, name)
				case 1:
					files[name] += "---\n" + drawManifest(t)
				case 2, 3, 4:
					files[name] = drawManifest(t)
				default:
					words := rapid.SampledFrom(tweaks).Draw(t, "words")
					files[name] = strings.ReplaceAll(files[name], words[0], words[1])
				}
			}
			tree := schema.Tree{Commit: schema.CommitObject{Hash: schema.Commit(fmt.Sprintf("%040d", step)), Author: "Ada"}}
			if rapid.IntRange(0, 3).Draw(t, "forget") == 0 {
				clear(blobs)
			}
			for name, text := range files {
				tree.Files = append(tree.Files, shareBlob(blobs, name, text))
			}
			for i := range max(0, notes-rapid.IntRange(0, 1).Draw(t, "fewer")) {
				tree.Files = append(tree.Files, shareBlob(blobs, fmt.Sprintf("%d.yaml.%d.txt", i%8, i), ""))
			}
			slices.SortFunc(tree.Files, func(a, b schema.File) int { return strings.Compare(a.Path, b.Path) })
			if rapid.Bool().Draw(t, "follows") {
				applied = commit
			}
			commit = tree.Commit.Hash
			opts := Options{Source: "main"}
			if rapid.IntRange(0, 9).Draw(t, "namespaces") == 0 {
				opts.KnownNamespaces = []string{"shop"}
			}
			if rapid.IntRange(0, 9).Draw(t, "ports") == 0 {
				opts.NodePorts = PortRange{First: 1, Last: 30001}
			}
			if rapid.IntRange(0, 9).Draw(t, "known") == 0 {
				opts.Known = func(key schema.Key) schema.Object {
					if key.Kind != schema.KindConfigMap {
						return nil
					}
					return foreign
				}
			}
			whole := Load(context.Background(), tree, schema.SourceSpec{}, opts)
			if problem := verdictDiffers(whole, tree, opts); problem != "" {
				t.Fatalf("tree %d: %s", step, problem)
			}
			want := told(whole)
			opts.Cache, opts.Applied = cache, applied
			before := cache.trees["main"]
			if before == nil {
				before = new(rememberedTree)
			}
			if before.judged.sound && len(files) > 0 {
				sound++
			}
			held := slices.Concat(before.files...)
			result := Load(context.Background(), tree, schema.SourceSpec{}, opts)
			got := told(result)
			if diff := cmp.Diff(withoutCommits(want), withoutCommits(got)); diff != "" {
				t.Fatalf("tree %d: %s", step, diff)
			}
			if diff := cmp.Diff(lastTold, told(last)); lastTold != nil && diff != "" {
				t.Fatalf("tree %d changed what was handed out for the one before: %s", step, diff)
			}
			last, lastTold = result, got
			if !slices.Equal(held, slices.Concat(before.files...)) {
				t.Fatalf("tree %d changed what is remembered of the one before", step)
			}
			if after := cache.trees["main"]; len(before.files) == len(after.files) {
				for i, part := range after.files {
					if &part[0] == &before.files[i][0] {
						shared++
					}
				}
			}
			if problem := misweighed(cache); problem != "" {
				t.Fatalf("tree %d: %s", step, problem)
			}
		}
	})
	if sound == 0 || shared == 0 {
		t.Errorf("%d trees were sound, %d parts were shared: nothing was tested", sound, shared)
	}
}

// What keeps an environment from being made, and what a namespace of another source
// asks by now, is told after a sound tree as it is without a cache.
func TestCacheSeesEnvironmentsAndNamespaces(t *testing.T) {
	const config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
	pod := func(namespace, from string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: " + namespace + "}\nspec: {containers: [{name: c, image: i, ports: [{containerPort: 80, hostPort: 80}], " + from + "}]}\n"
	}
	key := func(name string) string {
		return "env: [{name: X, valueFrom: {configMapKeyRef: {name: a, key: " + name + ", optional: true}}}]"
	}
	const all, secret = "envFrom: [{configMapRef: {name: a, optional: true}}]", "envFrom: [{secretRef: {name: a, optional: true}}]"
	labelled := &corev1.Namespace{}
	labelled.Labels = map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}
	for name, c := range map[string]struct {
		before, after []string
		label         bool
	}{
		"a value with NUL":          {[]string{config + "data: {k: v}\n", pod("default", all)}, []string{config + "data: {k: \"a\\0\"}\n", pod("default", all)}, false},
		"a new object with NUL":     {[]string{"", pod("default", all)}, []string{config + "data: {k: \"a\\0\"}\n", pod("default", all)}, false},
		"a new Secret with NUL":     {[]string{"", pod("default", secret)}, []string{"apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {k: \"a\\0\"}\n", pod("default", secret)}, false},
		"data to binaryData":        {[]string{config + "data: {k: v}\n", pod("default", key("k"))}, []string{config + "binaryData: {k: YQ==}\n", pod("default", key("k"))}, false},
		"a new reference to binary": {[]string{config + "data: {k: v}\nbinaryData: {b: YQ==}\n", pod("default", key("k"))}, []string{config + "data: {k: v}\nbinaryData: {b: YQ==}\n", pod("default", key("b"))}, false},
		"a namespace labelled":      {[]string{"", pod("shop", key("k"))}, []string{"", pod("shop", key("k"))}, true},
	} {
		t.Run(name, func(t *testing.T) {
			opts := Options{Source: "main", KnownNamespaces: []string{"shop"}, Known: func(schema.Key) schema.Object { return nil }}
			tree := func(texts []string) schema.Tree {
				return schema.Tree{Files: []schema.File{blobFile("a.yaml", texts[0], nil), blobFile("b.yaml", texts[1], nil)}}
			}
			cached := opts
			cached.Cache = NewCache(0)
			if first := Load(t.Context(), tree(c.before), schema.SourceSpec{}, cached); len(first.Diagnostics) > 0 || !cached.Cache.trees["main"].judged.sound {
				t.Fatalf("not sound: %v", first.Diagnostics)
			}
			if c.label {
				opts.Known = func(schema.Key) schema.Object { return labelled }
				cached.Known = opts.Known
			}
			want := Load(t.Context(), tree(c.after), schema.SourceSpec{}, opts)
			got := Load(t.Context(), tree(c.after), schema.SourceSpec{}, cached)
			if diff := cmp.Diff(told(want), told(got)); diff != "" || !want.Diagnostics.HasErrors() {
				t.Errorf("%v: %s", want.Diagnostics, diff)
			}
		})
	}
}

// shareBlob is a file with the blob that it had before.
func shareBlob(blobs map[string]schema.File, path, text string) schema.File {
	f, ok := blobs[path+text]
	if !ok {
		f = blobFile(path, text, nil)
		if strings.Contains(text, unreadable) {
			f.Open = func() ([]byte, error) { return nil, errors.New(unreadable) }
		}
		blobs[path+text] = f
	}
	return f
}

// misweighed says how what a cache reckons to hold differs from what it holds.
func misweighed(c *Cache) string {
	var size int64
	for source, t := range c.trees {
		var kept amount
		for _, r := range slices.Concat(t.files...) {
			if r.isKept() {
				kept.add(r.source.file.Size)
				for _, f := range r.facts {
					kept.stored.add(f.stored)
				}
			}
		}
		if kept != t.kept {
			return fmt.Sprintf("the tree of %s is reckoned to have %+v, it has %+v", source, t.kept, kept)
		}
		size += kept.weight()
	}
	if size != c.size || len(c.trees) == 1 && size > c.bound {
		return fmt.Sprintf("%d bytes are reckoned, there are %d, at most %d", c.size, size, c.bound)
	}
	return ""
}

// withoutCommits leaves out which commit objects name: TestCacheNamesCommits has
// that.
func withoutCommits(lines []string) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = commitHash.ReplaceAllString(line, "0")
	}
	return out
}

var commitHash = regexp.MustCompile("[0-9]{40}")

func TestCacheReadsWhatChanged(t *testing.T) {
	cache := NewCache(0)
	var reads atomic.Int64
	load := func(commit schema.Commit, texts ...string) Result {
		tree := schema.Tree{Commit: schema.CommitObject{Hash: commit}}
		for i, text := range texts {
			tree.Files = append(tree.Files, blobFile(fmt.Sprintf("%d.yaml", i), text, &reads))
		}
		return Load(t.Context(), tree, schema.SourceSpec{}, Options{Source: "main", Cache: cache})
	}
	config := func(name, value string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {k: %s}\n", name, value)
	}
	first := load("1", config("a", "x"), config("b", "x"), config("c", "x"))
	if n := reads.Load(); n != 3 {
		t.Errorf("%d files were read", n)
	}
	held := fmt.Sprint(first.Objects[0].Object)
	reads.Store(0)
	second := load("2", config("a", "x"), config("b", "y"), config("c", "x"))
	if n := reads.Load(); n != 1 {
		t.Errorf("%d files were read when one had changed", n)
	}
	for _, d := range second.Objects {
		if o := schema.OriginOf(d.Object); o.Commit != "2" {
			t.Errorf("%s says it comes from %s", schema.KeyOf(d.Object), o.Commit)
		}
	}
	if got := fmt.Sprint(first.Objects[0].Object); got != held {
		t.Errorf("an object that was handed out became %s, was %s", got, held)
	}
	reads.Store(0)
	again := load("2", config("a", "x"), config("b", "y"), config("c", "x"))
	if n := reads.Load(); n != 0 {
		t.Errorf("%d files were read when none had changed", n)
	}
	if &again.Objects[0] != &second.Objects[0] {
		t.Error("the objects were listed anew when none had changed")
	}
	if left := load("3", config("a", "x"), config("b", "y")).Objects; len(left) != 2 {
		t.Errorf("a file went, and there are %d objects", len(left))
	}
	load("4", config("a", "x"), "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: sesame}\n")
	for _, d := range cache.trees["main"].objects {
		if objectOf(d).key.Kind == schema.KindSecret {
			t.Error("a Secret's values are remembered")
		}
	}
}

// An object names a commit that runs, or the tree's own: never one that was
// refused in between.
func TestCacheNamesCommits(t *testing.T) {
	cache := NewCache(0)
	load := func(commit, applied schema.Commit, b string) []string {
		tree := schema.Tree{Commit: schema.CommitObject{Hash: commit}}
		for _, name := range []string{"a", b} {
			tree.Files = append(tree.Files, blobFile(name[:1]+".yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "+name+"}\n", nil))
		}
		var commits []string
		for _, d := range Load(t.Context(), tree, schema.SourceSpec{}, Options{Source: "main", Cache: cache, Applied: applied}).Objects {
			commits = append(commits, string(schema.OriginOf(d.Object).Commit))
		}
		return commits
	}
	for _, c := range []struct {
		commit, applied schema.Commit
		b, want         string
	}{
		{"1", "", "b1", "1 1"},
		{"2", "1", "b2", "1 2"}, // 1 runs: a is still what came with it
		{"3", "1", "b2", "3 3"}, // 2 was refused
		{"4", "3", "b3", "3 4"},
		{"4", "3", "b3", "3 4"},
	} {
		if got := strings.Join(load(c.commit, c.applied, c.b), " "); got != c.want {
			t.Errorf("commit %s after %s names %s, want %s", c.commit, c.applied, got, c.want)
		}
	}
}

// gitTree is n Deployments, ten a directory, as Git has them; files share their
// strings between trees, as unchanged directories do.
func gitTree(n int) schema.Tree {
	tree := schema.Tree{Commit: schema.CommitObject{Hash: schema.Commit(fmt.Sprintf("%040d", 0)), Author: "Ada <ada@example.org>"}}
	for i := range n {
		tree.Files = append(tree.Files, blobFile(fmt.Sprintf("apps/%04d/%05d.yaml", i/10, i), deploymentYAML(i), nil))
	}
	return tree
}

func benchmarkCached(b *testing.B, changed int) {
	for _, n := range []int{1_000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			cache := NewCache(0)
			tree := gitTree(n)
			turn := 0
			var applied schema.Commit
			load := func() {
				r := Load(context.Background(), tree, schema.SourceSpec{}, Options{Source: "main", Cache: cache, Applied: applied})
				if len(r.Objects) != n || len(r.Diagnostics) != 0 {
					b.Fatalf("%d objects, %v", len(r.Objects), r.Diagnostics)
				}
			}
			load()
			for b.Loop() {
				b.StopTimer()
				applied = tree.Commit.Hash
				turn++
				tree.Commit.Hash = schema.Commit(fmt.Sprintf("%040d", turn))
				tree.Files = slices.Clone(tree.Files)
				for i := range changed {
					at := (turn*7919 + i) % n
					tree.Files[at] = blobFile(tree.Files[at].Path, strings.ReplaceAll(deploymentYAML(at), "replicas: 3", fmt.Sprintf("replicas: %d", turn)), nil)
				}
				b.StartTimer()
				load()
			}
		})
	}
}

// BenchmarkNothingChanged is a commit that touches no manifest.
func BenchmarkNothingChanged(b *testing.B) { benchmarkCached(b, 0) }

// BenchmarkOneChanged is a commit that changes one Deployment of many (P11).
func BenchmarkOneChanged(b *testing.B) { benchmarkCached(b, 1) }

// BenchmarkCacheMemory tells what 10,000 remembered Deployments take.
func BenchmarkCacheMemory(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		tree := gitTree(10_000)
		cache := NewCache(0)
		runtime.GC()
		runtime.ReadMemStats(&before)
		Load(context.Background(), tree, schema.SourceSpec{}, Options{Source: "main", Cache: cache})
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/(1<<20), "MiB")
		b.ReportMetric(float64(cache.size)/(1<<20), "weighed-MiB")
		runtime.KeepAlive(cache)
	}
}

// What a broken file hid is judged when that file is fixed, though nothing else changed.
func TestWhatABrokenFileHidIsJudgedAfterwards(t *testing.T) {
	cache, blobs, commit := NewCache(0), make(map[string]schema.File), 0
	load := func(a string) schema.Diagnostics {
		commit++
		tree := schema.Tree{Commit: schema.CommitObject{Hash: schema.Commit(fmt.Sprintf("%040d", commit))}, Files: []schema.File{
			shareBlob(blobs, "a.yaml", a), shareBlob(blobs, "b.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, namespace: shp}\n"),
		}}
		return Load(t.Context(), tree, schema.SourceSpec{}, Options{Cache: cache}).Diagnostics
	}
	if got := load("apiVersion: v1\nkind: [\n"); len(got) == 0 || strings.Contains(got.Error(), "shp") {
		t.Errorf("while a.yaml is broken: %v", got)
	}
	if got := load("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"); !strings.Contains(got.Error(), "shp") {
		t.Errorf("nobody declares namespace shp, and that is not told: %v", got)
	}
}
