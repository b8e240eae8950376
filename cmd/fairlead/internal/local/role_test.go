package local

import (
	"strings"
	"testing"
	"time"
)

func TestJudgeRoles(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	node := Role{Config: "agent.yaml", Dir: "/d", Node: "n2", As: "n2", Until: now.Add(time.Hour), Address: "m:6443", Token: "/t"}
	for _, c := range []struct {
		name   string
		change func(agent, master *Role)
		check  string
		level  Level
		text   string
	}{
		{"a node that is well", func(*Role, *Role) {}, "node", OK, "joined as n2, certificate until 2030-01-01T01:00:00Z"},
		{"its master answers", func(*Role, *Role) {}, "master's port", OK, "m:6443 answers"},
		{"its master does not", func(a, _ *Role) { a.Silent = "refused" }, "master's port", Warns, "m:6443 does not answer: refused start the master"},
		{"joined as another", func(a, _ *Role) { a.As = "n1" }, "node", Blocks, "configured as n2 (agent.yaml), joined as n1 on the master: fairlead token --node n2"},
		{"wiped", func(a, _ *Role) { a.As = "" }, "node", Blocks, "has not joined (agent.yaml) and has no token at \"/t\""},
		{"about to join", func(a, _ *Role) { a.As, a.Tokens = "", true }, "node", Info, "has not joined yet"},
		{"silent for too long", func(a, _ *Role) { a.Until = now.Add(-time.Hour) }, "node", Blocks, "its certificate ended 2029-12-31T23:00:00Z on the master: fairlead token --node n2"},
		{"a configuration that is wrong", func(a, _ *Role) { a.Wrong = "agent.yaml: line 1" }, "node", Blocks, "agent.yaml: line 1 correct agent.yaml"},
		{"a master that runs", func(*Role, *Role) {}, "master", OK, "answers at 127.0.0.1:6443, its cluster is in /m"},
		{"a master that does not", func(_, m *Role) { m.Silent = "refused" }, "master", Warns, "nothing answers: refused"},
		{"a master that never did", func(_, m *Role) { m.Begun = false }, "master", Info, "never started in /m"},
	} {
		agent, master := node, Role{Config: "master.yaml", Dir: "/m", Address: "127.0.0.1:6443", Begun: true}
		c.change(&agent, &master)
		found := false
		for _, check := range JudgeRoles(Judge(goodHost()), &agent, &master, now) {
			if check.Name == checkRanges || check.Name == checkSlot {
				t.Errorf("%s: check %q is for up", c.name, check.Name)
			}
			if check.Name == c.check {
				found = true
				if check.Level != c.level || !strings.Contains(check.Found+" "+check.Fix, c.text) {
					t.Errorf("%s: %+v, want level %s and %q", c.name, check, c.level, c.text)
				}
			}
		}
		if !found {
			t.Errorf("%s: no check %q", c.name, c.check)
		}
	}
	if got, want := len(JudgeRoles(Judge(goodHost()), nil, nil, now)), len(Judge(goodHost())); got != want {
		t.Errorf("%d checks of a machine that is neither, want %d", got, want)
	}
}

func TestExamineRoles(t *testing.T) {
	if r := ExamineAgent(t.TempDir() + "/none.yaml"); r != nil {
		t.Errorf("%+v", r)
	}
	if r := ExamineMaster(t.TempDir() + "/none.yaml"); r != nil {
		t.Errorf("%+v", r)
	}
}
