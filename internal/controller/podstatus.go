package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
)

const (
	// podStatusTimeout leaves a Pod enough time to detect and report that Redis does not answer.
	podStatusTimeout = desired.StatusTimeout + 2*time.Second
	// podStatusLimit bounds an answer, and its header, in bytes. The answer of a webhook with 16 targets is smaller than 8 KiB.
	podStatusLimit = 16 << 10
)

// HTTPPodStatus queries GET /status on the Pod's operations port.
type HTTPPodStatus struct {
	client *http.Client
	port   uint16
	check  func(context.Context, PodAddress, time.Time) error
}

// NewHTTPPodStatus returns a PodStatus for Pods that the operator reaches directly: no proxy, no redirect, 4 seconds. It
// connects only to addresses of Pods, which it reads from the API server.
func NewHTTPPodStatus(pods client.Reader) *HTTPPodStatus {
	return &HTTPPodStatus{
		check: (&podAddressBook{pods: pods}).check,
		port:  contract.OperationsPort,
		client: &http.Client{
			Timeout: podStatusTimeout,
			// A Pod is queried a few times and then not for hours: keeping connections is not worthwhile.
			Transport: &http.Transport{
				DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: podStatusLimit,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Report implements PodStatus.
func (p *HTTPPodStatus) Report(ctx context.Context, at PodAddress) (contract.Status, error) {
	if err := p.check(ctx, at, time.Now()); err != nil {
		return contract.Status{}, err
	}
	url := "http://" + netip.AddrPortFrom(at.Address, p.port).String() + contract.StatusPath
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return contract.Status{}, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return contract.Status{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return contract.Status{}, fmt.Errorf("GET %s: status %d", url, resp.StatusCode)
	}
	var report contract.Status
	if err := json.NewDecoder(io.LimitReader(resp.Body, podStatusLimit)).Decode(&report); err != nil {
		return contract.Status{}, fmt.Errorf("GET %s: %w", url, err)
	}
	if report.ConfigDigest == "" {
		return contract.Status{}, errors.New("GET " + url + ": the answer has no configDigest")
	}
	return report, nil
}

const (
	// mostReported bounds the entries that are kept of each list in an answer. A webhook has at most 16 targets.
	mostReported = 16
	// mostCounted bounds a count in an answer.
	mostCounted = 1_000_000_000_000
	// clockTolerance is how far a Pod's clock may be ahead.
	clockTolerance = 5 * time.Minute
	// furthestAttempt bounds how far in the future a reported attempt may be; a backoff is shorter.
	furthestAttempt = 7 * 24 * time.Hour
)

// firstReported is a time before every event. The API server rejects some of the earliest times that JSON can express.
var firstReported = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)

// plausible returns the report without what no receiver reports, and with its lists and numbers limited: anything may answer at
// a Pod's address.
func plausible(s contract.Status, now time.Time) contract.Status {
	latest := now.Add(clockTolerance)
	s.Problems = s.Problems[:min(len(s.Problems), 2*mostReported)]
	s.Tokens = slices.Clone(s.Tokens[:min(len(s.Tokens), mostReported)])
	for i := range s.Tokens {
		t := &s.Tokens[i]
		t.LastUsed = plausibleTime(t.LastUsed, latest)
	}
	s.Targets = slices.Clone(s.Targets[:min(len(s.Targets), mostReported)])
	for i := range s.Targets {
		t := &s.Targets[i]
		t.Pending = min(max(t.Pending, 0), mostCounted)
		t.DeadLetters = min(max(t.DeadLetters, 0), mostCounted)
		if !slices.Contains(contract.Circuits(), t.Circuit) {
			t.Circuit = contract.CircuitClosed
		}
		t.LastDelivered, t.OldestPending = plausibleTime(t.LastDelivered, latest), plausibleTime(t.OldestPending, latest)
		t.NextAttempt = plausibleTime(t.NextAttempt, now.Add(furthestAttempt))
		if e := t.LastError; e != nil && (!slices.Contains(contract.ErrorClasses(), e.Class) || plausibleTime(e.Since, latest).IsZero()) {
			t.LastError = nil
		}
	}
	return s
}

// plausibleTime returns t, or the zero time if t is before firstReported or after last.
func plausibleTime(t, last time.Time) time.Time {
	if t.Before(firstReported) || t.After(last) {
		return time.Time{}
	}
	return t
}
