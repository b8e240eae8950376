package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"fairlead/schema"
	"fairlead/schema/load"
)

const (
	deployments    = 10_000
	streamFile     = 1_000 // Deployments a file where they stand one after the other
	validateRounds = 3
	// kubeconform is built for the run alone and is no part of Fairlead.
	kubeconform     = "github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0"
	kubeconformName = "kubeconform -strict"
	buildTimeout    = 3 * time.Minute
	singleChanges   = 20 // commits that change one Deployment
)

// plainDeployment is one as people write them: labels, environment, probes,
// resources, a volume.
func plainDeployment(i int) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata:
  name: app-%05[1]d
  labels:
    app.kubernetes.io/name: app-%05[1]d
    app.kubernetes.io/part-of: shop
spec:
  replicas: 3
  selector:
    matchLabels:
      app.kubernetes.io/name: app-%05[1]d
  template:
    metadata:
      labels:
        app.kubernetes.io/name: app-%05[1]d
        app.kubernetes.io/part-of: shop
    spec:
      containers:
        - name: app
          image: registry.example/team/app:1.%[1]d
          args: ["--listen", ":8080"]
          env:
            - name: LOG_LEVEL
              value: info
            - name: POD_NAME
              valueFrom:
                fieldRef:
                  fieldPath: metadata.name
          ports:
            - name: http
              containerPort: 8080
          resources:
            requests:
              cpu: 100m
              memory: 64Mi
            limits:
              memory: 128Mi
          readinessProbe:
            httpGet:
              path: /healthz
              port: http
          volumeMounts:
            - name: tmp
              mountPath: /tmp
      volumes:
        - name: tmp
          emptyDir: {}
`, i)
}

// mistakes are what makes a Deployment invalid to both: a text of it and what
// stands there instead. Every badEvery-th has one, in turn.
var mistakes = [][2]string{
	{"replicas: 3", "replicsa: 3"},
	{"replicas: 3", `replicas: "three"`},
	{"      containers:", "      container:"},
	{"        - name: app\n          image", "        - image"},
	{"containerPort: 8080", "containerPort: http"},
	{"  replicas: 3", "  replicas: 3\n  replicas: 3"},
	{"            httpGet:", "            httpget:"},
	{"emptyDir: {}", "emptyDir: []"},
	{`args: ["--listen", ":8080"]`, "args: --listen"},
	{"  template:\n", "  template: [\n"},
}

// badEvery is after how many Deployments one has a mistake.
const badEvery = 500

func isBad(i int) bool { return i%badEvery == badEvery-1 }

// written is the i-th Deployment as it stands in the tree, right or wrong.
func written(i int) string {
	if !isBad(i) {
		return plainDeployment(i)
	}
	m := mistakes[i/badEvery%len(mistakes)]
	return strings.Replace(plainDeployment(i), m[0], m[1], 1)
}

// validations measures P6, with the built program and kubeconform on the same
// files, and P7 in this process, where a master's memory of a tree is.
func validations(ctx context.Context, b *bench) ([]row, error) {
	dir := filepath.Join(b.work, "validate")
	defer os.RemoveAll(dir)
	if err := writeDeployments(dir); err != nil {
		return nil, err
	}
	peer, err := buildKubeconform(ctx, dir)
	if err != nil {
		return nil, err
	}
	rows, theirs, err := cold(ctx, filepath.Join(b.bin, "fairlead"), peer, dir)
	if err != nil {
		return nil, fmt.Errorf("P6: %w", err)
	}
	again, err := afterOneChange(ctx, theirs)
	if err != nil {
		return nil, fmt.Errorf("P7: %w", err)
	}
	return append(rows, again...), nil
}

// The trees: the Deployments one a file, and the same one after the other.
const (
	filesDir  = "files"
	streamDir = "stream" // in as many files as the loader's bound on one asks for
	streamAll = "stream.yaml"
)

func writeDeployments(dir string) error {
	var stream, part strings.Builder
	for _, d := range []string{filesDir, streamDir} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	for i := range deployments {
		name := filepath.Join(dir, filesDir, fmt.Sprintf("%05d.yaml", i))
		if err := os.WriteFile(name, []byte(written(i)), 0o644); err != nil {
			return err
		}
		part.WriteString("---\n" + written(i))
		if (i+1)%streamFile != 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, streamDir, fmt.Sprintf("%05d.yaml", i)), []byte(part.String()), 0o644); err != nil {
			return err
		}
		stream.WriteString(part.String())
		part.Reset()
	}
	return os.WriteFile(filepath.Join(dir, streamAll), []byte(stream.String()), 0o644)
}

// kubeconformIn is a kubeconform that finds its schemas in a directory.
type kubeconformIn struct {
	program string
	schemas string
}

// buildKubeconform builds the program and writes the schema it needs here.
func buildKubeconform(ctx context.Context, dir string) (*kubeconformIn, error) {
	k := &kubeconformIn{program: filepath.Join(dir, "kubeconform"), schemas: filepath.Join(dir, "schemas")}
	if err := install(ctx, kubeconform, dir); err != nil {
		return nil, err
	}
	text, err := json.Marshal(jsonSchema(reflect.TypeFor[appsv1.Deployment]()))
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(k.schemas, 0o755); err != nil {
		return nil, err
	}
	return k, os.WriteFile(filepath.Join(k.schemas, "deployment.json"), text, 0o644)
}

// install builds a program from its module into a directory.
func install(ctx context.Context, program, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "install", program)
	build.Dir = dir
	build.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=", "GOWORK=off")
	_, err := output(build)
	return err
}

// run judges the files below path, or one stream; rejected are the documents'
// files, sorted.
func (k *kubeconformIn) run(ctx context.Context, path string, stream bool) (took time.Duration, rejected []string, err error) {
	args := []string{"-strict", "-output", "json", "-schema-location", filepath.Join(k.schemas, "{{.ResourceKind}}.json")}
	if !stream {
		args = append(args, path)
	}
	cmd := exec.CommandContext(ctx, k.program, args...)
	if stream {
		file, err := os.Open(path)
		if err != nil {
			return 0, nil, err
		}
		defer file.Close()
		cmd.Stdin = file
	}
	var said struct {
		Resources []struct{ Filename, Status, Msg string }
	}
	if took, err = judged(cmd, &said); err != nil {
		return 0, nil, err
	}
	for _, r := range said.Resources {
		rejected = append(rejected, filepath.Base(r.Filename))
	}
	slices.Sort(rejected)
	return took, rejected, nil
}

// validate judges the tree at path; rejected are the files of the diagnostics,
// sorted, each once.
func validate(ctx context.Context, program, path string) (took time.Duration, rejected []string, err error) {
	var said struct{ Diagnostics []struct{ Path string } }
	if took, err = judged(exec.CommandContext(ctx, program, "validate", "-o", "json", path), &said); err != nil {
		return 0, nil, err
	}
	for _, d := range said.Diagnostics {
		rejected = append(rejected, filepath.Base(d.Path))
	}
	slices.Sort(rejected)
	return took, slices.Compact(rejected), nil
}

// judged times a program that finds a tree invalid and says so in JSON.
func judged(cmd *exec.Cmd, said any) (time.Duration, error) {
	start := time.Now()
	out, err := output(cmd)
	took := time.Since(start)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		return 0, fmt.Errorf("exit code 1 is expected of a tree with mistakes: %w", err)
	}
	return took, json.Unmarshal([]byte(out), said)
}

// cold measures P6, and tells what kubeconform took for the files.
func cold(ctx context.Context, program string, peer *kubeconformIn, dir string) (rows []row, theirs samples, err error) {
	var ours, ourStream, theirStream samples
	var different []string
	for range validateRounds {
		took, rejected, err := validate(ctx, program, filepath.Join(dir, filesDir))
		if err != nil {
			return nil, nil, err
		}
		ours = append(ours, took)
		took, theirRejected, err := peer.run(ctx, filepath.Join(dir, filesDir), false)
		if err != nil {
			return nil, nil, err
		}
		theirs = append(theirs, took)
		different = append(differences(rejected, theirRejected), differences(rejected, badFiles())...)
		if took, _, err = validate(ctx, program, filepath.Join(dir, streamDir)); err != nil {
			return nil, nil, err
		}
		ourStream = append(ourStream, took)
		if took, _, err = peer.run(ctx, filepath.Join(dir, streamAll), true); err != nil {
			return nil, nil, err
		}
		theirStream = append(theirStream, took)
	}
	const what = "10,000 Deployments, "
	return []row{
		{bar: "P6", what: what + "one a file", measured: duration(ours.median()), goal: goal{mostRatio: 1. / 8}, against: kubeconformName, baseline: duration(theirs.median()),
			note: "kubeconform judges each document against a JSON schema made of the same Go types; ours also judges values, names, selectors and references across the tree, with positions"},
		{bar: "P6", what: what + "in streams", measured: duration(ourStream.median()), goal: goal{mostRatio: 1. / 8}, against: kubeconformName + ", one stream", baseline: duration(theirStream.median()),
			note: fmt.Sprintf("ours reads files of %d documents, which its bound on one file asks for", streamFile)},
		{bar: "P6", what: fmt.Sprintf("of %d with a mistake, judged otherwise than by kubeconform", len(badFiles())), measured: count(len(different), "files"), goal: goal{most: count(0, "files")},
			note: strings.Join(different, ", ")},
	}, theirs, nil
}

func badFiles() (names []string) {
	for i := range deployments {
		if isBad(i) {
			names = append(names, fmt.Sprintf("%05d.yaml", i))
		}
	}
	return names
}

// differences are what stands in one of two sorted lists only.
func differences(a, b []string) (out []string) {
	for _, name := range slices.Concat(a, b) {
		_, inA := slices.BinarySearch(a, name)
		_, inB := slices.BinarySearch(b, name)
		if inA != inB {
			out = append(out, name)
		}
	}
	return out
}

// afterOneChange measures P7: a tree of Git, whose files have hashes, judged
// without memory, and judged again after each of several commits. kubeconform, which
// took theirs for as many files, has no memory.
func afterOneChange(ctx context.Context, theirs samples) ([]row, error) {
	tree := schema.Tree{Commit: schema.CommitObject{Hash: "0"}}
	for i := range deployments {
		tree.Files = append(tree.Files, inMemory(i, 0))
	}
	var first, again samples
	judge := func(cache *load.Cache, applied schema.Commit) (time.Duration, error) {
		start := time.Now()
		r := load.Load(ctx, tree, schema.SourceSpec{}, load.Options{Source: sourceName, Cache: cache, Applied: applied})
		took := time.Since(start)
		if len(r.Diagnostics) > 0 || len(r.Objects) != deployments {
			return 0, fmt.Errorf("%d objects, %v", len(r.Objects), r.Diagnostics)
		}
		return took, nil
	}
	var cache *load.Cache
	for range validateRounds {
		cache = load.NewCache(0)
		took, err := judge(cache, "")
		if err != nil {
			return nil, err
		}
		first = append(first, took)
	}
	for i := range singleChanges {
		applied := tree.Commit.Hash
		tree.Commit.Hash = schema.Commit(fmt.Sprint(i + 1))
		tree.Files = slices.Clone(tree.Files)
		tree.Files[deployments/2] = inMemory(deployments/2, i+1)
		took, err := judge(cache, applied)
		if err != nil {
			return nil, err
		}
		again = append(again, took)
	}
	const what = "10,000 Deployments again after one changed"
	return []row{
		{bar: "P7", what: what, measured: duration(again.median()), goal: goal{most: duration(200 * time.Microsecond), mostRatio: 1. / 1500},
			against: "cold", baseline: duration(first.median()), note: "by the master's own loader, which knows unchanged files by their blob; both are calls in one process"},
		{bar: "P7", what: what, measured: duration(again.median()), against: kubeconformName + ", all again", baseline: duration(theirs.median()),
			note: "kubeconform has no memory of a tree and judges all its files, as a process that reads them from disk; a peer's time, no bar"},
	}, nil
}

// inMemory is the file of a Deployment in its version.
func inMemory(i, version int) schema.File {
	text := strings.Replace(plainDeployment(i), "value: info", fmt.Sprintf("value: info-%d", version), 1)
	return textFile(fmt.Sprintf("%05d.yaml", i), text, version)
}
