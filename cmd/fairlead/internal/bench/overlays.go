package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"fairlead/schema"
	"fairlead/schema/load"
)

const (
	// kustomize is built for the run alone; go.mod has the same version, whose library
	// Fairlead has in it.
	kustomize     = "sigs.k8s.io/kustomize/kustomize/v5@v5.8.1"
	overlayCount  = 100
	overlayRounds = 10 // commits that change one file of one overlay
	// betweenPushes is longer than it takes to start the child that builds next.
	betweenPushes = time.Second
)

// kustomized measures P20: with the built program and kustomize's on the same files, and
// in this process, where a master's memory of a tree is.
func kustomized(ctx context.Context, b *bench) ([]row, error) {
	dir := filepath.Join(b.work, "overlays")
	defer os.RemoveAll(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := install(ctx, kustomize, dir); err != nil {
		return nil, err
	}
	ours, theirs := filepath.Join(b.bin, "fairlead"), filepath.Join(dir, "kustomize")
	files := overlayFiles()
	each, theirEach, err := builtEach(ctx, ours, theirs, filepath.Join(dir, "each"), files)
	if err != nil {
		return nil, err
	}
	files["kustomization.yaml"] = usingAll()
	root, theirRoot, err := builtAtOnce(ctx, ours, theirs, filepath.Join(dir, "root"), files)
	if err != nil {
		return nil, err
	}
	again, err := overlayChanged(ctx, ours)
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("%d overlays of a Deployment and a Service, ", overlayCount)
	return []row{
		{bar: "P20", what: what + "one file changed", measured: duration(again.median()), goal: goal{most: duration(50 * time.Millisecond)},
			note: "by the master's own loader, which knows unchanged overlays by what they read; the child that builds the changed one was started after the commit before"},
		{bar: "P20", what: what + "cold", measured: duration(each), goal: goal{mostRatio: 1}, against: "kustomize build of each", baseline: duration(theirEach), note: "ours also judges what is built"},
		{bar: "P20", what: what + "cold, all used by one kustomization", measured: duration(root.median()), goal: goal{mostRatio: 1}, against: "kustomize build", baseline: duration(theirRoot.median())},
	}, nil
}

// builtEach times how long it takes to build each overlay by itself.
func builtEach(ctx context.Context, ours, theirs, dir string, files map[string]string) (each, theirEach time.Duration, err error) {
	if err := writeFiles(dir, files); err != nil {
		return 0, 0, err
	}
	if each, err = succeeds(ctx, ours, "validate", dir); err != nil {
		return 0, 0, err
	}
	for i := range overlayCount {
		took, err := succeeds(ctx, theirs, "build", filepath.Join(dir, overlayDir(i)))
		if err != nil {
			return 0, 0, err
		}
		theirEach += took
	}
	return each, theirEach, nil
}

// builtAtOnce times how long a kustomization that uses all overlays takes.
func builtAtOnce(ctx context.Context, ours, theirs, dir string, files map[string]string) (root, theirRoot samples, err error) {
	if err := writeFiles(dir, files); err != nil {
		return nil, nil, err
	}
	for range validateRounds {
		took, err := succeeds(ctx, ours, "validate", dir)
		if err != nil {
			return nil, nil, err
		}
		root = append(root, took)
		if took, err = succeeds(ctx, theirs, "build", dir); err != nil {
			return nil, nil, err
		}
		theirRoot = append(theirRoot, took)
	}
	return root, theirRoot, nil
}

func writeFiles(dir string, files map[string]string) error {
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// succeeds times a program, which must succeed.
func succeeds(ctx context.Context, program string, args ...string) (time.Duration, error) {
	return timed(func() error {
		_, err := output(exec.CommandContext(ctx, program, args...))
		return err
	})
}

func overlayDir(i int) string { return fmt.Sprintf("overlays/%04d", i) }

// overlayFiles are a base and its overlays, each with a name, an image, a patch and a
// ConfigMap of its own, and a kustomization that uses them all.
func overlayFiles() map[string]string {
	files := map[string]string{
		"base/kustomization.yaml": "resources: [deployment.yaml, service.yaml]\n",
		"base/deployment.yaml":    plainDeployment(0),
		"base/service.yaml":       "apiVersion: v1\nkind: Service\nmetadata: {name: app}\nspec:\n  selector: {app.kubernetes.io/name: app-00000}\n  ports: [{port: 80, targetPort: http}]\n",
	}
	for i := range overlayCount {
		files[overlayDir(i)+"/kustomization.yaml"] = fmt.Sprintf("resources: [../../base]\nnamePrefix: o%d-\nimages: [{name: registry.example/team/app, newTag: v%d}]\npatches: [{path: patch.yaml}]\nconfigMapGenerator: [{name: settings, literals: [N=%d]}]\n", i, i, i)
		files[overlayDir(i)+"/patch.yaml"] = overlayPatch(2)
	}
	return files
}

// usingAll is a kustomization that uses all overlays.
func usingAll() string {
	var all strings.Builder
	all.WriteString("resources:\n")
	for i := range overlayCount {
		fmt.Fprintf(&all, "- %s\n", overlayDir(i))
	}
	return all.String()
}

func overlayPatch(replicas int) string {
	return fmt.Sprintf("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app-00000}\nspec: {replicas: %d}\n", replicas)
}

// overlayChanged judges a tree of Git again after each of several commits that change the
// patch of one overlay.
func overlayChanged(ctx context.Context, program string) (again samples, err error) {
	files := overlayFiles()
	var tree schema.Tree
	for _, name := range slices.Sorted(maps.Keys(files)) {
		tree.Files = append(tree.Files, textFile(name, files[name], 0))
	}
	name := overlayDir(overlayCount/2) + "/patch.yaml"
	changed := slices.IndexFunc(tree.Files, func(f schema.File) bool { return f.Path == name })
	kustomize := load.NewKustomize(load.CUEConfig{Command: []string{program, load.ChildSubcommand}, Keep: true})
	defer kustomize.Close()
	cache := load.NewCache(0)
	for i := range 1 + overlayRounds {
		applied := tree.Commit.Hash
		tree.Commit.Hash = schema.Commit(fmt.Sprint(i))
		tree.Files = slices.Clone(tree.Files)
		tree.Files[changed] = textFile(name, overlayPatch(2+i), i)
		start := time.Now()
		r := load.Load(ctx, tree, schema.SourceSpec{}, load.Options{Source: sourceName, Cache: cache, Kustomize: kustomize, Applied: applied})
		took := time.Since(start)
		if r.Diagnostics.HasErrors() || len(r.Objects) != 3*overlayCount {
			return nil, fmt.Errorf("%d objects, %v", len(r.Objects), r.Diagnostics)
		}
		if i > 0 {
			again = append(again, took)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(betweenPushes):
		}
	}
	return again, nil
}

// textFile is a file of Git in its version.
func textFile(name, text string, version int) schema.File {
	return schema.File{Path: name, Blob: &schema.Blob{Hash: fmt.Sprintf("%s %d", name, version), Size: int64(len(text)), Open: func() ([]byte, error) { return []byte(text), nil }}}
}
