package main

import (
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/local"
	"fairlead/schema/layout"
)

func doctorCommand() *cobra.Command {
	var output, agent, master string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check whether this host can run a cluster, and say how to fix what is in the way",
		Long: `Doctor checks whether this host can run a cluster, and says how to fix what is in
the way. It changes nothing. On a machine that is configured as a node or as the
master it also checks what it is: whether the node has joined, as whom and until
when, and whether the master's port answers. Of a node it checks the directory and
the OCI runtime that its agent is configured with.

Exit codes: 0 nothing is in the way, 1 something is.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			node := local.ExamineAgent(agent)
			checks := local.JudgeRoles(local.Judge(examine(node)), node, local.ExamineMaster(master), time.Now())
			if err := printChecks(cmd, output, checks); err != nil {
				return err
			}
			if len(local.Blocking(checks)) > 0 {
				return &exitError{code: 1}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&agent, "agent", "/etc/fairlead/agent.yaml", "the agent's configuration, on a node")
	cmd.Flags().StringVar(&master, "master", "/etc/fairlead/master.yaml", "the master's configuration, where it runs")
	outputFlag(cmd, &output, "text", "json", "yaml")
	return cmd
}

// examine looks at the host as the agent does where there is one.
func examine(node *local.Role) local.Facts {
	if node == nil || node.Dir == "" {
		return local.Examine(local.DefaultDir, "")
	}
	return local.Examine(node.Dir, node.Runtime)
}

func printChecks(cmd *cobra.Command, output string, checks []local.Check) error {
	if output != "text" {
		return writeAs(cmd.OutOrStdout(), output, map[string]any{"checks": checks})
	}
	rows := [][]string{{"CHECK", "LEVEL", "FOUND", "FIX"}}
	for _, c := range checks {
		rows = append(rows, []string{c.Name, string(c.Level), c.Found, c.Fix})
	}
	layout.WriteTable(cmd.OutOrStdout(), "", rows)
	return nil
}
