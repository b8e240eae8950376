package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

func tokenCommand() *cobra.Command {
	var (
		authority authorityFlags
		ttl       time.Duration
		uses      int
		node      string
	)
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Print a token with which machines join the cluster",
		Long: `Print a token with which machines join the cluster as nodes.

It runs on the master's machine. The token is a secret; it also tells the
machine that joins how to recognise the cluster.`,
		Example: `  fairlead token --ttl 1h > /etc/fairlead/token
  fairlead token --node n2     # for a machine that takes the place of node n2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ttl <= 0 {
				return usageErrorf("--ttl must be more than zero, not %v", ttl)
			}
			if uses < 0 {
				return usageErrorf("--uses must not be negative, not %d", uses)
			}
			if node != "" && cmd.Flags().Changed("uses") {
				return usageErrorf("--node makes a token for one node: leave --uses out")
			}
			_, a, err := authority.open()
			if err != nil {
				return err
			}
			token, err := newToken(a, ttl, uses, schema.NodeName(node))
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), token)
			return nil
		},
	}
	authority.register(cmd)
	cmd.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "how long the token works")
	cmd.Flags().IntVar(&uses, "uses", 0, "for how many nodes the token works; 0 is any number")
	cmd.Flags().StringVar(&node, "node", "", "the one node the token is for, which may have joined before from another machine")
	return cmd
}

func newToken(a *trust.Authority, ttl time.Duration, uses int, node schema.NodeName) (string, error) {
	if node != "" {
		return a.NewNodeToken(node, ttl)
	}
	return a.NewToken(ttl, uses)
}
