// Package load answers what a tree of files asks for: YAML, JSON and CUE in,
// desired objects out, or every diagnostic found, each at its line. It decodes
// strictly against the Go types, defaults, validates, and judges the tree as a
// whole. It knows nothing of the cluster and is called by the master, by plan
// and by validate alike.
package load

import (
	"context"
	"fmt"
	"net/netip"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"fairlead/schema"
	"fairlead/schema/load/kustomize"
	"fairlead/schema/load/yaml"
)

// Options is what the loader must be told besides the tree and its source spec.
type Options struct {
	Source          schema.SourceName              // name of the source, for origins; a tree may not redefine it
	KnownNamespaces []string                       // declared outside this tree
	Known           func(schema.Key) schema.Object // objects of other sources, nil for one that does not exist; may be nil
	// Unasked reports of what Known did not find that nobody knows whether it exists: it
	// could not be asked for. May be nil.
	Unasked func(schema.Key) bool
	// Holder is the service of another source that has an address, "10.96.0.50", or a node
	// port, "30080/TCP"; nil where none has it. May be nil.
	Holder       func(claim string) schema.Object
	Rights       *schema.Rights // what the source may ask for; nil judges without
	NodePorts    PortRange      // that services may ask for; zero is 30000-32767
	ServiceRange netip.Prefix   // that services have their addresses from; invalid: not known, and not judged
	CUE          *CUE           // evaluates CUE and remembers what came out; nil: this Load's own
	Kustomize    *Kustomize     // builds kustomizations and remembers what came out; nil: this Load's own
	Cache        *Cache         // remembers what YAML and JSON files were decoded to; nil remembers nothing
	// DiagnosticsOnly has no objects handed out: what is known of most is forgotten as
	// soon as they are judged, and their memory serves the next. It goes without a
	// Cache.
	DiagnosticsOnly bool
	// Applied is the commit whose tree is what runs. With a Cache, objects that did
	// not change since then may name the older commit that they have been the same
	// since; all others name the tree's.
	Applied schema.Commit
}

// PortRange is a range of ports, both ends in it.
type PortRange struct{ First, Last int32 }

// defaultNodePorts is Kubernetes' range.
var defaultNodePorts = PortRange{30000, 32767}

// Result is what a tree asks for. Objects are sorted by key, and complete only
// if Diagnostics holds no error; with a Cache, Results share them and may share the
// list, which nobody changes either. Diagnostics are sorted by position.
type Result struct {
	Objects     []*schema.Desired
	Diagnostics schema.Diagnostics
	Count       int // of objects, whether handed out or not
	Files       int // manifests read
}

// Load reads, decodes, defaults and judges a tree. Whatever keeps it from
// reading all of it, the end of ctx too, is an error among the diagnostics: an
// incomplete result never looks like a small tree. spec needs no defaults set.
func Load(ctx context.Context, tree schema.Tree, spec schema.SourceSpec, opts Options) Result {
	if opts.NodePorts == (PortRange{}) {
		opts.NodePorts = defaultNodePorts
	}
	if opts.DiagnosticsOnly {
		opts.Cache = nil
		if opts.Rights != nil { // which are judged by whole objects
			return diagnosed(ctx, tree, spec, opts)
		}
	}
	tree.Commit = tree.Commit.Fit() // objects name it
	l := loader{tree: tree, spec: schema.DefaultSourceSpec(spec), opts: opts}
	selection := selectionOf(l.spec)
	l.survey = kustomize.Look(ctx, tree, selection.covers)
	charts := l.findCharts(&selection)
	if opts.Cache != nil {
		l.how = l.readingOf()
	}
	l.last = opts.Cache.recall(opts.Source, l.how)
	m := l.selectFiles()
	readable := !l.diagnostics.HasErrors()
	var fresh, objects []*schema.Desired
	var all []decoded
	if readable {
		all, readable = l.decodeFiles(ctx, &m)
	}
	l.diagnostics = append(l.diagnostics, charts...)
	if readable {
		evaluated := append(l.decodeCUE(ctx, m.cues), l.decodeUnits(ctx)...)
		l.checkStored(&m, evaluated)
		fresh = l.gather(&m, append(all, evaluated...))
		objects = edited(l.reuse(ctx), l.last.places(m.gone), fresh)
	}
	if ctx.Err() != nil {
		l.fail(schema.Position{}, fmt.Sprintf("reading the tree was stopped: %v", ctx.Err()), "")
	}
	if count := len(objects); count > schema.MaxObjects {
		l.fail(schema.Position{}, fmt.Sprintf("the tree has %d objects, at most %d are taken", count, schema.MaxObjects), "")
	}
	sound := ctx.Err() == nil && l.soundAfter(&m, objects, fresh) || l.judge(objects)
	if l.needsObjects {
		return diagnosed(ctx, tree, spec, opts)
	}
	if opts.Cache != nil && readable && ctx.Err() == nil {
		l.remember(&m, objects, sound)
	}
	result := Result{Objects: objects, Diagnostics: shortened(selection.advise(l.diagnostics)).Sort(), Count: len(objects), Files: m.all.files + l.survey.Files()}
	if opts.DiagnosticsOnly {
		result.Objects = nil
	}
	return result
}

// diagnosed is Load with DiagnosticsOnly where whole objects are needed for that.
func diagnosed(ctx context.Context, tree schema.Tree, spec schema.SourceSpec, opts Options) Result {
	opts.DiagnosticsOnly = false
	result := Load(ctx, tree, spec, opts)
	result.Objects = nil
	return result
}

// shortened bounds what each diagnostic says in place: it may quote a name or a
// value of any length, and is kept and sent on.
func shortened(ds schema.Diagnostics) schema.Diagnostics {
	for i := range ds {
		ds[i].Message = yaml.Cut(ds[i].Message, yaml.MaxMessage)
		ds[i].Hint = yaml.Cut(ds[i].Hint, yaml.MaxMessage)
	}
	return ds
}

// loader is one Load. Its fields do not change while files are decoded in
// parallel.
type loader struct {
	tree        schema.Tree
	spec        schema.SourceSpec
	survey      *kustomize.Survey
	charts      map[string]bool // directories of Helm charts
	opts        Options
	how         reading         // with a Cache
	last        *rememberedTree // what the source's last Load left
	units       []*builtUnit    // of this tree
	diagnostics schema.Diagnostics
	arenas      sync.Pool // of *arena, that nobody uses
	passedOver  []string  // files in a kustomization's directory that hold what is no manifest
	makes       []leftOut // what objects that are not taken would make, in the order of files and documents
	// outside is what namespaces that are not of this tree ask of its pods.
	outside map[string]schema.NamespaceSecurity
	// needsObjects is set when judging takes objects that DiagnosticsOnly has forgotten.
	needsObjects bool
	// hides is set when a part of the tree could not be read: it may hold any object, and
	// what seems to be missing is not told.
	hides bool
}

// manifests are the files of a tree that hold objects, compared with those of the
// last Load.
type manifests struct {
	files fileParts // beside the tree's; see rememberedTree
	fresh []int     // places of those to be decoded
	cues  []schema.File
	all   amount
	gone  []*rememberedFile // of the last Load, not in this tree
	lost  bool              // a file went, or changed, whose objects are not known any more
	// telling are the known files that have something to tell.
	telling []*rememberedFile
}

// amount is how much a number of manifests is.
type amount struct {
	files  int
	bytes  int64 // as far as it is known before they are read
	stored stored
}

func (a *amount) add(size int64)  { a.files++; a.bytes += size }
func (a *amount) take(size int64) { a.files--; a.bytes -= size }

// addFile and takeFile count a file with what it was decoded to.
func (a *amount) addFile(r *rememberedFile) {
	a.add(r.size)
	a.stored.add(r.stored)
}

func (a *amount) takeFile(r *rememberedFile) {
	a.take(r.size)
	a.stored.take(r.stored)
}

// weight is what they take when decoded.
func (a amount) weight() int64 { return int64(a.files)*fileWeight + a.bytes*byteWeight }

// sizeOf is a file's part of an amount's bytes.
func sizeOf(f *schema.File) int64 { return max(f.Size, 0) }

func (l *loader) fail(at schema.Position, message, hint string) {
	l.diagnostics = append(l.diagnostics, schema.Diagnostic{Position: at, Severity: schema.Error, Message: message, Hint: hint})
}

// selectFiles picks the manifests and holds the tree to its bounds before
// anything is read. What it does for a known file is no more than to compare it:
// there are many.
func (l *loader) selectFiles() manifests {
	selection := selectionOf(l.spec)
	l.refuse(&selection)
	m := manifests{all: l.last.kept}
	seen := listing{tree: l.last, manifests: &m}
	for files := range slices.Chunk(l.tree.Files, filesPerPart) {
		part := seen.same(files)
		if part == nil {
			part = l.selectPart(files, len(m.files)*filesPerPart, &seen, &selection)
		}
		m.files = append(m.files, part)
	}
	seen.end()
	files, bytes := l.survey.Size()
	if files += m.all.files; files > schema.MaxFiles {
		l.fail(schema.Position{}, fmt.Sprintf("the tree has %d manifests, at most %d are read", files, schema.MaxFiles), "")
	}
	if bytes += m.all.bytes; bytes > schema.MaxTreeBytes {
		l.fail(schema.Position{}, fmt.Sprintf("the tree's manifests have %d bytes, at most %d are read", bytes, schema.MaxTreeBytes), "")
	}
	return m
}

// refuse tells what the tree holds that is not read: what it should not hold, and
// what the source does not leave out.
func (l *loader) refuse(selection *selection) {
	l.diagnostics = append(l.diagnostics, l.tree.Faults...)
	l.hides = l.hides || l.tree.Faults.HasErrors()
	var links schema.Diagnostics
	for _, d := range l.tree.Refused {
		switch {
		case !selection.covers(d.Path):
		case d.Severity == schema.Error:
			l.diagnostics = append(l.diagnostics, d)
			l.hides = true
		default:
			links = append(links, d)
		}
	}
	if len(links) == 0 {
		return
	}
	var named []string
	for _, d := range links {
		named = append(named, d.Path)
	}
	l.diagnostics = append(l.diagnostics, schema.Diagnostic{
		Position: schema.Position{Path: links[0].Path}, Severity: schema.Warning,
		Message: "symlinks are not followed: " + someOf(named),
		Hint:    "where one stands for manifests, put the files themselves there; exclude the others",
	})
}

// maxNamedFiles are named in one warning about many.
const maxNamedFiles = 5

// someOf names the first of some files, and counts the others.
func someOf(names []string) string {
	named := names[:min(len(names), maxNamedFiles)]
	more := ""
	if n := len(names) - len(named); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(named, ", ") + more
}

// passOver warns of the files that hold what is no manifest.
func (l *loader) passOver(names []string) {
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return
	}
	message, hint := "this file is no manifest and is passed over", "it has neither apiVersion nor kind nor metadata; exclude it in the Source if no object stands in it"
	if len(names) > 1 {
		message = fmt.Sprintf("%d files are no manifests and are passed over: %s", len(names), someOf(names))
		hint = "they have neither apiVersion nor kind nor metadata; exclude in the Source those in which no object stands"
	}
	l.diagnostics = append(l.diagnostics, schema.Diagnostic{Position: schema.Position{Path: names[0]}, Severity: schema.Warning, Message: message, Hint: hint})
}

// ignore warns of the objects that are not acted on, once of all of a kind.
func (l *loader) ignore(each schema.Diagnostics) {
	byKind := make(map[string]schema.Diagnostics)
	for _, d := range each.Sort() {
		byKind[d.Message] = append(byKind[d.Message], d)
	}
	for _, same := range byKind {
		d := same[0]
		if len(same) > 1 {
			var others []string
			for _, other := range same[1:] {
				others = append(others, other.Position.String())
			}
			d.Message += fmt.Sprintf(" (the same holds for %s)", someOf(others))
		}
		l.diagnostics = append(l.diagnostics, d)
	}
}

// selectPart is what stands beside a part of the tree's files, the first of which is
// at place.
func (l *loader) selectPart(files []schema.File, place int, seen *listing, selection *selection) []*rememberedFile {
	m := seen.manifests
	out := make([]*rememberedFile, len(files))
	for i := range files {
		f := &files[i]
		known := seen.find(f)
		switch {
		case known == unwanted || known == nil && (!selection.wants(f.Path) || l.claims(f.Path)):
			out[i] = unwanted
			continue
		case known != nil && known != unkept:
			out[i] = known
			continue
		case f.Size > schema.MaxFileSize: // one of unknown size is measured as it is read
			l.hides = true
			m.all.bytes += f.Size
			l.fail(schema.Position{Path: f.Path}, fmt.Sprintf("%d bytes, at most %d are read", f.Size, schema.MaxFileSize), selection.hint(f.Path))
			continue
		case len(f.Path) > maxPath:
			l.hides = true
			l.fail(schema.Position{Path: yaml.Cut(f.Path, maxPath)}, fmt.Sprintf("the name has %d bytes, at most %d are taken", len(f.Path), maxPath), "")
			continue
		case path.Ext(f.Path) == ".cue":
			m.cues = append(m.cues, *f)
		default:
			out[i] = &rememberedFile{source: &source{file: *f, base: selection.base}, size: sizeOf(f), again: known == unkept}
			m.fresh = append(m.fresh, place+i)
		}
		m.all.add(sizeOf(f))
	}
	return out
}

// maxPath bounds a file's name in bytes, as Linux does: it stands on every object.
const maxPath = 4096

// chunksPerJob cuts large multi-document files so that all cores share them.
const chunksPerJob = 16

// job is a run of one file's chunks, decoded by one worker.
type job struct {
	file   *rememberedFile
	parsed *parsedFile
	first  int
	last   int // behind the last
}

// decodeFiles reads and decodes in parallel what is not known; the result is in
// the order of the files and their documents. It is false when they turn out to be
// too many bytes, of which nothing else is told then.
func (l *loader) decodeFiles(ctx context.Context, m *manifests) ([]decoded, bool) {
	type reading struct {
		parsed   *parsedFile // nil once it is decoded
		problems schema.Diagnostics
		read     bool
		all      []decoded
	}
	files := make([]reading, len(m.fresh))
	var measured atomic.Int64
	inParallel(ctx, len(m.fresh), func(i int) {
		r, file := &files[i], m.files.at(m.fresh[i])
		if measured.Load() > schema.MaxTreeBytes {
			return
		}
		r.parsed, r.problems = file.source.read()
		r.read = r.parsed != nil
		if r.read && file.source.file.Size < 0 {
			measured.Add(r.parsed.size())
		}
		// Most files are one job, done before their text gets cold.
		if p := r.parsed; p != nil && len(p.chunks) <= chunksPerJob {
			r.all, r.parsed = l.decodeJob(job{file, p, 0, len(p.chunks)}), nil
		}
	})
	if measured.Load() > schema.MaxTreeBytes {
		l.fail(schema.Position{}, fmt.Sprintf("the tree's manifests have more than the %d bytes that are read", schema.MaxTreeBytes), "")
		return nil, false
	}
	var jobs []job
	for i := range files {
		r, file := &files[i], m.files.at(m.fresh[i])
		l.diagnostics = append(l.diagnostics, r.problems...)
		l.hides = l.hides || !r.read
		file.unread = !r.read
		m.lost = m.lost || file.again && file.unread
		if p := r.parsed; p != nil {
			for first := 0; first < len(p.chunks); first += chunksPerJob {
				jobs = append(jobs, job{file, p, first, min(first+chunksPerJob, len(p.chunks))})
			}
		}
	}
	results := make([][]decoded, len(jobs))
	inParallel(ctx, len(jobs), func(i int) { results[i] = l.decodeJob(jobs[i]) })
	var out []decoded
	for i := range files {
		for ; len(jobs) > 0 && jobs[0].file == m.files.at(m.fresh[i]); jobs, results = jobs[1:], results[1:] {
			files[i].all = append(files[i].all, results[0]...)
		}
		m.files.at(m.fresh[i]).note(files[i].all)
		m.all.stored.add(m.files.at(m.fresh[i]).stored)
		out = append(out, files[i].all...)
	}
	return out, true
}

// note keeps with the file what it was decoded to, but for the objects themselves.
func (r *rememberedFile) note(all []decoded) {
	for _, d := range all {
		r.diagnostics = append(r.diagnostics, d.diagnostics...)
		r.makes = append(r.makes, d.makes...)
		if r.nameless == nil {
			r.nameless = d.nameless
		}
		r.hides = r.hides || d.hides
		r.passedOver = r.passedOver || d.passedOver != ""
		r.ignored = append(r.ignored, d.ignored...)
		for _, desired := range d.objects {
			o := objectOf(desired)
			o.file = r
			r.facts = append(r.facts, o.facts)
			r.secret = r.secret || schema.Info(o.key.Kind).Sealed
			r.stored.add(o.stored)
		}
	}
}

// inParallel calls do(0) … do(n-1) on all cores and returns when all have ended;
// after the end of ctx it starts no more.
func inParallel(ctx context.Context, n int, do func(i int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	workers.Wait()
}

func (l *loader) decodeJob(j job) []decoded {
	nodes, _ := l.arenas.Get().(*yaml.Arena)
	if nodes == nil {
		nodes = &yaml.Arena{Borrows: l.opts.DiagnosticsOnly}
	}
	defer l.arenas.Put(nodes)
	out := make([]decoded, 0, j.last-j.first)
	for i := j.first; i < j.last; i++ {
		out = append(out, l.decodeChunk(j.file.source, j.parsed, i, nodes)...)
	}
	return out
}

// decodeChunk decodes one chunk, with an arena that nothing is left in. A file comes
// from anyone who can push: should one make the parser panic, that file is refused
// and nobody else's.
func (l *loader) decodeChunk(s *source, p *parsedFile, index int, nodes *yaml.Arena) (out []decoded) {
	defer nodes.Reset()
	defer func() {
		if r := recover(); r != nil {
			at := schema.Position{Path: s.file.Path, Line: 1 + p.chunks[index].Line}
			out = append(out, decoded{hides: true, diagnostics: schema.Diagnostics{{Position: at, Severity: schema.Error, Message: fmt.Sprintf("%s: %v", panicMessage, r)}}})
		}
	}()
	documents, problem := s.documents(p, index, nodes)
	if problem != nil {
		out = append(out, decoded{hides: true, diagnostics: schema.Diagnostics{*problem}})
	}
	for _, doc := range documents {
		out = append(out, l.decodeDocument(doc))
	}
	return out
}

const panicMessage = "this document cannot be read, which is a bug of Fairlead's"

// gather collects the diagnostics of all files, and the objects that were decoded
// now, sorted by key and, for one key, by position.
func (l *loader) gather(m *manifests, fresh []decoded) []*schema.Desired {
	var objects []*schema.Desired
	passedOver := l.passedOver
	var ignored schema.Diagnostics
	nameless := make(map[string]bool)
	tell := func(diagnostics schema.Diagnostics, first *schema.Diagnostic) {
		l.diagnostics = append(l.diagnostics, diagnostics...)
		if first != nil && !nameless[first.Path] {
			nameless[first.Path] = true
			l.diagnostics = append(l.diagnostics, *first)
		}
	}
	m.telling = l.last.tellingWithout(m.gone)
	for _, f := range m.telling {
		tell(f.diagnostics, f.nameless)
		ignored = append(ignored, f.ignored...)
		l.makes = append(l.makes, f.makes...)
		l.hides = l.hides || f.hides
		if f.passedOver {
			passedOver = append(passedOver, f.source.file.Path)
		}
	}
	for _, d := range fresh {
		tell(d.diagnostics, d.nameless)
		ignored = append(ignored, d.ignored...)
		l.makes = append(l.makes, d.makes...)
		objects = append(objects, d.objects...)
		l.hides = l.hides || d.hides
		if d.passedOver != "" {
			passedOver = append(passedOver, d.passedOver)
		}
	}
	l.passOver(passedOver)
	l.ignore(ignored)
	slices.SortStableFunc(objects, compare)
	return objects
}
