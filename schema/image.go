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
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("image %q: %w", image, err)
	}
	return reference.TagNameOnly(named).String(), nil
}

// imageIsLatest reports whether a normalised image means whatever is newest:
// tag latest and no digest.
func imageIsLatest(image string) bool {
	return strings.HasSuffix(image, ":latest") && !strings.Contains(image, "@")
}
