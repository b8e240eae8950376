package state

import "fairlead/schema"

// ReplicaSetsByOwner: UID of the controlling Deployment.
var ReplicaSetsByOwner = Index{schema.KindReplicaSet, 0, controllerUID}

var replicaSetIndexes = []Index{ReplicaSetsByOwner}
