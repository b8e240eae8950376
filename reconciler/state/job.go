package state

import "fairlead/schema"

// JobsByOwner: UID of the controlling CronJob.
var JobsByOwner = Index{schema.KindJob, 0, controllerUID}

var jobIndexes = []Index{JobsByOwner}
