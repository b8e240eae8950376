package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	witnessImage = "localhost/fairlead-e2e-witness:1"
	// lab is the namespace of the tests' own workloads, beside the shop's.
	lab             = "lab"
	witnessURL      = "http://witness.lab.svc.cluster.local"
	witnessNodePort = 30090
)

// buildWitness makes the image of the program that tests run in containers.
func buildWitness(ctx context.Context, root, dir string) error {
	if err := compile(ctx, root, dir, "./cmd/fairlead/internal/e2e/witness"); err != nil {
		return err
	}
	recipe := "FROM scratch\nCOPY witness /witness\nENTRYPOINT [\"/witness\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "Containerfile"), []byte(recipe), 0o644); err != nil {
		return err
	}
	_, err := output(exec.CommandContext(ctx, "podman", "build", "--quiet", "--tag", witnessImage, dir))
	return err
}

// diary is what one witness wrote, its start first; times that did not come are
// zero, all of them for one that has just begun.
type diary struct {
	pod              string
	ip               string
	start, term, end time.Time
	late             []string // who was let in after SIGTERM, by a connection of its own
}

// diaries reads all that witnesses wrote, in the order of their start.
func diaries(t *testing.T, dir string) (out []diary) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(filepath.Base(f), ".")
		d := diary{pod: name}
		for line := range strings.Lines(string(data)) {
			fields := strings.Fields(line)
			if len(fields) < 2 || !strings.HasSuffix(line, "\n") {
				continue // being written
			}
			ns, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatalf("%s: %q", f, line)
			}
			at, detail := time.Unix(0, ns), strings.Join(fields[2:], " ")
			switch fields[0] {
			case "start":
				d.start, d.ip = at, detail
			case "term":
				d.term = at
			case "late":
				d.late = append(d.late, at.Format(clock)+" "+detail)
			case "end":
				d.end = at
			}
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b diary) int { return a.start.Compare(b.start) })
	return out
}

// workload says how a Deployment of witnesses in the lab should be.
type workload struct {
	name     string
	replicas int
	diaries  string   // a directory of the host; "" for none
	turn     int      // a new turn is a new template
	args     []string // of the program
	grace    int      // terminationGracePeriodSeconds; 0 for the default
	memory   string   // limit; "" for 64Mi
	node     string   // to run on; "" for any
	tolerate int      // tolerationSeconds of a lost node; 0 for the default
	deadline int      // progressDeadlineSeconds; 0 for the default
}

// manifest is the workload with its service.
func (w workload) manifest() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: %s, namespace: %s}\nspec:", w.name, lab)
	p("  replicas: %d\n  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}", w.replicas)
	if w.deadline > 0 {
		p("  progressDeadlineSeconds: %d", w.deadline)
	}
	p("  selector: {matchLabels: {app: %s}}\n  template:\n    metadata: {labels: {app: %s}}\n    spec:", w.name, w.name)
	if w.grace > 0 {
		p("      terminationGracePeriodSeconds: %d", w.grace)
	}
	if w.node != "" {
		p("      nodeSelector: {kubernetes.io/hostname: %s}", w.node)
	}
	if w.tolerate > 0 {
		p("      tolerations:")
		for _, taint := range []string{"not-ready", "unreachable"} {
			p("        - {key: node.kubernetes.io/%s, operator: Exists, effect: NoExecute, tolerationSeconds: %d}", taint, w.tolerate)
		}
	}
	p("      containers:\n        - name: witness\n          image: %s\n          imagePullPolicy: Never", witnessImage)
	if len(w.args) > 0 {
		p("          args: [%s]", strings.Join(w.args, ", "))
	}
	p("          ports: [{name: http, containerPort: 8080}]")
	p("          env:\n            - {name: TURN, value: %q}", strconv.Itoa(w.turn))
	if w.diaries != "" {
		p("            - {name: WITNESS_DIR, value: /diaries}")
		p("          volumeMounts: [{name: diaries, mountPath: /diaries}]")
	}
	memory := w.memory
	if memory == "" {
		memory = "64Mi"
	}
	p("          readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}")
	p("          resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: %s}}", memory)
	if w.diaries != "" {
		p("      volumes: [{name: diaries, hostPath: {path: %q, type: Directory}}]", w.diaries)
	}
	p("---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: %s}", w.name, lab)
	p("spec:\n  selector: {app: %s}\n  ports: [{name: http, port: 80, targetPort: http%s}]", w.name, w.nodePort())
	if w.nodePort() != "" {
		p("  type: NodePort")
	}
	return b.String()
}

func (w workload) nodePort() string {
	if w.name != "witness" {
		return ""
	}
	return fmt.Sprintf(", nodePort: %d", witnessNodePort)
}

// labTree is the lab's part of a tree: its namespace, a client on each of the
// nodes named, which nothing that a test rolls out touches, and workloads.
func labTree(clients []string, all ...workload) map[string]string {
	tree := map[string]string{"lab/namespace.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: " + lab + "}\n"}
	for _, node := range clients {
		w := workload{name: "client-" + node, replicas: 1, node: node}
		tree["lab/"+w.name+".yaml"] = w.manifest()
	}
	for _, w := range all {
		tree["lab/"+w.name+".yaml"] = w.manifest()
	}
	return tree
}
