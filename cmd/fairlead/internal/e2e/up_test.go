package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/schema"
)

func testNodesAreReady(t *testing.T) {
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

func testUpAgainChangesNothing(t *testing.T) {
	before, err := shared.daemons()
	if err != nil {
		t.Fatal(err)
	}
	where := func() string {
		r := shared.result
		r.NotServing = nil // what tests before this one left is not what is asked here
		return fmt.Sprint(r)
	}
	first := where()
	if err := shared.up(); err != nil {
		t.Fatal(err)
	}
	if again := where(); again != first {
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

func testAnotherNumberOfNodesIsRefused(t *testing.T) {
	err := (&cluster{dir: shared.dir, home: shared.home}).up("--nodes", "5")
	if err == nil || !strings.Contains(err.Error(), "holds a cluster of 3 nodes, not 5") {
		t.Errorf("got %v", err)
	}
}

// Two clusters live side by side; taking one down leaves the other alone.
func testTwoClusters(t *testing.T) {
	first, second := freshIn(t, 1, -1), fresh(t, 1)
	if second.slot == first.slot || second.API == first.API || second.Nodes[0].Address == first.Nodes[0].Address {
		t.Errorf("two clusters share: %+v and %+v", second.result, first.result)
	}
	before, err := first.daemons()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("down and up is a boot", func(t *testing.T) { downAndUp(t, second) })
	if err := second.downClean(); err != nil {
		t.Fatal(err)
	}
	if err := first.up(); err != nil {
		t.Errorf("the first cluster after the second went: %v", err)
	}
	if after, err := first.daemons(); err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("daemons of the first are %v, were %v: %v", after, before, err)
	}
}

// staysPort is where the deployment that stays up answers on every node.
const staysPort = `apiVersion: v1
kind: Service
metadata: {name: stays}
spec: {type: NodePort, selector: {app: stays}, ports: [{port: 80, targetPort: 8080, nodePort: %d}]}
`

// twoWitnesses are a deployment that stays up, and one that ends at once, again and again.
const twoWitnesses = `apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      containers: [{name: c, image: "%[2]s", imagePullPolicy: Never, command: [%[3]s]}]
`

// downAndUp takes a cluster down and up again, twice within moments. What it stopped has
// not crashed: it is restarted once each time and waits for nothing, and nothing is told
// to run that does not. Up returns when what ran serves again, and does not wait for what
// did not run. What a person wrote into the configurations stays.
func downAndUp(t *testing.T, c *cluster) {
	w := c.clone(t)
	w.write(t, map[string]string{
		"stays.yaml": fmt.Sprintf(twoWitnesses, "stays", witnessImage, "/witness"),
		"port.yaml":  fmt.Sprintf(staysPort, witnessNodePort),
		"ends.yaml":  fmt.Sprintf(twoWitnesses, "ends", witnessImage, "/witness, -need, /nothing"),
	})
	if out, err := w.push(t, "one that stays and one that ends", "-o", "nowait"); err != nil {
		t.Fatalf("push: %v\n%s", err, out)
	}
	container := func(app string) corev1.ContainerStatus {
		pods := staying(c.pods(t, "default", "app", app))
		if len(pods) != 1 || len(pods[0].Status.ContainerStatuses) != 1 {
			return corev1.ContainerStatus{}
		}
		return pods[0].Status.ContainerStatuses[0]
	}
	eventually(t, returnTimeout, "one runs and the other is in back-off", func() (bool, string) {
		return container("stays").Ready && container("ends").RestartCount > 0, fmt.Sprintf("%+v", container("ends").State)
	})
	notes := map[string]string{filepath.Join(c.dir, "config.yaml"): "# ours\n", filepath.Join(c.dir, "nodes/n1/config.yaml"): "# ours too\n"}
	for path, note := range notes {
		appendTo(t, path, note)
	}
	before := container("stays")
	for round := range int32(2) {
		if err := c.downClean(); err != nil {
			t.Fatal(err)
		}
		if err := c.up(); err != nil {
			t.Fatal(err)
		}
		returned := time.Now()
		now := container("stays")
		if !now.Ready || now.ContainerID == before.ContainerID || strings.Contains(fmt.Sprint(c.NotServing), "stays") {
			t.Errorf("round %d: up returned with %+v (before %s), not serving %q", round, now, before.ContainerID, c.NotServing)
		}
		eventually(t, returnTimeout, "it answers again", func() (bool, string) {
			_, err := getFromHost(witnessAt(c.Nodes[0].Address))
			return err == nil, fmt.Sprint(err)
		})
		t.Logf("round %d: it answered %s after up had returned", round, time.Since(returned))
		if last := now.LastTerminationState.Terminated; now.RestartCount != round+1 || last == nil || last.Reason != schema.ReasonNodeRebooted {
			t.Errorf("round %d: %d restarts, last end %+v", round, now.RestartCount, last)
		}
		before = now
	}
	for path, note := range notes {
		if data, err := os.ReadFile(path); err != nil || strings.Count(string(data), note) != 1 {
			t.Errorf("%s: %v\n%s", path, err, data)
		}
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}
