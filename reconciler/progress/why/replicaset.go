package why

import (
	appsv1 "k8s.io/api/apps/v1"

	"fairlead/schema"
)

var replicaSetRow = row{
	kind: schema.KindReplicaSet, fromGit: true, needed: true,
	tell: tell(func(c *chain, rs *appsv1.ReplicaSet) cause {
		c.owners(rs)
		return c.replicaSet(rs)
	}),
}

func (c *chain) replicaSet(rs *appsv1.ReplicaSet) cause {
	c.workload(rs)
	return c.worstOf(c.podsOf(rs))
}
