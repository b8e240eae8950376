package handover

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fairlead/schema/chance"
)

const podmans = `{"ociVersion":"1.0.2","process":{"user":{"uid":7,"gid":7},"args":["/entry","$(A)"],"env":["PATH=/bin","HOME=/"],"cwd":"/w"},` +
	`"mounts":[{"destination":"/proc","type":"proc","source":"proc"}],"linux":{"namespaces":[]}}`

type container struct {
	Process struct {
		User struct{ UID int }
		Args []string
		Env  []string
		Cwd  string
	}
	Mounts []struct{ Destination, Source string }
}

func parse(t *testing.T, config []byte) (c container) {
	t.Helper()
	if err := json.Unmarshal(config, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConfigCarriesTheProcess(t *testing.T) {
	for name, tc := range map[string]struct {
		p         Process
		args, env []string
	}{
		"nothing": {Process{}, []string{"/entry", "$(A)"}, []string{"PATH=/bin", "HOME=/"}},
		"a variable of the image is replaced, others follow": {
			Process{Env: []Variable{{"B", []byte("2")}, {"PATH", []byte("/x")}, {"B", []byte("3")}}},
			[]string{"/entry", "$(A)"}, []string{"PATH=/x", "HOME=/", "B=3"},
		},
		"arguments after the image's entry point": {Process{Args: [][]byte{[]byte("a")}}, []string{"/entry", "a"}, []string{"PATH=/bin", "HOME=/"}},
		"all of them": {Process{Args: [][]byte{[]byte("/entry"), nil}}, []string{"/entry", ""}, []string{"PATH=/bin", "HOME=/"}},
		"bytes": {
			Process{Env: []Variable{{"K", []byte("\xe9=")}}},
			[]string{EntryPath, "/entry", "$(A)"}, []string{"PATH=/bin", "HOME=/", "K=" + mark + "é="},
		},
		"a program that comes from the environment": {
			Process{Args: [][]byte{[]byte("/secret"), []byte("b")}},
			[]string{EntryPath, mark + "/secret", "b"}, []string{"PATH=/bin", "HOME=/"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := Config([]byte(podmans), tc.p, "/bin/fairlead-oci")
			if err != nil {
				t.Fatal(err)
			}
			got := parse(t, config)
			if diff := cmp.Diff(tc.args, got.Process.Args); diff != "" {
				t.Errorf("arguments: %s", diff)
			}
			if diff := cmp.Diff(tc.env, got.Process.Env); diff != "" {
				t.Errorf("environment: %s", diff)
			}
			last := got.Mounts[len(got.Mounts)-1]
			if entered := last.Destination == EntryPath && last.Source == "/bin/fairlead-oci"; entered != (tc.args[0] == EntryPath) {
				t.Errorf("mounts: %+v", got.Mounts)
			}
			if got.Process.User.UID != 7 || got.Process.Cwd != "/w" {
				t.Errorf("what else the process has: %+v", got.Process)
			}
		})
	}
	moved, err := Config([]byte(podmans), Process{Dir: "/made"}, "/x")
	if err != nil {
		t.Fatal(err)
	}
	if got := parse(t, moved).Process.Cwd; got != "/made" {
		t.Errorf("it begins in %s", got)
	}
	if _, err := Config([]byte(podmans), Process{Args: make([][]byte, 3)}, ""); err == nil {
		t.Error("more arguments than there are were replaced")
	}
}

func TestCommandRunsAsTheFirstProcess(t *testing.T) {
	bytes, err := Config([]byte(podmans), Process{Env: []Variable{{"K", []byte{0xff}}}}, "/x")
	if err != nil {
		t.Fatal(err)
	}
	probed, err := Config([]byte(podmans), Process{Commands: true}, "/x")
	if err != nil {
		t.Fatal(err)
	}
	if first := parse(t, probed).Process.Args; first[0] != "/entry" {
		t.Errorf("the container itself is run as %q", first)
	}
	for config, want := range map[string][]string{podmans: {"ls", "-l"}, string(bytes): {EntryPath, Reap, "ls", "-l"}, string(probed): {EntryPath, Reap, "ls", "-l"}} {
		out, reaped, err := Command([]byte(config), []string{"ls", "-l"})
		if err != nil {
			t.Fatal(err)
		}
		if reaped != (want[0] == EntryPath) {
			t.Errorf("%q: reaped: %v", want, reaped)
		}
		got := parse(t, []byte(`{"process":`+string(out)+`}`)).Process
		if diff := cmp.Diff(want, got.Args); diff != "" {
			t.Errorf("arguments: %s", diff)
		}
		if diff := cmp.Diff(parse(t, []byte(config)).Process.Env, got.Env); diff != "" || got.User.UID != 7 || got.Cwd != "/w" {
			t.Errorf("got %+v, %s", got, diff)
		}
	}
}

// Every byte comes through JSON and back.
func TestEveryByteIsRevealed(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		want := string(rapid.SliceOf(rapid.Byte()).Draw(t, "value"))
		if rapid.Bool().Draw(t, "marked") {
			want = mark + want
		}
		data, err := json.Marshal(encode([]byte(want)))
		if err != nil {
			t.Fatal(err)
		}
		var back string
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		if got, _ := Reveal(back); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func TestPathsAreInTheDirectory(t *testing.T) {
	d := Dir(t.TempDir())
	for _, path := range []string{d.Runtime(), d.Shim(), d.Process("x"), d.ConfigFile("x")} {
		if rel, err := filepath.Rel(string(d), path); err != nil || !filepath.IsLocal(rel) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if filepath.Base(d.Shim()) != AsRuntime {
		t.Errorf("the runtime would not know what it is: %s", d.Shim())
	}
}
