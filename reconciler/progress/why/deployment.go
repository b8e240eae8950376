package why

import (
	appsv1 "k8s.io/api/apps/v1"

	"fairlead/reconciler/health"
	"fairlead/schema"
)

var deploymentRow = row{
	kind: schema.KindDeployment, fromGit: true, needed: true,
	tell: tell(func(c *chain, d *appsv1.Deployment) cause { return c.deployment(d) }),
}

// deployment tells of the current replica set's pods; while old ones are left, of
// those when nothing is wrong with the new.
func (c *chain) deployment(d *appsv1.Deployment) cause {
	w := c.workload(d)
	if w.Unseen {
		return cause{code: health.RollingOut, text: "its latest change is not processed yet"}
	}
	current := health.CurrentSet(c.r, d)
	if current == nil {
		return cause{code: health.RollingOut, text: "no pod of its template was made yet"}
	}
	c.workload(current)
	found := c.worstOf(c.podsOf(current))
	if found.code == health.Healthy && !w.Complete {
		return cause{code: health.RollingOut, text: d.Namespace + "/" + d.Name + ": " + w.Progress()}
	}
	return found
}
