package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/schema"
)

func TestNodesAreReady(t *testing.T) {
	nodes, _, err := client.List[*corev1.Node](t.Context(), shared.api, schema.KindNode)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range nodes {
		for _, condition := range n.Status.Conditions {
			if condition.Type == corev1.NodeReady {
				got = append(got, fmt.Sprintf("%s Ready=%s", n.Name, condition.Status))
			}
		}
	}
	if want := "[n1 Ready=True n2 Ready=True n3 Ready=True]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestUpAgainChangesNothing(t *testing.T) {
	before, err := shared.daemons()
	if err != nil {
		t.Fatal(err)
	}
	first := fmt.Sprint(shared.result)
	if err := shared.up(); err != nil {
		t.Fatal(err)
	}
	if again := fmt.Sprint(shared.result); again != first {
		t.Errorf("printed %s, before %s", again, first)
	}
	after, err := shared.daemons()
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("daemons %v, before %v", after, before)
	}
}

func TestAnotherNumberOfNodesIsRefused(t *testing.T) {
	err := (&cluster{dir: shared.dir, home: shared.home}).up("--nodes", "5")
	if err == nil || !strings.Contains(err.Error(), "holds a cluster of 3 nodes, not 5") {
		t.Errorf("got %v", err)
	}
}

// Two clusters live side by side; taking one down leaves the other alone.
func TestTwoClusters(t *testing.T) {
	work := t.TempDir()
	second := &cluster{dir: filepath.Join(work, "up"), home: filepath.Join(work, "home")}
	defer func() {
		if err := second.downClean(); err != nil {
			t.Error(err)
		}
		if err := shared.up(); err != nil {
			t.Errorf("the first cluster after the second went: %v", err)
		}
	}()
	if err := second.up("--nodes", "1"); err != nil {
		t.Fatal(err)
	}
	if second.slot == shared.slot || second.API == shared.API || second.Nodes[0].Address == shared.Nodes[0].Address {
		t.Errorf("two clusters share: %+v and %+v", second.result, shared.result)
	}
}
