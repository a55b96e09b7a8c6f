package target

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/address"
)

// Connections are renewed a minute after their first attempt, however busy they are, and at once where they got no answer.
func TestConnectionsAreRenewedEachMinute(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	c := &connections{transport: &http.Transport{}}
	last := c.current(now)
	for range 3 {
		if c.current(now.Add(connectionAge-time.Second)) != last {
			t.Fatal("connections are renewed too soon")
		}
		now = now.Add(connectionAge)
		next := c.current(now)
		if next == last {
			t.Fatal("connections are as old as they like, and follow no change in DNS")
		}
		last = next
	}
	c.abandon(last)
	next := c.current(now)
	if next == last {
		t.Error("connections that got no answer stay in use")
	}
	c.abandon(last)
	if c.current(now) != next {
		t.Error("an attempt on abandoned connections abandons the new ones")
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		want contract.ErrorClass
	}{
		{&net.DNSError{}, contract.ErrorNameLookup},
		{&net.DNSError{IsTimeout: true}, contract.ErrorNameLookup},
		{context.DeadlineExceeded, contract.ErrorTimeout},
		{&net.OpError{Err: os.ErrDeadlineExceeded}, contract.ErrorTimeout},
		{address.BlockedError{}, contract.ErrorBlocked},
		{tls.RecordHeaderError{}, contract.ErrorTLS},
		{&tls.CertificateVerificationError{Err: errors.New("expired")}, contract.ErrorTLS},
		{tls.AlertError(40), contract.ErrorTLS},
		{&net.OpError{Err: errors.New("refused")}, contract.ErrorRefused},
		{errors.New("EOF"), contract.ErrorRefused},
	} {
		if got := classify(fmt.Errorf("round trip: %w", tc.err)); got != tc.want {
			t.Errorf("%T %v is of the class %q, want %q", tc.err, tc.err, got, tc.want)
		}
	}
}

func TestBounded(t *testing.T) {
	t.Parallel()
	exact := strings.Repeat("x", errorBytes)
	if bounded(errors.New(exact)).Error() != exact || bounded(errors.New(exact+"y")).Error() != exact+"…" {
		t.Error("an error's text is not cut at its bound")
	}
}
