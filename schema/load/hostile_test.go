package load

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/schema"
	"fairlead/schema/load/yaml"
)

// hostile is a file that nobody writes by mistake.
type hostile struct {
	name string
	file string // default a.yaml
	text string
	line int    // of the error that must be told; 0 is anywhere
	want string // the error's words; empty when the file says something legal
}

const (
	podHead = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n"
	podTail = "  containers: [{name: web, image: localhost/web:v1}]\n"
)

// configWith is a ConfigMap with what stands below data.
func configWith(data string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config}\ndata:\n" + data
}

// numbered is a line for each number below n.
func numbered(line string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, line, i)
	}
	return b.String()
}

// replicated is a Deployment of so many pods, each with an argument of that length.
func replicated(pods, argument int) string {
	return fmt.Sprintf("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: %d\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: web, image: localhost/web:v1, args: [%s]}]}\n", pods, strings.Repeat("x", argument))
}

// laughs is n anchors, each ten aliases of the one before.
func laughs(n int) string {
	var b strings.Builder
	b.WriteString("x0: &x0 [a, a, a, a, a, a, a, a, a, a]\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "x%d: &x%d [%s*x%d]\n", i, i, strings.Repeat(fmt.Sprintf("*x%d, ", i-1), 9), i-1)
	}
	return b.String()
}

// hollow is n levels of empty objects, each of which has the one before sixty times.
func hollow(n int) string {
	var b strings.Builder
	b.WriteString("{x0: &x0 {}")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, ", x%d: &x%d {", i, i)
		for j := range 60 {
			fmt.Fprintf(&b, "k%d: *x%d, ", j, i-1)
		}
		b.WriteString("}")
	}
	return b.String() + "}"
}

// merges is n objects, each of which merges the one before twice.
func merges(n int) string {
	var b strings.Builder
	b.WriteString("  m0: &m0 {a: b}\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "  m%d: &m%d {<<: [*m%d, *m%d]}\n", i, i, i-1, i-1)
	}
	return b.String()
}

// steps is a block mapping n levels deep.
func stepsDown(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func hostiles() []hostile {
	const million = 1 << 20
	return []hostile{
		{name: "brackets", text: strings.Repeat("[", 2*million), line: 1, want: "not YAML: exceeded max depth"},
		{name: "braces", text: strings.Repeat("{a: ", 500_000), line: 1, want: "not YAML: exceeded max depth"},
		{name: "dashes", text: strings.Repeat("- ", million), line: 1, want: "not YAML: exceeded max depth"},
		{name: "question marks", text: strings.Repeat("? ", million), line: 1, want: "not YAML: exceeded max depth"},
		{name: "steps", text: configWith("  a:\n" + strings.ReplaceAll("   "+strings.TrimSuffix(stepsDown(200), "\n"), "\n", "\n   ")), line: 104, want: "nested deeper than 100 levels"},
		{name: "deep but closed", text: configWith("  a: " + strings.Repeat("[", 150) + strings.Repeat("]", 150) + "\n"), line: 5, want: "nested deeper than 100 levels"},
		{name: "JSON brackets", file: "a.json", text: strings.Repeat("[", 2*million), line: 1, want: "not JSON: nested deeper than 100 levels"},
		{name: "JSON objects", file: "a.json", text: strings.Repeat(`{"a":`, 500_000), line: 1, want: "not JSON: nested deeper than 100 levels"},

		{name: "text over the bound", text: configWith("  a: " + strings.Repeat("x", 2*million) + "\n"), line: 4, want: "data: keys and values take 2097153 bytes together, at most 1048576 fit"},
		{name: "block text over the bound", text: configWith("  a: |\n" + strings.Repeat("    xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n", 40_000)), line: 4, want: "bytes together, at most 1048576 fit"},
		{name: "file over the bound", text: configWith("  a: x\n") + "#" + strings.Repeat("x", schema.MaxFileSize), line: 0, want: "at most 3145728 are read"},
		{name: "name of a megabyte", text: "apiVersion: v1\nkind: Secret\nmetadata:\n  name: " + strings.Repeat("n", million) + "\n", line: 4, want: "metadata.name: \"nnn"},
		{name: "key of a megabyte", text: configWith("  ? " + strings.Repeat("k", million) + "\n  : x\n"), line: 6, want: "data[kkk"},
		{name: "key of a megabyte in JSON", file: "a.json", text: `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"},` + "\n" + `"data": {"` + strings.Repeat("k", million) + `": "x"}}`, line: 2, want: "data[kkk"},
		{name: "field of a megabyte", text: podHead + "  ? " + strings.Repeat("f", million) + "\n  : x\n" + podTail, line: 5, want: "unknown field \"fff"},
		{name: "number of a megabyte", text: podHead + "  terminationGracePeriodSeconds: " + strings.Repeat("9", million) + "\n" + podTail, line: 5, want: "must be a whole number, not \"999"},
		{name: "quantity of a megabyte", text: podHead + "  containers:\n    - name: web\n      image: localhost/web:v1\n      resources: {limits: {memory: " + strings.Repeat("9", million) + "}}\n", line: 8, want: "is not a quantity"},
		{name: "quantity of a large exponent", text: podHead + "  containers:\n    - name: web\n      image: localhost/web:v1\n      resources: {limits: {memory: 1e999999999}}\n", line: 8, want: "has an exponent of more than two digits"},
		{name: "quantity that never ends", text: podHead + "  containers:\n    - name: web\n      image: localhost/web:v1\n      resources: {limits: {memory: 1E999999999999}}\n", line: 8, want: "has an exponent of more than two digits"},
		{name: "quantity next to nothing", text: podHead + "  containers:\n    - name: web\n      image: localhost/web:v1\n      resources: {limits: {memory: 1e-999999999}}\n", line: 8, want: "has an exponent of more than two digits"},
		{name: "kind of a megabyte", text: "apiVersion: v1\nkind: " + strings.Repeat("K", million) + "\n", line: 2, want: "unknown kind \"KKK"},
		{name: "two names of a megabyte that nearly agree", text: podHead + "  volumes: [{name: " + strings.Repeat("v", million) + "w, emptyDir: {}}]\n" +
			"  containers:\n    - name: web\n      image: localhost/web:v1\n      volumeMounts:\n        - {mountPath: /v, name: " + strings.Repeat("v", million) + "}\n", line: 10, want: "the pod has no volume"},

		{name: "lists of lists of one object", text: "apiVersion: v1\nkind: List\nitems:\n- &c ~\n- &b {apiVersion: v1, kind: List, items: [" + strings.Repeat("*c, ", 10_000) + "]}\n" +
			"- {apiVersion: v1, kind: List, items: [" + strings.Repeat("*b, ", 10_000) + "]}\n", line: 6, want: "aliases expand to more than 100000 values"},
		{name: "a billion laughs", text: laughs(9) + "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config}\ndata: {a: *x8}\n", line: 13, want: "data[a] must be text, not a list"},
		{name: "a billion laughs where lists may stand", text: podHead + "  containers:\n    - name: web\n      image: localhost/web:v1\n      args: &x0 [a, a, a, a]\n" + strings.Repeat("    - {name: web, args: *x0}\n", 30_000), want: "aliases expand to more than 100000 values"},
		{name: "empty objects of empty objects", text: podHead + "  securityContext: {seLinuxOptions: " + hollow(8) + "}\n" + podTail, line: 5, want: "spec.securityContext.seLinuxOptions is not supported yet"},
		{name: "a list of one large object", text: "apiVersion: v1\nkind: List\nitems:\n- &a {apiVersion: v1, kind: ConfigMap, metadata: {name: config}, data: {" + numbered("k%d: x, ", 10_000) + "}}\n" + strings.Repeat("- *a\n", 99_999), want: "aliases expand to more than 100000 values"},
		{name: "a list of objects with the same large data", text: "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: &d {" + numbered("k%d: x, ", 9_000) + "}}\n" +
			numbered("- {apiVersion: v1, kind: ConfigMap, metadata: {name: c%d}, data: *d}\n", 30_000), want: "aliases expand to more than 100000 values"},
		{name: "a list of objects that merge the same large data", text: "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: &d {" + numbered("k%d: x, ", 9_000) + "}}\n" +
			numbered("- {apiVersion: v1, kind: ConfigMap, metadata: {name: c%d}, data: {<<: *d}}\n", 30_000), want: "aliases expand to more than 100000 values"},
		{name: "merges of merges", text: configWith(merges(40)) + "labels: {<<: *m39}\n", line: 45, want: "unknown field \"labels\""},
		{name: "an alias of what is around it", text: "apiVersion: v1\nkind: ConfigMap\nmetadata: &m\n  name: config\n  labels: *m\n", line: 5, want: "the alias *m contains itself"},

		{name: "NUL in text", text: configWith("  a: x\n  b: y\x00z\n"), line: 6, want: "not YAML: control characters are not allowed"},
		{name: "NUL in the name of a field", text: configWith("  a: x\n") + "da\x00ta: {}\n", line: 6, want: "not YAML: control characters are not allowed"},
		{name: "NUL escaped in a name", text: "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: \"a\\0b\"\n", line: 4, want: `metadata.name: "a\x00b" is not valid`},
		{name: "NUL in JSON", file: "a.json", text: "{\"apiVersion\": \"v1\",\n\x00}", line: 2, want: `not JSON: invalid character '\x00'`},
		{name: "nothing but NUL", text: strings.Repeat("\x00", million), line: 1, want: "not YAML: control characters are not allowed"},
		{name: "not UTF-8", text: configWith("  a: x\n  b: \xff\xfe\n"), line: 6, want: "not YAML: "},
		{name: "not UTF-8 in JSON", file: "a.json", text: "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"config\"},\n \"data\": {\"a\": \"\xff\"}}\n", line: 2, want: "not JSON: this is not UTF-8"},
		{name: "half a surrogate in JSON", file: "a.json", text: `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "\ud800"}}`, line: 1, want: "metadata.name: "},

		{name: "many keys without values", text: configWith(numbered("  k%d:\n", 250_000)), line: 4, want: "data: keys and values take 1638890 bytes together, at most 1048576 fit"},
		{name: "many keys without values that fit", text: configWith(numbered("  k%d:\n", 50_000)), line: 4, want: "data: 50000 keys, at most 10000 are taken"},
		{name: "many keys of a Secret without values", text: "apiVersion: v1\nkind: Secret\nmetadata: {name: config}\ndata:\n" + numbered("  k%d:\n", 250_000), line: 4, want: "data: keys and values take 1638890 bytes together, at most 1048576 fit"},
		{name: "many keys of binary data without values", text: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config}\nbinaryData:\n" + numbered("  k%d:\n", 250_000), want: "data: keys and values take 1638890 bytes together, at most 1048576 fit"},
		{name: "many labels", text: "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config\n  labels:\n" + numbered("    k%d: ''\n", 100_000), line: 5, want: "metadata.labels: labels take 588890 bytes together, at most 262144 fit"},
		{name: "many annotations", text: "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config\n  annotations:\n" + numbered("    k%d: ''\n", 100_000), line: 5, want: "metadata.annotations: annotations take 588890 bytes together, at most 262144 fit"},
		{name: "many selected labels", text: "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports: [{port: 80}]\n  selector:\n" + numbered("    k%d: ''\n", 100_000), line: 6, want: "spec.selector: labels take 588890 bytes together, at most 262144 fit"},
		{name: "many ports", text: "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  selector: {app: web}\n  ports:\n" + numbered("    - {name: p%[1]d, port: %[1]d}\n", 60_000), line: 6, want: "spec.ports: 60000 ports, at most 1000 are taken"},
		{name: "arguments over the bound", text: podHead + "  containers:\n    - name: web\n      image: localhost/web:v1\n      args: [" + numbered("a%d, ", 250_000) + "]\n", line: 1, want: "the object takes"},
		{name: "one argument over the bound", text: podHead + "  containers:\n    - name: web\n      image: localhost/web:v1\n      args: [" + strings.Repeat("x", 2*million) + "]\n", line: 1, want: "bytes as stored, at most 1572864 fit"},
		{name: "arguments that aliases write out", text: podHead + "  containers:\n    - name: web\n      image: localhost/web:v1\n      args: [&x " + strings.Repeat("x", 100_000) + strings.Repeat(", *x", 50_000) + "]\n", line: 1, want: "bytes as stored, at most 1572864 fit"},
		{name: "two thousand million pods", text: replicated(2_000_000_000, 1), line: 5, want: "spec.replicas: 2000000000 pods, a tree may ask for 500000"},
		{name: "many large pods", text: replicated(400_000, million/10), line: 5, want: "as stored, at most 1073741824 fit"},
		{name: "many pods of several", text: strings.Repeat(replicated(200_000, 1)+"---\n", 3), want: "the tree asks for 600000 pods, at most 500000 are run"},
		{name: "bytes that are no text", text: configWith("  a: !!binary /////w==\n"), line: 5, want: "data[a] must be text, not a value tagged !!binary"},

		{name: "byte order mark", text: "\ufeff" + configWith("  a: x\n")},
		{name: "byte order mark in JSON", file: "a.json", text: "\ufeff" + `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}}`},
		{name: "two byte order marks", text: "\ufeff\ufeff" + configWith("  a: x\n")},
		{name: "carriage returns", text: strings.ReplaceAll(configWith("  a: x\n  b: |\n    one\n    two\n")+"---\n"+configWith("  a: x\n"), "\n", "\r\n"), line: 10, want: "ConfigMap default/config is defined twice"},
		{name: "carriage returns before a mistake", text: strings.ReplaceAll(configWith("  a: x\n  b: 5\n"), "\n", "\r\n"), line: 6, want: "data[b] must be text, not 5"},
		{name: "carriage returns in JSON", file: "a.json", text: "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\",\r\n\"metadata\": {\"name\": \"config\"},\r\n\"data\": {\"a\": 5}}\r\n", line: 3, want: "data[a] must be text, not 5"},

		{name: "nothing", text: ""},
		{name: "nothing but line breaks", text: strings.Repeat("\n", 2*million)},
		{name: "nothing but spaces", text: strings.Repeat(" ", 2*million)},
		{name: "nothing in JSON", file: "a.json", text: " \n\t\r\n"},
		{name: "a hundred thousand empty documents", text: strings.Repeat("---\n", 100_000)},
		{name: "a hundred thousand documents", text: strings.Repeat("--- {metadata: b}\n", 100_000), line: 1, want: "no apiVersion and kind: this is not an object"},
		{name: "a hundred thousand values of JSON", file: "a.json", text: strings.Repeat("{\"metadata\": 1}\n", 100_000), line: 1, want: "no apiVersion and kind: this is not an object"},
		{name: "a hundred thousand documents and a directive", text: "%YAML 1.1\n" + strings.Repeat("---\nmetadata: b\n...\n", 100_000), line: 3, want: "no apiVersion and kind: this is not an object"},
		{name: "a mistake behind long lines", text: configWith(strings.Repeat("  - "+strings.Repeat("x", 8_000)+"\n", 300)) + "a: [\n", want: "not YAML: "},
	}
}

// hostileDeadline is far above what any of them takes, and far below what one
// does whose cost is not in proportion to its size.
const hostileDeadline = time.Minute

// Whatever stands in a file, judging it costs in proportion to its size, and
// what is told is bounded.
func TestHostileFiles(t *testing.T) {
	for _, h := range hostiles() {
		t.Run(h.name, func(t *testing.T) {
			if h.file == "" {
				h.file = "a.yaml"
			}
			got := inTime(t, hostileDeadline, func(ctx context.Context) schema.Diagnostics {
				return Load(ctx, treeOf(h.file, h.text), schema.SourceSpec{}, Options{}).Diagnostics
			})
			if h.want == "" && got.HasErrors() {
				t.Errorf("refused: %s", yaml.Cut(got.Error(), yaml.MaxMessage))
			}
			if h.want != "" && !slices.ContainsFunc(got, func(d schema.Diagnostic) bool {
				return d.Severity == schema.Error && strings.Contains(d.Message, h.want) && (h.line == 0 || h.line == d.Line)
			}) {
				t.Errorf("want %d: %s\ngot %s", h.line, h.want, yaml.Cut(got.Error(), yaml.MaxMessage))
			}
			if len(got) > yaml.MaxDiagnostics {
				t.Errorf("%d diagnostics of one document", len(got))
			}
			for _, d := range got {
				if len(d.Message)+len(d.Hint) > 2*yaml.MaxMessage+2*len("…") {
					t.Errorf("a diagnostic of %d bytes", len(d.Message)+len(d.Hint))
				}
			}
		})
	}
}

// What a tree refers to in vain is looked for among all names a few times, not
// each time.
func TestManyNamesThatNearlyAgree(t *testing.T) {
	var pairs []string
	for i := range 3_000 {
		name := fmt.Sprintf("configuration-of-the-application-number-%05d", i)
		pairs = append(pairs, fmt.Sprintf("c%d.yaml", i), strings.Replace(configYAML, "config", name, 1))
		pairs = append(pairs, fmt.Sprintf("p%d.yaml", i), fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: p%d}\nspec:\n  containers:\n    - name: web\n      image: localhost/web:v1\n      envFrom: [{configMapRef: {name: %s-x}}]\n", i, name))
	}
	result := Load(t.Context(), treeOf(pairs...), schema.SourceSpec{}, Options{})
	hints := 0
	for _, d := range result.Diagnostics {
		if strings.HasPrefix(d.Hint, "did you mean") {
			hints++
		}
	}
	if len(result.Diagnostics) != 3_000 || hints != maxHints {
		t.Errorf("%d diagnostics, %d with a name that is near", len(result.Diagnostics), hints)
	}
}

// However many warnings there are, an error is told, and refuses the tree.
func TestWarningsHideNoError(t *testing.T) {
	var text strings.Builder
	text.WriteString(podHead + "  containers:\n")
	for i := range 60 { // each has four fields that warn
		fmt.Fprintf(&text, "    - {name: c%d, image: localhost/web:v1, lifecycle: {preStop: {sleep: {seconds: 1}}, stopSignal: SIGINT}, resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}], resources: {requests: {memory: 64m}, limits: {memory: 64m}}}\n", i)
	}
	text.WriteString("  nodeName: n1\n")
	got := Load(t.Context(), treeOf("a.yaml", text.String()), schema.SourceSpec{Unsupported: "warn"}, Options{}).Diagnostics
	if !got.HasErrors() || len(got) != yaml.MaxDiagnostics {
		t.Errorf("%d diagnostics, the last of them %s", len(got), got[len(got)-1])
	}
}
