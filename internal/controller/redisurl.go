package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// redisURLPeriod is how often the file is read again. The kubelet itself takes up to a minute to change a mounted file.
const redisURLPeriod = 10 * time.Second

// RedisURLFile is a file that holds the URL of the shared Redis. It is read again while the operator runs, and a change
// reaches the receivers without a restart.
type RedisURLFile struct {
	path   string
	period time.Duration

	mu  sync.RWMutex
	url string
}

// OpenRedisURLFile reads the file. An error names the file, says what is wrong with it, and never repeats the URL, which
// may hold a password.
func OpenRedisURLFile(path string) (*RedisURLFile, error) {
	f := &RedisURLFile{path: path, period: redisURLPeriod}
	u, err := f.read()
	if err != nil {
		return nil, err
	}
	f.url = u
	return f, nil
}

// URL returns the last good content.
func (f *RedisURLFile) URL() string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.url
}

func (f *RedisURLFile) read() (string, error) {
	b, err := os.ReadFile(f.path)
	if err != nil {
		return "", fmt.Errorf("read the URL of Redis: %w", err)
	}
	s := string(bytes.TrimSpace(b))
	if s == "" {
		return "", fmt.Errorf("%s is empty: put the URL of Redis into it, such as redis://redis.example.com:6379/0", f.path)
	}
	if err := desired.CheckRedisURL(s); err != nil {
		return "", fmt.Errorf("%s %w", f.path, err)
	}
	return s, nil
}

// refresh reads the file again and says whether its content has changed. What is not good is not taken over.
func (f *RedisURLFile) refresh() (bool, error) {
	u, err := f.read()
	if err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	changed := u != f.url
	f.url = u
	return changed, nil
}

// redisURLChanges is a source that wakes all HeymarketWebhooks when the file's content changes.
type redisURLChanges struct {
	file     *RedisURLFile
	webhooks client.Reader
}

var _ source.Source = redisURLChanges{}

// Start implements source.Source.
func (c redisURLChanges) Start(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	go c.watch(ctx, queue)
	return nil
}

func (c redisURLChanges) String() string { return "file with the URL of Redis" }

func (c redisURLChanges) watch(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	logger := log.FromContext(ctx).WithName("redis-url-file")
	ticker := time.NewTicker(c.file.period)
	defer ticker.Stop()
	failing := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		changed, err := c.file.refresh()
		switch {
		case err == nil:
			failing = ""
		case err.Error() != failing: // Once, and not at every tick.
			failing = err.Error()
			logger.Error(err, "The URL of Redis cannot be read again; the last good one stays in use")
		}
		if !changed {
			continue
		}
		logger.Info("The URL of Redis has changed; handing it to all receivers")
		if err := enqueueAll(ctx, c.webhooks, queue); err != nil && !errors.Is(err, context.Canceled) {
			logger.Error(err, "Cannot hand the URL of Redis to all receivers")
		}
	}
}

// enqueueAll wakes all HeymarketWebhooks, behind those that have news of their own.
func enqueueAll(ctx context.Context, webhooks client.Reader, queue workqueue.TypedRateLimitingInterface[reconcile.Request], opts ...client.ListOption) error {
	var hooks v1alpha1.HeymarketWebhookList
	if err := webhooks.List(ctx, &hooks, append(opts, client.UnsafeDisableDeepCopy)...); err != nil {
		return fmt.Errorf("list HeymarketWebhooks: %w", err)
	}
	for i := range hooks.Items {
		req := reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&hooks.Items[i])}
		if q, ok := queue.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
			q.AddWithOpts(priorityqueue.AddOpts{Priority: new(handler.LowPriority)}, req)
		} else {
			queue.Add(req)
		}
	}
	return nil
}
