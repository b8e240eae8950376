package load

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/schema"
)

// deploymentYAML is a Deployment as people write them: labels, environment,
// probes, resources, a volume.
func deploymentYAML(i int) string { return fmt.Sprintf(deployment(), i) }

var deployment = sync.OnceValue(func() string {
	text, err := os.ReadFile("testdata/deployment.txt")
	if err != nil {
		panic(err)
	}
	return string(text)
})

func memoryFile(path, text string) schema.File {
	return schema.File{Path: path, Blob: &schema.Blob{Size: int64(len(text)), Open: func() ([]byte, error) { return []byte(text), nil }}}
}

func benchmarkLoad(b *testing.B, tree schema.Tree) {
	b.ReportAllocs()
	for b.Loop() {
		result := Load(context.Background(), tree, schema.SourceSpec{}, Options{Source: "main"})
		if len(result.Objects) != 10_000 || len(result.Diagnostics) != 0 {
			b.Fatalf("%d objects, %v", len(result.Objects), result.Diagnostics[:1])
		}
	}
}

// BenchmarkFiles is 10,000 Deployments, one a file, cold.
func BenchmarkFiles(b *testing.B) {
	var tree schema.Tree
	for i := range 10_000 {
		tree.Files = append(tree.Files, memoryFile(fmt.Sprintf("apps/%05d.yaml", i), deploymentYAML(i)))
	}
	benchmarkLoad(b, tree)
}

// BenchmarkStream is the same in files of 1,000 documents.
func BenchmarkStream(b *testing.B) {
	var tree schema.Tree
	for f := range 10 {
		var text bytes.Buffer
		for i := range 1_000 {
			text.WriteString("---\n" + deploymentYAML(1_000*f+i))
		}
		tree.Files = append(tree.Files, memoryFile(fmt.Sprintf("apps/%d.yaml", f), text.String()))
	}
	benchmarkLoad(b, tree)
}

// BenchmarkAgain is 10,000 Deployments of which one changed since the last Load.
func BenchmarkAgain(b *testing.B) {
	b.ReportAllocs()
	var tree schema.Tree
	for i := range 10_000 {
		f := memoryFile(fmt.Sprintf("apps/%05d.yaml", i), deploymentYAML(i))
		f.Hash = fmt.Sprint(i)
		tree.Files = append(tree.Files, f)
	}
	tree.Commit.Hash = "0"
	cache := NewCache(0)
	Load(context.Background(), tree, schema.SourceSpec{}, Options{Source: "main", Cache: cache})
	for n := 1; b.Loop(); n++ {
		applied := tree.Commit.Hash
		tree.Commit.Hash = schema.Commit(fmt.Sprint(n))
		tree.Files = slices.Clone(tree.Files)
		changed := *tree.Files[5_000].Blob
		changed.Hash = fmt.Sprint("changed ", n)
		tree.Files[5_000].Blob = &changed
		result := Load(context.Background(), tree, schema.SourceSpec{}, Options{Source: "main", Cache: cache, Applied: applied})
		if len(result.Objects) != 10_000 || len(result.Diagnostics) != 0 {
			b.Fatalf("%d objects, %v", len(result.Objects), result.Diagnostics)
		}
	}
}

// overlays is a tree of Git with a base and so many overlays of it, each with an image, a
// count and a ConfigMap of its own.
func overlays(n int) schema.Tree {
	text := map[string]string{
		"base/kustomization.yaml": "resources: [deployment.yaml, service.yaml]\n",
		"base/deployment.yaml":    strings.ReplaceAll(deploymentYAML(0), "app-00000", "web"),
		"base/service.yaml":       "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  selector: {app: web}\n  ports: [{port: 80}]\n",
	}
	for i := range n {
		dir := fmt.Sprintf("overlays/%04d/", i)
		text[dir+"kustomization.yaml"] = fmt.Sprintf("resources: [../../base]\nnamePrefix: o%d-\nimages: [{name: localhost/web, newTag: v%d}]\npatches: [{path: patch.yaml}]\nconfigMapGenerator: [{name: settings, literals: [N=%d]}]\n", i, i, i)
		text[dir+"patch.yaml"] = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 2}\n"
	}
	var tree schema.Tree
	for _, name := range slices.Sorted(maps.Keys(text)) {
		f := memoryFile(name, text[name])
		f.Hash = "hash of " + name
		tree.Files = append(tree.Files, f)
	}
	return tree
}

// BenchmarkOverlays is 100 overlays of which a file changed since the last Load.
func BenchmarkOverlays(b *testing.B) {
	tree := overlays(100)
	opts := Options{Source: "main", Cache: NewCache(0), Kustomize: NewKustomize(CUEConfig{Keep: true})}
	defer opts.Kustomize.Close()
	for n := 0; b.Loop(); n++ {
		tree.Files = slices.Clone(tree.Files)
		changed := *tree.Files[50].Blob
		changed.Hash = fmt.Sprint("changed ", n)
		tree.Files[50].Blob = &changed
		if result := Load(context.Background(), tree, schema.SourceSpec{}, opts); len(result.Objects) != 300 || result.Diagnostics.HasErrors() {
			b.Fatalf("%d objects, %v", len(result.Objects), result.Diagnostics)
		}
		b.StopTimer()
		time.Sleep(time.Second) // nobody pushes faster: the next child is ready by then
		b.StartTimer()
	}
}
