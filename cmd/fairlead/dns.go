package main

import (
	"runtime/debug"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/config"
	"fairlead/nodeagent/dns"
)

// dnsGCPercent trades processor time for memory: names change seldom and
// answering them allocates nothing.
const dnsGCPercent = 50

func dnsCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "dns --config FILE",
		Short: "Serve the cluster's names on this node",
		Long: `Serve the cluster's names on this node.

Names come from the table that the node's agent keeps in its directory; everything
else is forwarded to the name servers of /etc/resolv.conf. The configuration is the
agent's own.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usageErrorf("dns: --config is required")
			}
			c, err := config.ReadAgent(file)
			if err != nil {
				return err
			}
			debug.SetGCPercent(dnsGCPercent)
			log := logrus.WithFields(logrus.Fields{"component": "dns", "node": c.NodeName})
			return dns.Run(cmd.Context(), dns.Config{Table: dns.TablePath(c.Dir), Log: log})
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "the agent's configuration `file`")
	return cmd
}
