// Command fairlead-kubectl is kubectl as its module has it, unmodified, for
// machines without one and for the tests of the status API. It is a binary of
// its own because linking it would double fairlead's memory.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err) // prints as kubectl does, and exits
		os.Exit(1)
	}
}
