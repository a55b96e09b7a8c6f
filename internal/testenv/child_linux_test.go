package testenv

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// A test that is killed runs no cleanup; the servers that it started must not stay.
func TestServersEndWithAKilledTest(t *testing.T) {
	const child = "HEYMARKET_TEST_CHILD"
	if os.Getenv(child) != "" { // the test that will be killed
		server := exec.CommandContext(t.Context(), "sleep", "600")
		EndWithTest(server)
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		_, _ = os.Stdout.WriteString(strconv.Itoa(server.Process.Pid) + "\n")
		_ = server.Wait()
		return
	}
	test := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	test.Env = append(os.Environ(), child+"=1")
	out, err := test.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := test.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	server, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := test.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = test.Wait()
	AwaitEnd(t, server)
}
