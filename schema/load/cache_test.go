package load

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fairlead/schema"
)

// blobFile is a file as Git has it: with a hash, counting how often it is read.
func blobFile(path, text string, reads *int) schema.File {
	sum := sha1.Sum([]byte(text))
	f := memoryFile(path, text)
	f.Hash = hex.EncodeToString(sum[:])
	open := f.Open
	f.Open = func() ([]byte, error) {
		if reads != nil {
			*reads++
		}
		return open()
	}
	return f
}

// told is a result as far as anyone can tell it from another.
func told(r Result) []string {
	out := []string{fmt.Sprint(r.Files)}
	for _, d := range r.Objects {
		out = append(out, fmt.Sprintf("%s at %s, name at %s: %#v %v", schema.KeyOf(d.Object), d.Position, d.Locate("metadata.name"), schema.OriginOf(d.Object), d.Object))
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
	rapid.Check(t, func(t *rapid.T) {
		cache := NewCache(rapid.SampledFrom([]int64{0, 1, 4000}).Draw(t, "bound"))
		for step := range rapid.IntRange(1, 6).Draw(t, "trees") {
			tree := schema.Tree{Commit: schema.Commit{Hash: fmt.Sprintf("%040d", step), Author: "Ada"}}
			for _, name := range []string{"a.yaml", "b.yaml", "c/a.yaml", "c/b.yaml", "notes.txt"} {
				if i := rapid.IntRange(-2, len(texts)-1).Draw(t, name); i >= 0 {
					tree.Files = append(tree.Files, blobFile(name, texts[i], nil))
				}
			}
			spec := rapid.SampledFrom(specs).Draw(t, "spec")
			source := rapid.SampledFrom([]string{"main", "other"}).Draw(t, "source")
			want := told(Load(context.Background(), tree, spec, Options{Source: source}))
			got := told(Load(context.Background(), tree, spec, Options{Source: source, Cache: cache}))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("tree %d: %s", step, diff)
			}
		}
	})
}

func TestCacheReadsWhatChanged(t *testing.T) {
	cache := NewCache(0)
	reads := 0
	load := func(commit string, texts ...string) Result {
		tree := schema.Tree{Commit: schema.Commit{Hash: commit}}
		for i, text := range texts {
			tree.Files = append(tree.Files, blobFile(fmt.Sprintf("%d.yaml", i), text, &reads))
		}
		return Load(t.Context(), tree, schema.SourceSpec{}, Options{Source: "main", Cache: cache})
	}
	config := func(name, value string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {k: %s}\n", name, value)
	}
	first := load("1", config("a", "x"), config("b", "x"), config("c", "x"))
	if reads != 3 {
		t.Errorf("%d files were read", reads)
	}
	held := fmt.Sprint(first.Objects[0].Object)
	reads = 0
	second := load("2", config("a", "x"), config("b", "y"), config("c", "x"))
	if reads != 1 {
		t.Errorf("%d files were read when one had changed", reads)
	}
	for _, d := range second.Objects {
		if o := schema.OriginOf(d.Object); o.Commit != "2" {
			t.Errorf("%s says it comes from %s", schema.KeyOf(d.Object), o.Commit)
		}
	}
	if got := fmt.Sprint(first.Objects[0].Object); got != held {
		t.Errorf("an object that was handed out became %s, was %s", got, held)
	}
	reads = 0
	load("2", config("a", "x"), config("b", "y"), config("c", "x"))
	if reads != 0 {
		t.Errorf("%d files were read when none had changed", reads)
	}
	if left := load("3", config("a", "x"), config("b", "y")).Objects; len(left) != 2 {
		t.Errorf("a file went, and there are %d objects", len(left))
	}
	load("4", config("a", "x"), "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: sesame}\n")
	for _, o := range cache.trees["main"].objects {
		if o.key.Kind == schema.KindSecret {
			t.Error("a Secret's values are remembered")
		}
	}
}

// An object names a commit that runs, or the tree's own: never one that was
// refused in between.
func TestCacheNamesCommits(t *testing.T) {
	cache := NewCache(0)
	load := func(commit, applied, b string) []string {
		tree := schema.Tree{Commit: schema.Commit{Hash: commit}}
		for _, name := range []string{"a", b} {
			tree.Files = append(tree.Files, blobFile(name[:1]+".yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "+name+"}\n", nil))
		}
		var commits []string
		for _, d := range Load(t.Context(), tree, schema.SourceSpec{}, Options{Source: "main", Cache: cache, Applied: applied}).Objects {
			commits = append(commits, schema.OriginOf(d.Object).Commit)
		}
		return commits
	}
	for _, c := range []struct{ commit, applied, b, want string }{
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
	tree := schema.Tree{Commit: schema.Commit{Hash: fmt.Sprintf("%040d", 0), Author: "Ada <ada@example.org>"}}
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
			applied := ""
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
				tree.Commit.Hash = fmt.Sprintf("%040d", turn)
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
