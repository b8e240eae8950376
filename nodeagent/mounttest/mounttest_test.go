package mounttest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mountInEnv makes the test binary mount something there and wait to be killed.
const mountInEnv = "FAIRLEAD_TEST_MOUNT_IN"

func TestMain(m *testing.M) {
	dir := os.Getenv(mountInEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	Own()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		panic(err)
	}
	_, _ = os.Stdout.WriteString("mounted\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// A program that is killed leaves no mount behind, and shows none while it lives.
func TestNothingIsLeftMounted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mounted")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), mountInEnv+"="+dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "mounted\n" {
		t.Fatalf("%q, %v", line, err)
	}
	inside, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", cmd.Process.Pid))
	if err != nil || !strings.Contains(string(inside), " "+dir+" ") {
		t.Errorf("it has mounted nothing: %v", err)
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), " "+dir+" ") {
		t.Errorf("its mount is everybody's: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if err := os.Remove(dir); err != nil {
		t.Error(err)
	}
}
