package receiver

import (
	"context"
	"slices"
	"time"

	"heymarket.dev/operator/internal/contract"
)

// watchRedis connects, keeps the verdict current, and reconnects when the current node rejects writes and another may
// accept them.
func (r *Receiver) watchRedis(ctx context.Context) {
	r.connect(ctx)
	for {
		wait := maintenanceInterval
		if v := r.redis.Verdict(); len(v.Problems) > 0 {
			wait = reconnectDelay
			if slices.ContainsFunc(v.Problems, contract.Problem.WrongNode) {
				r.reconnect(ctx)
			}
		}
		next := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			next.Stop()
			return
		case <-next.C:
		case <-r.redis.Begun():
		case <-r.redisChanged:
			r.connect(ctx)
		case <-r.store.Doubted():
			// At most one connection per second is tried, however many writes fail.
			select {
			case <-ctx.Done():
			case <-time.After(reconnectDelay):
			}
		}
		next.Stop()
	}
}

// connect dials Redis until it answers. Until then requests are answered 503.
func (r *Receiver) connect(ctx context.Context) {
	for ctx.Err() == nil && !r.connectOnce(ctx) {
		select {
		case <-ctx.Done():
		case <-time.After(reconnectDelay):
		}
	}
}

// connectOnce reports whether it has replaced the connection.
func (r *Receiver) connectOnce(ctx context.Context) bool {
	r.connecting.Lock()
	defer r.connecting.Unlock()
	f := r.inForce.Load()
	err := r.store.Connect(ctx, f.redisURL, f.redisCA)
	r.redis.Tried(err)
	if err != nil {
		return false
	}
	digest := contract.RedisURLDigest(f.redisURL)
	r.redisURLDigest.Store(&digest)
	if !r.connected.Swap(true) {
		close(r.reached)
	}
	r.Log.Info("connected to Redis")
	return true
}

// reconnect opens a new connection and keeps it only if it accepts writes.
func (r *Receiver) reconnect(ctx context.Context) {
	r.connecting.Lock()
	defer r.connecting.Unlock()
	f := r.inForce.Load()
	if err := r.store.Reconnect(ctx, f.redisURL, f.redisCA); err != nil {
		r.Log.Debug("a new connection to Redis does not accept writes either", "error", err)
		return
	}
	r.redis.Tried(nil)
	r.Log.Info("reconnected to Redis, because the previous connection did not accept writes")
}

// storeFails handles the error of a queue and reports whether Redis accepts no events.
func (r *Receiver) storeFails(err error) bool {
	r.redis.Failed(err)
	return !r.redis.Verdict().Accepting()
}
