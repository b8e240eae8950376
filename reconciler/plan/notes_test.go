package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler"
	"fairlead/reconciler/plan"
	"fairlead/reconciler/scheduler"
	"fairlead/reconciler/settle"
	"fairlead/schema"
	"fairlead/schema/chance"
	"fairlead/schema/objecttest"
)

// of makes a candidate of objects for any source.
func (c *cluster) of(source schema.SourceName, n int, objects ...schema.Object) reconciler.Candidate {
	cand := c.sealed(n, asDesired(source, n, objects), nil)
	cand.Source = source
	return cand
}

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{"a": name}}
}

// A Source that goes leaves its objects where they are: they neither count as pruned
// nor do their pods stop, and the plan says so.
func TestRemovedSourceCountsWhatGoes(t *testing.T) {
	c := newCluster(t, uniform(2, "1", "1Gi")...)
	team := &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "team"}, Spec: schema.DefaultSourceSpec(schema.SourceSpec{URL: "https://git.example.org/team.git"})}
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	c.push(c.of("main", 1, team, space, configMap("a"), configMap("b"), configMap("c")))
	web := objecttest.Deployment("web", 2)
	c.push(c.of("team", 2, web, service("web", 80), configMap("d")))

	p := c.plan(planned(c.of("main", 3, configMap("a"), configMap("b"), configMap("c"))))
	if p.Prune.Count != 2 || p.Prune.Of != 5 {
		t.Errorf("%d of %d are pruned, want 2 of 5", p.Prune.Count, p.Prune.Of)
	}
	if len(p.Pods) > 0 {
		t.Errorf("pods: %+v", p.Pods)
	}
	want := []string{
		"Namespace default goes, and 6 objects stay in it",
		"source team is no longer followed: what it put, 3 objects, stays as it is, and no commit changes it",
	}
	if !slices.Equal(p.Notes, want) {
		t.Errorf("notes %q, want %q", p.Notes, want)
	}
	before := c.placed()
	c.push(c.of("main", 3, configMap("a"), configMap("b"), configMap("c")))
	if got := c.placed(); !slices.Equal(got, before) {
		t.Errorf("pods are %v, were %v", got, before)
	}
}

// While another source rolls out, a plan tells of its own source's pods alone.
func TestOnlyTheSourcesOwnPodsAreTold(t *testing.T) {
	c := newCluster(t, uniform(2, "1", "1Gi")...)
	team := &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "team"}, Spec: schema.DefaultSourceSpec(schema.SourceSpec{URL: "https://git.example.org/team.git"})}
	c.push(c.of("main", 1, team, configMap("a")))
	c.push(c.of("team", 2, objecttest.Deployment("theirs", 3)))
	next := objecttest.Deployment("theirs", 3)
	next.Spec.Template.Spec.Containers[0].Image = "localhost/c:v2"
	c.step(c.of("team", 3, next)) // under way: pod by pod
	for _, test := range []struct {
		objects []schema.Object
		verdict plan.Verdict
		pods    int
	}{
		{[]schema.Object{team, configMap("a")}, plan.None, 0},
		{[]schema.Object{team, configMap("a"), objecttest.Deployment("ours", 2)}, plan.Changes, 2},
	} {
		p := c.plan(planned(c.of("main", 4, test.objects...)))
		if p.Verdict != test.verdict || len(p.Pods) != test.pods || slices.ContainsFunc(p.Pods, func(pod plan.Pod) bool { return pod.Owner == "" || !strings.HasPrefix(pod.Name, "ours") }) {
			t.Errorf("%s, pods %+v", p.Verdict, p.Pods)
		}
	}
}

// Whether the cluster survives is whether all that ran runs again.
func TestSurvival(t *testing.T) {
	bare := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "bare"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "localhost/c:v1"}}}}
	stays := bare.DeepCopy()
	stays.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	for _, test := range []struct {
		name    string
		objects []schema.Object
		lose    []schema.NodeName
		want    bool
	}{
		{"there is room elsewhere", []schema.Object{objecttest.Deployment("web", 2)}, []schema.NodeName{"n1"}, true},
		{"nothing ran there", []schema.Object{configMap("a")}, []schema.NodeName{"n1"}, true},
		{"nothing is left", []schema.Object{objecttest.Deployment("web", 2)}, []schema.NodeName{"n1", "n2"}, false},
		{"a pod that nothing makes again", []schema.Object{bare}, []schema.NodeName{"n1", "n2"}, false},
		{"a pod that stays bound", []schema.Object{stays}, []schema.NodeName{"n1", "n2"}, false},
	} {
		c := newCluster(t, uniform(2, "1", "1Gi")...)
		c.push(c.of("main", 1, test.objects...))
		p := c.plan(plan.Candidate{Lose: test.lose})
		if p.Survives == nil || *p.Survives != test.want {
			t.Errorf("%s: %+v", test.name, p)
		}
		if p := c.plan(planned(c.of("main", 1, test.objects...))); p.Survives != nil {
			t.Errorf("%s: a plan in which no node goes says that it survives: %v", test.name, *p.Survives)
		}
	}
}

// big is a plan with more of everything than a comment holds, of texts that grow when
// they are escaped.
func big(n int, text func(int) string) *plan.Plan {
	p := &plan.Plan{Source: "main", Verdict: plan.Held, Base: objecttest.Commit(1), Candidate: objecttest.Commit(2)}
	for i := range n {
		s := text(i)
		p.Objects = append(p.Objects, plan.Object{
			Action: settle.Update, Kind: schema.KindConfigMap, Namespace: "default", Name: s, Position: s + ".yaml:1:1", Reason: s,
			Fields: []schema.FieldChange{{Path: "data[" + s + "]", From: s, To: s + "\n" + s}, {Path: "spec", To: `{"image":"` + s + `"}`}},
		})
		p.Pods = append(p.Pods, plan.Pod{Action: "start", Namespace: "default", Name: s, Reason: s})
		p.Unplaced = append(p.Unplaced, plan.Unplaced{Pod: s})
		p.Reasons = append(p.Reasons, s, "no node takes pod "+s)
		p.Notes = append(p.Notes, s)
		p.Diagnostics = append(p.Diagnostics, schema.Diagnostic{Position: schema.Position{Path: s}, Message: s, Hint: s})
		p.Capacity = append(p.Capacity, plan.Capacity{Node: schema.NodeName(fmt.Sprint(i)), Resource: "cpu", Allocatable: "1", Before: "0", After: "1"})
	}
	for i := range p.Unplaced {
		for _, node := range []schema.NodeName{"n1", schema.NodeName(fmt.Sprint("m", i%200))} {
			p.Unplaced[i].Nodes = append(p.Unplaced[i].Nodes, scheduler.NodeReason{Node: node, Reasons: []string{text(i)}})
		}
	}
	return p
}

// Whatever a plan holds, a forge takes it as a comment: it has a bound, tables are
// whole, and what is left out is counted.
func TestMarkdownFitsIntoAComment(t *testing.T) {
	random := chance.Rand()
	for _, text := range []func(int) string{
		func(i int) string { return fmt.Sprintf("name-%d", i) },
		func(i int) string { return strings.Repeat("@#", 400) + fmt.Sprint(i) },
		func(i int) string { return strings.Repeat("é世", 1+i%300) + "|`" },
		func(i int) string { return strings.Repeat("x", random.IntN(5000)) },
		func(i int) string { return "a\n\x1b|\\|" + string(rune(0x1f600+i%60)) },
	} {
		for _, n := range []int{1, 20, 160, 400} {
			out := markdown(big(n, text))
			if len(out) > plan.MaxMarkdown || !utf8.ValidString(out) {
				t.Errorf("%d of %.20q: %d bytes, valid UTF-8: %v", n, text(0), len(out), utf8.ValidString(out))
			}
			checkTables(t, out)
			if n > 20 && !strings.Contains(out, "more") {
				t.Errorf("%d of %.20q: nothing says that it is not all", n, text(0))
			}
		}
	}
}

// checkTables reads the sections: each is closed, each table has rows as wide as its
// header, and shown and left out together are what the title counts.
func checkTables(t *testing.T, out string) {
	t.Helper()
	for _, part := range strings.Split(out, "\n<details")[1:] {
		if strings.Count(part, "</details>") != 1 || strings.Count(part, "<summary>") != 1 || strings.Count(part, "</summary>") != 1 {
			t.Fatalf("a section is cut: %.300s", part)
		}
		rows, more := 0, 0
		cells := 0
		for _, line := range strings.Split(part, "\n") {
			switch {
			case strings.HasPrefix(line, "... and "):
				fmt.Sscanf(line, "... and %d more", &more)
			case strings.HasPrefix(line, "|"):
				if rows++; rows == 1 {
					cells = unescapedPipes(line)
				} else if unescapedPipes(line) != cells {
					t.Fatalf("a row is cut: %s", line)
				}
			}
		}
		counted := 0
		if n, _ := fmt.Sscanf(part[strings.Index(part, "<summary>"):], "<summary>%d ", &counted); n == 1 && max(rows-2, 0)+more != counted {
			t.Errorf("%d rows and %d more, the title says %d", rows-2, more, counted)
		}
	}
}

// The size that a person reported: 160 ConfigMaps and 200 Deployments.
func TestManyObjectsFitIntoAComment(t *testing.T) {
	c := newCluster(t, uniform(20, "8", "8Gi")...)
	var objects []schema.Object
	for i := range 160 {
		objects = append(objects, configMap(fmt.Sprintf("settings-%03d", i)))
	}
	for i := range 200 {
		objects = append(objects, objecttest.Deployment(fmt.Sprintf("application-with-a-name-%03d", i), 2))
	}
	p := c.plan(planned(c.of("main", 1, objects...)))
	out := markdown(p)
	if len(out) > plan.MaxMarkdown || !strings.Contains(out, "<summary>360 objects</summary>") || !strings.Contains(out, "... and 210 more") {
		t.Errorf("%d bytes:\n%.2000s", len(out), out)
	}
	checkTables(t, out)
	if line := strings.SplitN(out, "\n", 4)[2]; strings.Contains(line, "application") || len(line) > 200 {
		t.Errorf("the summary names pods: %s", line)
	}
}

// The summary counts pods; it names none, also where the plan is held for another
// reason.
func TestSummaryNamesNoPods(t *testing.T) {
	p := &plan.Plan{Verdict: plan.Held, Source: "main", Reasons: []string{"the tree is empty", "no node takes pod default/web-1"}, Unplaced: []plan.Unplaced{{Pod: "default/web-1"}}}
	if s := p.Summary(); strings.Contains(s, "web-1") || !strings.HasPrefix(s, "held: the tree is empty; otherwise ") || !strings.HasSuffix(s, ", 1 without a node") {
		t.Error(s)
	}
}

// What a plan places by what nodes could not start, it says; one that starts nothing has
// no reason to.
func TestAvoidedNodesAreTold(t *testing.T) {
	nodes := uniform(2, "1", "1Gi")
	nodes[0].full = true
	c := newCluster(t, nodes...)
	c.push(c.of("main", 1, objecttest.Deployment("web", 2)))
	const want = "pods could not be started on n1 lately: new ones are placed there only where no other node takes them"
	if p := c.plan(planned(c.of("main", 2, objecttest.Deployment("web", 3)))); !slices.Contains(p.Notes, want) {
		t.Errorf("notes: %q", p.Notes)
	}
	if p := c.plan(planned(c.of("main", 2, objecttest.Deployment("web", 2), configMap("a")))); slices.Contains(p.Notes, want) {
		t.Errorf("a plan without pods notes: %q", p.Notes)
	}
}

// A pod that needs what nobody declares is not foretold to get ready: the old pods stay
// until there are new ones, and the plan says what is waited for.
func TestPodsThatWaitAreNotForetold(t *testing.T) {
	c := newCluster(t, uniform(2, "1", "1Gi")...)
	web := objecttest.Deployment("web", 2)
	c.push(c.of("main", 1, web))
	next := objecttest.Deployment("web", 2)
	next.Spec.Template.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{
		{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "db"}}},
	}
	p := c.plan(planned(c.of("main", 2, next)))
	if want := "pods of Deployment web wait until Secret default/db is there"; !slices.Contains(p.Notes, want) {
		t.Errorf("notes %q, want %q", p.Notes, want)
	}
	stops := 0
	for _, pod := range p.Pods {
		if pod.Action == "stop" {
			stops++
		}
	}
	if stops > 0 {
		t.Errorf("%d old pods are foretold to stop though no new one gets ready: %+v", stops, p.Pods)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "default"}}
	p = c.plan(planned(c.of("main", 2, next, secret)))
	if slices.ContainsFunc(p.Notes, func(n string) bool { return strings.Contains(n, "wait until") }) || len(p.Pods) != 4 {
		t.Errorf("with the Secret: notes %q, pods %+v", p.Notes, p.Pods)
	}
}
