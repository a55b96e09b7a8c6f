package memory_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"heymarket.dev/operator/internal/dev/memory"
)

// Keys expire by the machine's clock, or no deduplication window would ever end; and without the password there is no access.
func TestRedis(t *testing.T) {
	t.Parallel()
	redis, err := memory.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	options, err := rueidis.ParseURL(redis.URL())
	if err != nil {
		t.Fatal(err)
	}
	options.DisableCache = true
	c, err := rueidis.NewClient(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.Do(t.Context(), c.B().Set().Key("k").Value("v").PxMilliseconds(20).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	for {
		n, err := c.Do(t.Context(), c.B().Exists().Key("k").Build()).AsInt64()
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		<-time.After(5 * time.Millisecond)
	}
	info, err := c.Do(t.Context(), c.B().Info().Build()).ToString()
	if err != nil || !strings.Contains(info, "aof_enabled:0") {
		t.Errorf("it does not say that it forgets: %q, %v", info, err)
	}
	options.Password = "another"
	if stranger, err := rueidis.NewClient(options); err == nil {
		stranger.Close()
		t.Error("a stranger gets in")
	}
}
