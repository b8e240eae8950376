package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// swapPause is how long a path leads where it leads. A start resolves it within
// less, so that each start meets it both ways.
const swapPause = time.Millisecond

// works is what the witness does in place of answering, by its first argument.
var works = map[string]func(d *diary, args []string) error{"swap": swap, "plunder": plunder, "look": look, "leave": leave, "crash": crash, "inspect": inspect, "say": say, "stage": stage, "finish": finish}

// work does what the arguments ask for; done is false if they ask for nothing.
func work(args []string) (done bool) {
	if len(args) == 0 || works[args[0]] == nil {
		return false
	}
	d, err := openDiary(os.Getenv("WITNESS_DIR"))
	if err == nil {
		err = works[args[0]](d, args[1:])
	}
	if err != nil {
		log.Fatal(err)
	}
	return true
}

// swap exchanges a directory with a link to the root for ever: swap PATH.
func swap(d *diary, args []string) error {
	path, link := args[0], args[0]+".link"
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}
	if err := os.Symlink("/", link); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	d.write("swapping", path)
	for {
		if err := unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE); err != nil {
			return err
		}
		time.Sleep(swapPause)
	}
}

// plunder takes what is at a mount for the host's root, leaves a file there and
// reads one: plunder MOUNT FILE-TO-WRITE FILE-TO-READ. Both are the host's paths.
func plunder(d *diary, args []string) error {
	d.write("start", "")
	mount, leave, read := args[0], args[1], args[2]
	if err := os.WriteFile(filepath.Join(mount, leave), nil, 0o644); err != nil {
		d.write("unwritten", err.Error())
	}
	if _, err := os.ReadFile(filepath.Join(mount, read)); err == nil {
		d.write("read", read)
	}
	return nil
}

// leave writes a file and a link to it beside it: leave PATH TEXT.
func leave(_ *diary, args []string) error {
	if err := os.WriteFile(args[0], []byte(args[1]), 0o644); err != nil {
		return err
	}
	return os.Symlink(filepath.Base(args[0]), args[0]+".link")
}

// inspect tells the environment, the working directory and what paths are: inspect PATH...
func inspect(d *diary, args []string) error {
	for _, e := range os.Environ() {
		d.write("env", strconv.QuoteToASCII(e))
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	for _, path := range append(args, dir) {
		info, err := os.Stat(path)
		if err != nil {
			d.write("missing", err.Error())
			continue
		}
		d.write("at", fmt.Sprint(path, " ", info.Mode(), " ", info.Sys().(*syscall.Stat_t).Uid))
	}
	d.write("end", "")
	return nil
}

// stage says that its turn has come, and what files hold: stage NAME FILE...
func stage(d *diary, args []string) error {
	d.write("stage", args[0])
	for _, path := range args[1:] {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		d.write("holds", path+" "+strconv.QuoteToASCII(string(data)))
	}
	return nil
}

// say writes a text to a file, "-" for the log, and fails: say PATH TEXT.
func say(_ *diary, args []string) error {
	if args[0] != "-" {
		if err := os.WriteFile(args[0], []byte(args[1]), 0); err != nil {
			return err
		}
		os.Exit(3)
	}
	return errors.New(args[1])
}

// look tells what is at paths; into a directory it writes: look PATH...
func look(d *diary, args []string) error {
	for _, path := range args {
		content, err := os.ReadFile(path)
		if errors.Is(err, unix.EISDIR) {
			content = []byte("a directory")
			err = os.WriteFile(filepath.Join(path, "witness"), nil, 0o644)
		}
		if err != nil {
			content = []byte(err.Error())
		}
		d.write("saw", path+" "+strings.TrimSpace(string(content)))
	}
	d.write("end", "")
	return nil
}

// crash runs for a while and ends with a last word: crash FOR WORD.
func crash(_ *diary, args []string) error {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	time.Sleep(d)
	return errors.New(args[1])
}
