package receiver

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"heymarket.dev/operator/internal/receiver/config"
)

// files is what the mounted files say at one moment.
type files struct {
	config config.Config
	// digest identifies the configuration's bytes, see config.Digest.
	digest   string
	tokens   [][]byte
	redisURL string
}

// readFiles reads the configuration and the files that it names. Its errors name the file and say what to do; they
// never repeat what a file holds.
func readFiles(configFile string) (files, error) {
	raw, err := os.ReadFile(configFile)
	if err != nil {
		return files{}, fmt.Errorf("the configuration cannot be read: %w; name it with --config", err)
	}
	c, err := config.Decode(raw)
	if err != nil {
		return files{}, fmt.Errorf("%s: %w", configFile, err)
	}
	f := files{config: c, digest: config.Digest(raw)}
	for _, name := range c.TokenFiles {
		token, err := readSecret(name)
		if err != nil {
			return files{}, fmt.Errorf("the token cannot be read: %w", err)
		}
		f.tokens = append(f.tokens, token)
	}
	url, err := readSecret(c.RedisURLFile)
	if err != nil {
		return files{}, fmt.Errorf("the Redis URL cannot be read: %w", err)
	}
	f.redisURL = string(url)
	return f, nil
}

// readSecret returns a file's content without trailing newlines: editors and `echo` add one, and it is never meant.
func readSecret(name string) ([]byte, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	value := bytes.TrimRight(raw, "\r\n")
	if len(value) == 0 {
		return nil, fmt.Errorf("%s: %w", name, errEmpty)
	}
	return value, nil
}

var errEmpty = errors.New("the file is empty; put the value into the Secret behind it")

func (f files) equal(g files) bool {
	if f.digest != g.digest || f.redisURL != g.redisURL || len(f.tokens) != len(g.tokens) {
		return false
	}
	for i := range f.tokens {
		if !bytes.Equal(f.tokens[i], g.tokens[i]) {
			return false
		}
	}
	return true
}
