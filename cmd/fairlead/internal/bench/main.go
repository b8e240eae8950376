// Command bench answers how fast and how small Fairlead is on this machine: it
// measures the bars that a user feels (docs/performance.md), each beside its
// baseline in the same run, and prints which are reached. It needs root and the
// built binaries, starts what it measures itself and leaves nothing behind. It
// judges the product from outside where it can: by processes, files, logs and
// the kernel, not by the product's word. `just bench` runs it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// runTimeout bounds a whole run, waiting apart.
	runTimeout = 15 * time.Minute
	quietLoad  = 1.0
	quietPoll  = 5 * time.Second
)

// bench is one run.
type bench struct {
	bin  string // directory of fairlead, fairlead-hook and fairlead-oci
	work string // everything the run leaves on disk; removed at its end
	// quiet is how long a section may wait for a machine that does nothing else.
	quiet time.Duration
}

// section measures some bars that share a setting.
type section struct {
	name string
	bars []string
	run  func(context.Context, *bench) ([]row, error)
	// apart runs it in a process of its own with new network and mount
	// namespaces: this program again, with the section's name.
	apart bool
}

var sections = []section{
	{name: "services", bars: []string{"P13", "P14", "P15"}, run: services, apart: true},
	{name: "source", bars: []string{"P10", "P11"}, run: sources, apart: true},
	{name: "placement", bars: []string{"P1", "P2"}, run: placement},
	{name: "validate", bars: []string{"P6", "P7"}, run: validations},
	{name: "overlays", bars: []string{"P20"}, run: kustomized},
	{name: "bind", bars: []string{"P3"}, run: bindings},
	{name: "applications", bars: []string{"P12"}, run: applications},
	{name: "start", bars: []string{"P18", "P17"}, run: starts},
	{name: "cluster", bars: []string{"P17", "P5", "P4"}, run: onCluster},
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	var bin, output, only, apart, work string
	var quiet time.Duration
	flag.StringVar(&bin, "bin", "bin", "directory of fairlead, fairlead-hook and fairlead-oci")
	flag.StringVar(&output, "o", "text", "output format: text or json")
	flag.StringVar(&only, "only", "", "sections to run, separated by commas (default all): "+sectionNames())
	flag.DurationVar(&quiet, "quiet", 0, "before each section, wait at most so long until the machine's load is below 1")
	flag.StringVar(&apart, "apart", "", "internal: run one section here and print its rows")
	flag.StringVar(&work, "work", "", "internal: the run's directory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, runTimeout+time.Duration(len(sections))*quiet)
	defer cancel()
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	b := &bench{bin: bin, work: work}
	switch {
	case apart == storeApart:
		return b.serveStore(ctx)
	case apart == playApart:
		return b.printRows(b.play(ctx))
	case apart != "":
		i := slices.IndexFunc(sections, func(s section) bool { return s.name == apart })
		return b.printRows(sections[i].run(ctx, b))
	case output != "text" && output != "json":
		return fmt.Errorf("unknown output format %q: use text or json", output)
	case os.Geteuid() != 0:
		return errors.New("root is needed: namespaces, nftables and Podman are measured")
	}
	b.quiet = quiet
	return b.all(ctx, only, output)
}

func sectionNames() string {
	var names []string
	for _, s := range sections {
		names = append(names, fmt.Sprintf("%s (%s)", s.name, strings.Join(s.bars, " ")))
	}
	return strings.Join(names, ", ")
}

func (b *bench) printRows(rows []row, err error) error {
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(rows)
}

// all runs the sections one after the other. One that fails does not stop the
// others; the run fails in the end.
func (b *bench) all(ctx context.Context, only, output string) error {
	for _, name := range []string{"fairlead", "fairlead-hook", "fairlead-oci"} {
		if _, err := os.Stat(filepath.Join(b.bin, name)); err != nil {
			return fmt.Errorf("%w: build it first", err)
		}
	}
	var err error
	if b.work, err = os.MkdirTemp("", "fairlead-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.work)
	r := report{Machine: thisMachine(), Rows: []row{}}
	var failed []error
	for _, s := range sections {
		if only != "" && !slices.Contains(strings.Split(only, ","), s.name) {
			continue
		}
		if err := b.awaitQuiet(ctx); err != nil {
			return err
		}
		r.Machine.Load = append(r.Machine.Load, loadAverage())
		fmt.Fprintf(os.Stderr, "measuring %s: %s\n", s.name, strings.Join(s.bars, ", "))
		rows, err := b.section(ctx, s)
		r.Rows = append(r.Rows, rows...)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", s.name, err))
		}
	}
	r.Machine.Load = append(r.Machine.Load, loadAverage())
	if output == "json" {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		failed = append(failed, encoder.Encode(r))
	} else {
		failed = append(failed, r.writeText(os.Stdout))
	}
	return errors.Join(failed...)
}

func (b *bench) awaitQuiet(ctx context.Context) error {
	for end := time.Now().Add(b.quiet); loadAverage() >= quietLoad && time.Now().Before(end); {
		if err := pause(ctx, quietPoll); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) section(ctx context.Context, s section) ([]row, error) {
	if !s.apart {
		return s.run(ctx, b)
	}
	return b.apart(ctx, s.name)
}

// apart runs a part of the bench in a process with namespaces of its own.
func (b *bench) apart(ctx context.Context, name string) ([]row, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-apart", name, "-work", b.work, "-bin", b.bin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	out, err := output(cmd)
	if err != nil {
		return nil, err
	}
	var rows []row
	return rows, json.Unmarshal([]byte(out), &rows)
}

// output runs a command and returns its standard output; the error carries what
// it said on standard error.
func output(cmd *exec.Cmd) (string, error) {
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, stderr.String())
	}
	return string(out), nil
}
