package yaml

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"fairlead/schema"
)

// TemplateHint is what to do about what is to be rendered first.
const TemplateHint = "this is a template: render it first, and commit what comes out"

// SOPSMessage is told of what SOPS encrypted.
const SOPSMessage = "this is encrypted with SOPS, and nothing here decrypts it"

// IsEncrypted reports whether a value was encrypted by SOPS.
func IsEncrypted(n *Node) bool {
	return n != nil && n.Kind == yaml.ScalarNode && strings.HasPrefix(n.Value, schema.EncryptedBySOPS)
}

// IsUnrendered reports whether a value is {{ … }}, which is an object in an object to
// YAML.
func IsUnrendered(n *Node) bool {
	if n.Kind != yaml.MappingNode || n.Style&yaml.FlowStyle == 0 || len(n.Content) == 0 {
		return false
	}
	inner := n.Content[0]
	return inner.Kind == yaml.MappingNode && inner.Style&yaml.FlowStyle != 0
}
