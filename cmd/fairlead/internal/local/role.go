package local

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"fairlead/cmd/fairlead/internal/config"
	"fairlead/nodeagent/join"
	"fairlead/schema"
)

// dialTimeout bounds how long doctor waits for a master's port.
const dialTimeout = 3 * time.Second

// Role is what a configuration makes of the machine: a node or a master. A nil Role is
// a machine without that configuration.
type Role struct {
	Config  string // its file
	Wrong   string // why it cannot be read, "" where it can
	Dir     string
	Runtime string // a node's OCI runtime, "" leaves the choice
	Address string // host:port of the master's port
	Silent  string // why that does not answer

	Node   schema.NodeName // a node's
	As     schema.NodeName // the one of its certificate, "" before it has joined
	Until  time.Time       // when that ends
	Token  string          // file of the join token
	Tokens bool            // it is there
	Begun  bool            // a master's: it has its keys
}

// ExamineAgent looks at a machine that an agent's configuration makes a node.
func ExamineAgent(path string) *Role {
	r := &Role{Config: path}
	c, err := config.ReadAgent(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		r.Wrong = err.Error()
		return r
	}
	r.Dir, r.Runtime, r.Node, r.Token = c.Dir, c.Podman.Runtime, c.NodeName, c.TokenFile
	if _, err := os.Stat(c.TokenFile); err == nil {
		r.Tokens = true
	}
	if r.As, r.Until, err = join.Joined(filepath.Join(c.Dir, "pki")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.Wrong = err.Error()
	}
	if server, err := url.Parse(c.Server); err == nil {
		r.Address = server.Host
	}
	r.Silent = silence(r.Address)
	return r
}

// ExamineMaster looks at a machine that has a master's configuration.
func ExamineMaster(path string) *Role {
	r := &Role{Config: path}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	c, err := config.ReadMaster(path)
	if err != nil {
		r.Wrong = err.Error()
		return r
	}
	r.Dir = c.Dir
	_, err = os.Stat(filepath.Join(c.Dir, "pki", "ca.pem"))
	r.Begun = err == nil
	if _, port, err := net.SplitHostPort(c.Listen); err == nil {
		r.Address = net.JoinHostPort("127.0.0.1", port)
	}
	r.Silent = silence(r.Address)
	return r
}

// silence is why nothing answers at an address, "" where something does.
func silence(address string) string {
	conn, err := net.DialTimeout("tcp", address, dialTimeout)
	if err != nil {
		return err.Error()
	}
	conn.Close()
	return ""
}

// JudgeRoles adds to the checks of the host those of what it is. On a node the checks
// that are for `up` are left out: its routes to pods and services are its own.
func JudgeRoles(checks []Check, agent, master *Role, now time.Time) []Check {
	out := slices.Clone(checks)
	if agent != nil {
		out = slices.DeleteFunc(out, func(c Check) bool { return c.Name == checkRanges || c.Name == checkSlot })
		out = append(out, agent.judgeAgent(now)...)
	}
	if master != nil {
		out = append(out, master.judgeMaster())
	}
	return out
}

func (r *Role) judgeAgent(now time.Time) []Check {
	const name = "node"
	again := fmt.Sprintf("on the master: fairlead token --node %s; put it into tokenFile in %s, remove %s/pki, restart fairlead-agent", r.Node, r.Config, r.Dir)
	var out Check
	switch {
	case r.Wrong != "":
		return []Check{{name, Blocks, r.Wrong, "correct " + r.Config + ", or what it names"}}
	case r.As == "" && r.Tokens:
		out = Check{name, Info, fmt.Sprintf("%s has not joined yet (%s); its token is in %s", r.Node, r.Config, r.Token), "start fairlead-agent"}
	case r.As == "":
		out = Check{name, Blocks, fmt.Sprintf("%s has not joined (%s) and has no token at %q", r.Node, r.Config, r.Token), "on the master: fairlead token; put it into tokenFile in " + r.Config}
	case r.As != r.Node:
		out = Check{name, Blocks, fmt.Sprintf("configured as %s (%s), joined as %s", r.Node, r.Config, r.As), again}
	case now.After(r.Until):
		out = Check{name, Blocks, fmt.Sprintf("%s joined; its certificate ended %s", r.Node, r.Until.UTC().Format(time.RFC3339)), again}
	default:
		out = Check{Name: name, Level: OK, Found: fmt.Sprintf("joined as %s, certificate until %s", r.As, r.Until.UTC().Format(time.RFC3339))}
	}
	return []Check{out, judge("master's port", r.Silent == "", r.Address+" answers", Warns, r.Address+" does not answer: "+r.Silent,
		"start the master, or correct server in "+r.Config)}
}

func (r *Role) judgeMaster() Check {
	const name = "master"
	switch {
	case r.Wrong != "":
		return Check{name, Blocks, r.Wrong, "correct " + r.Config}
	case !r.Begun:
		return Check{name, Info, "configured (" + r.Config + "), never started in " + r.Dir, "start fairlead-master"}
	case r.Silent != "":
		return Check{name, Warns, "its cluster is in " + r.Dir + "; nothing answers: " + r.Silent, "start fairlead-master; its log tells why it ended"}
	}
	return Check{Name: name, Level: OK, Found: fmt.Sprintf("answers at %s, its cluster is in %s", r.Address, r.Dir)}
}
