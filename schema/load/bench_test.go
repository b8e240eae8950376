package load

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

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
