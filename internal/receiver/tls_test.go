package receiver_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"heymarket.dev/operator/internal/receiver/redistest"
)

func TestRedisBehindAPrivateAuthority(t *testing.T) {
	t.Parallel()
	_, url, ca := redistest.StartTLS(t)
	to := newSink(t)
	c := newConfig(crm(to))
	c.RedisCAFile = filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(c.RedisCAFile, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, url, c)
	p.awaitReady()
	p.wantPost(sample(1), http.StatusOK)
	to.await(t, 1)
}
