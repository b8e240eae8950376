package schema

import (
	"fmt"
	"strings"
)

// Treatment is what Fairlead does with a field that Kubernetes knows.
type Treatment int

// Nothing is silently ignored: a field is acted on, dropped with a warning, or
// refused.
const (
	Restricts   Treatment = iota // not acted on, and leaving it out would loosen what the user asked for: always refused
	Adds                         // not acted on, only adds behaviour: refused, or with `unsupported: warn` left out with a warning
	Supported                    // acted on
	Meaningless                  // has no meaning here: kept, with a warning
	ServerSet                    // written by a server, never by a person: dropped with a warning
)

// FieldSupport is one field of the table of supported fields.
type FieldSupport struct {
	Treatment Treatment
	Values    []string // if not empty, only these and "" are supported
	Nothing   []string // values of a field that is not acted on which ask for what happens anyway: they are accepted
	Note      string   // why, or what to do instead; may be empty
	OnNodes   bool     // nodes act on it, or the master sets it, though Git may not ask for it yet
	children  map[string]*FieldSupport
}

var (
	everything = &FieldSupport{Treatment: Supported}
	unlisted   = &FieldSupport{Treatment: Restricts}
)

// Field is what the table says of a field or map key below f. List elements
// are not steps of the path. It is never nil.
func (f *FieldSupport) Field(name string) *FieldSupport {
	if f.children == nil {
		return everything
	}
	if c := f.children[name]; c != nil {
		return c
	}
	return unlisted
}

// SupportedFields is the table for a kind that may stand in Git; other kinds
// panic. The result is shared; do not change it.
func SupportedFields(kind Kind) *FieldSupport {
	f := supported[Index(kind)]
	if f == nil {
		panic(fmt.Sprintf("schema: no supported fields for kind %q", kind))
	}
	return f
}

var supported []*FieldSupport // by Index; nil for kinds that may not stand in Git

func compileSupport() []*FieldSupport {
	out := make([]*FieldSupport, len(table))
	for i := range table {
		parts := table[i].Supported.Do
		if parts == nil {
			continue
		}
		out[i] = &FieldSupport{Treatment: Supported, children: make(map[string]*FieldSupport)}
		for line := range strings.Lines(strings.Join(append([]string{metadataFields}, parts...), "\n")) {
			out[i].add(strings.TrimSpace(line))
		}
	}
	return out
}

// below expands the @container, @hook and @probe parts and puts every line of a table
// below a prefix.
func below(prefix, table string) string {
	var b strings.Builder
	for line := range strings.Lines(table) {
		path, part, found := strings.Cut(strings.TrimSpace(line), " @")
		switch {
		case path == "":
		case found:
			b.WriteString(below(prefix+"."+path, map[string]string{"container": containerFields, "hook": hookFields, "probe": probeFields}[part]))
		default:
			b.WriteString(prefix + "." + path + "\n")
		}
	}
	return b.String()
}

func (f *FieldSupport) add(line string) {
	if line == "" {
		return
	}
	path, rest, _ := strings.Cut(line, " ")
	leaf := f
	fresh := false
	for name := range strings.SplitSeq(path, ".") {
		fresh = leaf.children[name] == nil
		if leaf.children == nil {
			leaf.children = make(map[string]*FieldSupport)
		}
		next := leaf.children[name]
		if next == nil {
			next = &FieldSupport{Treatment: Supported}
			leaf.children[name] = next
		}
		leaf = next
	}
	if rest == "" {
		return
	}
	sign, note, _ := strings.Cut(strings.TrimSpace(rest), " ")
	switch sign {
	case "=":
		leaf.Values = strings.Split(note, " | ")
		return
	case "?":
		leaf.Nothing = strings.Split(note, " | ")
		if fresh {
			leaf.Treatment = Restricts
		}
		return
	case "^":
		leaf.OnNodes = true
		if fresh {
			leaf.Treatment = Restricts
		}
		return
	case "~":
		leaf.Treatment = Meaningless
	case "+":
		leaf.Treatment = Adds
	case "!":
		leaf.Treatment = Restricts
	case "-":
		leaf.Treatment = ServerSet
	default:
		panic(fmt.Sprintf("schema: supported fields: %q", line))
	}
	leaf.Note = note
}

// The tables: one field a line, list indexes left out. A path alone is
// supported with all that is below it, unless deeper paths are listed; then
// only those are. What is not listed is refused as something that restricts. What is
// empty says nothing and is accepted anywhere, but where a choice is made by it, as
// among the kinds of volumes.
//
//	path = a | b   only these values
//	path ~ note    has no meaning here
//	path + note    not acted on yet, only adds behaviour
//	path ! note    not acted on yet, restricts; listed for the note
//	path - note    set by a server
//	path ? a | b   values of what is not acted on that change nothing
//	path ^         not taken from Git, and acted on where a pod has it
const metadataFields = `
		apiVersion
		kind
		metadata.name
		metadata.namespace
		metadata.labels
		metadata.annotations
		metadata.generateName ! an object in Git needs a fixed name
		metadata.finalizers ! a deletion is decided by Git alone
		metadata.uid -
		metadata.resourceVersion -
		metadata.generation -
		metadata.creationTimestamp -
		metadata.deletionTimestamp -
		metadata.deletionGracePeriodSeconds -
		metadata.managedFields -
		metadata.ownerReferences -
		metadata.selfLink -
		status -`
