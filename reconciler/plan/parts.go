package plan

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"fairlead/schema"
	"fairlead/schema/layout"
)

// parts are the members of the value at a path if it is an object, such as an added
// container, "image: localhost/api:v1": what matters to a reader first, and without
// what was only defaulted or stands in the path. It is nil for any other value.
func parts(path, value string) []string {
	if !strings.HasPrefix(value, "{") {
		return nil
	}
	var members map[string]any
	dec := json.NewDecoder(strings.NewReader(value))
	dec.UseNumber()
	if dec.Decode(&members) != nil {
		return nil
	}
	out := []string{}
	for _, name := range slices.SortedFunc(maps.Keys(members), byWeight) {
		told := withoutDefaults(members[name])
		if part := name + ": " + compact(told); !isDefault(name, told, members) && !strings.HasSuffix(path, fmt.Sprintf("[%s=%s]", name, compact(told))) {
			out = append(out, part)
		}
	}
	return out
}

// first are the members that a reader looks for, in this order.
var first = []string{"name", "image", "command", "args", "ports", "env", "envFrom", "volumeMounts", "resources"}

func byWeight(a, b string) int {
	rank := func(name string) int {
		if i := slices.Index(first, name); i >= 0 {
			return i
		}
		return len(first)
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
}

// defaults are the values that Kubernetes fills in where nothing is written. It is
// for the eye alone: JSON has every value.
var defaults = map[string]string{
	"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "imagePullPolicy": "IfNotPresent",
	"protocol": "TCP", "scheme": "HTTP", "apiVersion": "v1", "defaultMode": "420",
	"timeoutSeconds": "1", "periodSeconds": "10", "successThreshold": "1", "failureThreshold": "3",
}

// saysNothing are the members that mean nothing when they are empty, where an emptyDir
// means something.
var saysNothing = []string{"resources", "securityContext"}

func isDefault(name string, value any, beside map[string]any) bool {
	if isNothing(value) {
		return slices.Contains(saysNothing, name)
	}
	text := fmt.Sprint(value)
	if name == "imagePullPolicy" && text == "Always" {
		image := fmt.Sprint(beside["image"])
		_, tag, tagged := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":")
		return !tagged || tag == "latest"
	}
	return defaults[name] == text
}

// isNothing reports whether a value is an object or a list with nothing in it.
func isNothing(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}

// withoutDefaults takes the defaults out of a value, at any depth.
func withoutDefaults(value any) any {
	switch v := value.(type) {
	case []any:
		for i := range v {
			v[i] = withoutDefaults(v[i])
		}
	case map[string]any:
		for name, inner := range v {
			if inner = withoutDefaults(inner); isDefault(name, inner, v) {
				delete(v, name)
			} else {
				v[name] = inner
			}
		}
	}
	return value
}

// compact is a value as JSON, a string without quotes.
func compact(value any) string {
	if text, ok := value.(string); ok {
		return text
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return fmt.Sprint(value)
	}
	return strings.TrimSpace(b.String())
}

// writeParts writes a value that came or went under its path.
func writeParts(w io.Writer, indent, path, sign string, told []string) {
	if len(told) == 1 && len(told[0]) <= maxOnOneLine {
		layout.Fprintf(w, "%s%s %s  %s\n", indent, sign, path, told[0])
		return
	}
	layout.Fprintf(w, "%s%s %s\n", indent, sign, path)
	for _, part := range told {
		layout.Fprintf(w, "%s    %s\n", indent, cut(schema.Printable(part)))
	}
}
