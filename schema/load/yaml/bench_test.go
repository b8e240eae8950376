package yaml

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// deploymentYAML is a Deployment as people write them: labels, environment,
// probes, resources, a volume.
func deploymentYAML(i int) string { return fmt.Sprintf(deployment(), i) }

var deployment = sync.OnceValue(func() string {
	text, err := os.ReadFile("../testdata/deployment.txt")
	if err != nil {
		panic(err)
	}
	return string(text)
})

// BenchmarkParse is the YAML parser alone on 10,000 Deployments, on one core: the floor.
func BenchmarkParse(b *testing.B) {
	texts := make([][]byte, 10_000)
	for i := range texts {
		texts[i] = []byte(deploymentYAML(i))
	}
	for b.Loop() {
		for _, text := range texts {
			if _, problem := ParseYAML(text, new(Arena)); problem != nil {
				b.Error(problem.message)
			}
		}
	}
}
