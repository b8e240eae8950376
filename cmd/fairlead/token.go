package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/config"
	"fairlead/reconciler/trust"
	"fairlead/schema"
)

// authorityFlags find the pki directory on the master's machine.
type authorityFlags struct {
	config string
	dir    string
}

func (f *authorityFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.config, "config", "", "the master's configuration file (default config.yaml in its directory, where there is one)")
	cmd.Flags().StringVar(&f.dir, "dir", "", "the master's directory (default the configuration's, /var/lib/fairlead)")
}

// open finds the master's configuration and opens its authority, which must be
// there: a mistyped directory must not become a new cluster.
func (f *authorityFlags) open() (config.Master, *trust.Authority, error) {
	c, err := f.read()
	if err != nil {
		return c, nil, err
	}
	a, err := trust.Open(filepath.Join(c.Dir, "pki"), trust.Config{Existing: true, Now: time.Now})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c, nil, fmt.Errorf("no cluster in %s: run this where the master runs, with its --dir or --config, after its first start", c.Dir)
	case errors.Is(err, fs.ErrPermission):
		return c, nil, fmt.Errorf("%w (run this as root)", err)
	}
	return c, a, err
}

const defaultMasterDir = "/var/lib/fairlead"

func (f *authorityFlags) read() (config.Master, error) {
	dir, path := f.dir, f.config
	if dir == "" {
		dir = defaultMasterDir
	}
	if path == "" {
		path = filepath.Join(dir, "config.yaml")
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			path = os.DevNull // empty: the defaults
		}
	}
	c, err := config.ReadMaster(path)
	if f.dir != "" {
		c.Dir = f.dir
	}
	return c, err
}

const (
	tokenLong = `Print a token with which machines join the cluster as nodes.

With --label the registry gives the nodes that join with it labels that no node
can give itself: those below kubernetes.io and k8s.io, as
node-restriction.kubernetes.io/pool=payments. Pods that select such a label, and
their Secrets, come to no other node.

With --push it is a token that pushes to a source's embedded remote instead, at
https://<master>/git/<source>: git sends it as the password, any user will do.
A push decides what runs on every node; each revision records who pushed it.

With --hook it is the secret of an outside source's webhook, which has the
master look at once: https://<master>/hooks/<source>, with GitHub's signature
(X-Hub-Signature-256) or the secret itself (X-Fairlead-Token, X-Gitlab-Token).

It runs on the master's machine. What it prints is a secret; a join token also
tells the machine that joins how to recognise the cluster.`
	tokenExample = `  fairlead token --ttl 1h > /etc/fairlead/token
  fairlead token --node n2     # for a machine that takes the place of node n2
  fairlead token --node n3 --label node-restriction.kubernetes.io/pool=payments
  fairlead token --push main --name ada --ref refs/heads/main --ca fairlead-ca.crt
  git -c http.sslCAInfo=fairlead-ca.crt clone https://master:6443/git/main
  fairlead token --hook shop`
)

func tokenCommand() *cobra.Command {
	var f tokenFlags
	cmd := &cobra.Command{
		Use:     "token",
		Short:   "Print a token: to join the cluster, to push, or for webhooks",
		Long:    tokenLong,
		Example: tokenExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.join.check(cmd); err != nil {
				return err
			}
			made, err := f.make(time.Now())
			if err != nil {
				return err
			}
			return made.write(cmd.OutOrStdout(), f.output)
		},
	}
	f.register(cmd)
	return cmd
}

// tokenFlags say which token is wanted: one to push with, a webhook's, or else one to
// join with.
type tokenFlags struct {
	authority authorityFlags
	join      joinToken
	push      pushToken
	hook      schema.SourceName
	output    string
}

func (f *tokenFlags) register(cmd *cobra.Command) {
	f.authority.register(cmd)
	f.join.register(cmd)
	f.push.register(cmd)
	outputFlag(cmd, &f.output, "text", "json", "yaml")
	offer(cmd, "push", f.authority.sources)
	cmd.Flags().StringVar((*string)(&f.hook), "hook", "", "print the webhook secret of this source instead")
	offer(cmd, "hook", f.authority.sources)
	cmd.MarkFlagsMutuallyExclusive("push", "hook", "node")
	cmd.MarkFlagsMutuallyExclusive("push", "hook", "uses")
	cmd.MarkFlagsMutuallyExclusive("push", "hook", "label")
	cmd.MarkFlagsMutuallyExclusive("hook", "ttl")
}

// make makes the token that the flags ask for.
func (f *tokenFlags) make(now time.Time) (made madeToken, err error) {
	c, a, err := f.authority.open()
	if err != nil {
		return made, err
	}
	made.Expires = new(now.UTC().Add(f.join.ttl).Truncate(time.Second))
	switch {
	case f.push.source != "":
		made.Kind, made.Source, made.Refs, made.Name = "push", f.push.source, f.push.refs, f.push.name
		made.Token, err = f.push.make(c, a, f.join.ttl)
	case f.hook != "":
		made.Kind, made.Source, made.Expires = "hook", f.hook, nil
		made.Token, err = hookSecret(c, a, f.hook)
	default:
		made.Kind, made.Node, made.Uses, made.Labels = "join", f.join.node, f.join.uses, f.join.labels
		made.Token, err = f.join.make(a)
	}
	return made, err
}

// madeToken is what token made, and its JSON.
type madeToken struct {
	Kind    string            `json:"kind"` // join, push or hook
	Token   string            `json:"token"`
	Expires *time.Time        `json:"expires,omitempty"` // hooks do not
	Node    string            `json:"node,omitempty"`
	Uses    int               `json:"uses,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Source  schema.SourceName `json:"source,omitempty"`
	Refs    []string          `json:"refs,omitempty"`
	Name    string            `json:"name,omitempty"`
}

func (t madeToken) write(w io.Writer, output string) error {
	if output != "text" {
		return writeAs(w, output, t)
	}
	_, err := fmt.Fprintln(w, t.Token)
	return err
}

// hookSecret is the secret of an outside source, which the master's configuration or,
// for one that Git declares, its cache must know: a mistyped name would be a secret
// that no webhook matches.
func hookSecret(c config.Master, a *trust.Authority, source schema.SourceName) (string, error) {
	known := slices.ContainsFunc(c.Sources, func(s config.Source) bool { return s.Name == string(source) && !s.Spec.Embedded })
	if !known && filepath.Base(string(source)) == string(source) {
		_, err := os.Stat(filepath.Join(c.Dir, "cache", string(source)+".git"))
		known = err == nil
	}
	if !known {
		return "", fmt.Errorf("no outside source %s is followed here: webhooks are for sources with a url, in the master's configuration or declared in Git and looked at once; the master sees pushes to an embedded one by itself", source)
	}
	return a.WebhookSecret(source), nil
}

// joinToken is for machines.
type joinToken struct {
	ttl    time.Duration
	uses   int
	node   string
	labels map[string]string
}

func (t *joinToken) register(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&t.ttl, "ttl", 24*time.Hour, "how long the token works")
	cmd.Flags().IntVar(&t.uses, "uses", 0, "for how many nodes the token works; 0 is any number")
	cmd.Flags().StringVar(&t.node, "node", "", "the one node the token is for, which may have joined before from another machine")
	cmd.Flags().StringToStringVar(&t.labels, "label", nil, "a reserved label, KEY=VALUE, that the registry gives the node; it replaces those the node had (may be repeated)")
}

func (t *joinToken) check(cmd *cobra.Command) error {
	switch {
	case t.ttl <= 0:
		return usageErrorf("--ttl must be more than zero, not %v", t.ttl)
	case t.uses < 0:
		return usageErrorf("--uses must not be negative, not %d", t.uses)
	case t.node != "" && cmd.Flags().Changed("uses"):
		return usageErrorf("--node makes a token for one node: leave --uses out")
	}
	for _, name := range []string{"ref", "name", "ca"} {
		if cmd.Flags().Changed(name) && !cmd.Flags().Changed("push") {
			return usageErrorf("--%s belongs to --push", name)
		}
	}
	return nil
}

func (t *joinToken) make(a *trust.Authority) (string, error) {
	return a.NewToken(trust.JoinGrant{Uses: t.uses, Node: schema.NodeName(t.node), Labels: t.labels}, t.ttl)
}

// pushToken is for people and machines that push.
type pushToken struct {
	source schema.SourceName
	refs   []string
	name   string
	ca     string
}

func (t *pushToken) register(cmd *cobra.Command) {
	cmd.Flags().StringVar((*string)(&t.source), "push", "", "print a token that pushes to this source instead")
	cmd.Flags().StringArrayVar(&t.refs, "ref", nil, "with --push: a ref it may push, as refs/heads/main (again for more; default any)")
	cmd.Flags().StringVar(&t.name, "name", "", "with --push: who pushes, recorded with each revision (default token:<id>)")
	cmd.Flags().StringVar(&t.ca, "ca", "", "with --push: also write the cluster's certificate to this file, for git's http.sslCAInfo")
}

func (t *pushToken) make(c config.Master, a *trust.Authority, ttl time.Duration) (string, error) {
	remote := filepath.Join(c.Dir, "git", string(t.source)+".git")
	if _, err := os.Stat(filepath.Join(remote, "HEAD")); err != nil || filepath.Base(string(t.source)) != string(t.source) {
		return "", fmt.Errorf("source %s has no embedded remote in %s", t.source, filepath.Join(c.Dir, "git"))
	}
	if t.ca != "" {
		if err := os.WriteFile(t.ca, a.CAPEM(), 0o644); err != nil {
			return "", fmt.Errorf("write the cluster's certificate: %w", err)
		}
	}
	return a.NewPusherToken(trust.Grant{Pusher: t.name, Source: t.source, Refs: t.refs}, ttl)
}
