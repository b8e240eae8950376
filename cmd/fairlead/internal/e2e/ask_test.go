package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/schema"
)

// nodeConditions is what the API says of each node's readiness.
func (c *cluster) nodeConditions(t *testing.T) (map[string]corev1.ConditionStatus, error) {
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	nodes, _, err := client.List[*corev1.Node](ctx, c.api, schema.KindNode)
	if err != nil {
		return nil, err
	}
	out := make(map[string]corev1.ConditionStatus)
	for _, n := range nodes {
		for _, condition := range n.Status.Conditions {
			if condition.Type == corev1.NodeReady {
				out[n.Name] = condition.Status
			}
		}
	}
	return out, nil
}

// podsByUID is every pod that the API knows.
func (c *cluster) podsByUID(t *testing.T) (map[string]*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	all, _, err := client.List[*corev1.Pod](ctx, c.api, schema.KindPod)
	if err != nil {
		return nil, err
	}
	out := make(map[string]*corev1.Pod)
	for _, p := range all {
		out[string(p.UID)] = p
	}
	return out, nil
}

// placements is where pods that stay are, "namespace/name" to node.
func (c *cluster) placements(t *testing.T) map[string]string {
	t.Helper()
	pods, err := c.podsByUID(t)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for _, p := range pods {
		if p.DeletionTimestamp == nil {
			out[p.Namespace+"/"+p.Name] = p.Spec.NodeName
		}
	}
	return out
}

// awaitRest waits until no pod is on its way out.
func (c *cluster) awaitRest(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, "no pod is on its way out", func() (bool, string) {
		pods, err := c.podsByUID(t)
		if err != nil {
			return false, err.Error()
		}
		for _, p := range pods {
			if p.DeletionTimestamp != nil {
				return false, fmt.Sprintf("%s/%s on %s", p.Namespace, p.Name, p.Spec.NodeName)
			}
		}
		return true, ""
	})
}

// foretold is where pods will be once the work tree is applied, as `fairlead
// plan` says it.
func (c *cluster) foretold(t *testing.T, w worktree) map[string]string {
	t.Helper()
	out, code := c.fairlead(t, "plan", "--kubeconfig", c.Kubeconfig, "-o", "json", w.dir)
	if code != 0 {
		t.Fatalf("plan: exit %d: %s", code, out)
	}
	var p struct {
		Pods []struct{ Action, Namespace, Name, Node string }
	}
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatalf("plan printed %q: %v", out, err)
	}
	after := c.placements(t)
	for _, pod := range p.Pods {
		switch name := pod.Namespace + "/" + pod.Name; pod.Action {
		case "start":
			after[name] = pod.Node
		case "stop":
			delete(after, name)
		default:
			t.Fatalf("plan: pod %s: action %q", name, pod.Action)
		}
	}
	return after
}

// differences holds two placements against each other.
func differences(got, want map[string]string) (out []string) {
	for _, name := range sorted(want) {
		if got[name] != want[name] {
			out = append(out, fmt.Sprintf("%s is on %q, not on %q", name, got[name], want[name]))
		}
	}
	for _, name := range sorted(got) {
		if _, ok := want[name]; !ok {
			out = append(out, fmt.Sprintf("%s is on %q, and should not be", name, got[name]))
		}
	}
	return out
}

// revision is what the API says of a commit of the source main.
func (c *cluster) revision(t *testing.T, commit schema.Commit) *schema.Revision {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	rev, err := client.Get[*schema.Revision](ctx, c.api, schema.KindRevision, "", string(schema.RevisionOf("main", commit)))
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// source is the source main.
func (c *cluster) source(t *testing.T) *schema.Source {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	src, err := client.Get[*schema.Source](ctx, c.api, schema.KindSource, "", "main")
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// head is the work tree's commit.
func (w worktree) head(t *testing.T) schema.Commit {
	t.Helper()
	return schema.Commit(strings.TrimSpace(w.git(t, "rev-parse", "HEAD")))
}

// pushHealthy pushes and wants the rollout to end well.
func (w worktree) pushHealthy(t *testing.T, subject string) {
	t.Helper()
	out, err := w.push(t, subject)
	if err != nil || !strings.Contains(out, "remote: HEALTHY main-") {
		t.Fatalf("push %q: %v\n%s", subject, err, out)
	}
}

// why asks `fairlead why` for the code of an object, "KIND/NAME" in the lab where
// that kind has a namespace.
func (c *cluster) why(t *testing.T, object string) (code, whole string) {
	t.Helper()
	out, exit := c.fairlead(t, "why", "--kubeconfig", c.Kubeconfig, "-n", lab, "-o", "json", object)
	if exit != 0 {
		return "", out
	}
	var chain struct{ Code string }
	if err := json.Unmarshal([]byte(out), &chain); err != nil {
		t.Fatalf("why %s printed %q: %v", object, out, err)
	}
	return chain.Code, out
}

// awaitWhy waits until the cause of an object is told.
func (c *cluster) awaitWhy(t *testing.T, timeout time.Duration, object, code string) {
	t.Helper()
	eventually(t, timeout, object+" is "+code, func() (bool, string) {
		got, whole := c.why(t, object)
		return got == code, whole
	})
}

// one is the only pod of a workload in the lab.
func (c *cluster) one(t *testing.T, app string) *corev1.Pod {
	t.Helper()
	pods := staying(c.pods(t, lab, "app", app))
	if len(pods) != 1 {
		t.Fatalf("%d pods of %s, want one", len(pods), app)
	}
	return pods[0]
}

// serviceAddress is the cluster address of a service.
func (c *cluster) serviceAddress(t *testing.T, namespace, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	svc, err := client.Get[*corev1.Service](ctx, c.api, schema.KindService, namespace, name)
	if err != nil {
		t.Fatal(err)
	}
	return svc.Spec.ClusterIP
}
