package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/client"
)

// ownKubectl is the kubectl that is shipped beside fairlead.
const ownKubectl = "fairlead-kubectl"

func kubectlCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl [ARGUMENTS]",
		Short: "Run kubectl on this cluster",
		Long: `Kubectl runs the fairlead-kubectl beside this program, or else the kubectl on
the PATH, with the kubeconfig that the other commands use: $KUBECONFIG, or the
cluster that was started last. All arguments are kubectl's own, --kubeconfig
and --help too; so is the exit code.`,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			path, err := findKubectl(filepath.Dir(self))
			if err != nil {
				return err
			}
			env, err := kubectlEnvironment(os.Environ(), args)
			if err != nil {
				return err
			}
			if err := syscall.Exec(path, append([]string{"kubectl"}, args...), env); err != nil {
				return fmt.Errorf("run %s: %w", path, err)
			}
			return nil
		},
	}
}

// findKubectl is our own kubectl in dir, else the one on the PATH.
func findKubectl(dir string) (string, error) {
	own := filepath.Join(dir, ownKubectl)
	if info, err := os.Stat(own); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
		return own, nil
	}
	path, err := exec.LookPath("kubectl")
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("no kubectl: neither %s nor a kubectl on the PATH; install one, or build ours with `just kubectl`", own)
	case err != nil:
		return "", fmt.Errorf("look for kubectl: %w", err)
	}
	return filepath.Abs(path)
}

// kubectlEnvironment names the cluster to kubectl. Arguments that name one
// themselves, or that need none, go without.
func kubectlEnvironment(env, args []string) ([]string, error) {
	named := slices.ContainsFunc(args, func(a string) bool { return a == "--kubeconfig" || strings.HasPrefix(a, "--kubeconfig=") })
	if named {
		return env, nil
	}
	path, err := client.Find("")
	if err != nil {
		if needsNoCluster(args) {
			return env, nil
		}
		return nil, err
	}
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, "KUBECONFIG=") })
	return append(env, "KUBECONFIG="+path), nil
}

func needsNoCluster(args []string) bool {
	return len(args) == 0 || slices.Contains([]string{"help", "completion", "options", "plugin", "config", "__complete", "__completeNoDesc"}, args[0]) ||
		slices.Contains(args, "--help") || slices.Contains(args, "-h") || slices.Contains(args, "--client")
}
