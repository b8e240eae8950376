package load

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"fairlead/schema"
	"fairlead/schema/load/yaml"
)

// Files that hold no objects of Kubernetes stand beside those that do. Each is told
// for what it is, so that its owner sees at once whether to exclude or to convert it.

// sealedFiles begin like no manifest: what they hold is not here to be read.
var sealedFiles = []struct{ start, what string }{
	{"\x00GITCRYPT\x00", "encrypted with git-crypt"},
	{"$ANSIBLE_VAULT;", "encrypted with Ansible Vault"},
	{"age-encryption.org/", "encrypted with age"},
	{"-----BEGIN AGE ENCRYPTED FILE-----", "encrypted with age"},
	{"-----BEGIN PGP MESSAGE-----", "encrypted with PGP"},
	{"version https://git-lfs.github.com/spec/", "a pointer of Git LFS to a file that is not in Git"},
	{"\xff\xfe", "written in UTF-16"},
	{"\xfe\xff", "written in UTF-16"},
}

// sealed is why the text of a file is not read; nil for one that may be.
func sealed(name string, text []byte) *schema.Diagnostic {
	what := ""
	for _, s := range sealedFiles {
		if bytes.HasPrefix(text, []byte(s.start)) {
			what = s.what
		}
	}
	if what == "" && len(text) > 3 && (text[0] == 0) != (text[1] == 0) && (text[2] == 0) == (text[0] == 0) && (text[3] == 0) == (text[1] == 0) {
		what = "written in UTF-16" // ASCII of two bytes each
	}
	if what == "" {
		return nil
	}
	hint := leaveOut
	if strings.HasSuffix(what, "UTF-16") {
		hint = "save it as UTF-8"
	}
	return &schema.Diagnostic{
		Position: schema.Position{Path: name, Line: 1}, Severity: schema.Error,
		Message: fmt.Sprintf("this file is %s, and cannot be read here", what), Hint: hint,
	}
}

// sopsFields are what SOPS notes of a file that it encrypted.
var sopsFields = []string{"mac", "lastmodified", "version", "age", "pgp", "kms", "gcp_kms", "azure_kv", "hc_vault", "encrypted_regex", "encrypted_suffix", "unencrypted_suffix"}

// sopsKey is the key under which SOPS notes that it encrypted an object; nil for one
// that it did not.
func sopsKey(n *yaml.Node) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	key, notes := yaml.Member(n, "sops")
	if key == nil {
		return nil
	}
	for _, name := range sopsFields {
		if yaml.Child(notes, name) != nil {
			return key
		}
	}
	return nil
}

// isNoManifest reports whether a document has nothing of an object: it says neither of
// what kind nor which one it is, nor is it what would yet become objects.
func isNoManifest(n *yaml.Node) bool {
	for _, field := range []string{"apiVersion", "kind", "metadata"} {
		if hasKeyLike(n, field) || yaml.Child(n, field) != nil {
			return false
		}
	}
	return !yaml.IsUnrendered(n) && !isListOfObjects(n)
}

// notAnObject tells what a document without apiVersion and kind is.
func notAnObject(at schema.Position, n *yaml.Node) schema.Diagnostic {
	out := schema.Diagnostic{Position: at, Severity: schema.Error, Message: "no apiVersion and kind: this is not an object", Hint: leaveOut}
	switch {
	case sopsKey(n) != nil:
		out.Message = yaml.SOPSMessage
	case yaml.IsUnrendered(n):
		out.Message, out.Hint = "this is a template, not an object", "render it first, and commit what comes out"
	case isListOfObjects(n):
		out.Message, out.Hint = "this is a list, not an object", "write its objects as documents, with --- between them, or as the items of a List"
	case hasKeyLike(n, "apiVersion") && hasKeyLike(n, "kind"):
		out.Hint = "their names are written apiVersion and kind"
	}
	return out
}

// isListOfObjects reports whether a document is a bare list with an object in it, or
// what is left of a List without its kind.
func isListOfObjects(n *yaml.Node) bool {
	if items := yaml.Child(n, "items"); items != nil {
		n = items
	}
	return n.Kind == yaml.SequenceNode && slices.ContainsFunc(n.Content, func(item *yaml.Node) bool {
		return yaml.Child(item, "kind") != nil || yaml.Child(item, "apiVersion") != nil
	})
}

// hasKeyLike reports whether an object has a key that differs from a name in case only.
func hasKeyLike(n *yaml.Node, name string) bool {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if strings.EqualFold(n.Content[i].Value, name) {
			return true
		}
	}
	return false
}

// isChart reports whether a document describes a Helm chart: it has an apiVersion of
// Helm's and no kind.
func isChart(name string, n *yaml.Node) bool {
	base := path.Base(name)
	return base == "Chart.yaml" || base == "Chart.yml" || yaml.Child(n, "version") != nil && yaml.Child(n, "name") != nil
}
