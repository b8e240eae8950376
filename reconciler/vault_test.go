package reconciler_test

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler"
	"fairlead/schema"
	"fairlead/schema/load"
)

// Objects are shared by the trees they did not change between: what was loaded
// stays as it was loaded.
func TestSealingLeavesWhatWasLoaded(t *testing.T) {
	const text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: sesame}\n"
	blob := &schema.Blob{Hash: "h", Size: int64(len(text)), Open: func() ([]byte, error) { return []byte(text), nil }}
	tree := schema.Tree{Commit: schema.Commit{Hash: "1"}, Files: []schema.File{{Path: "all.yaml", Blob: blob}}}
	cache := load.NewCache(0)
	vault := reconciler.NewVault([]byte("k"))
	password := func(d *schema.Desired) string { return string(d.Object.(*corev1.Secret).Data["password"]) }
	for range 2 {
		loaded := load.Load(context.Background(), tree, schema.SourceSpec{}, load.Options{Source: "main", Cache: cache}).Objects
		sealed := vault.Seal(loaded)
		if got := password(loaded[1]); got != "sesame" {
			t.Errorf("the Secret that was loaded has become %q", got)
		}
		if got := password(sealed[1]); got == "sesame" || len(sealed) != 2 || sealed[0] != loaded[0] || sealed[1].Position != loaded[1].Position {
			t.Errorf("sealed: %v %v, password %q", sealed[0], sealed[1], got)
		}
		if values, ok := vault.Open(sealed[1].Object.(*corev1.Secret)); !ok || string(values["password"]) != "sesame" {
			t.Errorf("opened: %s %t", values, ok)
		}
	}
}
