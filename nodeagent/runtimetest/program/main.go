// Command program is what runs in the containers of tests: one small static
// binary with a behaviour per first argument.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		os.Exit(64)
	}
	switch args := os.Args[2:]; os.Args[1] {
	case "exit": // exit CODE
		code, _ := strconv.Atoi(args[0])
		os.Exit(code)
	case "say": // say CODE TEXT: leave a termination message, and exit CODE
		if err := os.WriteFile("/dev/termination-log", []byte(args[1]), 0); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		code, _ := strconv.Atoi(args[0])
		os.Exit(code)
	case "pwd":
		dir, err := os.Getwd()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(dir)
	case "stat": // stat FILE...: of each its mode, owner and size
		for _, a := range args {
			info, err := os.Stat(a)
			if err != nil {
				fmt.Println(err)
				continue
			}
			fmt.Println(a, info.Mode(), info.Sys().(*syscall.Stat_t).Uid, info.Size())
		}
	case "print": // print TEXT...
		for _, a := range args {
			fmt.Println(a)
		}
	case "show": // show NAME TEXT: a variable and an argument, then stay
		fmt.Println(os.Getenv(args[0]))
		fmt.Println(args[1])
		wait(0)
	case "env": // env NAME
		fmt.Println(os.Getenv(args[0]))
	case "cat": // cat FILE...
		for _, a := range args {
			data, err := os.ReadFile(a)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Stdout.Write(data)
		}
	case "eat": // until memory is over
		var all [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			all = append(all, b)
		}
	case "breed": // breed DEPTH: so many children, each of the one before and in a session of its own; then wait for ever
		breed(args[0])
		time.Sleep(time.Hour)
	case "abandon": // a child that stays, and exit 0
		breed("1")
	case "stay": // until SIGTERM, then exit 0
		fmt.Println("staying")
		wait(0)
	case "stubborn": // SIGTERM is not heard
		signal.Ignore(syscall.SIGTERM)
		tellUp()
		fmt.Println("stubborn")
		time.Sleep(time.Hour)
	case "serve": // serve PORT [READYFILE]: /ready answers 200 while READYFILE exists
		serve(args)
	case "up": // exit 0 once this container's main process heeds signals as it should
		if _, err := os.Stat(upFile); err != nil {
			os.Exit(1)
		}
	case "wait": // wait MILLISECONDS
		ms, _ := strconv.Atoi(args[0])
		time.Sleep(time.Duration(ms) * time.Millisecond)
	default:
		os.Exit(64)
	}
}

func breed(depth string) {
	n, _ := strconv.Atoi(depth)
	if n == 0 {
		time.Sleep(time.Hour)
	}
	child := exec.Command("/proc/self/exe", "breed", strconv.Itoa(n-1))
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("bred")
}

func serve(args []string) {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello\n") })
	http.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.Stat(args[1]); err != nil {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		}
	})
	go func() {
		err := http.ListenAndServe(":"+args[0], nil)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}()
	wait(0)
}

// upFile is in the container's own root.
const upFile = "/up"

// tellUp says that a signal from now on finds its handler. A root that is
// read-only is nobody's who asks.
func tellUp() { _ = os.WriteFile(upFile, nil, 0o644) }

func wait(code int) {
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGTERM)
	tellUp()
	<-heard
	fmt.Println("leaving")
	os.Exit(code)
}
