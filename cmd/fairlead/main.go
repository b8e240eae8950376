// Command fairlead is the whole of Fairlead: daemons and client in one binary.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"fairlead/schema/layout"
)

func main() { os.Exit(run()) }

// exitError carries an exit code of the command-line contract. A nil err means
// that everything worth saying was said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageErrorf is an error of how the command was called: exit code 2.
func usageErrorf(format string, args ...any) error {
	return &exitError{code: 2, err: fmt.Errorf(format, args...)}
}

// run executes the command line and returns the exit code. It is the one place
// that prints errors.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	out, complaints := newTerminal(os.Stdout), newTerminal(os.Stderr)
	defer out.close()
	defer complaints.close()
	logrus.SetOutput(complaints)
	cmd, began := root(out, complaints), false
	for _, c := range cmd.Commands() {
		c.RunE = noting(&began, c.RunE)
	}
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	code := 1
	if !began {
		code = 2 // an unknown command, wrong arguments, flags that exclude each other
	}
	var exit *exitError
	if errors.As(err, &exit) {
		code = exit.code
		if exit.err == nil {
			return code
		}
	}
	layout.WriteText(complaints, fmt.Sprintf("error: %v\n", err))
	return code
}

// noting sets began when the command's own work begins: any error before is one
// of how it was called.
func noting(began *bool, work func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	if work == nil {
		return nil
	}
	return func(cmd *cobra.Command, args []string) error {
		*began = true
		return work(cmd, args)
	}
}

// root is the command line. Every command writes to out and complaints alone.
func root(out, complaints io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:           "fairlead",
		Short:         "A GitOps-first container orchestrator: a Git repository says what runs",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       thisBuild().String(),
	}
	cmd.SetVersionTemplate("{{.Version}}\n")
	cmd.SetHelpFunc(help)
	cmd.SetOut(out)
	cmd.SetErr(complaints)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{code: 2, err: err} })
	cmd.AddCommand(
		upCommand(),
		downCommand(),
		doctorCommand(),
		superviseCommand(),
		validateCommand(),
		renderCommand(),
		tokenCommand(),
		kubeconfigCommand(),
		masterCommand(),
		agentCommand(),
		dnsCommand(),
		planCommand(),
		diffCommand(),
		statusCommand(),
		historyCommand(),
		whyCommand(),
		rollbackCommand(),
		kubectlCommand(),
		evaluateCommand(),
		versionCommand(),
	)
	return cmd
}
