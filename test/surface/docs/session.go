package docs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Session is one shell, in which the blocks of a page run one after the other. It stops at the first command that fails.
type Session struct {
	shell  *exec.Cmd
	input  *os.File
	states *bufio.Reader
	ended  chan struct{}
	notes  string // directory for the blocks and what they print
	blocks int
}

// Start starts a shell in a directory, with an environment. Notes is a directory for its own files. End ends it.
func Start(dir, notes string, environment []string) (*Session, error) {
	input, keyboard, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = input.Close() }()
	states, say, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = say.Close() }()
	shell := exec.Command("bash", "-euo", "pipefail") //nolint:noctx // a session is ended by End, with all that it has started
	shell.Dir, shell.Env, shell.Stdin, shell.ExtraFiles = dir, environment, input, []*os.File{say}
	// What it leaves running in the background, a port-forward, ends with it.
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := shell.Start(); err != nil {
		return nil, fmt.Errorf("start a shell: %w", err)
	}
	s := &Session{shell: shell, input: keyboard, states: bufio.NewReader(states), ended: make(chan struct{}), notes: notes}
	go func() {
		_ = shell.Wait()
		close(s.ended)
	}()
	return s, nil
}

// End ends the shell and everything that it has started.
func (s *Session) End() {
	_ = s.input.Close()
	_ = syscall.Kill(-s.shell.Process.Pid, syscall.SIGKILL)
	<-s.ended
}

// Run runs commands and returns what they print, on both streams. When one fails, so does the session.
func (s *Session) Run(ctx context.Context, commands string) (string, error) {
	return s.run(ctx, commands, "source %[1]q >%[2]q 2>&1 </dev/null; echo 0 >&3\n")
}

// Retry runs commands, in a shell below this one, until they succeed and print the wanted output.
func (s *Session) Retry(ctx context.Context, commands string, wanted func(output string) bool) (string, error) {
	for {
		out, err := s.run(ctx, commands, "set +e; ( set -e; source %[1]q ) >%[2]q 2>&1 </dev/null; echo $? >&3; set -e\n")
		if err == nil && wanted(out) || errors.Is(err, errEnded) {
			return out, err
		}
		select {
		case <-ctx.Done():
			return out, fmt.Errorf("not in time: %w", errors.Join(err, ctx.Err()))
		case <-time.After(300 * time.Millisecond):
		}
	}
}

var errEnded = errors.New("a command failed, and the shell has ended")

func (s *Session) run(ctx context.Context, commands, line string) (string, error) {
	s.blocks++
	script := filepath.Join(s.notes, fmt.Sprintf("%d.sh", s.blocks))
	output := filepath.Join(s.notes, fmt.Sprintf("%d.out", s.blocks))
	if err := os.WriteFile(script, []byte(commands), 0o600); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(s.input, line, script, output); err != nil {
		return "", errEnded
	}
	state := make(chan string, 1)
	go func() {
		text, _ := s.states.ReadString('\n')
		state <- strings.TrimSpace(text)
	}()
	var err error
	select {
	case code := <-state:
		if code == "" {
			err = errEnded
		} else if code != "0" {
			err = fmt.Errorf("a command failed with %s", code)
		}
	case <-s.ended:
		err = errEnded
	case <-ctx.Done():
		err = fmt.Errorf("%w: not in time", errEnded)
	}
	text, missing := os.ReadFile(output)
	return string(text), errors.Join(err, missing)
}
