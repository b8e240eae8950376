package schema

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
)

// NormalizeImage completes an image name as Kubernetes and Docker do: "nginx"
// is "docker.io/library/nginx:latest". A first part with a dot, a colon or the
// name localhost is a registry and stays.
func NormalizeImage(image string) (string, error) {
	if isSimpleImage(image) {
		return image, nil
	}
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("image %q: %w", image, err)
	}
	return reference.TagNameOnly(named).String(), nil
}

// isSimpleImage tells images that are complete as they stand, with a registry, a
// tag, and simple names in between, from those worth regular expressions.
func isSimpleImage(image string) bool {
	name, tag, found := strings.Cut(image, ":")
	registry, rest, below := strings.Cut(name, "/")
	if !found || !below || len(image) > maxSimpleImage || !isSimpleTag(tag) || !strings.Contains(registry, ".") || !isSimpleDomain(registry) {
		return false
	}
	if registry == "index.docker.io" || registry == "docker.io" && !strings.Contains(rest, "/") {
		return false // known by another name
	}
	for more := true; more; {
		var part string
		if part, rest, more = strings.Cut(rest, "/"); !isSimpleName(part) {
			return false
		}
	}
	return true
}

// maxSimpleImage keeps all parts below the bounds that each has.
const maxSimpleImage = 128

func isSimpleTag(tag string) bool {
	for i := range len(tag) {
		c := tag[i]
		word := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
		if !word && (i == 0 || c != '.' && c != '-') {
			return false
		}
	}
	return tag != ""
}

// imageIsLatest reports whether a normalised image means whatever is newest:
// tag latest and no digest.
func imageIsLatest(image string) bool {
	return strings.HasSuffix(image, ":latest") && !strings.Contains(image, "@")
}

// LocalImage reports whether a normalised image names no registry: its first part is
// localhost without a port, as images are named that were built on the machine.
func LocalImage(image string) bool { return strings.HasPrefix(image, "localhost/") }
