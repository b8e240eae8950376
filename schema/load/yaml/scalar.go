package yaml

import (
	"bytes"
	"encoding/json"
	"strings"

	"go.yaml.in/yaml/v3"
	k8syaml "sigs.k8s.io/yaml"
)

// Scalars are read as kubectl reads them: it turns YAML into JSON by the rules of
// YAML 1.1, where y is true, 010 is 8 and 1_000 is 1000. The nodes come from a parser
// of YAML 1.2, so what they say is settled here, by kubectl's own library where that
// is not plain.

// meaning is what a scalar is in JSON.
type meaning int8

const (
	isOther meaning = iota // of a tag that JSON has nothing for
	isText
	isBytes // of CUE, as base64
	isNumber
	isTrue
	isFalse
	isNothing
)

// booleans are the words that YAML 1.1 takes for true and false besides these.
var booleans = map[string]meaning{
	"y": isTrue, "Y": isTrue, "yes": isTrue, "Yes": isTrue, "YES": isTrue, "on": isTrue, "On": isTrue, "ON": isTrue,
	"n": isFalse, "N": isFalse, "no": isFalse, "No": isFalse, "NO": isFalse, "off": isFalse, "Off": isFalse, "OFF": isFalse,
	"true": isTrue, "True": isTrue, "TRUE": isTrue, "false": isFalse, "False": isFalse, "FALSE": isFalse,
}

// maxBoolean is the length of the longest of them.
const maxBoolean = len("false")

const quotedStyle = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle

// meaningOf is what a scalar is in JSON, and what it says there.
func meaningOf(n *yaml.Node) (meaning, string) {
	tag := n.ShortTag()
	switch {
	case n.Style&yaml.TaggedStyle != 0 && tag != "!!str":
		return taggedMeaning(n, tag)
	case n.Style&yaml.TaggedStyle == 0 && (tag == "!!timestamp" || tag == "!!merge"):
		return isText, n.Value
	}
	switch tag {
	case "!!str":
		if len(n.Value) <= maxBoolean && n.Style&(quotedStyle|yaml.TaggedStyle) == 0 {
			if word, ok := booleans[n.Value]; ok {
				return word, n.Value
			}
		}
		return isText, n.Value
	case "!!int", "!!float":
		if isInt(n.Value) {
			return isNumber, n.Value
		}
		return readByKubectl(n.Value)
	case "!!bool":
		return booleans[n.Value], n.Value
	case "!!null":
		return isNothing, n.Value
	case "!!binary":
		return isBytes, n.Value
	}
	return isOther, n.Value
}

// taggedMeaning reads what the writer says is a number, say.
func taggedMeaning(n *yaml.Node, tag string) (meaning, string) {
	switch tag {
	case "!!int", "!!float", "!!bool", "!!null":
		text, err := json.Marshal(n.Value) // JSON's quotes are YAML's too
		if err != nil {
			return isOther, n.Value
		}
		return readByKubectl(tag + " " + string(text))
	}
	return isOther, n.Value
}

// readByKubectl reads the text of a scalar by kubectl's library.
func readByKubectl(text string) (meaning, string) {
	out, err := k8syaml.YAMLToJSON([]byte(text))
	if err != nil || len(out) == 0 {
		return isOther, text
	}
	switch out = bytes.TrimSpace(out); out[0] {
	case 't':
		return isTrue, string(out)
	case 'f':
		return isFalse, string(out)
	case 'n':
		return isNothing, string(out)
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return isNumber, string(out)
	}
	return isOther, text
}

// keyText is the text that a key is to kubectl; false for one that is none, such as ~.
func keyText(key *yaml.Node) (string, bool) {
	switch what, _ := meaningOf(key); {
	case what == isText, what == isNumber && isInt(key.Value):
		return key.Value, true
	case what == isNothing || what == isOther || strings.ContainsAny(key.Value, "\n:#"):
		return "", false
	}
	var object map[string]int
	if err := k8syaml.Unmarshal([]byte(key.Value+": 0"), &object); err != nil {
		return "", false
	}
	for text := range object {
		return text, true
	}
	return "", false
}
