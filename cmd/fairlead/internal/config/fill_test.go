package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What a person wrote stays byte for byte, comments too; what is missing is added, once.
func TestFillKeepsWhatIsThere(t *testing.T) {
	wanted := Agent{Dir: "/d", Slot: "3", Podman: Podman{Runtime: "runc", AdditionalStores: []string{"/s"}, AuthFile: "/d/auth.json"}}
	path := file(t, `# ours
labels: # of the disk
  disk: ssd

slot: "4"  # by hand
podman:
  # the fast one
  runtime: crun
`)
	kept, err := Fill(path, wanted)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Kept{
		{Field: "podman.runtime", At: path + ":8:3", Have: "crun", Wanted: "runc"},
		{Field: "slot", At: path + ":5:1", Have: `"4"`, Wanted: `"3"`},
	}, kept); diff != "" {
		t.Error(diff)
	}
	want := `# ours
labels: # of the disk
  disk: ssd

slot: "4"  # by hand
podman:
  # the fast one
  authFile: /d/auth.json
  additionalStores:
  - /s
  runtime: crun
dir: /d
`
	first, _ := os.ReadFile(path)
	if !strings.Contains(string(first), "# the fast one") || len(first) != len(want) {
		t.Error(cmp.Diff(want, string(first)))
	}
	if _, err := Fill(path, wanted); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(path); string(again) != string(first) {
		t.Errorf("filled again it is\n%s", again)
	}
	c, err := ReadAgent(path)
	if err != nil || c.Dir != "/d" || c.Slot != "4" || c.Labels["disk"] != "ssd" || c.Podman.Runtime != "crun" || c.Podman.AuthFile != "/d/auth.json" || len(c.Podman.AdditionalStores) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestFillWritesAWholeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if kept, err := Fill(path, Agent{Dir: "/d", Slot: "3"}); err != nil || len(kept) != 0 {
		t.Fatal(kept, err)
	}
	if got, _ := os.ReadFile(path); string(got) != "dir: /d\nslot: \"3\"\n" {
		t.Errorf("%s", got)
	}
	flow := file(t, "podman: {runtime: crun}") // no newline, and nowhere to put a line
	if _, err := Fill(flow, Agent{Dir: "/d", Podman: Podman{AuthFile: "/a"}}); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(flow); string(got) != "podman: {runtime: crun}\ndir: /d\n" {
		t.Errorf("%s", got)
	}
}

// A file that is written so that no line can be put into it stays as it is.
func TestFillLeavesWhatItCannotAddTo(t *testing.T) {
	for _, text := range []string{"{dir: /d}\n", "  dir: /d\n", "dir: /d\n...\n", "? podman\n: runtime: crun\n", "dir: /d\npodman: !!map {runtime: crun}\n---\n"} {
		path := file(t, text)
		_, err := Fill(path, Agent{Dir: "/d", Slot: "3", Podman: Podman{AuthFile: "/a"}})
		if err == nil || !strings.Contains(err.Error(), path+":") {
			t.Errorf("%q: %v", text, err)
		}
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("%q has become %q, %v", text, got, err)
		}
	}
}

// A field without a value has its default, which is not what is wanted: it is told.
func TestFillTellsOfFieldsWithoutValue(t *testing.T) {
	path := file(t, "dir:\nslot: \"\"\npodman: ~\n")
	kept, err := Fill(path, Agent{Dir: "/d", Slot: "3", Podman: Podman{AuthFile: "/a"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Kept{
		{Field: "dir", At: path + ":1:1", Have: "null", Wanted: "/d"},
		{Field: "podman", At: path + ":3:1", Have: "null", Wanted: "{authFile: /a}"},
		{Field: "slot", At: path + ":2:1", Have: `""`, Wanted: `"3"`},
	}, kept); diff != "" {
		t.Error(diff)
	}
}

// Every mistake is told with its place.
func TestMistakesHaveTheirPlace(t *testing.T) {
	for text, want := range map[string][]string{
		"dir: /d\nlabls: {a: b}\n":                               {":2:1: there is no field labls; at the top there are allowedUnsafeSysctls, capacity, dir, labels, "},
		"dir: /d\npodman:\n  runtimee: crun\n  additional: []\n": {":3:3: there is no field runtimee", ":4:3: there is no field additional"},
		"dir: /d\nslot: '1'\ndir: /e\n":                          {":3:1: dir is set already, in line 1"},
		"capacity: {cpu: many}\ndir: [a]\n":                      {":1:1: ", ":2:1: dir cannot be a YAML list"},
		"taints:\n- key: a\n  effect: NoSchedule\n  efect: x\n":  {":4:3: there is no field efect"},
		"dir: /d\nslot: \"1\n":                                   {":"},
		"a: b: c\n":                                              {":1:"},
		"- a\n":                                                  {":1:1: a configuration is a mapping"},
	} {
		path := file(t, text)
		_, err := ReadAgent(path)
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), path+w) {
				t.Errorf("%q: %v\nwant %s%s", text, err, path, w)
			}
		}
	}
}
