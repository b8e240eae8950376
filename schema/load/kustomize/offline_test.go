package kustomize

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fairlead/schema/load/child"
)

// No server is asked, wherever a kustomization names one: most is refused at its line
// before anything is built, and what is not known to name a file fails as it is built.
func TestNoServerIsAsked(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		fmt.Fprintln(w, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}")
	}))
	defer server.Close()
	url := server.URL + "/a"
	plain := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"
	inline := func(field, text string) []child.File {
		return pairs("a/kustomization.yaml", "resources: [c.yaml]\n"+field+":\n- |\n  "+strings.ReplaceAll(text, "\n", "\n  ")+"\n", "a/c.yaml", plain)
	}
	inFile := func(field, text string) []child.File {
		return pairs("a/kustomization.yaml", "resources: [c.yaml]\n"+field+": [t.yaml]\n", "a/c.yaml", plain, "a/t.yaml", text)
	}
	generator := "apiVersion: builtin\nkind: ConfigMapGenerator\nmetadata: {name: g}\n"
	secret := "apiVersion: builtin\nkind: SecretGenerator\nmetadata: {name: g}\n"
	patch := "apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: g}\n"
	upper := strings.Replace(url, "http", "HTTP", 1)
	for name, files := range map[string][]child.File{
		"resources":               pairs("a/kustomization.yaml", "resources: ["+url+"]\n"),
		"resources in capitals":   pairs("a/kustomization.yaml", "resources: ["+upper+"]\n"),
		"resources with a file":   pairs("a/kustomization.yaml", "resources: ["+url+"]\n", "a/"+strings.Replace(url, "//", "/", 1), plain),
		"files with a file":       pairs("a/kustomization.yaml", "configMapGenerator: [{name: c, files: [\"x="+url+"\"]}]\n", "a/"+strings.Replace(url, "//", "/", 1), plain),
		"patch with a file":       pairs("a/kustomization.yaml", "resources: [c.yaml]\npatches: [{path: \""+url+"\"}]\n", "a/c.yaml", plain, "a/"+strings.Replace(url, "//", "/", 1), plain),
		"crds":                    pairs("a/kustomization.yaml", "resources: [c.yaml]\ncrds: ["+url+"]\n", "a/c.yaml", plain),
		"openapi":                 pairs("a/kustomization.yaml", "resources: [c.yaml]\nopenapi: {path: \""+url+"\"}\n", "a/c.yaml", plain),
		"a patch like text":       pairs("a/kustomization.yaml", "resources: [c.yaml]\npatchesStrategicMerge: [\""+url+": b\"]\n", "a/c.yaml", plain),
		"a transformer like text": pairs("a/kustomization.yaml", "resources: [c.yaml]\ntransformers: [\""+url+": b\"]\n", "a/c.yaml", plain),
		"a generator like text":   pairs("a/kustomization.yaml", "generators: [\""+url+"\\nx: y\"]\n"),
		"a validator like text":   pairs("a/kustomization.yaml", "resources: [c.yaml]\nvalidators: [\" "+url+": b\"]\n", "a/c.yaml", plain),
		"files inline":            inline("generators", generator+"files: ["+url+"]"),
		"files inline, keyed":     inline("generators", generator+"files: [\"k="+url+"\"]"),
		"files":                   inFile("generators", generator+"files:\n- "+upper+"\n"),
		"files by an alias":       inFile("generators", generator+"literals: [&l \""+url+"=x\"]\nfiles: [*l]\n"),
		"files in JSON":           inline("generators", `{"apiVersion":"builtin","kind":"ConfigMapGenerator","metadata":{"name":"g"},"files":["`+url+`"]}`),
		"envs inline":             inline("generators", generator+"envs: ["+url+"]"),
		"envs of a Secret":        inline("generators", secret+"envs: ["+url+"]"),
		"env of a Secret":         inFile("generators", secret+"env: "+url+"\n"),
		"patch inline":            inline("transformers", patch+"path: "+url+"\ntarget: {kind: ConfigMap}"),
		"patch":                   inFile("transformers", patch+"path: "+url+"\ntarget: {kind: ConfigMap}\n"),
		"patch by an alias":       inFile("transformers", patch+"target: {kind: ConfigMap, annotationSelector: &l \""+url+"\"}\npath: *l\n"),
		"patches":                 inFile("transformers", "apiVersion: builtin\nkind: PatchStrategicMergeTransformer\nmetadata: {name: g}\npaths: ["+url+"]\n"),
		"replacement":             inFile("transformers", "apiVersion: builtin\nkind: ReplacementTransformer\nmetadata: {name: g}\nreplacements:\n- path: "+url+"\n"),
		"validator":               inFile("validators", patch+"path: "+url+"\ntarget: {kind: ConfigMap}\n"),
	} {
		told := surveyOf(files)
		wrong := told.Diagnostics.HasErrors()
		for _, u := range told.Units {
			resp := newBuilder(files).build(u.Dir)
			wrong = wrong || resp.Diagnostics.HasErrors()
		}
		if !wrong {
			t.Errorf("%s: nothing is told", name)
		}
		if asked.Swap(0) > 0 {
			t.Errorf("%s: a server was asked", name)
		}
	}
	client := http.Client{Timeout: time.Minute}
	if _, err := client.Get(url); err == nil {
		t.Error("the process that builds may ask a server")
	}
}

// An address in what is no file's name is text like any other.
func TestAddressesThatAreText(t *testing.T) {
	files := pairs("a/kustomization.yaml", "generators: [g.yaml]\ntransformers: [t.yaml]\nconfigMapGenerator: [{name: d, files: [git@x.txt, gh:x], literals: [\"A=http://example.org\"]}]\n",
		"a/g.yaml", "apiVersion: builtin\nkind: ConfigMapGenerator\nmetadata: {name: g}\nliterals: [\"A=https://example.org/?ref=x\"]\n",
		"a/t.yaml", "apiVersion: builtin\nkind: AnnotationsTransformer\nmetadata: {name: t}\nannotations: {see: \"https://example.org\"}\nfieldSpecs: [{path: metadata/annotations, create: true}]\n",
		"a/git@x.txt", "x", "a/gh:x", "y")
	s := surveyOf(files)
	if len(s.Units) != 1 {
		t.Fatalf("got %v", s.Diagnostics)
	}
	if resp := newBuilder(files).build("a"); len(resp.Objects) != 2 {
		t.Errorf("got %d objects, %v", len(resp.Objects), resp.Diagnostics)
	}
}
