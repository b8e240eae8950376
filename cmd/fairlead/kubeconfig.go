package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"fairlead/cmd/fairlead/internal/config"
	"fairlead/reconciler/trust"
)

func kubeconfigCommand() *cobra.Command {
	var (
		authority authorityFlags
		server    string
		reader    string
		ttl       time.Duration
		output    string
	)
	cmd := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print a kubeconfig for a new reader of the cluster",
		Long: `Print a kubeconfig with a fresh client certificate for a reader of the status
API: kubectl, k9s and fairlead's own commands take it.

It runs on the master's machine. What it prints is a secret.`,
		Example: `  fairlead kubeconfig --reader alice > alice.kubeconfig`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ttl <= 0 {
				return usageErrorf("--ttl must be more than zero, not %v", ttl)
			}
			if server != "" && !strings.HasPrefix(server, "https://") {
				return usageErrorf("--server must be https://host:port, not %q", server)
			}
			c, a, err := authority.open()
			if err != nil {
				return err
			}
			if server == "" {
				if server, err = serverURL(c); err != nil {
					return err
				}
			}
			cert, key, err := a.ClientCert(reader, []string{trust.OrgReaders}, ttl)
			if err != nil {
				return err
			}
			data, err := trust.Kubeconfig(server, a.CAPEM(), cert, key, "fairlead")
			if err != nil {
				return err
			}
			return writeKubeconfig(cmd.OutOrStdout(), output, data)
		},
	}
	authority.register(cmd)
	outputFlag(cmd, &output, "yaml", "json")
	cmd.Flags().StringVar(&server, "server", "", "the master's URL (default what it advertises, else this machine)")
	cmd.Flags().StringVar(&reader, "reader", "reader", "the reader's name")
	cmd.Flags().DurationVar(&ttl, "ttl", 365*24*time.Hour, "how long the certificate holds")
	return cmd
}

// writeKubeconfig writes a kubeconfig, which is YAML, as it is or as JSON.
func writeKubeconfig(w io.Writer, output string, data []byte) error {
	if output == "json" {
		var v any
		if err := yaml.Unmarshal(data, &v); err != nil {
			return err
		}
		return writeAs(w, output, v)
	}
	_, err := w.Write(data)
	return err
}

// serverURL is where readers find a master with this configuration. Without an
// address to advertise that is this machine, which its certificate covers.
func serverURL(c config.Master) (string, error) {
	if c.Advertise != "" {
		return "https://" + c.Advertise, nil
	}
	_, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return "", fmt.Errorf("listen address %q: %w", c.Listen, err)
	}
	return "https://" + net.JoinHostPort("127.0.0.1", port), nil
}
