// Package httpd is how the shop's three services listen.
package httpd

import (
	"context"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// unaccepted is how long a connection may wait to be accepted on a busy machine.
// Shutdown closes the listener first, and with it resets those that the kernel has
// made and the server has not seen.
const unaccepted = 200 * time.Millisecond

// Serve answers on port 8080 until SIGTERM, then finishes what it has begun. It
// adds /healthz for the probes.
func Serve(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	server := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	go func() {
		if err := server.ListenAndServe(); err != http.ErrServerClosed {
			log.Fatal(err)
		}
	}()
	<-ctx.Done()
	time.Sleep(unaccepted)
	grace, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		log.Print(err)
	}
}
