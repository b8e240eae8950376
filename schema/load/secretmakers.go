package load

import (
	"fairlead/schema"
	"fairlead/schema/load/yaml"
)

// secretMakers are kinds that are not supported and make a Secret where they are, with
// the field that names it; where that is not written, it has the object's own name.
var secretMakers = map[string]string{
	"Certificate":    "spec.secretName",
	"ExternalSecret": "spec.target.name",
	"SealedSecret":   "spec.template.metadata.name",
}

// secretOf is the key of the Secret that an object of another API group would make;
// its name is empty for one that makes none.
func secretOf(n *yaml.Node, kind, namespace string) schema.Key {
	field, ok := secretMakers[kind]
	if !ok {
		return schema.Key{}
	}
	out := schema.Key{Kind: schema.KindSecret, Namespace: namespace, Name: yaml.TextAt(n, field)}
	if out.Name == "" {
		out.Name = yaml.TextAt(n, "metadata.name")
	}
	if own := yaml.TextAt(n, "metadata.namespace"); own != "" {
		out.Namespace = own
	}
	return out
}
