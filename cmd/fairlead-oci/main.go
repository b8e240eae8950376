// Command fairlead-oci stands between Podman and the OCI runtime of a node, so
// that Podman never has a container's environment. What it is called as says what
// it does (package handover); it decides nothing. It is started several times for
// every container, so it is kept small.
//
//	fairlead-oci [runtime's flags] create --bundle DIR ... ID   and all else a runtime takes
//	fairlead-exec RUNTIME CGROUP PIDFILE ID                     descriptors 3 to 5: see handover
//	.fairlead-entry PROGRAM [ARGUMENT...]                       in a container
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"fairlead/nodeagent/podman/handover"
)

// failed is the exit code when the program itself could not do its part.
const failed = 125

func main() {
	var err error
	switch filepath.Base(os.Args[0]) {
	case handover.AsEntry:
		os.Exit(enter(os.Args[1:], os.Environ()))
	case handover.AsExec:
		err = execute(os.Args[1:])
	case handover.AsRuntime:
		err = runtime(handover.Dir(filepath.Dir(os.Args[0])), os.Args[1:])
	default:
		err = fmt.Errorf("called as %q: the node agent calls it, by other names", os.Args[0])
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "fairlead-oci: %v\n", err)
		os.Exit(failed)
	}
}
