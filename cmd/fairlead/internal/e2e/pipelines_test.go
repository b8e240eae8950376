package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

const (
	pipelinesPage    = "docs/continuous-integration.md"
	pullRequestsPage = "docs/pull-requests.md"
	pipelineTimeout  = 5 * time.Minute
)

// The pages about pipelines and pull requests say what a forge is to run: all that they
// say is taken from their text and run as forges do, in clones as runners make them and
// with a reader's kubeconfig. A section whose commands nobody runs fails.
func testPipelines(t *testing.T) {
	f := newForge(t, shared)
	f.runSection(t, pipelinesPage, "Credentials", f.dir, 0)
	f.kubeconfig = filepath.Join(f.dir, "ci.kubeconfig")
	if info, err := os.Stat(f.kubeconfig); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the reader's kubeconfig: %v, %v", info, err)
	}
	for i, pipeline := range []struct {
		section string
		read    func(t *testing.T, text string) map[string][]step
	}{
		{"GitHub Actions", readWorkflow},
		{"GitLab CI", readGitLab},
		{"Forgejo and Gitea Actions", readWorkflow},
	} {
		t.Run(pipeline.section, func(t *testing.T) { f.runPipeline(t, i, pipeline.read(t, f.fenced(t, pipeline.section))) })
	}
	t.Run("a pull request in a shallow clone", f.pullRequest)
	t.Run("going back", f.goBack)
	t.Run("an embedded remote", f.pushEmbedded)
	f.allRun(t)
}

// forge is a repository elsewhere that a source follows, and what a forge's pipelines
// call of it.
type forge struct {
	c          *cluster
	dir        string // of all below
	repo       string
	work       worktree
	url        string // of the forge's API
	tools      string // programs in front of the PATH
	kubeconfig string // of the reader that pipelines are
	posted     chan string
	pages      map[string]string
	ran        map[string]bool // "page, section"
}

// forgeToken is what pipelines authenticate to the forge with.
const forgeToken = "a-token-of-the-forge"

func newForge(t *testing.T, c *cluster) *forge {
	t.Helper()
	f := &forge{c: c, dir: t.TempDir(), posted: make(chan string, 1), pages: map[string]string{}, ran: map[string]bool{}}
	for _, page := range []string{pipelinesPage, pullRequestsPage} {
		text, err := os.ReadFile(filepath.Join(repositoryRoot, page))
		if err != nil {
			t.Fatal(err)
		}
		f.pages[page] = strings.ReplaceAll(string(text), "--source main", "--source forge")
	}
	server := httptest.NewServer(http.HandlerFunc(f.comment))
	t.Cleanup(server.Close)
	f.url, f.tools = server.URL, filepath.Join(f.dir, "tools")
	f.writeTools(t)
	f.repo = filepath.Join(f.dir, "shop.git")
	w := c.clone(t)
	w.git(t, "init", "--quiet", "--bare", "--initial-branch=main", f.repo)
	other := *c
	other.Git = "file://" + f.repo
	f.work = other.clone(t)
	f.change(t, "main", 0)
	f.work.git(t, "push", "--quiet", "origin", "main")
	w.write(t, map[string]string{"forge.yaml": fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: forge}\n---\napiVersion: fairlead/v1\nkind: Source\nmetadata: {name: forge}\nspec: {url: %q, interval: 1s, namespace: forge, namespaces: [forge], healthyFor: 1s}\n", other.Git)})
	w.pushHealthy(t, "follow the forge")
	return f
}

// writeTools writes `gh`, which no host has, and a `fairlead` that finds this cluster's
// master where the page's is the only one of its machine.
func (f *forge) writeTools(t *testing.T) {
	t.Helper()
	worktree{f.tools}.write(t, map[string]string{
		"gh": fmt.Sprintf("#!/bin/sh\n[ \"$1 $2 $3 $4 $5\" = \"pr comment 7 --edit-last --create-if-none\" ] && [ \"$6\" = --body-file ] || exit 64\nexec curl --fail --silent --show-error --header \"Authorization: token $GH_TOKEN\" --form \"body=<$7\" %s/comments\n", f.url),
		"fairlead": fmt.Sprintf("#!/bin/sh\ncase $1 in kubeconfig) exec %[1]s/fairlead \"$@\" --dir %[2]q;; esac\nexec %[1]s/fairlead \"$@\"\n",
			binaries, filepath.Dir(filepath.Dir(f.c.Git))),
	})
	for _, tool := range []string{"gh", "fairlead"} {
		if err := os.Chmod(filepath.Join(f.tools, tool), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// comment takes a comment on a pull request, in the forms that the forges' APIs have.
func (f *forge) comment(w http.ResponseWriter, r *http.Request) {
	body := r.FormValue("body")
	if r.Header.Get("Content-Type") == "application/json" {
		var posted struct{ Body string }
		if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&posted); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = posted.Body
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "token ") + r.Header.Get("Private-Token")
	switch where := strings.TrimPrefix(r.URL.Path, "/api"); {
	case r.Method != http.MethodPost || token != forgeToken:
		http.Error(w, "who are you?", http.StatusUnauthorized)
	case where != "/comments" && where != "/v4/projects/3/merge_requests/7/notes" && where != "/v1/repos/team/shop/issues/7/comments":
		http.NotFound(w, r)
	default:
		f.posted <- body
	}
}

// change commits another turn of a Deployment, whose pod is on n2 where it can be.
func (f *forge) change(t *testing.T, branch string, turn int) (commit string) {
	t.Helper()
	f.work.git(t, "checkout", "--quiet", "-B", branch)
	f.work.write(t, map[string]string{"web.yaml": fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {turn: "%d"}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [n2]}]}}]}}
      containers: [{name: web, image: %q, imagePullPolicy: Never}]
`, turn, witnessImage)})
	f.work.git(t, "add", "--all")
	f.work.git(t, "commit", "--quiet", "-m", fmt.Sprintf("web: turn %d", turn))
	return strings.TrimSpace(f.work.git(t, "rev-parse", "HEAD"))
}

// runPipeline opens a pull request, runs the plan's job in a clone of what it merges to,
// merges it and runs the rollout's job.
func (f *forge) runPipeline(t *testing.T, i int, jobs map[string][]step) {
	t.Helper()
	branch := fmt.Sprintf("change-%d", i)
	commit := f.change(t, branch, i+1)
	f.work.git(t, "push", "--quiet", "origin", branch)
	clone := filepath.Join(f.dir, "runner", branch)
	f.work.git(t, "clone", "--quiet", "file://"+f.repo, clone)
	worktree{clone}.git(t, "checkout", "--quiet", "--detach", "origin/"+branch)
	f.runJob(t, jobs["plan"], clone, commit)
	select {
	case body := <-f.posted:
		plan, err := os.ReadFile(filepath.Join(clone, "plan.md"))
		if err != nil || strings.TrimSpace(body) != strings.TrimSpace(string(plan)) || !strings.HasPrefix(body, "### Fairlead plan: source forge, this tree over ") {
			t.Errorf("posted is %q, planned was %q (%v)", body, plan, err)
		}
	default:
		t.Error("no plan was posted")
	}
	f.work.git(t, "checkout", "--quiet", "main")
	f.work.git(t, "merge", "--quiet", "--ff-only", branch)
	f.work.git(t, "push", "--quiet", "origin", "main")
	said := f.runJob(t, jobs["rollout"], t.TempDir(), commit)
	if !strings.Contains(said, "HEALTHY forge-"+commit[:12]) {
		t.Errorf("the rollout's job says\n%s", said)
	}
}

// step is a shell script that a forge runs.
type step struct {
	script string
	env    map[string]string
}

// readWorkflow takes the steps of each job of GitHub's format.
func readWorkflow(t *testing.T, text string) map[string][]step {
	t.Helper()
	var flow struct {
		On   map[string]any `json:"true"` // as YAML 1.1 reads "on"
		Jobs map[string]struct {
			RunsOn      string            `json:"runs-on"`
			If          string            `json:"if"`
			Permissions map[string]string `json:"permissions"`
			Env         map[string]string `json:"env"`
			Steps       []struct {
				Uses string            `json:"uses"`
				With map[string]int    `json:"with"`
				Run  string            `json:"run"`
				Env  map[string]string `json:"env"`
			} `json:"steps"`
		} `json:"jobs"`
	}
	if err := yaml.UnmarshalStrict([]byte(text), &flow); err != nil {
		t.Fatal(err)
	}
	jobs := map[string][]step{}
	for name, job := range flow.Jobs {
		for _, s := range job.Steps {
			if s.Run == "" {
				continue // what the forge itself does: a checkout
			}
			env := maps.Clone(job.Env)
			if env == nil {
				env = map[string]string{}
			}
			maps.Copy(env, s.Env)
			jobs[name] = append(jobs[name], step{s.Run, env})
		}
	}
	return jobs
}

// readGitLab takes the script of each job of GitLab's format, which is one for all lines.
func readGitLab(t *testing.T, text string) map[string][]step {
	t.Helper()
	var all map[string]json.RawMessage
	if err := yaml.UnmarshalStrict([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	if err := json.Unmarshal(all["variables"], &env); err != nil {
		t.Fatal(err)
	}
	delete(all, "variables")
	jobs := map[string][]step{}
	for name, raw := range all {
		var job struct {
			Rules     []map[string]string
			Script    []string
			Artifacts map[string][]string
		}
		if err := json.Unmarshal(raw, &job); err != nil {
			t.Fatalf("job %s: %v", name, err)
		}
		jobs[name] = []step{{strings.Join(job.Script, "\n"), env}}
	}
	return jobs
}

// expression is what forges of GitHub's kind put in for a text in an environment.
var expression = regexp.MustCompile(`\$\{\{ *([a-z_.A-Z]+) *\}\}`)

// runJob runs a job's steps, each with a shell of its own, and wants each to succeed.
func (f *forge) runJob(t *testing.T, steps []step, dir, commit string) (said string) {
	t.Helper()
	if len(steps) == 0 {
		t.Fatal("the page has no such job")
	}
	text, err := os.ReadFile(f.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	expressions := map[string]string{
		"secrets.FAIRLEAD_KUBECONFIG": string(text), "secrets.GITHUB_TOKEN": forgeToken, "github.token": forgeToken,
		"github.event.number": "7", "github.sha": commit,
	}
	forges := map[string]string{
		"GITHUB_SERVER_URL": f.url, "GITHUB_REPOSITORY": "team/shop", "RUNNER_TEMP": t.TempDir(), "GITHUB_ENV": filepath.Join(t.TempDir(), "env"),
		"FAIRLEAD_KUBECONFIG": f.kubeconfig, "NOTES_TOKEN": forgeToken,
		"CI_API_V4_URL": f.url + "/api/v4", "CI_PROJECT_ID": "3", "CI_MERGE_REQUEST_IID": "7", "CI_COMMIT_SHA": commit,
	}
	for _, s := range steps {
		env := maps.Clone(forges)
		for name, value := range s.env {
			value = expression.ReplaceAllStringFunc(value, func(e string) string {
				known, ok := expressions[expression.FindStringSubmatch(e)[1]]
				if !ok {
					t.Errorf("no forge is known to have %s", e)
				}
				return known
			})
			env[name] = os.Expand(value, func(name string) string { return forges[name] })
		}
		out, code := f.shell(t, dir, s.script, env)
		if code != 0 {
			t.Fatalf("exit %d of\n%s\n%s", code, s.script, out)
		}
		said += out
		for line := range strings.Lines(read(forges["GITHUB_ENV"])) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			forges[name] = value // for the steps that follow
		}
	}
	return said
}

// read is a file's text, "" where there is none.
func read(path string) string {
	text, _ := os.ReadFile(path)
	return string(text)
}

// shell runs a script as forges do: it ends with the first command that fails.
func (f *forge) shell(t *testing.T, dir, script string, env map[string]string) (said string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), pipelineTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-eo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + f.dir, "PATH=" + f.tools + ":" + os.Getenv("PATH"), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org"}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.WaitDelay = callTimeout // what a script started may outlive it
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// section is the text below a heading of a page.
func (f *forge) section(t *testing.T, page, title string) string {
	t.Helper()
	_, text, ok := strings.Cut(f.pages[page], "\n## "+title+"\n")
	if !ok {
		t.Fatalf("%s has no section %q", page, title)
	}
	f.ran[page+", "+title] = true
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// fenced is the YAML of a section.
func (f *forge) fenced(t *testing.T, title string) string {
	t.Helper()
	_, text, ok := strings.Cut(f.section(t, pipelinesPage, title), "```yaml\n")
	text, _, closed := strings.Cut(text, "```")
	if !ok || !closed {
		t.Fatalf("section %q has no YAML", title)
	}
	return text
}

// runSection runs the commands of a section as the reader and wants their exit codes.
func (f *forge) runSection(t *testing.T, page, title, dir string, codes ...int) (said []string) {
	t.Helper()
	commands := indented(f.section(t, page, title))
	if len(commands) != len(codes) {
		t.Fatalf("%s, %s: commands %q, want %d", page, title, commands, len(codes))
	}
	for i, command := range commands {
		out, code := f.shell(t, dir, command, map[string]string{"KUBECONFIG": f.kubeconfig})
		if code != codes[i] {
			t.Errorf("%s, %s: exit %d, want %d, of %s\n%s", page, title, code, codes[i], command, out)
		}
		said = append(said, out)
	}
	return said
}

// indented are the commands of a text.
func indented(text string) (commands []string) {
	for line := range strings.Lines(text) {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			commands = append(commands, strings.TrimSpace(command))
		}
	}
	return commands
}

// allRun wants every section with commands to have been run.
func (f *forge) allRun(t *testing.T) {
	t.Helper()
	for _, page := range slices.Sorted(maps.Keys(f.pages)) {
		for _, text := range strings.Split(f.pages[page], "\n## ")[1:] {
			title, text, _ := strings.Cut(text, "\n")
			has := strings.Contains(text, "```") || !strings.Contains(text, "```") && len(indented(text)) > 0
			if has && !f.ran[page+", "+title] {
				t.Errorf("%s: nobody runs the commands of section %q", page, title)
			}
		}
	}
}

// pullRequest follows the page in a clone of one commit, as runners make them by default.
func (f *forge) pullRequest(t *testing.T) {
	f.change(t, "reviewed", 8) // the branch's tip does not name what main is at
	f.change(t, "reviewed", 9)
	f.work.git(t, "push", "--quiet", "origin", "reviewed")
	clone := t.TempDir()
	f.work.git(t, "clone", "--quiet", "--depth", "1", "--branch", "reviewed", "file://"+f.repo, clone)
	f.runSection(t, pullRequestsPage, "The plan as a comment", clone, 0, 0)
	if plan := read(filepath.Join(clone, "plan.md")); !strings.Contains(plan, "cannot be told: ") || !strings.Contains(plan, "git fetch --unshallow origin main") {
		t.Errorf("the plan in a shallow clone does not say how to get history:\n%s", plan)
	}
	f.runSection(t, pullRequestsPage, "Exit codes", clone, 2, 2, 1)
	f.runSection(t, pipelinesPage, "Shallow clones", clone, 0)
	f.runSection(t, pullRequestsPage, "The plan as a comment", clone, 0, 0)
	if plan := read(filepath.Join(clone, "plan.md")); !strings.HasPrefix(plan, "### Fairlead plan: ") || strings.Contains(plan, "cannot be told") {
		t.Errorf("the plan in a clone with history:\n%s", plan)
	}
}

// goBack makes the branch that goes back, whose plan takes back the last change.
func (f *forge) goBack(t *testing.T) {
	clone := t.TempDir()
	f.work.git(t, "clone", "--quiet", "file://"+f.repo, clone)
	said := f.runSection(t, pullRequestsPage, "Going back", clone, 0)
	if !strings.Contains(said[0], "Branch go-back is at ") {
		t.Errorf("rollback says\n%s", said[0])
	}
	worktree{clone}.git(t, "checkout", "--quiet", "go-back")
	if out, code := f.shell(t, clone, "fairlead plan --detailed-exitcode", map[string]string{"KUBECONFIG": f.kubeconfig}); code != 2 || !strings.Contains(out, "1 to change") {
		t.Errorf("the plan of going back: exit %d\n%s", code, out)
	}
}

// pushEmbedded follows the page where the source has an embedded remote.
func (f *forge) pushEmbedded(t *testing.T) {
	w := f.c.clone(t)
	w.git(t, "commit", "--quiet", "--allow-empty", "-m", "nothing new")
	said := f.runSection(t, pipelinesPage, "After the merge", w.dir, 0, 0)
	if !strings.Contains(said[0], "remote: HEALTHY main-") {
		t.Errorf("the push says\n%s", said[0])
	}
}
