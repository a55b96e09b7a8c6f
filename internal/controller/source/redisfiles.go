package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"heymarket.dev/operator/internal/controller/desired"
)

// redisFilesPeriod is how often the files are re-read. The kubelet itself takes up to a minute to update a mounted file.
const redisFilesPeriod = 10 * time.Second

// RedisFiles are the files with the connection settings of the shared Redis. They are re-read while the operator runs, and
// a change reaches the receivers without a restart.
type RedisFiles struct {
	// Period is how often the files are re-read; 10 s by default.
	Period time.Duration

	url, ca string

	mu    sync.RWMutex
	redis desired.SharedRedis
}

// OpenRedisFiles reads the file with the URL and, unless its name is empty, the one with the certificates that are trusted
// instead of the system's authorities. An error names the flag, the file and the mistake, and never quotes the URL, which
// may hold a password.
func OpenRedisFiles(url, ca string) (*RedisFiles, error) {
	f := &RedisFiles{url: url, ca: ca, Period: redisFilesPeriod}
	redis, err := f.read()
	if err != nil {
		return nil, err
	}
	f.redis = redis
	return f, nil
}

// Redis returns the last valid content.
func (f *RedisFiles) Redis() desired.SharedRedis {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.redis
}

func (f *RedisFiles) read() (desired.SharedRedis, error) {
	caFlag := ""
	if f.ca != "" {
		caFlag = "--redis-ca-file"
	}
	url, err := readRedisURL(f.url, caFlag)
	if err != nil {
		return desired.SharedRedis{}, fmt.Errorf("--redis-url-file: %w", err)
	}
	if f.ca == "" {
		return desired.SharedRedis{URL: url}, nil
	}
	ca, err := readRedisCA(f.ca)
	if err != nil {
		return desired.SharedRedis{}, fmt.Errorf("--redis-ca-file: %w", err)
	}
	return desired.SharedRedis{URL: url, CA: ca}, nil
}

func readRedisURL(file, caFlag string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the URL of Redis: %w", err)
	}
	s := string(bytes.TrimSpace(b))
	if s == "" {
		return "", fmt.Errorf("%s is empty: put the URL of Redis into it, such as redis://redis.example.com:6379/0", file)
	}
	if err := desired.CheckRedisURL(s, caFlag); err != nil {
		return "", fmt.Errorf("%s %w", file, err)
	}
	return s, nil
}

func readRedisCA(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the certificates for Redis: %w", err)
	}
	ca, err := desired.RedisCertificates(b)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be used: %w", file, err)
	}
	return ca, nil
}

// refresh re-reads the files and reports whether they have changed. Changes are applied only if all files are valid.
func (f *RedisFiles) refresh() (bool, error) {
	redis, err := f.read()
	if err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	changed := !redis.Equal(f.redis)
	f.redis = redis
	return changed, nil
}

// RedisChanges is a source that wakes all HeymarketWebhooks when the files change.
type RedisChanges struct {
	Files *RedisFiles
	// Webhooks is a cache.
	Webhooks client.Reader
}

var _ source.Source = RedisChanges{}

// Start implements source.Source.
func (c RedisChanges) Start(ctx context.Context, q queue) error {
	go c.watch(ctx, q)
	return nil
}

func (c RedisChanges) String() string { return "files with the URL of Redis and its certificates" }

func (c RedisChanges) watch(ctx context.Context, q queue) {
	logger := log.FromContext(ctx).WithName("redis-files")
	ticker := time.NewTicker(c.Files.Period)
	defer ticker.Stop()
	failing := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		changed, err := c.Files.refresh()
		switch {
		case err == nil:
			failing = ""
		case err.Error() != failing: // Logged once, not at every tick.
			failing = err.Error()
			logger.Error(err, "Cannot re-read the Redis URL or certificates; keeping the last valid ones")
		}
		if !changed {
			continue
		}
		logger.Info("The Redis URL or certificates have changed; updating all receivers")
		if err := enqueueAll(ctx, c.Webhooks, q); err != nil && !errors.Is(err, context.Canceled) {
			logger.Error(err, "Cannot update all receivers with the Redis URL and certificates")
		}
	}
}
