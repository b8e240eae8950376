// Command witness is what runs in the containers of the end-to-end tests. It
// answers over HTTP and keeps a diary of what it lived through in a file on the
// host's disk, so that a test need not ask Fairlead what happened.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	if work(os.Args[1:]) {
		return
	}
	linger := flag.Duration("linger", 0, "answer for this long after SIGTERM")
	stubborn := flag.Bool("stubborn", false, "do not end at SIGTERM")
	need := flag.String("need", "", "a file without which to fail at once")
	flag.Parse()
	if _, err := os.Stat(*need); *need != "" && err != nil {
		log.Fatal(err)
	}
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGTERM) // before the diary begins
	d, err := openDiary(os.Getenv("WITNESS_DIR"))
	if err != nil {
		log.Fatal(err)
	}
	d.write("start", address())
	var asked atomic.Int64 // when to end, in nanoseconds; 0 while nobody asked
	server := &http.Server{Addr: ":8080", Handler: answers(d, &asked), ConnContext: stamp}
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}()
	for range heard {
		asked.CompareAndSwap(0, time.Now().UnixNano())
		d.write("term", "")
		if !*stubborn {
			break
		}
	}
	time.Sleep(*linger)
	finish, cancel := context.WithTimeout(context.Background(), finishTimeout)
	defer cancel()
	if err := server.Shutdown(finish); err != nil {
		log.Print(err)
	}
	d.write("end", "")
}

// finishTimeout is for answers that were begun before the end.
const finishTimeout = 2 * time.Second

// diary is the file that the test reads: "event nanoseconds detail" a line.
type diary struct{ file *os.File }

func openDiary(dir string) (*diary, error) {
	if dir == "" {
		return &diary{os.Stdout}, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%s.%d", host, time.Now().UnixNano())
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	return &diary{f}, err
}

func (d *diary) write(event, detail string) {
	fmt.Fprintf(d.file, "%s %d %s\n", event, time.Now().UnixNano(), detail)
}

func address() string {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	return ""
}

type acceptedKey struct{}

// stamp notes when a connection was accepted.
func stamp(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, acceptedKey{}, time.Now().UnixNano())
}

// answers writes down a request on a connection that came after SIGTERM: no
// table should have led here any more.
func answers(d *diary, asked *atomic.Int64) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		accepted := r.Context().Value(acceptedKey{}).(int64)
		if at := asked.Load(); at != 0 && accepted > at {
			d.write("late", r.RemoteAddr)
		}
		fmt.Fprintln(w, os.Getenv("HOSTNAME"))
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("GET /moved", http.RedirectHandler("/asked", http.StatusFound))
	mux.HandleFunc("GET /asked", func(w http.ResponseWriter, r *http.Request) {
		if r.UserAgent() != "e2e" || r.Host != "witness.example" {
			http.Error(w, "asked by "+r.UserAgent()+" for "+r.Host, http.StatusBadRequest)
		}
	})
	mux.HandleFunc("GET /eat", func(http.ResponseWriter, *http.Request) { eat() })
	return mux
}

// eat takes memory until the kernel ends it.
func eat() {
	var all [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b)
	}
}
