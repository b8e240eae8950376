package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/schema"
)

// A kind is a row, a file and a test: what is done for one stands in its own file of
// the floor, and code that handles any object knows none by name. See
// docs/decisions/0025-how-to-add-a-kind.md.

// substance are the kinds that the machine itself is about: it follows Sources, keeps
// Revisions, runs Pods on Nodes and tells Events. To handle one as what it is names no
// kind; to tell one from the others does.
var substance = []schema.Kind{schema.KindSource, schema.KindRevision, schema.KindPod, schema.KindNode, schema.KindEvent}

// kindRooms are where the rule holds, with all below.
var kindRooms = []string{"reconciler", "schema", "cmd/fairlead"}

// ownFiles are files of one kind that are not called after it. All others begin with
// the kind's name.
var ownFiles = map[string]schema.Kind{
	"reconciler/control/endpoints.go": schema.KindEndpointSlice,
	"reconciler/control/rollout.go":   schema.KindDeployment,
	"reconciler/api/endpoints.go":     schema.KindService, // what older clients read of one
	"reconciler/vault.go":             schema.KindSecret,  // it holds their values
}

// namers are the other files that name kinds, each with its reason. A directory stands
// for the files in it. The list only gets shorter: an entry that is no longer needed
// fails the test as well.
var namers = map[string]string{
	// Tables: a line for each kind that needs no file on their floor.
	"reconciler/health/idle.go":         "the table's lines of kinds that run nothing",
	"reconciler/plan/rows.go":           "the table's lines of kinds that make no pods",
	"reconciler/progress/why/rows.go":   "the table's lines of kinds that have nothing to tell",
	"cmd/fairlead/internal/sim/rows.go": "the table's lines of kinds that promise nothing",

	// What the machine does with pods on nodes, whatever made them.
	"reconciler/scheduler/view.go": "it counts pods on nodes",
	"reconciler/settle/place.go":   "it places pods on nodes",
	"reconciler/recover.go":        "it gathers nodes, and their pods from them",
	"reconciler/plan/tell.go":      "it tells which pods come and go",
	"cmd/fairlead/why.go":          "it reads the log of a pod, and the events about one object",

	// What nodes need: the families of the wire.
	"reconciler/api/door.go":  "it makes the items of the wire's families",
	"reconciler/work/work.go": "it makes the items of the wire's families",

	// What tests start from.
	"schema/objecttest": "it builds one object of each kind that several rooms test with",

	"cmd/fairlead/internal/bench/validate.go": "it measures how long a tree of Deployments takes to be judged",
}

func TestKindsAreNamedInTheirOwnFiles(t *testing.T) {
	needed := map[string]bool{}
	for _, p := range packages(t) {
		path, _ := name(p.ImportPath)
		if !slices.ContainsFunc(kindRooms, func(r string) bool { return below(path, r) }) {
			continue
		}
		for _, file := range p.GoFiles {
			at := filepath.Join(path, file)
			if isOwnFile(at) {
				continue
			}
			fset, f := parsed(t, p, file)
			named := kindsNamed(fset, f, path)
			entry := namerOf(at)
			if len(named) > 0 && entry == "" {
				t.Errorf("%s\n\tthis file is not a kind's own: let the kind's row say it, or give the reason in namers", strings.Join(named, "\n"))
			}
			needed[entry] = needed[entry] || len(named) > 0
		}
	}
	for _, entry := range slices.Sorted(maps.Keys(namers)) {
		if !needed[entry] {
			t.Errorf("%s names no kind any more: take it off the list", entry)
		}
	}
}

// namerOf is the entry of namers that a file falls under, "" for none.
func namerOf(file string) string {
	for _, entry := range []string{file, filepath.Dir(file)} {
		if namers[entry] != "" {
			return entry
		}
	}
	return ""
}

// isOwnFile reports whether a file is one kind's: it begins with the kind's name.
func isOwnFile(path string) bool {
	if _, ok := ownFiles[path]; ok {
		return true
	}
	return slices.ContainsFunc(schema.Kinds(), func(info schema.KindInfo) bool {
		return strings.HasPrefix(filepath.Base(path), strings.ToLower(string(info.Kind)))
	})
}

// kindsNamed lists where a file names a kind: by its constant, in an arm of a type
// switch, or by its Go type, unless that is the machine's own substance. In schema
// itself constants and types stand without the package's name.
func kindsNamed(fset *token.FileSet, f *ast.File, path string) (out []string) {
	types := map[string]schema.Kind{} // "import path.Type"
	for _, info := range schema.Kinds() {
		t := reflect.TypeOf(info.New()).Elem()
		types[t.PkgPath()+"."+t.Name()] = info.Kind
	}
	imported := importedNames(f)
	kindOf := func(e ast.Expr) (kind schema.Kind, constant bool) {
		if star, ok := e.(*ast.StarExpr); ok {
			e = star.X
		}
		from, name := "", ""
		switch e := e.(type) {
		case *ast.Ident:
			from, name = module+"/"+path, e.Name
		case *ast.SelectorExpr:
			if on, ok := e.X.(*ast.Ident); ok {
				from, name = imported[on.Name], e.Sel.Name
			}
		}
		if k, ok := strings.CutPrefix(name, "Kind"); ok && from == module+"/schema" {
			if info, ok := schema.Lookup(schema.Kind(k)); ok {
				return info.Kind, true
			}
		}
		return types[from+"."+name], false
	}
	arms := map[ast.Expr]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.TypeSwitchStmt); ok {
			for _, clause := range s.Body.List {
				for _, e := range clause.(*ast.CaseClause).List {
					if star, ok := e.(*ast.StarExpr); ok {
						arms[star.X] = true
					}
				}
			}
		}
		e, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		if _, pointer := e.(*ast.StarExpr); pointer {
			return true // what it points to follows
		}
		if kind, constant := kindOf(e); kind != "" && (constant || arms[e] || !slices.Contains(substance, kind)) {
			out = append(out, fmt.Sprintf("%s names %s", fset.Position(e.Pos()), kind))
		}
		return true
	})
	return out
}

func TestNamedKindsAreFound(t *testing.T) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "merge.go", `package merge

import (
	apps "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
)

func merge(o any, p *corev1.Pod, d *apps.Deployment) {
	switch o.(type) {
	case *corev1.Node, *corev1.Secret:
	}
	_ = schema.KindPod
	_ = schema.KindInfo{}
	_ = schema.Source{}
}
`, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"merge.go:10:37 names Deployment", "merge.go:12:8 names Node", "merge.go:12:22 names Secret", "merge.go:14:6 names Pod"}
	if diff := cmp.Diff(want, kindsNamed(fset, f, "reconciler/settle")); diff != "" {
		t.Error(diff)
	}
	f, err = parser.ParseFile(fset, "default.go", `package schema

func fill(o Object, s *Source) {
	switch o.(type) {
	case *Revision:
	}
	_ = KindPod
	_ = KindInfo{}
	_ = Kind("Pod")
}
`, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	want = []string{"default.go:5:8 names Revision", "default.go:7:6 names Pod"}
	if diff := cmp.Diff(want, kindsNamed(fset, f, "schema")); diff != "" {
		t.Error(diff)
	}
	for path, want := range map[string]bool{"reconciler/control/deploymentstatus.go": true, "reconciler/settle/apply.go": false, "reconciler/control/endpoints.go": true} {
		if got := isOwnFile(path); got != want {
			t.Errorf("%s is a kind's own file: got %v, want %v", path, got, want)
		}
	}
}
