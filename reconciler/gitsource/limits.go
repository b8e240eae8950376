package gitsource

import (
	"strconv"
	"syscall"
	"time"
)

// limits are what a git of ours that reads others' packs may take, and each
// process that it starts. A pack of 16 KB can ask for a gigabyte of memory, one of
// a megabyte inflates to a gigabyte.
type limits struct {
	// memory is data of a process's own. What it maps from files to read them does
	// not count, which an address space would: git maps whole packs and indexes.
	memory    int64
	processor time.Duration
	file      int64 // bytes of the longest file that may be written
}

const (
	// requestMemory is what all processes of a push, a clone or a fetch hold together.
	// It is enough to take in or pack a million objects. A single object needs its
	// size, or twice that where it is made from a delta; larger files than bigFile are
	// streamed and need none.
	requestMemory = 512 << 20
	// receiveMemory is each process's of a push: receive-pack holds the refs that are
	// named, while index-pack or unpack-objects takes in what they lead to. What comes
	// later (rev-list, the hook) comes one at a time.
	receiveMemory = requestMemory / 2
	// packMemory is each process's of a clone, or of tidying up: pack-objects needs
	// most of it. The upload-pack that starts it has read a request of 10 MiB at most
	// (http.maxRequestBuffer), and what is left suffices for that.
	packMemory = requestMemory / 4 * 3
	// fetchMemory is each process's of a fetch: fetch, its transport, index-pack.
	fetchMemory = requestMemory / 3
	// lookMemory is each process's that asks a remote for its branch. A remote of
	// 100,000 refs needs a third of it. It takes no place among Programs, but a turn.
	lookMemory = 64 << 20
	// gitProcessor is ten times what indexing the largest push takes.
	gitProcessor = 10 * time.Minute
	// maxPackFile is the longest pack that tidying up may write.
	maxPackFile = 4 << 30
)

// frugal are the settings that keep git within its limits on repositories that are
// well meant.
var frugal = [][2]string{
	// No file is read that is larger than schema.MaxFileSize. What is larger than
	// this is streamed and is in no delta.
	{"core.bigFileThreshold", "8m"},
	{"core.deltaBaseCacheLimit", "16m"},
	{"pack.threads", "2"},
	{"pack.windowMemory", "64m"},
	{"pack.deltaCacheSize", "32m"},
}

// command is what to execute so that git runs with these arguments under the
// limits: a shell of no more than they are lowers them before it becomes git.
func (l limits) command(args ...string) []string {
	script := `ulimit -d "$1" && ulimit -t "$2" && ulimit -f "$3" && shift 3 && exec git "$@"`
	// In KiB, seconds, and blocks of 512 bytes (POSIX).
	return append([]string{"/bin/sh", "-c", script, "git",
		lowered(syscall.RLIMIT_DATA, l.memory, 1024),
		lowered(syscall.RLIMIT_CPU, int64(l.processor/time.Second), 1),
		lowered(syscall.RLIMIT_FSIZE, l.file, 512),
	}, args...)
}

// lowered is a limit in a shell's unit, or our own where that is lower already: to
// raise it is not ours.
func lowered(resource int, limit, unit int64) string {
	var own syscall.Rlimit
	if err := syscall.Getrlimit(resource, &own); err == nil && own.Max < uint64(limit) {
		limit = int64(own.Max)
	}
	return strconv.FormatInt(limit/unit, 10)
}
