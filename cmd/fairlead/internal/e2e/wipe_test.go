package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/schema"
)

// The master's store goes while one node is silent: nothing is decided until it
// speaks. Then everything is as it was, and the next push rolls.
func testWipedStore(t *testing.T, c *cluster, w worktree) {
	w.write(t, probedOften(shopTree(t, "v1")))
	if out, err := w.push(t, "shop: v1, before the loss"); err != nil || !strings.Contains(out, "remote: HEALTHY main-") {
		t.Fatalf("push: %v\n%s", err, out)
	}
	c.awaitRest(t)
	containers, rules, identities := c.truth(), c.allRules(t), c.identities(t)

	var traffic sync.WaitGroup
	stop, failures := make(chan struct{}), make(chan error, 1)
	traffic.Go(func() { failures <- ceaselessly(nodePort(c.Nodes[2].Address), stop) })
	silent := c.daemon(t, "n2/agent")
	if err := unix.Kill(silent, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	awake := sync.OnceFunc(func() { _ = unix.Kill(silent, unix.SIGCONT) })
	t.Cleanup(awake)
	c.loseStore(t)

	eventually(t, time.Minute, "the master waits for n2 alone", func() (bool, string) {
		out, code := c.fairlead(t, "status", "--kubeconfig", c.Kubeconfig)
		return code != 0 && strings.Contains(out, "the store was lost and is recovered from the nodes: waiting for n2\n"), out
	})
	if got, whole := c.why(t, "deployment/api"); got != "Recovering" {
		t.Errorf("a deployment of the lost cluster is %s, not Recovering: %s", got, whole)
	}
	w.write(t, probedOften(shopTree(t, "v2")))
	if out, err := w.push(t, "shop: v2, too early"); err == nil || !strings.Contains(out, "waiting for n2") {
		t.Errorf("a push to a master that knows nothing: %v\n%s", err, out)
	}
	if changed := changes(containers, c.truth()); len(changed) > 0 {
		t.Errorf("while n2 is silent:\n%s", strings.Join(changed, "\n"))
	}

	awake()
	if err := c.up(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(identities, c.identities(t)); diff != "" {
		t.Errorf("the cluster after the loss (-before +after):\n%s", diff)
	}
	if changed := changes(containers, c.truth()); len(changed) > 0 {
		t.Errorf("after the loss:\n%s", strings.Join(changed, "\n"))
	}
	if diff := cmp.Diff(rules, c.allRules(t)); diff != "" {
		t.Errorf("nft tables after the loss (-before +after):\n%s", diff)
	}
	planned := c.plan(t, w)
	out, err := w.push(t, "shop: v2")
	if err != nil || !strings.Contains(out, "remote: HEALTHY main-") {
		t.Fatalf("push after the loss: %v\n%s", err, out)
	}
	c.checkPlacements(t, planned)
	close(stop)
	traffic.Wait()
	if err := <-failures; err != nil {
		t.Errorf("meanwhile: %v", err)
	}
	if body, err := getFromHost(nodePort(c.Nodes[0].Address)); err != nil || !strings.Contains(body, "web v2") {
		t.Errorf("after the rollout: %v %s", err, body)
	}
}

// loseStore takes the store from under the running master and kills it; the
// supervisor starts the next one.
func (c *cluster) loseStore(t *testing.T) {
	t.Helper()
	pid := c.daemon(t, "master")
	if err := os.Rename(filepath.Join(c.dir, "etcd"), filepath.Join(c.dir, "etcd.lost")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Join(c.dir, "etcd.lost")) })
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// identities is what of the cluster's objects must outlive the store.
func (c *cluster) identities(t *testing.T) map[string]string {
	t.Helper()
	out := make(map[string]string)
	maps.Copy(out, told(t, c, schema.KindPod, func(p *corev1.Pod) string {
		return fmt.Sprint(p.Spec.NodeName, " ", p.Status.PodIP, " epoch ", p.Annotations[schema.AnnotationEpoch])
	}))
	maps.Copy(out, told(t, c, schema.KindService, func(s *corev1.Service) string {
		return fmt.Sprint(s.Spec.ClusterIP, " ", s.Spec.Ports[0].NodePort)
	}))
	maps.Copy(out, told(t, c, schema.KindDeployment, func(d *appsv1.Deployment) string {
		return fmt.Sprint("generation ", d.Generation, " available ", d.Status.AvailableReplicas)
	}))
	maps.Copy(out, told(t, c, schema.KindReplicaSet, func(r *appsv1.ReplicaSet) string {
		return fmt.Sprint(*r.Spec.Replicas, " replicas, made ", r.Annotations[schema.AnnotationSequence])
	}))
	maps.Copy(out, told(t, c, schema.KindNode, func(n *corev1.Node) string { return n.Spec.PodCIDR }))
	maps.Copy(out, told(t, c, schema.KindNamespace, func(*corev1.Namespace) string { return "" }))
	maps.Copy(out, told(t, c, schema.KindSource, func(s *schema.Source) string {
		return fmt.Sprintf("applied %v desired %v", s.Status.Applied, s.Status.Desired)
	}))
	maps.Copy(out, told(t, c, schema.KindRevision, func(r *schema.Revision) string {
		return fmt.Sprint(r.Status.Phase, " quarantined ", r.Status.Quarantined)
	}))
	return out
}

func told[T schema.Object](t *testing.T, c *cluster, kind schema.Kind, tell func(T) string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	all, _, err := client.List[T](ctx, c.api, kind)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for _, obj := range all {
		if obj.GetDeletionTimestamp() == nil {
			out[schema.KeyOf(obj).String()] = fmt.Sprint(obj.GetUID(), " ", tell(obj))
		}
	}
	return out
}
