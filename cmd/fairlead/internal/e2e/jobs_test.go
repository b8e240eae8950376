package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
)

// jobTimeout is for a few pods that start and end on a busy machine.
const jobTimeout = 2 * time.Minute

// Jobs run in parallel and by index, fail by their rules and deadlines, are suspended and
// resumed; a CronJob runs by its clock. Nothing that is done runs again when the
// master does.
func testJobs(t *testing.T) {
	c, w := shared, shared.clone(t)
	w.write(t, map[string]string{
		"jobs/namespace.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: jobs}\n",
		"jobs/parts.yaml":     jobYAML("parts", "completions: 3, parallelism: 3, completionMode: Indexed", "finish, '0'"),
		"jobs/later.yaml":     jobYAML("later", "suspend: true", "finish, '0'"),
		"jobs/cron.yaml":      cronYAML("tick", "", "finish, '0'"),
		"jobs/late.yaml":      cronYAML("late", "activeDeadlineSeconds: 2, ", ""), // its pods run on
	})
	w.pushHealthy(t, "jobs that succeed")
	parts := c.job(t, "parts")
	if s := parts.Status; s.Succeeded != 3 || s.CompletedIndexes != "0-2" {
		t.Errorf("parts: %+v", s)
	}
	if s := c.job(t, "later").Status; s.Active+s.Succeeded != 0 {
		t.Errorf("a suspended Job ran: %+v", s)
	}

	c.awaitDaemon(t, "master", c.killDaemon(t, "master"))
	w.write(t, map[string]string{"jobs/bad.yaml": jobYAML("bad", "backoffLimit: 3, podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [42]}}]}", "finish, '42'")})
	eventually(t, jobTimeout, "the master takes the failing Jobs", func() (bool, string) {
		out, err := w.push(t, "jobs that fail", "-o", "nowait")
		return err == nil, out
	})
	eventually(t, jobTimeout, "the failed Jobs took their revision back", func() (bool, string) {
		text, _ := c.fairlead(t, "status", "--kubeconfig", c.Kubeconfig)
		return strings.Contains(text, "RolledBack") || strings.Contains(text, "rolled back"), text
	})
	if after := c.job(t, "parts"); after.UID != parts.UID || after.Status.Succeeded != 3 || !after.Status.CompletionTime.Equal(parts.Status.CompletionTime) {
		t.Errorf("a Job that was done is another one: %+v, then %+v", parts.Status, after.Status)
	}
	eventually(t, jobTimeout, "a run of the CronJob", func() (bool, string) {
		text, _ := c.fairlead(t, "kubectl", "--kubeconfig", c.Kubeconfig, "-n", "jobs", "get", "cronjob", "tick", "-o", "jsonpath={.status.lastSuccessfulTime}")
		return text != "", text
	})
	eventually(t, jobTimeout, "a run is ended at its deadline", func() (bool, string) {
		text, _ := c.fairlead(t, "kubectl", "--kubeconfig", c.Kubeconfig, "-n", "jobs", "get", "jobs", "-l", "run=late", "-o",
			`jsonpath={range .items[*]}{.status.active}{.status.failed} {.status.conditions[?(@.type=="Failed")].reason}{"\n"}{end}`)
		return strings.Contains(text, "1 DeadlineExceeded\n"), text
	})
	w.write(t, map[string]string{"jobs/parts.yaml": "", "jobs/cron.yaml": "", "jobs/late.yaml": "", "jobs/bad.yaml": "", "jobs/later.yaml": jobYAML("later", "suspend: false", "finish, '0'")})
	w.pushHealthy(t, "resume the one, remove the others\n\nFairlead-Allow-Prune: 100")
	if s := c.job(t, "later").Status; s.Succeeded != 1 {
		t.Errorf("a resumed Job: %+v", s)
	}
}

func (c *cluster) job(t *testing.T, name string) (job batchv1.Job) {
	t.Helper()
	text, code := c.fairlead(t, "kubectl", "--kubeconfig", c.Kubeconfig, "-n", "jobs", "get", "job", name, "-o", "json")
	if err := json.Unmarshal([]byte(text), &job); code != 0 || err != nil {
		t.Fatalf("job %s: exit %d, %v: %s", name, code, err, text)
	}
	return job
}

func jobYAML(name, spec, args string) string {
	return fmt.Sprintf("apiVersion: batch/v1\nkind: Job\nmetadata: {name: %s, namespace: jobs}\nspec: {%s, template: {spec: %s}}\n", name, spec, jobPod(args))
}

func cronYAML(name, spec, args string) string {
	return fmt.Sprintf(`apiVersion: batch/v1
kind: CronJob
metadata: {name: %[1]s, namespace: jobs}
spec: {schedule: "@every 5s", concurrencyPolicy: Forbid, jobTemplate: {metadata: {labels: {run: %[1]s}}, spec: {%[2]stemplate: {spec: %[3]s}}}}
`, name, spec, jobPod(args))
}

func jobPod(args string) string {
	return fmt.Sprintf("{restartPolicy: Never, terminationGracePeriodSeconds: 1, containers: [{name: c, image: %q, imagePullPolicy: Never, args: [%s]}]}", witnessImage, args)
}
