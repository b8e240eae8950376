package e2e

import (
	"flag"
	"time"
)

// attackFor is how long each attack of the TestHostile tests lasts. The gate
// attacks briefly; `just hostile` for as long as it is told.
var attackFor = flag.Duration("attack", 2*time.Second, "how long each hostile test attacks")
