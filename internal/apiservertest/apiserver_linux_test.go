package apiservertest_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"heymarket.dev/operator/internal/apiservertest"
	"heymarket.dev/operator/internal/testenv"
)

func TestMain(m *testing.M) { apiservertest.Main(m) }

// A test that is killed, or whose time is up, runs no cleanup: its servers end nevertheless.
func TestServersEndWithAKilledTest(t *testing.T) {
	const child = "HEYMARKET_TEST_CHILD"
	if os.Getenv(child) != "" { // the test that will be killed
		apiservertest.Config(t)
		fmt.Println("\nservers:", strings.Join(children(t), " "))
		time.Sleep(time.Hour)
	}
	test := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	test.Env = append(os.Environ(), child+"=1")
	testenv.EndWithTest(test)
	out, err := test.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := test.Start(); err != nil {
		t.Fatal(err)
	}
	var servers []string
	lines := bufio.NewScanner(out)
	for len(servers) == 0 && lines.Scan() {
		if list, ok := strings.CutPrefix(lines.Text(), "servers: "); ok {
			servers = strings.Fields(list)
		} else if strings.Contains(lines.Text(), "SKIP") {
			t.Skip("needs an API server")
		}
	}
	if len(servers) != 2 {
		t.Fatalf("the test to be killed has started %v, want an API server and an etcd", servers)
	}
	if err := test.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = test.Wait()
	for _, server := range servers {
		pid, err := strconv.Atoi(server)
		if err != nil {
			t.Fatal(err)
		}
		testenv.AwaitEnd(t, pid)
	}
}

// children returns the IDs of the processes that this one has started.
func children(t *testing.T) []string {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(lists) == 0 {
		t.Fatalf("the processes that were started cannot be listed: %v", err)
	}
	var all []string
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		all = append(all, strings.Fields(string(text))...)
	}
	return all
}
