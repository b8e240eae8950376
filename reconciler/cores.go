package reconciler

import (
	"runtime"

	"golang.org/x/sync/errgroup"
)

// onAllCores calls do(0) … do(n-1), which are independent of each other; somebody
// waits for them: the disk, or all who wait for the master to start.
func onAllCores(n int, do func(i int) error) error {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for first := 0; first < n; first += objectsPerJob {
		g.Go(func() error {
			for i := first; i < min(first+objectsPerJob, n); i++ {
				if err := do(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// objectsPerJob is how many objects one goroutine encodes or decodes.
const objectsPerJob = 128
