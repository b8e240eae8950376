package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	k8syaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"fairlead/schema"
)

// What kubectl does with a file: its reader cuts it into documents, its library turns
// each into JSON, and the server decodes that strictly. This is made of the libraries
// that they use.

// readByKubernetes is the objects of a file, defaulted; an error if anything keeps one
// of them from being taken.
func readByKubernetes(text string) ([]schema.Object, error) {
	documents := k8syaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	var out []schema.Object
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		object, err := decodeByKubernetes(document)
		if err != nil {
			return nil, err
		}
		if object != nil {
			out = append(out, object)
		}
	}
}

func decodeByKubernetes(document []byte) (schema.Object, error) {
	text, err := yaml.YAMLToJSON(document)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(text, []byte("null")) {
		return nil, nil
	}
	var header struct{ Kind schema.Kind }
	if err := yaml.Unmarshal(text, &header); err != nil {
		return nil, err
	}
	info, ok := schema.Lookup(header.Kind)
	if !ok {
		return nil, fmt.Errorf("kind %q", header.Kind)
	}
	object := info.New()
	strict, err := json.UnmarshalStrict(text, object)
	if err := errors.Join(append(strict, err)...); err != nil {
		return nil, err
	}
	if info.Namespaced && object.GetNamespace() == "" {
		object.SetNamespace("default")
	}
	schema.Default(object)
	if problems := schema.Validate(object); len(problems) > 0 {
		return nil, fmt.Errorf("%v", problems)
	}
	return object, nil
}

// sameAsKubernetes holds what is loaded to what kubectl and a server make of it: the
// same objects, or an error that says what to write. It reports whether both read it.
func sameAsKubernetes(t *testing.T, text string) bool {
	t.Helper()
	want, problem := readByKubernetes(text)
	result := Load(t.Context(), treeOf("a.yaml", text), schema.SourceSpec{}, Options{})
	if wrong := errorsOf(result.Diagnostics); len(wrong) > 0 {
		for _, d := range wrong {
			if problem == nil && d.Hint == "" && !isOfStructure(d.Message) {
				t.Errorf("%q\nis read by Kubernetes, and this error does not say what to write:\n%v", text, d)
			}
		}
		return false
	}
	if problem != nil && strings.Contains(result.Diagnostics.Error(), "passed over") {
		return false // a part is no manifest, which is told
	}
	if problem != nil {
		t.Errorf("%q\nis loaded, and Kubernetes says: %v", text, problem)
		return false
	}
	if diff := cmp.Diff(asText(t, want), asText(t, desiredObjects(result))); diff != "" {
		t.Errorf("%q\nis read otherwise than by Kubernetes (-Kubernetes +Fairlead):\n%s", text, diff)
	}
	return true
}

// isOfStructure reports whether an error says by itself what to write: that a key is
// there twice, or an object where a text must be.
func isOfStructure(message string) bool {
	return strings.Contains(message, "is written twice") || strings.Contains(message, "is defined twice") || strings.HasSuffix(message, "not a list") || strings.HasSuffix(message, "not an object")
}

func desiredObjects(result Result) (out []schema.Object) {
	for _, d := range result.Objects {
		out = append(out, d.Object)
	}
	return out
}

// asText is the objects in a stable order, without what the loader notes on them.
func asText(t *testing.T, objects []schema.Object) string {
	t.Helper()
	byKey := make(map[string]string)
	for _, o := range objects {
		o = o.DeepCopyObject().(schema.Object)
		annotations := o.GetAnnotations()
		for key := range annotations {
			if strings.HasPrefix(key, schema.Group+"/") {
				delete(annotations, key)
			}
		}
		if len(annotations) == 0 {
			o.SetAnnotations(nil)
		}
		schema.SetTypeMeta(o)
		text, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		byKey[schema.KeyOf(o).String()] = string(text)
	}
	out, err := yaml.Marshal(byKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// scalarTexts are ways to write one value.
var scalarTexts = []string{
	"a", "web", "y", "Y", "yes", "Yes", "YES", "yEs", "n", "N", "no", "No", "NO", "nO", "on", "On", "ON", "oN", "off", "Off", "OFF", "oFF",
	"true", "True", "TRUE", "tRue", "false", "False", "FALSE", "t", "f", "~", "null", "Null", "NULL", "nUll", "",
	"0", "1", "8", "80", "010", "0777", "08", "0o17", "0o777", "0O17", "0x1F", "0X1f", "0b11", "-0b11", "1_000", "1_0_0", "_1", "1_", "0x_1F", "+1", "-1", "+0", "-0", "00", "0_7",
	"0b1010", "0b2", "0o8", "0b", "0x", "0o", "0xG", "-0x1F", "+0x1F", "-010", "+010", "-08", "0b1_1", "1__0", "0__7", "1_000_000", "-1_000", "+1_000", "0_", "0x1F_FF",
	"1e400", "-1e400", "1.7976931348623157e309", "5e-324", "1e-400", "-9223372036854775808", "-9223372036854775809", "1e18", "1e19", "1e21", "1E400", "0e0", "0.0", "-0.0", "-.0", "00.5", "01.5", "1.e3", ".e3", "1e+", "1e-", "1.2.3", "1..2", "0.1e1",
	"a.b", "a_b", "A1", "x-y", "1.0.0", "v1", "0.5.0", "yes.no", "on.off", "true-ish", "n0", "y1", "off-1",
	"10:00", "-1:30", "0:0", "1:60", "1:2:3:4", "9:9", "1:1.5", "12e03", "685_230.15", "6.8523015e+5", "0b0", "0o0", "0x0", "~~", "nul", "TruE", "Yess", "y ", "-y", "+y", ".y", "!!str on", "!!str 010", "!!str ~", "!!bool y", "!!bool 1", "!!int 1.5", "!!int y", "!!float 1e3", "!!float .inf", "!!null x",
	"2024-01-31T10:00:00+0200", "2024-01-31T", "2024-01-31 10:00", "2024-1-31", "24-01-31", "2024-01-31T10:00:00", "2024-02-30",
	"1:30", "12:30:45", "190:20:30.15", ".5", "-.5", "+.5", "0.5", "1.", "1.50", "1.0", "1.10", "1e3", "1E3", "1e+3", "1e-3", "1.5e3", "1e", "e3", "1_000.5", "._5", ".5_0",
	".inf", "-.inf", "+.Inf", ".nan", ".NaN", ".", "..", "-", "--", "+", "=", "<<",
	"9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616", "123456789012345678901234567890", "0.1234567890123456789", "16777217.5",
	"2024-01-31", "2024-1-3", "2024-01-31T10:00:00Z", "2024-01-31t10:00:00.5+02:00", "2024-01-31 10:00:00", "2024-13-45", "20240131",
	"100m", "500m", "64Mi", "1Gi", "1G", "0.5", "1e3Mi", "1k", "1K", "2E", "1e2", "1E2", "25%", "1.27.3", "10.96.0.50", "30s",
	"'1'", "\"1\"", "'y'", "\"010\"", "'~'", "\"\"", "''", "\"a\\tb\"", "'it''s'", "\"\\u00e4\"", "\"\\x41\"",
	"!!str 1", "!!str y", "!!str", "!!int 1", "!!int \"1\"", "!!int 010", "!!float 1", "!!float 1.5", "!!bool yes", "!!bool \"true\"", "!!null ~", "!!null", "!!binary aGk=", "!!timestamp 2024-01-31", "!x 1", "! a",
	"a#b", "a #b", "a b", "a, b", "a:b", "\u00e4", "a\u2028b", "\\n", "a\\n", "*a", "&b c", "a\tb", "a ", "[a]", "[]", "{}", "{a: b}", "{a}", "[1, 2]", "|\n    a\n    b", ">-\n    a\n    b", "|+\n    a\n\n", "a\n    b", "\"a\n    b\"", "'a\n\n    b'", "|2\n     a",
}

// wholeObjects are objects with a place for a value, a key or two, marked as @.
var wholeObjects = []string{
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  k: @\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  @: \"k\"\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\n  labels:\n    l: @\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\n  annotations:\n    a: @\n    b: @\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: @}\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\nimmutable: @\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: @, @: b}\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: @, b}\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: &d\n  a: &a @\n  b: *a\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  <<: {a: @, b: \"2\"}\n  a: @\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  a: @\n  <<: {a: @, b: \"2\"}\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  <<: [{a: @}, {a: x, b: @}]\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  <<: {a: @}\n  <<: {a: x}\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\nbinaryData:\n  k: @\n",
	"apiVersion: v1\nkind: Secret\nmetadata: {name: c}\ndata:\n  k: @\nstringData:\n  l: @\n",
	"apiVersion: v1\nkind: Secret\nmetadata: {name: c}\ntype: @\n",
	"apiVersion: v1\nkind: Service\nmetadata: {name: c}\nspec:\n  selector: {a: b}\n  publishNotReadyAddresses: @\n  ports:\n  - port: @\n    targetPort: @\n",
	"apiVersion: v1\nkind: Pod\nmetadata: {name: c}\nspec:\n  terminationGracePeriodSeconds: @\n  containers:\n  - name: c\n    image: localhost/c:v1\n    args: [@]\n    resources:\n      requests: {cpu: @}\n      limits:\n        memory: @\n",
	"apiVersion: v1\nkind: Pod\nmetadata: {name: c}\nspec:\n  containers:\n  - name: c\n    image: localhost/c:v1\n    command:\n    - @\n    - @\n    env:\n    - name: A\n      value: @\n",
	"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: c}\nspec:\n  replicas: @\n  selector: {matchLabels: {app: c}}\n  strategy: {rollingUpdate: {maxSurge: @}}\n  template:\n    metadata: {labels: {app: c}}\n    spec:\n      containers:\n      - {name: c, image: \"localhost/c:v1\"}\n",
}

// A value is what Kubernetes reads, wherever it stands and however it is written.
func TestScalarsAreReadAsByKubernetes(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	read := 0
	for _, object := range wholeObjects {
		for _, first := range scalarTexts {
			text := strings.Replace(object, "@", first, 1)
			for strings.Contains(text, "@") {
				text = strings.Replace(text, "@", scalarTexts[random.IntN(len(scalarTexts))], 1)
			}
			if sameAsKubernetes(t, text) {
				read++
			}
		}
	}
	if read < 500 {
		t.Errorf("%d of these texts are read: they show little", read)
	}
}

// Each way to write a value is a value of its own and a key of its own, as kubectl's
// library turns it into JSON.
func TestTableOfScalars(t *testing.T) {
	values, keys := 0, 0
	for _, text := range scalarTexts {
		if sameAsKubernetes(t, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\n  annotations:\n    k: "+text+"\n") {
			values++
		}
		if sameAsKubernetes(t, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\n  annotations:\n    "+text+": k\n") {
			keys++
		}
		for _, field := range []string{"minReadySeconds", "revisionHistoryLimit"} {
			sameAsKubernetes(t, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: c}\nspec:\n  "+field+": "+text+"\n  selector: {matchLabels: {app: c}}\n  template:\n    metadata: {labels: {app: c}}\n    spec:\n      containers:\n      - {name: c, image: \"localhost/c:v1\"}\n")
		}
	}
	if values < 80 || keys < 80 {
		t.Errorf("of %d scalars, %d are compared as values and %d as keys", len(scalarTexts), values, keys)
	}
}

// documentPieces are put together to files of several documents.
var documentPieces = []string{
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata:\n  k: |\n    --- text\n    ...\n",
	"apiVersion: v1\r\nkind: ConfigMap\r\nmetadata:\r\n  name: c\r\ndata:\r\n  k: |\r\n    one\r\n    two\r\n",
	"{apiVersion: v1, kind: ConfigMap, metadata: {name: d}}\n",
	"{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"e\"},\n\t\"data\": {\"k\": \"\\u00e4\"}}\n",
	"apiVersion: &v v1\nkind: &k ConfigMap\nmetadata: &m {name: f}\n",
	"---\n", "--- \n", "---\r\n", "--- # comment\n", "---\n---\n", "# comment\n", "\n", "   \n", "# --- no marker\n", "\n\n---\n", "~\n", "null\n",
}

// A file is cut into the documents that Kubernetes finds in it.
func TestDocumentsAreThoseOfKubernetes(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	read := 0
	for range 20_000 {
		var text strings.Builder
		for range 1 + random.IntN(8) {
			text.WriteString(documentPieces[random.IntN(len(documentPieces))])
		}
		if sameAsKubernetes(t, text.String()) {
			read++
		}
		if t.Failed() {
			return
		}
	}
	if read < 1000 {
		t.Errorf("%d of these texts are read: they show little", read)
	}
}
