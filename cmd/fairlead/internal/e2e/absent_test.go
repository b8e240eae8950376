package e2e

import (
	"strings"
	"testing"
	"time"
)

// absentTimeout is for a revision to stall, and to get well, on a busy machine.
const absentTimeout = 2 * time.Minute

// A source that waits for what is missing has its pods wait for a Secret and a ConfigMap
// that another source brings later, in a namespace that was made for them: its revision
// is Stalled meanwhile, never Failed, and becomes Healthy by itself.
func testWhatIsAbsentIsWaitedFor(t *testing.T) {
	c, w := shared, shared.clone(t)
	w.write(t, map[string]string{"absent.yaml": `apiVersion: fairlead/v1
kind: Source
metadata: {name: absent}
spec: {embedded: true, namespace: absent, createNamespaces: true, missingReferences: wait, clusterKinds: [Namespace], progressDeadline: 1s}
`})
	w.pushHealthy(t, "a source that waits")
	late := c.cloneOf(t, "absent")
	late.write(t, map[string]string{"pods.yaml": absentPod("env", "envFrom: [{secretRef: {name: credentials}}]", "") +
		"---\n" + absentPod("file", "volumeMounts: [{name: v, mountPath: /v}]", "volumes: [{name: v, configMap: {name: settings}}]")})
	if out, err := late.push(t, "pods without what they need", "-o", "nowait"); err != nil || !strings.Contains(out, "no Secret absent/credentials is declared: pods wait") {
		t.Fatalf("%v\n%s", err, out)
	}
	status := func() string {
		text, _ := c.fairlead(t, "status", "--source", "absent", "--kubeconfig", c.Kubeconfig)
		return text
	}
	eventually(t, absentTimeout, "the revision waits", func() (bool, string) {
		text := status()
		return strings.Contains(strings.ToLower(text), "stalled") && strings.Contains(text, "not found"), text
	})
	if text, code := c.fairlead(t, "why", "--kubeconfig", c.Kubeconfig, "-n", "absent", "-o", "json", "pod/env"); code != 0 || !strings.Contains(text, "ReferenceMissing") {
		t.Errorf("why: exit %d: %s", code, text)
	}
	w.write(t, map[string]string{"absent-secret.yaml": `apiVersion: v1
kind: Secret
metadata: {name: credentials, namespace: absent}
stringData: {A: a}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: absent}
data: {a: a}
`})
	w.pushHealthy(t, "bring what was absent")
	if text, code := c.fairlead(t, "status", "--wait", "--source", "absent", "--kubeconfig", c.Kubeconfig); code != 0 {
		t.Errorf("what waited is not well: exit %d\n%s", code, text)
	}
}

// absentPod stands on one node: of others plans say that they may be lost.
func absentPod(name, container, spec string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\nspec:\n  nodeSelector: {kubernetes.io/hostname: n1}\n  containers: [{name: c, image: " + witnessImage + ", imagePullPolicy: Never, " + container + "}]\n  terminationGracePeriodSeconds: 1\n  " + spec + "\n"
}
