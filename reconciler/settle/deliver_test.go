package settle

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

var mib = strings.Repeat("x", 1<<20)

// asked is n ConfigMaps of 1 MiB each, as a source asks for them.
func asked(source schema.SourceName, n int) []*schema.Desired {
	var out []*schema.Desired
	for i := range n {
		cm := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("%s-%02d", source, i), Annotations: map[string]string{schema.AnnotationSource: string(source)}},
			Data:       map[string]string{"v": mib},
		}
		out = append(out, &schema.Desired{Object: cm, Position: schema.Position{Path: "big.yaml", Line: i + 1}})
	}
	return out
}

// holding is a cluster with two sources of the master's configuration, main and second,
// and two that a tree declares, team and other, which hold so many MiB.
func holding(mib map[string]int) *state.Snapshot {
	tx := state.Empty(state.Counters{}).Begin()
	for _, name := range []string{"main", "second", "team", "other"} {
		src := &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if name == "team" || name == "other" {
			src.Annotations = map[string]string{schema.AnnotationSource: "main"}
		}
		tx.Put(src)
		for _, d := range asked(schema.SourceName(name), mib[name]) {
			tx.Put(d.Object)
		}
	}
	return tx.Commit()
}

// What every node is sent stays within its bound, whichever source adds to it; sources
// that trees declare leave room to the master's own and to each other; and what takes no
// more than before is never refused.
func TestWhatIsAdmittedCanBeDelivered(t *testing.T) {
	const all, one, declared = schema.MaxDeliveredBytes >> 20, schema.MaxDeliveredBytes >> 20 / schema.DeclaredShare, schema.MaxDeliveredBytes >> 20 / schema.ReservedShare * (schema.ReservedShare - 1)
	for name, c := range map[string]struct {
		has    map[string]int
		source schema.SourceName
		asks   int
		want   string // of the diagnostic, "" for none
	}{
		"much, which fits":                  {map[string]int{"second": all - 9}, "main", 8, ""},
		"more than fits in sum":             {map[string]int{"second": all - 9}, "main", 10, "the objects of all sources would take "},
		"more than fits alone":              {nil, "main", all, "the objects of all sources would take "},
		"a declared source's share":         {nil, "team", one - 1, ""},
		"more than a declared one's share":  {nil, "team", one, "the objects of source team, which a tree declares, would take "},
		"declared ones fill theirs":         {map[string]int{"other": declared - 4, "main": 1}, "team", 5, "the objects of the sources that trees declare would take "},
		"what they leave is the master's":   {map[string]int{"other": declared}, "main", all - declared - 1, ""},
		"objects of a source that is gone":  {map[string]int{"gone": all - 9}, "main", 10, "the objects of all sources would take "},
		"less than before, and too much":    {map[string]int{"main": all + 8}, "main", all + 4, ""},
		"as much as before, and too much":   {map[string]int{"main": all + 8}, "main", all + 8, ""},
		"a declared one shrinks, too large": {map[string]int{"team": one + 4}, "team", one + 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := holding(c.has)
			if n := c.has["gone"]; n > 0 {
				tx := r.Begin()
				for _, d := range asked("gone", n) {
					tx.Put(d.Object)
				}
				r = tx.Commit()
			}
			_, diags := Difference(r, c.source, asked(c.source, c.asks))
			switch {
			case c.want == "" && len(diags) > 0:
				t.Errorf("refused: %v", diags)
			case c.want != "" && (len(diags) != 1 || !strings.HasPrefix(diags[0].Message, c.want) || diags[0].Path != "big.yaml" || diags[0].Hint == ""):
				t.Errorf("got %v, want %q", diags, c.want)
			}
			if others := c.has != nil && c.want != ""; len(diags) == 1 && diags[0].Elsewhere != others {
				t.Errorf("%v waits for other sources: %v, want %v", diags, diags[0].Elsewhere, others)
			}
			for source, n := range c.has {
				if c.want != "" && n > 1 && strings.Contains(c.want, "all") && !strings.Contains(diags[0].Message, "source "+source+" ") {
					t.Errorf("%s does not say what source %s takes", diags[0].Message, source)
				}
			}
		})
	}
}

// What is too much stays the same diagnostic while other sources' parts of it move, and is
// another one against another bound.
func TestTooMuchIsAlikeWhateverTheTotalIs(t *testing.T) {
	const all = schema.MaxDeliveredBytes >> 20
	refused := func(has map[string]int, source schema.SourceName, n int) schema.Diagnostic {
		_, diags := Difference(holding(has), source, asked(source, n))
		if len(diags) != 1 {
			t.Fatalf("%v", diags)
		}
		return diags[0]
	}
	one := refused(map[string]int{"second": all - 9}, "main", 10)
	for name, has := range map[string]map[string]int{
		"others take more":   {"second": all - 8},
		"other sources take": {"second": all - 20, "other": 15},
	} {
		if d := refused(has, "main", 10); !d.Alike(one) || d.Message == one.Message {
			t.Errorf("%s: %s; before: %s", name, d, one)
		}
	}
	if d := refused(nil, "main", all); d.Alike(one) {
		t.Errorf("what is too much by itself is like what waits for others: %s", d)
	}
	other := one
	if other.Message = strings.Replace(one.Message, "at most ", "at most 1", 1); other.Alike(one) {
		t.Errorf("another bound is alike: %s", other)
	}
}

// The sums follow every change, and a transaction that is not kept leaves none.
func TestDeliveredIsTheSumOfWhatIsThere(t *testing.T) {
	before := holding(map[string]int{"main": 2})
	sums := func(r state.Reader) map[schema.SourceName]int64 {
		out := map[schema.SourceName]int64{}
		for source, bytes := range r.Delivered() {
			out[source] = bytes.Asked
		}
		return out
	}
	was := sums(before)
	tx := before.Begin()
	for _, d := range asked("second", 1) {
		tx.Put(d.Object)
		tx.Delete(schema.KeyOf(d.Object))
		tx.Put(d.Object)
		tx.Revert(schema.KeyOf(d.Object))
	}
	owned := asked("team", 1)[0].Object
	owned.SetOwnerReferences([]metav1.OwnerReference{{Kind: "Deployment", Name: "d", Controller: new(true)}})
	tx.Put(owned)
	moved := state.Edit(before.Get(schema.KeyOf(asked("main", 1)[0].Object)))
	moved.SetAnnotations(map[string]string{schema.AnnotationSource: "other"})
	tx.Put(moved)
	got := sums(tx)
	if got["second"] != was["second"] || got["team"] != was["team"] || got["main"]+got["other"] < 2<<20 || got["other"] < 1<<20 || got["main"] >= was["main"] {
		t.Errorf("%v, was %v", got, was)
	}
	for _, d := range asked("main", 2) {
		tx.Delete(schema.KeyOf(d.Object))
	}
	if got := sums(tx.Commit()); slices.ContainsFunc([]schema.SourceName{"main", "other"}, func(s schema.SourceName) bool { return got[s] > 4<<10+2*schema.KeptRevisions*schema.MaxBriefRevision }) {
		t.Errorf("of what is gone there are %v", got)
	}
	if again := sums(before); fmt.Sprint(again) != fmt.Sprint(was) {
		t.Errorf("the snapshot has %v, had %v", again, was)
	}
}

// replicaSets puts n of a Deployment's, each with pods and a template of 100 KiB: what
// rollouts leave that replaced each other.
func replicaSets(tx *state.Txn, source string, n int) {
	for i := range n {
		tx.Put(&appsv1.ReplicaSet{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "shop", Name: fmt.Sprintf("%s-%d", source, i), Annotations: map[string]string{schema.AnnotationSource: source},
				OwnerReferences: []metav1.OwnerReference{{Kind: "Deployment", Name: "d", Controller: new(true)}},
			},
			Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(1)), Template: templateOf("old")},
		})
	}
}

func templateOf(value string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "localhost/c", Args: []string{value + strings.Repeat("x", 100<<10)}}}}}
}

// A source whose rollouts replace each other before they end can have no more templates
// in what nodes keep than its share, and is told so; another source's new template passes,
// and so does whatever adds no template.
func TestTemplatesThatPileUpAreBounded(t *testing.T) {
	deployment := func(source, value string, replicas int32) []*schema.Desired {
		d := &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: source, Annotations: map[string]string{schema.AnnotationSource: source}},
			Spec:       appsv1.DeploymentSpec{Replicas: &replicas, Template: templateOf(value)},
		}
		return []*schema.Desired{{Object: d, Position: schema.Position{Path: "d.yaml", Line: 1}}}
	}
	const many = schema.MaxKeptBytes / schema.DeclaredShare / (100 << 10) // a declared source's share
	for name, c := range map[string]struct {
		olds   int
		source string
		value  string
		count  int32
		back   bool
		want   string
	}{
		"a few":                         {3, "team", "new", 1, false, ""},
		"as many as fit":                {many - 3, "team", "new", 1, false, ""},
		"one more":                      {many - 1, "team", "new", 1, false, "the objects of source team, which a tree declares, would take "},
		"no template more":              {many + 9, "team", "was", 7, false, ""},
		"back to one that ran":          {many + 9, "team", "new", 1, true, ""},
		"another source's new template": {many + 9, "main", "new", 1, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tx := holding(nil).Begin()
			for _, source := range []string{"main", "team"} {
				tx.Put(deployment(source, "was", 1)[0].Object)
			}
			replicaSets(tx, "team", c.olds)
			compare := Difference
			if c.back {
				compare = DifferenceBack
			}
			_, diags := compare(tx.Commit(), schema.SourceName(c.source), deployment(c.source, c.value, c.count))
			switch {
			case c.want == "" && len(diags) > 0:
				t.Errorf("refused: %v", diags)
			case c.want != "" && (len(diags) != 1 || !strings.HasPrefix(diags[0].Message, c.want) || !strings.Contains(diags[0].Message, "keeps for the master") || diags[0].Path != "d.yaml"):
				t.Errorf("got %v, want %q", diags, c.want)
			case c.want != "" && !diags.WaitForOthers():
				t.Errorf("%v is not judged again, though the templates before it go", diags)
			}
		})
	}
}

// What nodes are told of Services is bounded as well.
func TestServicesAreBounded(t *testing.T) {
	services := func(source string, n int) (out []*schema.Desired) {
		for i := range n {
			s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("%s-%d", source, i), Annotations: map[string]string{schema.AnnotationSource: source}}}
			for p := range 1000 {
				s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprintf("a-long-name-%d", p), Port: 1})
			}
			out = append(out, &schema.Desired{Object: s, Position: schema.Position{Path: "s.yaml", Line: i + 1}})
		}
		return out
	}
	const each = 95 << 10 // about
	most := schema.MaxToldBytes / schema.DeclaredShare / each
	if _, diags := Difference(holding(nil), "team", services("team", most-2)); len(diags) > 0 {
		t.Errorf("refused: %v", diags)
	}
	_, diags := Difference(holding(nil), "team", services("team", most+4))
	if len(diags) != 1 || !strings.Contains(diags[0].Message, "source team") || !strings.Contains(diags[0].Message, "told of Services") {
		t.Errorf("got %v", diags)
	}
}

// endpointsOf are n endpoints of a Service.
func endpointsOf(svc *corev1.Service, n int) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Namespace: svc.Namespace, Name: svc.Name, Annotations: svc.Annotations,
		OwnerReferences: []metav1.OwnerReference{{Kind: string(schema.KindService), Name: svc.Name, UID: svc.UID, Controller: new(true)}},
	}}
	slice.Endpoints = slices.Repeat([]discoveryv1.Endpoint{{Addresses: []string{"10.112.100.100"}}}, n)
	return slice
}

// A Service of a failed tree that selects more pods than nodes can be told of does not
// stand in the way of those that ran before it: what goes with it is not counted. Room
// that others took since is not there.
func TestAFailedTreesEndpointsDoNotKeepFromGoingBack(t *testing.T) {
	service := func(name, selects string, ports int) *corev1.Service {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Annotations: map[string]string{schema.AnnotationSource: "team"}}}
		s.Spec.Selector, s.Spec.Ports = map[string]string{"app": selects}, make([]corev1.ServicePort, ports)
		return s
	}
	asked := func(services ...*corev1.Service) (out []*schema.Desired) {
		for _, s := range services {
			out = append(out, &schema.Desired{Object: s, Position: schema.Position{Path: "s.yaml", Line: 1}})
		}
		return out
	}
	const share = schema.MaxToldBytes / schema.DeclaredShare
	for name, c := range map[string]struct {
		failed  *corev1.Service // all of whose endpoints there are
		asks    []*schema.Desired
		compare func(state.Reader, schema.SourceName, []*schema.Desired) ([]ObjectChange, schema.Diagnostics)
		waits   bool
		refused bool
	}{
		"back from one more":           {service("new", "all", 1), asked(service("old", "some", 1000)), DifferenceBack, false, false},
		"on from one more":             {service("new", "all", 1), asked(service("old", "some", 1000)), Difference, false, false},
		"back from one changed":        {service("web", "all", 1), asked(service("old", "some", 1000), service("web", "some", 1)), DifferenceBack, false, false},
		"on from one changed":          {service("web", "all", 1), asked(service("old", "some", 1000), service("web", "some", 1)), Difference, true, true},
		"one more beside it":           {service("new", "all", 1), asked(service("new", "all", 1), service("old", "some", 1000)), Difference, true, true},
		"too many, whatever goes back": {service("new", "all", 1), asked(service("a", "some", 30000), service("b", "some", 30000)), DifferenceBack, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			tx := holding(nil).Begin()
			tx.Put(c.failed)
			slice := endpointsOf(c.failed, 1)
			tx.Put(endpointsOf(c.failed, int(share/wire.TakesOf(slice).Told)))
			_, diags := c.compare(tx.Commit(), "team", c.asks)
			if diags.HasErrors() != c.refused || diags.WaitForOthers() != c.waits {
				t.Errorf("%v; it waits: %v", diags, diags.WaitForOthers())
			}
		})
	}
}
