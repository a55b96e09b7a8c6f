package dev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/go-json-experiment/json"
)

// StateFile returns the path of the file in which a running webhook announces its addresses, for commands of the same user in
// other terminals.
func StateFile() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "kubectl-heymarket", "dev.json"), nil
}

// Announce writes r to the file of that name, and returns a function that removes it. The file contains the token and is
// readable only by its owner.
func (r *Running) Announce(file string) (remove func(), err error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	temporary, err := os.CreateTemp(filepath.Dir(file), ".dev-*")
	if err != nil {
		return nil, err
	}
	_, err = temporary.Write(text)
	if err = errors.Join(err, temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), file)
	}
	if err != nil {
		_ = os.Remove(temporary.Name())
		return nil, err
	}
	return func() {
		// Another one may have been started in the meantime.
		if now, err := os.ReadFile(file); err == nil && bytes.Equal(now, text) {
			_ = os.Remove(file)
		}
	}, nil
}

// Find returns the running webhook described in the file.
func Find(file string) (*Running, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("no webhook is running on this machine: start one with `kubectl heymarket dev -f FILE`")
	}
	var r Running
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w; start `kubectl heymarket dev` again", file, err)
	}
	return &r, nil
}

// get decodes the JSON at an address of this machine.
func get(ctx context.Context, address string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("%w: is `kubectl heymarket dev` still running?", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// trimmed returns a value without the trailing newline that an editor may have added.
func trimmed(value []byte) []byte { return bytes.TrimRight(value, "\r\n") }
