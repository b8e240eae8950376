// Package house holds the whole tree to the rules of the house: which room may
// import which, through which one door a library comes in, and what a room
// that only decides must not touch. Each broken rule prints its reason.
package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "fairlead"

// room is a directory of the house with all below it that is no room itself.
type room struct {
	path string
	// may lists the rooms it imports. A room may always import what is inside it.
	may    []string
	reason string
	// pure rooms decide: no clock, no chance, no I/O, no log.
	pure bool
	// shell lists the files of a pure room that carry out what the others decide. They
	// may do anything; no other file calls a function or method that one of them declares.
	shell []string
	// tests says that what its tests import is held to the rule as well.
	tests bool
}

const everything = "*"

var (
	leaf    = []string{"schema"}
	adapter = []string{"schema", "schema/wire"}
	// documents are read by what makes or evaluates them.
	documents = append([]string{"schema/load/yaml"}, leaf...)
	node      = []string{"schema", "schema/wire", "nodeagent/pod", "nodeagent/dirfd"}
	tables    = []string{"schema", "schema/wire", "reconciler/state"}
	judged    = append([]string{"reconciler/health"}, tables...)
	engine    = append([]string{"reconciler/control", "reconciler/scheduler"}, judged...)
	planned   = append([]string{"reconciler/settle"}, engine...)
	master    = append([]string{"reconciler/plan", "reconciler/progress", "reconciler/work", "reconciler/follow"}, planned...)
)

// What stands beside the program.
var (
	hosting = []string{
		"cmd/fairlead/internal/client", "cmd/fairlead/internal/config", "nodeagent/dirfd", "nodeagent/join", "nodeagent/podman", "nodeagent/proxy", "reconciler/trust", "schema",
	}
	simulated = append([]string{
		"cmd/fairlead/internal/local", "nodeagent", "nodeagent/pod", "nodeagent/runtimetest", "nodeagent/uplink",
		"reconciler", "reconciler/api", "reconciler/gittest", "reconciler/store", "schema/load", "schema/rowtest",
	}, master...)
	measured = append([]string{
		"cmd/fairlead/internal/config", "cmd/fairlead/internal/local", "nodeagent/dns", "nodeagent/network", "nodeagent/pod", "nodeagent/proxy",
		"reconciler", "reconciler/api", "reconciler/gitsource", "reconciler/store", "schema/load",
	}, master...)
)

const (
	adapters = "adapters know only the schema and the wire, and are wired together by cmd"
	nodeSide = "the node's parts know the wire and the pod plan; master and node never import each other"
	deciding = "it decides from the tables below it and knows nothing of who asks"
)

// rooms is the house from the cellar up.
var rooms = []room{
	{path: "schema", pure: true, reason: "the schema is what everything stands on: it imports nothing of ours"},
	{path: "schema/wire", may: leaf, reason: "both sides of the wire import it, so it imports the schema and nothing else"},
	{path: "schema/load/yaml", may: leaf, reason: "it reads what a document says, and knows neither trees nor evaluators"},
	{path: "schema/load/child", may: documents, reason: "it bounds what it runs and knows no language"},
	{path: "schema/load/cue", may: append([]string{"schema/load/child"}, documents...), reason: "a language knows what it is written as and the child it runs in, and no other language"},
	{path: "schema/load/kustomize", may: append([]string{"schema/load/child"}, documents...), reason: "a language knows what it is written as and the child it runs in, and no other language"},
	{path: "schema/load", may: append([]string{"schema/load/child", "schema/load/cue", "schema/load/kustomize", "schema/load/yaml"}, adapter...), reason: adapters},
	{path: "schema/chance", reason: "tests of every floor draw from it"},
	{path: "schema/objecttest", may: leaf, reason: "tests of every floor start from its objects"},
	{path: "schema/rowtest", may: leaf, reason: "tests of every floor hold their rows of kinds to it"},

	{path: "reconciler/state", may: adapter, reason: "the tables lie below every room that decides", pure: true},
	{path: "reconciler/health", may: tables, reason: "whether a workload is well is judged from the tables alone, and by nobody else", pure: true},
	{path: "reconciler/control", may: judged, reason: deciding, pure: true},
	{path: "reconciler/scheduler", may: tables, reason: deciding, pure: true},
	{path: "reconciler/progress", may: judged, reason: deciding, pure: true},
	{path: "reconciler/follow", may: leaf, reason: "it decides from what the cluster and the repository say, and asks neither", pure: true},
	{path: "reconciler/work", may: append([]string{"reconciler/control"}, tables...), reason: deciding, pure: true},
	{path: "reconciler/settle", may: engine, reason: "the engine runs controllers and scheduler; plan and the loop call it", pure: true},
	{path: "reconciler/plan", may: planned, reason: "a plan is the engine on a fork, and nothing of the loop", pure: true},
	{path: "reconciler", may: master, reason: "the loop declares the small interfaces it needs; cmd brings what is behind them", pure: true, shell: []string{
		"advance.go", "look.go", "question.go", "remote.go", "rollout.go", "rounds.go", "run.go", "source.go", "turns.go", "unlock.go",
	}},
	{path: "reconciler/api", may: master, reason: "the doors read snapshots; the loop and the adapters are wired by cmd"},
	{path: "reconciler/gitsource", may: append([]string{"reconciler/follow"}, adapter...), reason: "it answers what following asks, and knows nothing else of the master"},
	{path: "reconciler/gittest", may: append([]string{"reconciler", "reconciler/follow"}, leaf...), reason: "a fake knows the interface it keeps and no other implementation of it"},
	{path: "reconciler/store", may: adapter, reason: adapters},
	{path: "reconciler/trust", may: adapter, reason: adapters},

	{path: "nodeagent/pod", may: adapter, reason: "the pod plan is pure: wanted and running in, operations out", pure: true},
	{path: "nodeagent/dirfd", reason: "it knows descriptors and nothing of pods"},
	{path: "nodeagent", may: node, reason: nodeSide, pure: true, shell: []string{
		"agent.go", "core.go", "disk.go", "execute.go", "fit.go", "logs.go", "mailbox.go", "messages.go", "probegrpc.go", "probehttp.go", "probes.go", "report.go", "runtime.go",
	}},
	{path: "nodeagent/mounttest", reason: "it mounts for tests of the node's rooms and knows none of them"},
	{path: "nodeagent/runtimetest", may: append([]string{"nodeagent"}, node...), reason: "a fake knows the interface it keeps and no other implementation of it"},
	{path: "nodeagent/podman", may: node, reason: nodeSide},
	{path: "nodeagent/network", may: node, reason: nodeSide},
	{path: "nodeagent/proxy", may: node, reason: nodeSide},
	{path: "nodeagent/dns", may: node, reason: nodeSide},
	{path: "nodeagent/join", may: node, reason: nodeSide},
	{path: "nodeagent/uplink", may: node, reason: nodeSide},
	{path: "nodeagent/volume", may: node, reason: nodeSide},

	{path: "cmd/fairlead", may: []string{everything}},
	{path: "cmd/fairlead/internal/config", may: leaf, reason: "a configuration says what the daemons are to be, and knows none of them"},
	{path: "cmd/fairlead/internal/client", may: leaf, reason: "a client knows the objects and the master's address, and nothing of the master"},
	{path: "cmd/fairlead/internal/place", may: leaf, reason: "whose a place is follows from the sources and the clone, and nobody is asked", pure: true},
	{path: "cmd/fairlead/internal/rollback", may: append([]string{"reconciler/health"}, leaf...), reason: "what goes back to what follows from the source and its revisions, and nobody is asked", pure: true},
	{path: "cmd/fairlead/internal/validation", may: leaf, reason: "a verdict is made from what judging said, and read by whoever asked", pure: true},
	{path: "cmd/fairlead/internal/local", may: hosting, reason: "it starts and stops the daemons of one machine by their configuration, and runs none of them", pure: true, shell: []string{
		"cgroup.go", "down.go", "examine.go", "host.go", "namespace.go", "process.go", "role.go", "serving.go", "slot.go", "supervise.go", "up.go",
	}},
	{path: "cmd/fairlead/internal/sim", may: simulated, reason: "it drives the pure steps over fakes: nothing in it reaches a kernel, a network or a database"},
	{path: "cmd/fairlead/internal/e2e", may: []string{"schema", "schema/wire", "cmd/fairlead/internal/client", "nodeagent/join"}, tests: true, reason: "it uses the product from outside, as its users and its nodes do"},
	{path: "cmd/fairlead/internal/bench", may: measured, reason: "it measures the parts and the whole, and simulates nothing"},
	{path: "cmd/fairlead-hook", may: []string{"reconciler/gitsource"}, reason: "a hook starts with every push: it is small and decides nothing"},
	{path: "cmd/fairlead-oci", may: []string{"nodeagent/podman"}, reason: "it starts several times for every container: it knows what is handed over and decides nothing"},
	{path: "cmd/fairlead-kubectl", reason: "kubectl is Kubernetes' own, unchanged"},
	{path: "examples", reason: "the product and its examples do not know each other"},
	{path: ""},
}

// doors names the only rooms a library comes in through.
var doors = []struct {
	library string // import path prefix
	rooms   []string
	reason  string
}{
	{"cuelang.org/go", []string{"schema/load/cue"}, "CUE has no cost limit of its own: it is evaluated where that is taken care of"},
	{"sigs.k8s.io/kustomize", []string{"schema/load/kustomize"}, "kustomize has no cost limit of its own: it builds where that is taken care of"},
	{"go.etcd.io/etcd", []string{"reconciler/store"}, "durability, terms and fencing are kept in one place"},
	{"github.com/go-git", []string{"reconciler/gitsource"}, "trees are read in one place, never through a checkout"},
	{"go.etcd.io/bbolt", []string{"nodeagent/podman"}, "a database file is opened by whom it belongs to: Podman's is wiped where Podman is known"},
	{"github.com/containers", []string{"nodeagent/podman"}, "Podman's word is not truth: one room knows its lies"},
	{"github.com/google/nftables", []string{"nodeagent/proxy"}, "one room owns the table"},
	{"sigs.k8s.io/knftables", []string{"nodeagent/proxy"}, "one room owns the table"},
	{"github.com/vishvananda", []string{"nodeagent/network", "nodeagent/proxy", "cmd/fairlead"}, "links and routes are made where nodes and pods get their network"},
	{"google.golang.org/grpc", []string{"nodeagent"}, "gRPC is spoken by probes alone; etcd has its own"},
	{"github.com/miekg/dns", []string{"nodeagent/dns"}, "names are answered in one place"},
	{"github.com/spf13/cobra", []string{"cmd/fairlead"}, "flags and exit codes are the command line's"},
	{"golang.org/x/text", []string{"schema/layout"}, "how wide a character is gets asked where text is laid out"},
	{"pgregory.net/rapid", []string{"schema/chance"}, "what draws by chance is a test"},
	{"github.com/robfig/cron", []string{"schema"}, "a schedule is read in one place"},
	{"k8s.io/client-go", nil, "informers and clients cost memory for nothing we need"},
	{"k8s.io/kubectl", []string{"cmd/fairlead-kubectl"}, "kubectl ships as a binary of its own"},
}

// forbiddenImports and forbiddenCalls are what decides does not touch.
var forbiddenImports = []string{
	"os", "io/ioutil", "io/fs", "net", "net/http", "syscall", "math/rand", "crypto/rand", "database/sql",
	"golang.org/x/sys", "github.com/sirupsen/logrus", "log",
}

// pureNet is allowed: values, no I/O.
var pureNet = []string{"net/netip", "net/url"}

var forbiddenCalls = map[string][]string{
	"time":                                 {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "LoadLocation"},
	"github.com/google/uuid":               {"New", "NewString", "NewRandom", "NewUUID", "NewV7", "NewV6"},
	"k8s.io/apimachinery/pkg/apis/meta/v1": {"Now", "NowMicro"},
	"k8s.io/apimachinery/pkg/util/uuid":    {"NewUUID"},
	"fmt":                                  {"Print", "Println", "Printf", "Scan", "Scanln", "Scanf"},
}

// smallPrograms must not come to depend on what makes a program slow to start.
var smallPrograms = map[string][]string{
	"cmd/fairlead-hook": {"net/http", "encoding/json", "crypto/tls", "k8s.io/", "github.com/"},
	"cmd/fairlead-oci":  {"net", "net/http", "crypto/tls", "k8s.io/", "github.com/"},
}

// pkg is what `go list` tells of one package.
type pkg struct {
	ImportPath   string
	Dir          string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

// name is the package's path inside the module; ok is false outside of it.
func name(importPath string) (string, bool) {
	if importPath == module {
		return "", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

func below(path, dir string) bool {
	return dir == "" || path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// roomOf is the innermost room a package is in.
func roomOf(path string) room {
	best := room{}
	for _, r := range rooms {
		if below(path, r.path) && len(r.path) >= len(best.path) {
			best = r
		}
	}
	return best
}

func TestFloors(t *testing.T) {
	for _, broken := range brokenFloors(packages(t)) {
		t.Error(broken)
	}
}

// brokenFloors lists the imports that go up or sideways, and packages that
// stand in no room.
func brokenFloors(all []pkg) (out []string) {
	for _, p := range all {
		path, _ := name(p.ImportPath)
		from := roomOf(path)
		if from.path == "" && path != "" {
			out = append(out, fmt.Sprintf("%s stands in no room: add it to the table of rooms with what it may import and why", path))
			continue
		}
		imports := p.Imports
		if from.tests {
			imports = slices.Concat(imports, p.TestImports, p.XTestImports)
		}
		for _, imported := range imports {
			to, ours := name(imported)
			if !ours {
				continue
			}
			target := roomOf(to)
			if target.path == from.path || slices.Contains(from.may, everything) || slices.Contains(from.may, target.path) {
				continue
			}
			out = append(out, fmt.Sprintf("%s imports %s: %s", path, to, from.reason))
		}
	}
	return out
}

func TestDoors(t *testing.T) {
	for _, broken := range brokenDoors(packages(t)) {
		t.Error(broken)
	}
}

// brokenDoors lists the libraries that came in through another door.
func brokenDoors(all []pkg) (out []string) {
	for _, p := range all {
		path, _ := name(p.ImportPath)
		for _, imported := range p.Imports {
			for _, d := range doors {
				if !below(imported, d.library) || slices.ContainsFunc(d.rooms, func(r string) bool { return below(path, r) }) {
					continue
				}
				where := "nowhere"
				if len(d.rooms) > 0 {
					where = "only in " + strings.Join(d.rooms, ", ")
				}
				out = append(out, fmt.Sprintf("%s imports %s, which is imported %s: %s", path, imported, where, d.reason))
			}
		}
	}
	return out
}

func TestSmallPrograms(t *testing.T) {
	for _, p := range packages(t) {
		path, _ := name(p.ImportPath)
		for _, heavy := range smallPrograms[path] {
			for _, dep := range p.Deps {
				if dep == heavy || strings.HasSuffix(heavy, "/") && strings.HasPrefix(dep, heavy) {
					t.Errorf("%s depends on %s: it starts with every push or container and has to stay small", path, dep)
				}
			}
		}
	}
}

func TestPureRooms(t *testing.T) {
	for _, p := range packages(t) {
		path, _ := name(p.ImportPath)
		r := roomOf(path)
		if !r.pure {
			continue
		}
		var broken, calls []string
		needed := map[string]bool{}
		if len(r.shell) > 0 {
			calls = shellCallsOf(t, p, r.shell)
		}
		for _, file := range p.GoFiles {
			found := impurities(parsed(t, p, file))
			for _, c := range calls {
				if strings.HasPrefix(c, filepath.Join(path, file)+":") {
					found = append(found, c+": decide in values, and let the shell carry it out")
				}
			}
			if slices.Contains(r.shell, file) {
				needed[file] = len(found) > 0 || declaresInterface(parsed(t, p, file))
			} else {
				broken = append(broken, found...)
			}
		}
		for _, file := range r.shell {
			if path == r.path && !needed[file] {
				broken = append(broken, filepath.Join(path, file)+" does nothing that only a shell may: take it off the room's list")
			}
		}
		for _, b := range broken {
			t.Error(b)
		}
	}
}

// shellCalls lists where the files of a package name functions and methods that the
// shell's files declare, those of interfaces included.
func shellCalls(path string, fset *token.FileSet, files []*ast.File, imports types.Importer, shell []string) (out []string, err error) {
	info := types.Info{Uses: map[*ast.Ident]types.Object{}}
	check := types.Config{Importer: imports}
	if _, err := check.Check(path, fset, files, &info); err != nil {
		return nil, err
	}
	for used, what := range info.Uses {
		f, ok := what.(*types.Func)
		if ok && f.Pkg() != nil && f.Pkg().Path() == path && slices.Contains(shell, filepath.Base(fset.Position(f.Pos()).Filename)) {
			out = append(out, fmt.Sprintf("%s uses %s, which is the shell's", fset.Position(used.Pos()), f.Name()))
		}
	}
	slices.Sort(out)
	return out, nil
}

// shellCallsOf is shellCalls of a package of the module.
func shellCallsOf(t *testing.T, p pkg, shell []string) []string {
	t.Helper()
	fset, files := token.NewFileSet(), []*ast.File(nil)
	for _, file := range p.GoFiles {
		files = append(files, parsedInto(t, fset, p, file))
	}
	calls, err := shellCalls(p.ImportPath, fset, files, importer.ForCompiler(fset, "gc", exports(t, p)), shell)
	if err != nil {
		t.Fatal(err)
	}
	return calls
}

// exports finds what a package imports as it was compiled.
func exports(t *testing.T, p pkg) importer.Lookup {
	t.Helper()
	list := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", p.ImportPath)
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list -export: %v", err)
	}
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		files[path] = file
	}
	return func(path string) (io.ReadCloser, error) { return os.Open(files[path]) }
}

// declaresInterface finds interfaces with methods: what is behind them may do anything.
func declaresInterface(_ *token.FileSet, f *ast.File) (found bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		i, ok := n.(*ast.InterfaceType)
		found = found || ok && len(i.Methods.List) > 0
		return !found
	})
	return found
}

// impurities lists where a file that decides reads the clock, rolls dice, writes a log
// or does I/O.
func impurities(fset *token.FileSet, f *ast.File) (out []string) {
	for _, spec := range f.Imports {
		path := strings.Trim(spec.Path.Value, "\"`")
		forbidden := slices.ContainsFunc(forbiddenImports, func(f string) bool { return below(path, f) })
		if forbidden && !slices.Contains(pureNet, path) {
			out = append(out, fmt.Sprintf("%s imports %s: what decides does no I/O, writes no log and knows no chance", fset.Position(spec.Pos()), path))
		}
	}
	for _, u := range uses(fset, f, forbiddenCalls) {
		out = append(out, u+": what decides does so from its inputs alone; `now` is one of them")
	}
	return out
}

// localName is the name an import without one of its own goes by.
func localName(path string) string {
	parts := strings.Split(path, "/")
	last := parts[len(parts)-1]
	if len(parts) > 1 && len(last) > 1 && last[0] == 'v' && last[1] >= '0' && last[1] <= '9' {
		return parts[len(parts)-2] // a major version
	}
	return last
}

// unseeded is chance that is another each time, which tests do without: what passed
// once passes again.
var unseeded = map[string][]string{
	"math/rand": {
		"ExpFloat64", "Float32", "Float64", "Int", "Int31", "Int31n", "Int63", "Int63n", "Intn", "NormFloat64", "Perm", "Read", "Shuffle", "Uint32", "Uint64",
	},
	"math/rand/v2": {
		"ExpFloat64", "Float32", "Float64", "Int", "Int32", "Int32N", "Int64", "Int64N", "IntN", "N", "NormFloat64", "Perm", "Shuffle",
		"Uint", "Uint32", "Uint32N", "Uint64", "Uint64N", "UintN",
	},
	"crypto/rand":        {"Int", "Prime", "Read", "Text"}, // Reader stays: keys and certificates cannot be made without
	"testing/quick":      {"Check", "CheckEqual", "Value"},
	"pgregory.net/rapid": {"Check", "MakeCheck"},
	"hash/maphash":       {"MakeSeed"},
}

func TestTestsHaveFixedSeeds(t *testing.T) {
	for _, p := range packages(t) {
		path, _ := name(p.ImportPath)
		files := slices.Concat(p.TestGoFiles, p.XTestGoFiles)
		if below(path, "cmd/fairlead/internal/sim") || below(path, "cmd/fairlead/internal/e2e") {
			files = append(files, p.GoFiles...) // tests too, for others to run
		}
		for _, file := range files {
			for _, u := range usesIn(t, p, file, unseeded) {
				t.Errorf("%s: a test that passed must pass again: take chance.Check, chance.Rand or chance.Bytes", u)
			}
			for _, at := range clockSeeds(parsed(t, p, file)) {
				t.Errorf("%s seeds from the clock: a test that passed must pass again", at)
			}
		}
	}
}

// What a test changes and puts back is read by what it started, which may end a moment
// later than the test: such values belong to the thing under test.
func TestTestsChangeNoVariablesOfPackages(t *testing.T) {
	for _, p := range packages(t) {
		variables := map[string]bool{}
		for _, file := range p.GoFiles {
			_, f := parsed(t, p, file)
			declaredVariables(f, variables)
		}
		for _, file := range p.TestGoFiles {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, file), nil, 0) // with objects: locals are told apart by them
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range changes(f, variables) {
				t.Errorf("%s changes %s, which the package's own code reads: give it to what the test makes", fset.Position(c.Pos()), c.Name)
			}
		}
	}
}

func declaredVariables(f *ast.File, into map[string]bool) {
	for _, d := range f.Decls {
		if d, ok := d.(*ast.GenDecl); ok && d.Tok == token.VAR {
			for _, spec := range d.Specs {
				for _, n := range spec.(*ast.ValueSpec).Names {
					into[n.Name] = n.Name != "_"
				}
			}
		}
	}
}

// changes finds where a file assigns to variables of its package, or to what they hold.
func changes(f *ast.File, variables map[string]bool) (out []*ast.Ident) {
	ast.Inspect(f, func(n ast.Node) bool {
		var to []ast.Expr
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				to = n.Lhs
			}
		case *ast.IncDecStmt:
			to = []ast.Expr{n.X}
		}
		for _, e := range to {
			if root := rootOf(e); root != nil && root.Obj == nil && variables[root.Name] {
				out = append(out, root)
			}
		}
		return true
	})
	return out
}

// rootOf is the variable that an expression one can assign to begins with.
func rootOf(e ast.Expr) *ast.Ident {
	for {
		switch on := e.(type) {
		case *ast.Ident:
			return on
		case *ast.SelectorExpr:
			e = on.X
		case *ast.IndexExpr:
			e = on.X
		case *ast.StarExpr:
			e = on.X
		case *ast.ParenExpr:
			e = on.X
		default:
			return nil
		}
	}
}

// clockSeeds finds sources of chance that are made from the time.
func clockSeeds(fset *token.FileSet, f *ast.File) (out []string) {
	imported := importedNames(f)
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		made, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains([]string{"NewPCG", "NewSource", "NewChaCha8"}, made.Sel.Name) {
			return true
		}
		for _, arg := range call.Args {
			ast.Inspect(arg, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Now" {
					if on, ok := s.X.(*ast.Ident); ok && imported[on.Name] == "time" {
						out = append(out, fset.Position(call.Pos()).String())
					}
				}
				return true
			})
		}
		return true
	})
	return out
}

// speech is how a program reaches its standard output and standard error.
var speech = map[string][]string{
	"os":      {"Stdout", "Stderr"},
	"fmt":     {"Print", "Println", "Printf"},
	"log":     {"Print", "Println", "Printf", "Fatal", "Fatalln", "Fatalf", "Panic", "Panicln", "Panicf", "Default"},
	"syscall": {"Stdout", "Stderr"},
	"":        {"print", "println"},
}

// speakers may use it: files, and directories with all below them.
var speakers = map[string]string{
	"cmd/fairlead/main.go":              "makes terminals of them",
	"cmd/fairlead/evaluate.go":          "answers the loader through a pipe",
	"cmd/fairlead-hook":                 "prints what the master made fit for a terminal; it is too small to do so itself",
	"cmd/fairlead-oci":                  "speaks to Podman, or inside a container as its program",
	"cmd/fairlead/internal/bench":       "a program that developers run",
	"cmd/fairlead/internal/e2e/witness": "a program in a container of a test",
	"nodeagent/runtimetest/program":     "a program in a container of a test",
	"examples":                          "programs in containers",
}

func TestTerminalsAreReachedInOnePlace(t *testing.T) {
	for _, p := range packages(t) {
		path, _ := name(p.ImportPath)
		for _, file := range p.GoFiles {
			at := filepath.Join(path, file)
			if slices.ContainsFunc(slices.Collect(maps.Keys(speakers)), func(s string) bool { return below(at, s) }) {
				continue
			}
			for _, u := range usesIn(t, p, file, speech) {
				t.Errorf("%s: what others wrote must not steer a terminal: write to the writer you are given; a command's are OutOrStdout and ErrOrStderr", u)
			}
		}
	}
}

// usesIn is uses in one file of a package.
func usesIn(t *testing.T, p pkg, file string, what map[string][]string) []string {
	t.Helper()
	fset, f := parsed(t, p, file)
	return uses(fset, f, what)
}

// parsed is one file of a package.
func parsed(t *testing.T, p pkg, file string) (*token.FileSet, *ast.File) {
	t.Helper()
	fset := token.NewFileSet()
	return fset, parsedInto(t, fset, p, file)
}

func parsedInto(t *testing.T, fset *token.FileSet, p pkg, file string) *ast.File {
	t.Helper()
	path, _ := name(p.ImportPath)
	source, err := os.ReadFile(filepath.Join(p.Dir, file))
	if err != nil {
		t.Fatal(err)
	}
	f, err := parser.ParseFile(fset, filepath.Join(path, file), source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// uses lists where a file names something of a package, given by import path; the
// path of what the language itself has is empty.
func uses(fset *token.FileSet, f *ast.File, what map[string][]string) (out []string) {
	imported := importedNames(f)
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			on, ok := n.X.(*ast.Ident)
			if ok && imported[on.Name] != "" && slices.Contains(what[imported[on.Name]], n.Sel.Name) {
				out = append(out, fmt.Sprintf("%s uses %s.%s", fset.Position(n.Pos()), on.Name, n.Sel.Name))
			}
		case *ast.CallExpr:
			if called, ok := n.Fun.(*ast.Ident); ok && slices.Contains(what[""], called.Name) {
				out = append(out, fmt.Sprintf("%s uses %s", fset.Position(n.Pos()), called.Name))
			}
		}
		return true
	})
	return out
}

// importedNames are the names that a file's imports go by, with their paths.
func importedNames(f *ast.File) map[string]string {
	imported := make(map[string]string)
	for _, spec := range f.Imports {
		path := strings.Trim(spec.Path.Value, "\"`")
		local := localName(path)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		imported[local] = path
	}
	return imported
}

// leaky names the tests that are let off looking for goroutines left behind.
var leaky = map[string]string{
	"cmd/fairlead/internal/e2e": "its goroutines are of the clusters under test, which outlive single tests",
}

func TestGoroutineLeaksFailTests(t *testing.T) {
	for _, p := range packages(t) {
		path, _ := name(p.ImportPath)
		tests := slices.Concat(p.TestGoFiles, p.XTestGoFiles)
		if len(tests) == 0 || leaky[path] != "" {
			continue
		}
		starts, checked := "", false
		for _, file := range slices.Concat(p.GoFiles, tests) {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			if starts == "" && startsGoroutines(parsed) {
				starts = file
			}
			checked = checked || verifiesLeaks(parsed)
		}
		if starts != "" && !checked {
			t.Errorf("%s starts goroutines (%s) and its tests do not look for those left behind: add func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }", path, starts)
		}
	}
}

// startsGoroutines finds a go statement or a method Go, as sync.WaitGroup has.
func startsGoroutines(f *ast.File) (found bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = true
		case *ast.CallExpr:
			if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Go" {
				found = true
			}
		}
		return !found
	})
	return found
}

// verifiesLeaks reports whether a file has both TestMain and goleak's check.
func verifiesLeaks(f *ast.File) bool {
	main, check := false, false
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			main = main || n.Recv == nil && n.Name.Name == "TestMain"
		case *ast.SelectorExpr:
			on, ok := n.X.(*ast.Ident)
			check = check || ok && on.Name == "goleak" && n.Sel.Name == "VerifyTestMain"
		}
		return true
	})
	return main && check
}

// The rules themselves are tested: a rule that lets everything pass is no rule.
func TestBrokenRulesAreFound(t *testing.T) {
	got := brokenFloors([]pkg{
		{ImportPath: "fairlead/reconciler/control", Imports: []string{"fairlead/reconciler/state", "fairlead/reconciler/settle"}},
		{ImportPath: "fairlead/nodeagent/dns", Imports: []string{"fairlead/schema/wire", "fairlead/reconciler/state"}},
		{ImportPath: "fairlead/reconciler/gitsource", Imports: []string{"fairlead/reconciler/gitsource/hook", "fairlead/reconciler/store"}},
		{ImportPath: "fairlead/schema", Imports: []string{"fairlead/schema/wire"}},
		{ImportPath: "fairlead/shed"},
		{ImportPath: "fairlead/cmd/fairlead", Imports: []string{"fairlead/nodeagent", "fairlead/reconciler/store"}},
		{ImportPath: "fairlead/cmd/fairlead/internal/client", Imports: []string{"fairlead/cmd/fairlead/internal/config"}},
		{ImportPath: "fairlead/cmd/fairlead/internal/e2e", TestImports: []string{"fairlead/schema", "fairlead/reconciler"}},
	})
	want := []string{
		"reconciler/control imports reconciler/settle: " + deciding,
		"nodeagent/dns imports reconciler/state: " + nodeSide,
		"reconciler/gitsource imports reconciler/store: it answers what following asks, and knows nothing else of the master",
		"schema imports schema/wire: the schema is what everything stands on: it imports nothing of ours",
		"shed stands in no room: add it to the table of rooms with what it may import and why",
		"cmd/fairlead/internal/client imports cmd/fairlead/internal/config: a client knows the objects and the master's address, and nothing of the master",
		"cmd/fairlead/internal/e2e imports reconciler: it uses the product from outside, as its users and its nodes do",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("floors: %s", diff)
	}

	got = brokenDoors([]pkg{
		{ImportPath: "fairlead/schema/load/cue", Imports: []string{"cuelang.org/go/cue"}},
		{ImportPath: "fairlead/reconciler", Imports: []string{"go.etcd.io/etcd/client/v3"}},
		{ImportPath: "fairlead/cmd/fairlead", Imports: []string{"k8s.io/client-go/rest"}},
	})
	want = []string{
		"reconciler imports go.etcd.io/etcd/client/v3, which is imported only in reconciler/store: durability, terms and fencing are kept in one place",
		"cmd/fairlead imports k8s.io/client-go/rest, which is imported nowhere: informers and clients cost memory for nothing we need",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("doors: %s", diff)
	}

	fset := token.NewFileSet()
	impure, err := parser.ParseFile(fset, "plan.go", `package plan

import (
	clock "time"
	"math/rand/v2"
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func decide(now clock.Time) any { return []any{clock.Now(), metav1.Now(), rand.Int(), netip.Addr{}, now.After(now)} }
`, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	want = []string{
		"plan.go:5:2 imports math/rand/v2: what decides does no I/O, writes no log and knows no chance",
		"plan.go:11:48 uses clock.Now: what decides does so from its inputs alone; `now` is one of them",
		"plan.go:11:61 uses metav1.Now: what decides does so from its inputs alone; `now` is one of them",
	}
	if diff := cmp.Diff(want, impurities(fset, impure)); diff != "" {
		t.Errorf("purity: %s", diff)
	}

	fset = token.NewFileSet()
	var both []*ast.File
	for file, text := range map[string]string{
		"step.go": "package loop\n\ntype loop struct{ write func(); to writer }\ntype writer interface{ put() }\n\nfunc (l loop) step() { l.save(); l.write(); l.to.put(); decide() }\nfunc decide() {}\n",
		"run.go":  "package loop\n\nfunc (l loop) save() { decide() }\n",
	} {
		f, err := parser.ParseFile(fset, file, text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, f)
	}
	if got, err = shellCalls("loop", fset, both, nil, []string{"run.go"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"step.go:6:26 uses save, which is the shell's"}, got); diff != "" {
		t.Errorf("shells: %s", diff)
	}

	fset = token.NewFileSet()
	shout, err := parser.ParseFile(fset, "shout.go", `package shout

import (
	"fmt"
	io "os"
)

func shout(w any) {
	fmt.Println("a")
	fmt.Fprintln(io.Stderr, "b")
	println("c")
	w.Println("d")
}
`, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	want = []string{"shout.go:9:2 uses fmt.Println", "shout.go:10:15 uses io.Stderr", "shout.go:11:2 uses println"}
	if diff := cmp.Diff(want, uses(fset, shout, speech)); diff != "" {
		t.Errorf("speech: %s", diff)
	}

	fset = token.NewFileSet()
	hasty, err := parser.ParseFile(fset, "hasty_test.go", "package hasty\n\nfunc try() {\n\tpatience = 1\n\tdoor.AtOnce, _ = 1, patience\n\tdoors[0]++\n\tpatience := 2\n\tpatience = 3\n\tother = patience\n}\n", 0)
	if err != nil {
		t.Fatal(err)
	}
	var at []string
	for _, c := range changes(hasty, map[string]bool{"patience": true, "door": true, "doors": true, "_": false}) {
		at = append(at, fmt.Sprint(c.Name, " ", fset.Position(c.Pos()).Line))
	}
	if diff := cmp.Diff([]string{"patience 4", "door 5", "doors 6"}, at); diff != "" {
		t.Errorf("variables of packages: %s", diff)
	}

	fset = token.NewFileSet()
	dice, err := parser.ParseFile(fset, "dice_test.go", `package dice

import (
	crand "crypto/rand"
	"math/rand/v2"
	"time"

	"pgregory.net/rapid"
)

func roll() {
	rapid.Check(nil, func(t *rapid.T) {})
	_, _ = rand.IntN(6), rand.New(rand.NewPCG(1, 2)).IntN(6)
	_, _ = crand.Read(nil)
	_ = crand.Reader
	_ = rand.NewPCG(uint64(time.Now().UnixNano()), 0)
}
`, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	want = []string{"dice_test.go:12:2 uses rapid.Check", "dice_test.go:13:9 uses rand.IntN", "dice_test.go:14:9 uses crand.Read", "dice_test.go:16:6"}
	if diff := cmp.Diff(want, append(uses(fset, dice, unseeded), clockSeeds(fset, dice)...)); diff != "" {
		t.Errorf("chance: %s", diff)
	}

	for source, want := range map[string][2]bool{
		"func f() { go g() }":                                                    {true, false},
		"func f() { wg.Go(g) }":                                                  {true, false},
		"func f() { x.Goes(); func() {}() }":                                     {false, false},
		"func TestMain(m *testing.M) { os.Exit(m.Run()) }":                       {false, false},
		"func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }":               {false, true},
		"func TestX(t *testing.T) { defer goleak.VerifyNone(t); go func(){}() }": {true, false},
	} {
		parsed, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\n"+source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{startsGoroutines(parsed), verifiesLeaks(parsed)}; got != want {
			t.Errorf("%s: starts and is checked: got %v, want %v", source, got, want)
		}
	}
}

// packages asks the go command about every package of the module.
func packages(t *testing.T) []pkg {
	t.Helper()
	list := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,GoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports,Deps", "./...")
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.Bytes())
	}
	var all []pkg
	for decode := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := decode.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < len(rooms)/2 {
		t.Fatalf("go list found %d packages", len(all))
	}
	return all
}
