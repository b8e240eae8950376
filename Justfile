# Recipes need just 1.40 or newer; ./justw gets it where it is missing.

set shell := ["bash", "-euo", "pipefail", "-c"]

# The tags keep cgo and device libraries out of Podman's packages; every Go
# command, in CI and editors too, needs them.
export GOFLAGS := "-buildvcs=false -tags=remote,containers_image_openpgp,exclude_graphdriver_btrfs,exclude_graphdriver_devicemapper"
export CGO_ENABLED := "0"

# One set of flags for build, vet and the end-to-end tests, which then share
# what the compiler made; the race detector needs another.
build_flags := "-trimpath"
version := `git describe --tags --always --dirty 2>/dev/null || echo dev`
e2e := "fairlead/cmd/fairlead/internal/e2e"
sim := "fairlead/cmd/fairlead/internal/sim"

# The packages whose tests take longest with the race detector, longest first:
# go test starts packages in the order in which they are named, and one that
# came last would have the machine to itself.
longest := "./schema/load ./nodeagent/podman ./cmd/fairlead ./reconciler/gitsource ./cmd/fairlead/internal/sim ./reconciler/api ./reconciler/store ./reconciler ./cmd/fairlead/internal/local ./reconciler/control"

# A program with the race detector in it sleeps for a second before it exits, for
# the goroutines that it leaves; ours leave none, which goleak holds the tests to.
race := "GORACE=atexit_sleep_ms=0 CGO_ENABLED=1"

# list the recipes
default:
    @{{ just_executable() }} --list

# install the programs that are missing (Debian)
deps:
    @scripts/deps

# build bin/fairlead, bin/fairlead-hook and bin/fairlead-oci
build: (while-installing "go build " + build_flags + " ./cmd/fairlead ./cmd/fairlead-hook ./cmd/fairlead-oci ./examples/shop/images/...")
    go build {{ build_flags }} -ldflags "-s -w -X main.version={{ version }}" -o bin/ ./cmd/fairlead ./cmd/fairlead-hook ./cmd/fairlead-oci

# On a bare machine installing takes as long as compiling, which needs none of what
# is installed but perhaps the certificates: what fails here is done again after it.
[private]
while-installing command:
    @scripts/deps --missing >/dev/null || { {{ command }} >/dev/null 2>&1 & installed=0; scripts/deps || installed=$?; wait; exit $installed; }

# build bin/fairlead-kubectl, the kubectl that `fairlead kubectl` finds beside it
kubectl:
    go build {{ build_flags }} -ldflags "-s -w" -o bin/ ./cmd/fairlead-kubectl

# check formatting, vet, shell scripts
lint:
    @test -z "$(gofmt -l . | tee /dev/stderr)" || { echo "run: gofmt -w ." >&2; exit 1; }
    go vet {{ build_flags }} ./...
    @for script in justw .ci/run scripts/* examples/*.sh; do sh -n "$script"; done

# run every test, always with the same seeds: with the race detector, in simulation, end to end on real Podman last; tells where the time went
test:
    #!/usr/bin/env bash
    set -euo pipefail
    . scripts/timed
    step build {{ just_executable() }} build
    step lint {{ just_executable() }} lint
    step 'tests with the race detector' env {{ race }} go test -race -timeout 30m {{ longest }} $(go list ./... | grep -vx -e {{ e2e }} -e {{ sim }}/planted)
    step simulation {{ just_executable() }} sim
    step 'end to end' go test {{ build_flags }} -count=1 -timeout 30m -v {{ e2e }}

# run the end-to-end tests alone, with the arguments of `go test`
e2e *arguments: deps
    go test {{ build_flags }} -count=1 -timeout 30m {{ e2e }} {{ arguments }}

# attack a running cluster as hostile pods, nodes, readers and pushers would, each attack for the given time
hostile time="60s" *arguments: deps
    go test {{ build_flags }} -count=1 -timeout 60m {{ e2e }} -run '^TestClusters$/^Hostile|^TestClusters$/^Shared$/^Hostile' -v {{ arguments }} -attack {{ time }}

# simulate the whole cluster with faults from SEEDS seeds, and find the planted bugs
sim seeds="500": deps
    go test {{ build_flags }} -count=1 -timeout 30m {{ sim }} -seeds {{ trim_start_match(seeds, "SEEDS=") }}
    go test {{ build_flags }} -count=1 -timeout 30m -v {{ sim }}/planted

# tell every event of one seed
sim-seed seed: deps
    go test {{ build_flags }} -count=1 -v -run TestSeeds {{ sim }} -seed {{ seed }}

# build the images of examples/shop into the host's Podman
images: deps
    examples/shop/images/build.sh

# a cluster with three nodes on this machine that serves examples/shop; can be run again
demo: build images
    @examples/demo.sh

# stop the cluster that `demo` or `fairlead up` left running
down *arguments: build
    bin/fairlead down {{ arguments }}

# measure the speed bars against their baselines on this machine, about eight minutes; -o json
bench *arguments: build
    go run {{ build_flags }} ./cmd/fairlead/internal/bench -bin bin {{ arguments }}

# run the Go benchmarks, of the packages named or of all
bench-packages *packages:
    go test -run '^$' -bench . -benchmem {{ if packages == "" { "./..." } else { packages } }}

# explore before handing a change over: every fuzz target for the given time, two side by side, the properties from a new seed, and 3,000 random trees that are pushed
fuzz time="10s": deps
    @scripts/fuzz {{ time }}
    @scripts/properties
    go test {{ build_flags }} -count=1 -timeout 60m -v -run '^TestStorage$' ./reconciler/gitsource -trees 3000 -tree-seed $RANDOM

# take over the time zones of the Go that is installed
timezones:
    install -m 644 "$(go env GOROOT)/lib/time/zoneinfo.zip" schema/timezone/zoneinfo.zip
