package why

import (
	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
)

var nodeRow = row{
	kind: schema.KindNode, needed: true,
	tell: tell(func(c *chain, node *corev1.Node) cause { return c.node(node.Name) }),
}
