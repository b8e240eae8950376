package wire

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

func config(change func(*corev1.ConfigMap)) *corev1.ConfigMap {
	c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "config"}, Data: map[string]string{"a": "<&>\x00 世"}}
	change(c)
	return c
}

func TestStorable(t *testing.T) {
	year := func(y int) metav1.Time { return metav1.NewTime(time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC)) }
	rev := func(at metav1.Time) *schema.Revision {
		return &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "main-0123"}, Spec: schema.RevisionSpec{Source: "main", Time: at}}
	}
	for name, c := range map[string]struct {
		obj  schema.Object
		want string // of the error, "" for none
	}{
		"as it should be":        {config(func(*corev1.ConfigMap) {}), ""},
		"value over the bound":   {config(func(c *corev1.ConfigMap) { c.Data["b"] = strings.Repeat("x", MaxObjectBytes) }), "bytes as stored"},
		"value at the bound":     {config(func(c *corev1.ConfigMap) { c.Data["b"] = strings.Repeat("x", MaxObjectBytes-200) }), ""},
		"value that is no UTF-8": {config(func(c *corev1.ConfigMap) { c.Data["b"] = "\xff" }), "not be read back"},
		"key that is no UTF-8":   {config(func(c *corev1.ConfigMap) { c.Data["\xff"] = "b" }), "not be read back"},
		"name with a slash":      {config(func(c *corev1.ConfigMap) { c.Name = "a/b" }), "slash"},
		"no name":                {config(func(c *corev1.ConfigMap) { c.Name = "" }), "must be given"},
		"made in the year 9999":  {config(func(c *corev1.ConfigMap) { c.CreationTimestamp = year(9999) }), ""},
		"made in the year 10000": {config(func(c *corev1.ConfigMap) { c.CreationTimestamp = year(10000) }), "read it as JSON"},
		"commit of 9999":         {rev(year(9999)), ""},
		"commit of 10000":        {rev(year(10000)), "read it back"},
		"commit of -5":           {rev(year(-5)), "read it back"},
		"commit without a date":  {rev(metav1.Time{}), ""},
		"author in Latin-1":      {&schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: schema.RevisionSpec{Author: "Ren\xe9"}}, "not be read back"},
	} {
		schema.SetTypeMeta(c.obj)
		err := CheckStorable(c.obj)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// What random objects of every kind hold comes back, and their size is known before
// they are encoded.
func TestSizesAreThoseEncoded(t *testing.T) {
	for _, info := range schema.Kinds() {
		for seed := range int64(20) {
			obj := info.New()
			filler(seed).Fill(obj)
			schema.SetTypeMeta(obj)
			data, err := EncodeObject(obj)
			if err != nil || len(data) != EncodedSize(obj) {
				t.Errorf("%s, seed %d: %d bytes are encoded as %d: %v", info.Kind, seed, EncodedSize(obj), len(data), err)
			}
		}
	}
}

// A revision that has all that it may have, in characters that take most room as JSON,
// is still one record.
func TestTheFullestRevisionFits(t *testing.T) {
	text := func(n int) string { return strings.Repeat("<", n) }
	rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "main-0123456789ab"}, Spec: schema.RevisionSpec{Source: "main", Author: text(schema.MaxCommitText), Subject: text(schema.MaxCommitText)}}
	for i := range 2 * schema.MaxPhaseRecords {
		rev.Enter([]schema.Phase{schema.PhaseStalled, schema.PhaseRollingOut}[i%2], metav1.Time{}, text(300)) // of ours, quoting others
	}
	placements := map[string]schema.NodeName{}
	for i := range 60_000 {
		placements[fmt.Sprintf("shop/api-57hdb4jfcl-%05d-x", i)] = "node-of-some-length"
	}
	rev.Status.Placements = schema.FitPlacements(placements)
	var ds schema.Diagnostics
	var evidence []schema.Evidence
	for range 200 {
		ds = append(ds, schema.Diagnostic{Message: text(900)})
		e := schema.Evidence{Pod: "shop/" + text(250), Workload: text(300), Container: text(63), Code: "CrashLoop", Reason: text(2000), Exit: &schema.EvidenceExit{Message: text(2000)}, Probe: &schema.EvidenceProbe{Answer: text(2000)}}
		for range 100 {
			e.Log = append(e.Log, text(1000))
		}
		evidence = append(evidence, e)
	}
	rev.Status.Diagnostics, rev.Status.Evidence = ds.Fit(), schema.FitEvidence(evidence)
	if err := CheckRecord(rev); err != nil {
		t.Error(err)
	}
}

// A pod is measured as its node gets it: a control character takes one byte as stored and
// six as JSON. What is far too small is not written out at all.
func TestAPodIsMeasuredAsItsNodeGetsIt(t *testing.T) {
	deployment := func(arg string) *appsv1.Deployment {
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "d"}}
		d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Args: []string{arg}}}
		return d
	}
	const sixth = schema.MaxPodBytes / 6
	for _, c := range []struct {
		arg  string
		fits bool
	}{
		{"x", true},
		{strings.Repeat("x", schema.MaxPodBytes-1<<10), true},
		{strings.Repeat("x", schema.MaxPodBytes+originRoom), false},
		{strings.Repeat("\x01", sixth-1<<10), true},
		{strings.Repeat("\x01", sixth+originRoom), false},
	} {
		if err := CheckDesired(deployment(c.arg)); (err == nil) != c.fits {
			t.Errorf("a pod with an argument of %d bytes: %v", len(c.arg), err)
		}
	}
	if n := PodBytes(deployment("x")); n != 0 {
		t.Errorf("a small pod is written out: %d bytes", n)
	}
	if err := CheckDesired(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Data: map[string]string{"k": strings.Repeat("x", 1<<20)}}); err != nil {
		t.Errorf("a large object that makes no pods: %v", err)
	}
}
