// Command program is what runs in the containers that are measured: it says
// that it runs, and stays until SIGTERM.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGTERM)
	os.Stdout.WriteString("running\n")
	<-heard
}
