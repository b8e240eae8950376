package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"fairlead/cmd/fairlead/internal/config"
	"fairlead/schema"
)

const docsRoot = "../.."

func readDoc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(docsRoot, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sections cuts a page at its "## " headings: heading -> text below it.
func sections(page string) map[string]string {
	out := make(map[string]string)
	for _, part := range strings.Split("\n"+page, "\n## ")[1:] {
		heading, text, _ := strings.Cut(part, "\n")
		out[heading] = text
	}
	return out
}

var flagInCode = regexp.MustCompile("`(--[a-z-]+)")

// TestDocsTellEveryCommand holds docs/cli.md to the commands: each has a section
// with each of its flags, and no section tells of a command or flag that there
// is not.
func TestDocsTellEveryCommand(t *testing.T) {
	told := sections(readDoc(t, "docs/cli.md"))
	cmd := root(io.Discard, io.Discard)
	cmd.InitDefaultCompletionCmd()
	for _, c := range cmd.Commands() {
		if c.Hidden || c.Name() == "help" {
			continue
		}
		heading := "`" + c.CommandPath() + "`"
		text, ok := told[heading]
		delete(told, heading)
		if !ok {
			t.Errorf("docs/cli.md has no section \"## %s\"", heading)
			continue
		}
		checkFlags(t, heading, text, flagsOf(c))
	}
	for heading := range told {
		if strings.HasPrefix(heading, "`fairlead") {
			t.Errorf("docs/cli.md: \"## %s\" is not a command", heading)
		}
	}
}

func flagsOf(c *cobra.Command) map[string]bool {
	flags := make(map[string]bool)
	for _, of := range append(c.Commands(), c) {
		of.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && f.Name != "help" {
				flags["--"+f.Name] = true
			}
		})
	}
	return flags
}

func checkFlags(t *testing.T, heading, text string, flags map[string]bool) {
	t.Helper()
	told := make(map[string]bool)
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "| `-") {
			continue
		}
		cell, _, _ := strings.Cut(line[1:], "|")
		for _, m := range flagInCode.FindAllStringSubmatch(cell, -1) {
			told[m[1]] = true
			if !flags[m[1]] {
				t.Errorf("docs/cli.md: ## %s has no flag %s", heading, m[1])
			}
		}
	}
	for name := range flags {
		if !told[name] {
			t.Errorf("docs/cli.md: ## %s does not tell of flag %s", heading, name)
		}
	}
}

// TestDocsTellEveryConfigurationKey holds the reference of docs/operations.md to
// the configuration files.
func TestDocsTellEveryConfigurationKey(t *testing.T) {
	told := sections(readDoc(t, "docs/operations.md"))
	for heading, c := range map[string]any{"`master.yaml`": config.Master{}, "`agent.yaml`": config.Agent{}} {
		text, ok := told[heading]
		if !ok {
			t.Errorf("docs/operations.md has no section \"## %s\"", heading)
			continue
		}
		var want, got []string
		for name, sub := range fieldsOf(reflect.TypeOf(c)) {
			want = append(want, name)
			if sub.Kind() == reflect.Struct && sub.PkgPath() == reflect.TypeOf(c).PkgPath() {
				for inner := range fieldsOf(sub) {
					want = append(want, name+"."+inner)
				}
			}
		}
		for line := range strings.Lines(text) {
			if cells := strings.Split(line, "|"); len(cells) > 2 && strings.HasPrefix(line, "| `") {
				got = append(got, strings.Trim(cells[1], " `"))
			}
		}
		want = slices.DeleteFunc(want, func(k string) bool {
			return slices.ContainsFunc(want, func(o string) bool { return strings.HasPrefix(o, k+".") })
		})
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("docs/operations.md, ## %s (-configuration +page):\n%s", heading, diff)
		}
	}
}

// TestSystemdExamplesAreRead holds the example configurations to the code.
func TestSystemdExamplesAreRead(t *testing.T) {
	if _, err := config.ReadMaster(filepath.Join(docsRoot, "examples/systemd/master.yaml")); err != nil {
		t.Error(err)
	}
	if _, err := config.ReadAgent(filepath.Join(docsRoot, "examples/systemd/agent.yaml")); err != nil {
		t.Error(err)
	}
}

// fieldsOf are the JSON fields of a struct type: name -> type without pointers.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	out := make(map[string]reflect.Type)
	for i := range t.NumField() {
		f := t.Field(i)
		name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
		ft := f.Type
		for ft.Kind() == reflect.Pointer || ft.Kind() == reflect.Slice {
			ft = ft.Elem()
		}
		switch {
		case name == "-" || !f.IsExported():
		case name == "" && (f.Anonymous || strings.Contains(rest, "inline")):
			for n, inner := range fieldsOf(ft) {
				out[n] = inner
			}
		case name != "":
			out[name] = ft
		}
	}
	return out
}

var (
	link    = regexp.MustCompile(`\]\(([^)#:]*)(#[^):]*)?\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	unslug  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the headings of a page as links name them.
func anchors(page string) map[string]bool {
	out := map[string]bool{"": true}
	for _, m := range heading.FindAllStringSubmatch(page, -1) {
		out["#"+strings.ReplaceAll(unslug.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	return out
}

// TestDocsLinksLead checks that the pages and headings that pages link to are
// there.
func TestDocsLinksLead(t *testing.T) {
	var pages []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/decisions/*.md", "examples/*.md", "examples/*/*.md", "nodeagent/*.md", "nodeagent/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(docsRoot, pattern))
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			target := page
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(page), m[1])
			}
			info, err := os.Stat(target)
			if err != nil {
				t.Errorf("%s: link to %s: %v", page, m[1], err)
				continue
			}
			if info.IsDir() || m[2] == "" {
				continue
			}
			led, err := os.ReadFile(target)
			if err != nil {
				t.Fatal(err)
			}
			if !anchors(string(led))[m[2]] {
				t.Errorf("%s: %s has no heading %s", page, target, m[2])
			}
		}
	}
}

// TestDocsListFields holds docs/fields.md to what the loader accepts; -update
// writes it anew.
func TestDocsListFields(t *testing.T) {
	got := fieldsPage()
	path := filepath.Join(docsRoot, "docs/fields.md")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(readDoc(t, "docs/fields.md"), got); diff != "" {
		t.Errorf("docs/fields.md is not what is supported; run go test ./cmd/fairlead -run TestDocsListFields -update (-page +supported):\n%s", diff)
	}
}

// fieldTable is one table of the page; what another table tells is only named.
type fieldTable struct {
	title     string
	kind      schema.Kind
	at        string // where below the kind
	of        any
	prefix    string
	elsewhere map[string]string // field -> title of the table that tells it
}

var containerTables = map[string]string{"containers": "Container", "initContainers": "Container"}

var fieldTables = []fieldTable{
	{title: "Metadata of every kind", kind: schema.KindConfigMap, at: "metadata", of: corev1.ConfigMap{}.ObjectMeta, prefix: "metadata."},
	{title: "Namespace", kind: schema.KindNamespace, of: corev1.Namespace{}, elsewhere: map[string]string{"metadata": ""}},
	{title: "Deployment", kind: schema.KindDeployment, of: appsv1.Deployment{}, elsewhere: map[string]string{"metadata": "", "spec.template.spec": "Pod spec"}},
	{title: "Job", kind: schema.KindJob, of: batchv1.Job{}, elsewhere: map[string]string{"metadata": "", "spec.template.spec": "Pod spec"}},
	{title: "CronJob", kind: schema.KindCronJob, of: batchv1.CronJob{}, elsewhere: map[string]string{"metadata": "", "spec.jobTemplate.spec.template.spec": "Pod spec"}},
	{title: "Pod", kind: schema.KindPod, of: corev1.Pod{}, elsewhere: map[string]string{"metadata": "", "spec": "Pod spec"}},
	{title: "Pod spec", kind: schema.KindPod, at: "spec", of: corev1.PodSpec{}, elsewhere: containerTables},
	{title: "Container", kind: schema.KindPod, at: "spec.containers", of: corev1.Container{}, elsewhere: map[string]string{"readinessProbe": "Probe", "livenessProbe": "Probe", "startupProbe": "Probe"}},
	{title: "Probe", kind: schema.KindPod, at: "spec.containers.readinessProbe", of: corev1.Probe{}},
	{title: "Service", kind: schema.KindService, of: corev1.Service{}, elsewhere: map[string]string{"metadata": ""}},
	{title: "ConfigMap", kind: schema.KindConfigMap, of: corev1.ConfigMap{}, elsewhere: map[string]string{"metadata": ""}},
	{title: "Secret", kind: schema.KindSecret, of: corev1.Secret{}, elsewhere: map[string]string{"metadata": ""}},
	{title: "Source", kind: schema.KindSource, of: schema.Source{}, elsewhere: map[string]string{"metadata": ""}},
}

const fieldsIntro = "# Kinds and fields\n\n" +
	"What may stand in Git. This page is written by a test from the table that the\n" +
	"loader itself uses; `fairlead validate` is the judge.\n\n" +
	"- **Acted on**: does what Kubernetes documents. A path stands for all that is\n" +
	"  below it; \"only\" means that value, or the field left out.\n" +
	"- **Accepted, no meaning here**: kept, with a warning.\n" +
	"- **Written by a server**: dropped, with a warning, so that manifests taken\n" +
	"  from a running cluster load.\n" +
	"- **Not yet, only adds**: refused, or left out with a warning where the Source\n" +
	"  says `unsupported: warn`.\n" +
	"- **Refused**: always, because leaving it out could loosen what you asked for.\n\n" +
	"What is empty (`null`, `\"\"`, `[]`, `{}`) asks for nothing and is accepted in any\n" +
	"field, but for those that a choice is made by, such as `volumes.csi`.\n\n" +
	"Kinds: Namespace, Deployment, Job, CronJob, Pod, Service, ConfigMap, Secret, Source.\n" +
	"Other kinds of Kubernetes are refused by name; ServiceAccount, Role, RoleBinding,\n" +
	"ClusterRole, ClusterRoleBinding, PodSecurityPolicy and CustomResourceDefinition\n" +
	"load with one warning and mean nothing here.\n"

func fieldsPage() string {
	var b strings.Builder
	b.WriteString(fieldsIntro)
	for _, table := range fieldTables {
		support := schema.SupportedFields(table.kind)
		for name := range strings.SplitSeq(table.at, ".") {
			if name != "" {
				support = support.Field(name)
			}
		}
		w := &fieldWalk{prefix: table.prefix, elsewhere: table.elsewhere, groups: make(map[schema.Treatment][]string)}
		w.walk("", reflect.TypeOf(table.of), support)
		w.write(&b, table.title)
	}
	return b.String()
}

type fieldWalk struct {
	prefix    string
	elsewhere map[string]string
	groups    map[schema.Treatment][]string
}

// isWhole reports whether everything below a field is treated alike.
func isWhole(f *schema.FieldSupport) bool {
	return f.Treatment != schema.Supported || f.Field("").Treatment == schema.Supported
}

func (w *fieldWalk) walk(at string, t reflect.Type, support *schema.FieldSupport) {
	fields := fieldsOf(t)
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		path, f := at+name, support.Field(name)
		title, told := w.elsewhere[path]
		switch {
		case name == "apiVersion" || name == "kind" && at == "" || told && title == "":
		case told:
			w.add(f, path, "see "+title)
			if own := f.Field("restartPolicy"); path == "initContainers" { // which its containers have not
				w.add(own, path+".restartPolicy", "")
			}
		case !isWhole(f) && fields[name] == reflect.TypeFor[corev1.ResourceList]():
			for _, resource := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
				w.add(f.Field(string(resource)), path+"."+string(resource), "")
			}
		case isWhole(f) || fields[name].Kind() != reflect.Struct:
			w.add(f, path, "")
		default:
			w.walk(path+".", fields[name], f)
		}
	}
}

func (w *fieldWalk) add(f *schema.FieldSupport, path, note string) {
	switch {
	case len(f.Values) > 0:
		note = "only `" + strings.Join(f.Values, "`, `") + "`"
	case note == "":
		note = f.Note
	}
	if len(f.Nothing) > 0 {
		accepted := "`" + strings.Join(f.Nothing, "` or `") + "` changes nothing and is accepted"
		note = strings.TrimPrefix(note+"; "+accepted, "; ")
	}
	line := "`" + w.prefix + path + "`"
	if note != "" {
		line += " (" + note + ")"
	}
	w.groups[f.Treatment] = append(w.groups[f.Treatment], line)
}

func (w *fieldWalk) write(b *strings.Builder, title string) {
	fmt.Fprintf(b, "\n## %s\n", title)
	if lines := w.groups[schema.Supported]; len(lines) > 0 {
		fmt.Fprintf(b, "\nActed on:\n\n- %s\n", strings.Join(lines, "\n- "))
	}
	for _, group := range []struct {
		treatment schema.Treatment
		says      string
	}{
		{schema.Meaningless, "Accepted, no meaning here"},
		{schema.ServerSet, "Written by a server"},
		{schema.Adds, "Not yet, only adds"},
		{schema.Restricts, "Refused"},
	} {
		if lines := w.groups[group.treatment]; len(lines) > 0 {
			fmt.Fprintf(b, "\n%s: %s.\n", group.says, strings.Join(lines, ", "))
		}
	}
}
