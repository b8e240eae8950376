// Package handover answers how a container's environment, arguments and working
// directory reach it without Podman: Podman makes a container without them, the agent leaves them
// in memory (Dir), and fairlead-oci, which Podman takes for its OCI runtime, puts
// them into the configuration that the real runtime reads, in memory too. The
// agent's Podman room and fairlead-oci import it; it starts nothing.
package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// What fairlead-oci is called as, the last part of its own path or first
// argument, says what it has to do.
const (
	AsRuntime = "fairlead-oci"    // an OCI runtime
	AsEntry   = ".fairlead-entry" // a container's first program, which executes the one asked for
	AsExec    = "fairlead-exec"   // start one command in a container and tell how it ends
)

// EntryPath is where a container that needs it has fairlead-oci.
const EntryPath = "/" + AsEntry

// Reap, as EntryPath's first argument, has it stay the parent of the program and of
// all that the program starts: it ends them with the program, or on SIGTERM, and
// reaps them. Who else would is the container's first process, which may not.
const Reap = "--reap"

// Descriptors that the agent gives to fairlead-exec.
const (
	ProcessFile = 3 // read: what to run, as the runtime's --process takes it
	StatusFile  = 4 // written: one line Started, then one line Ended and the exit code
	LogFile     = 5 // written by the runtime: why nothing was started
)

// Started and Ended begin the lines of StatusFile.
const (
	Started = "started"
	Ended   = "ended"
)

// Dir is a directory in memory that root alone can read. It has the real runtime
// as a link, fairlead-oci as another, and a directory for every container.
type Dir string

// Paths in the directory.
func (d Dir) Runtime() string             { return filepath.Join(string(d), "runtime") }
func (d Dir) Shim() string                { return filepath.Join(string(d), AsRuntime) }
func (d Dir) Bundle(id string) string     { return filepath.Join(string(d), id) }
func (d Dir) Process(id string) string    { return filepath.Join(d.Bundle(id), "process.json") }
func (d Dir) ConfigFile(id string) string { return filepath.Join(d.Bundle(id), "config.json") }

// Process is what a container's first process gets. Environment and arguments
// are bytes: JSON has no strings that are not UTF-8.
type Process struct {
	Env  []Variable `json:"env"`
	Args [][]byte   `json:"args"` // in the place of as many of the last arguments
	// Dir is the working directory, which the runtime makes where it is missing, as root
	// and with mode 0755; empty keeps Podman's.
	Dir string `json:"dir,omitempty"`
	// Commands are going to be run in the container.
	Commands bool `json:"commands,omitempty"`
}

// Variable is one of an environment.
type Variable struct {
	Name  string `json:"name"`
	Value []byte `json:"value"`
}

// plain reports whether JSON carries all of it.
func (p Process) plain() bool {
	return !slices.ContainsFunc(p.Env, func(v Variable) bool { return !plain(v.Value) }) &&
		!slices.ContainsFunc(p.Args, func(a []byte) bool { return !plain(a) })
}

// Config is a container's configuration, config.json of the OCI runtime
// specification, with what a process gets in it. binary is
// fairlead-oci on the node.
func Config(config []byte, p Process, binary string) ([]byte, error) {
	var whole, process map[string]json.RawMessage
	if err := json.Unmarshal(config, &whole); err != nil {
		return nil, fmt.Errorf("read the container's configuration: %w", err)
	}
	if err := json.Unmarshal(whole["process"], &process); err != nil {
		return nil, fmt.Errorf("read the container's process: %w", err)
	}
	var env, args []string
	var mounts []json.RawMessage
	if err := errors.Join(decode(process["env"], &env), decode(process["args"], &args), decode(whole["mounts"], &mounts)); err != nil {
		return nil, fmt.Errorf("read the container's process and mounts: %w", err)
	}
	if len(args) < len(p.Args) || len(args) == 0 {
		return nil, fmt.Errorf("the container has %d arguments where %d are to be replaced", len(args), len(p.Args))
	}
	program := args[0]
	args = args[:len(args)-len(p.Args)]
	for _, a := range p.Args {
		args = append(args, encode(a))
	}
	// The runtime tells the name of a program that it cannot execute, and Podman
	// writes that to disk: one that came from the environment is not its to see.
	secret := args[0] != program
	enters := secret || !p.plain()
	if secret && plain([]byte(args[0])) {
		args[0] = hide([]byte(args[0]))
	}
	if enters {
		args = append([]string{EntryPath}, args...)
	}
	if enters || p.Commands {
		var err error
		if whole["mounts"], err = withEntry(mounts, binary); err != nil {
			return nil, err
		}
	}
	if p.Dir != "" {
		var err error
		if process["cwd"], err = json.Marshal(p.Dir); err != nil {
			return nil, err
		}
	}
	return assemble(whole, process, merge(env, p.Env), args)
}

func decode(raw json.RawMessage, into any) error {
	if len(raw) == 0 {
		return nil
	}
	return json.Unmarshal(raw, into)
}

func assemble(whole, process map[string]json.RawMessage, env, args []string) (out []byte, err error) {
	if process["env"], err = json.Marshal(env); err != nil {
		return nil, err
	}
	if process["args"], err = json.Marshal(args); err != nil {
		return nil, err
	}
	if whole["process"], err = json.Marshal(process); err != nil {
		return nil, err
	}
	return json.Marshal(whole)
}

// merge puts variables over those of the image, which keep their places.
func merge(env []string, over []Variable) []string {
	at := make(map[string]int, len(env)+len(over))
	for i, e := range env {
		name, _, _ := strings.Cut(e, "=")
		at[name] = i
	}
	for _, v := range over {
		pair := v.Name + "=" + encode(v.Value)
		if i, ok := at[v.Name]; ok {
			env[i] = pair
			continue
		}
		at[v.Name] = len(env)
		env = append(env, pair)
	}
	return env
}

// withEntry adds the mount of fairlead-oci at EntryPath. The runtime makes the
// file that it mounts on before the root becomes read-only.
func withEntry(mounts []json.RawMessage, binary string) (json.RawMessage, error) {
	entry, err := json.Marshal(map[string]any{
		"destination": EntryPath, "type": "bind", "source": binary, "options": []string{"bind", "ro", "nosuid", "nodev", "rprivate"},
	})
	if err != nil {
		return nil, err
	}
	return json.Marshal(append(mounts, entry))
}

// Command is what to give to the runtime to run a command in a container of that
// configuration as its first process was run: user, capabilities, limits,
// environment and directory are the same. reaped reports whether SIGTERM ends all
// of it; a container of an earlier version has no EntryPath.
func Command(config []byte, command []string) (process []byte, reaped bool, err error) {
	var whole struct {
		Process map[string]json.RawMessage `json:"process"`
		Mounts  []struct {
			Destination string `json:"destination"`
		} `json:"mounts"`
	}
	if err := json.Unmarshal(config, &whole); err != nil {
		return nil, false, fmt.Errorf("read the container's configuration: %w", err)
	}
	if whole.Process == nil {
		return nil, false, errors.New("the container's configuration has no process")
	}
	args := command
	for _, m := range whole.Mounts {
		reaped = reaped || m.Destination == EntryPath
	}
	if reaped {
		args = []string{EntryPath, Reap}
		for _, a := range command {
			args = append(args, encode([]byte(a)))
		}
	}
	if whole.Process["args"], err = json.Marshal(args); err != nil {
		return nil, false, err
	}
	whole.Process["terminal"] = json.RawMessage("false")
	process, err = json.Marshal(whole.Process)
	return process, reaped, err
}

// mark begins a string of which every rune is a byte. It is a character of the
// private use area; one that begins with it by itself is encoded as well.
const mark = "\uE0FA"

func plain(b []byte) bool { return utf8.Valid(b) && !strings.HasPrefix(string(b), mark) }

func encode(b []byte) string {
	if plain(b) {
		return string(b)
	}
	return hide(b)
}

func hide(b []byte) string {
	out := []rune(mark)
	for _, c := range b {
		out = append(out, rune(c))
	}
	return string(out)
}

// Reveal undoes what was done to an argument, or to the value of a variable, for
// JSON's sake. hidden reports whether anything was.
func Reveal(s string) (out string, hidden bool) {
	rest, hidden := strings.CutPrefix(s, mark)
	if !hidden {
		return s, false
	}
	var b strings.Builder
	for _, r := range rest {
		b.WriteByte(byte(r))
	}
	return b.String(), true
}
