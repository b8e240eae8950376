package child

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"fairlead/schema"
)

// exitCPU is how the child ends when its CPU time is used up.
const exitCPU = 64

// Serve is the whole of the child process, for any of these languages: it limits
// itself, reads what to evaluate from in and writes what comes out to out. Nothing of a
// user's is touched before the limits are in force.
func Serve(in io.Reader, out io.Writer, languages ...Language) error {
	parent := requests(in)
	req, err := readRequest(parent)
	if err != nil {
		return err
	}
	language, err := named(languages, req.Language)
	if err != nil {
		return err
	}
	if req.Prepare {
		if language.Prepare != nil {
			language.Prepare()
		}
		if req, err = readRequest(parent); err != nil {
			return err
		}
		if req.Prepare || req.Language != language.Name {
			return fmt.Errorf("request is for language %q, prepared is %q", req.Language, language.Name)
		}
	}
	if err := req.Limits.impose(); err != nil {
		return err
	}
	evaluate := language.Evaluate(req.Files)
	w := bufio.NewWriter(out)
	for _, dir := range req.Directories {
		if err := req.Limits.allowCPU(); err != nil {
			return err
		}
		if err := writeResponse(w, evaluate(dir)); err != nil {
			return err
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func named(languages []Language, name string) (Language, error) {
	i := slices.IndexFunc(languages, func(l Language) bool { return l.Name == name })
	if i < 0 {
		return Language{}, fmt.Errorf("request is for language %q, which is not known", name)
	}
	return languages[i], nil
}

func writeResponse(w io.Writer, resp Response) error {
	line, err := encodeResponse(resp)
	if err != nil {
		return err
	}
	if len(line) > maxResponse {
		line, err = encodeResponse(Response{Directory: resp.Directory, Used: resp.Used, Diagnostics: schema.Diagnostics{{
			Position: schema.Position{Path: resp.Directory}, Severity: schema.Error,
			Message: fmt.Sprintf("evaluates to more than %d MiB", maxResponse>>20), Hint: "split the directory",
		}}})
		if err != nil {
			return err
		}
	}
	if _, err := w.Write(line); err != nil {
		return fmt.Errorf("write response: %w", err)
	}
	return nil
}

func encodeResponse(resp Response) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(resp); err != nil {
		return nil, fmt.Errorf("encode response: %w", err)
	}
	return b.Bytes(), nil
}

// mapAhead is what Go's runtime maps without having filled it.
const mapAhead = 128 << 20

// maxStack ends a runaway recursion before it fills the memory.
const maxStack = 256 << 20

// impose sets the limits of this process that last. Go's own memory limit makes
// the collector work in time; the kernel's ends what does not fit all the same.
// A child that was orphaned ends by the clock.
func (l Limits) impose() error {
	debug.SetMemoryLimit(l.Memory)
	debug.SetMaxStack(maxStack)
	mapped, err := mappedData()
	if err != nil {
		return fmt.Errorf("read memory: %w", err)
	}
	most := mapped + uint64(l.Memory) + mapAhead
	if err := syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: most, Max: most}); err != nil {
		return fmt.Errorf("limit memory: %w", err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("limit core files: %w", err)
	}
	used := make(chan os.Signal, 1)
	signal.Notify(used, syscall.SIGXCPU)
	go func() {
		<-used
		os.Exit(exitCPU)
	}()
	time.AfterFunc(l.Tree+l.Wall, func() { os.Exit(1) })
	return nil
}

// mappedData is what counts against RLIMIT_DATA already, in bytes (proc(5), the
// sixth field of statm, in pages).
func mappedData() (uint64, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var pages uint64
	if _, err := fmt.Sscanf(string(text), "%d %d %d %d %d %d", new(uint64), new(uint64), new(uint64), new(uint64), new(uint64), &pages); err != nil {
		return 0, err
	}
	return pages * uint64(os.Getpagesize()), nil
}

// allowCPU gives the next directory its CPU time.
func (l Limits) allowCPU() error {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return fmt.Errorf("read CPU time: %w", err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CPU, &limit); err != nil {
		return fmt.Errorf("read CPU limit: %w", err)
	}
	spent := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	limit.Cur = min(limit.Max, uint64((spent+l.CPU+time.Second-1)/time.Second))
	if err := syscall.Setrlimit(syscall.RLIMIT_CPU, &limit); err != nil {
		return fmt.Errorf("limit CPU time: %w", err)
	}
	return nil
}
