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

	"heymarket.dev/operator/internal/controller/desired"
)

const (
	// podStatusTimeout leaves a Pod the time to find out that Redis is silent, and to say so.
	podStatusTimeout = desired.StatusTimeout + 2*time.Second
	podStatusLimit   = 64 << 10
)

// PodReport is what a receiver Pod says of itself, as far as the operator cares. Members that it does not know are those
// of another version of the receiver.
type PodReport struct {
	// ConfigDigest identifies the configuration in force.
	ConfigDigest string `json:"configDigest"`
	// Redis is "ok", desired.RedisConnecting, or says what is wrong.
	Redis string `json:"redis"`
	// Durable says that Redis keeps what it has confirmed. If it is false and there are no DurabilityProblems, the Pod
	// does not know yet.
	Durable bool `json:"durable"`
	// DurabilityProblems are one sentence each. Redis may be one of them: then it answers, and takes no writes.
	DurabilityProblems []string `json:"durabilityProblems"`
	// Tokens are those in force.
	Tokens []TokenReport `json:"tokens"`
	// Targets are those of the configuration in force.
	Targets []TargetReport `json:"targets"`
}

// TokenReport is what a receiver Pod says of one token.
type TokenReport struct {
	// Name is current or previous.
	Name string `json:"name"`
	// LastUsed is when this Pod accepted it last, zero if it has not done so yet.
	LastUsed time.Time `json:"lastUsed"`
}

// TargetReport is what a receiver Pod says of one target.
type TargetReport struct {
	Name string `json:"name"`
	// Pending and DeadLetters count events, those of all Pods together.
	Pending     int64 `json:"pending"`
	DeadLetters int64 `json:"deadLetters"`
	// Circuit is Closed, Open or Gone, as this Pod sees it.
	Circuit string `json:"circuit"`
	// LastDelivered is when the target last took an event from this Pod, zero if it has not done so yet.
	LastDelivered time.Time `json:"lastDelivered"`
}

// redisAnswers says that the Pod has had an answer from Redis, if only a refusal that is among its DurabilityProblems.
func (r PodReport) redisAnswers() bool {
	return r.redisWorks() || slices.Contains(r.DurabilityProblems, r.Redis)
}

func (r PodReport) redisWorks() bool { return r.Redis == "ok" }

// HTTPPodStatus asks by GET /status on the Pod's ops port.
type HTTPPodStatus struct {
	client *http.Client
	port   uint16
}

// NewHTTPPodStatus returns a PodStatus for Pods that the operator reaches directly: no proxy, no redirect, 4 seconds.
func NewHTTPPodStatus() *HTTPPodStatus {
	return &HTTPPodStatus{
		port: desired.OpsPort,
		client: &http.Client{
			Timeout: podStatusTimeout,
			// A Pod is asked a few times and then not for hours: no connection is worth keeping.
			Transport:     &http.Transport{DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Report implements PodStatus.
func (p *HTTPPodStatus) Report(ctx context.Context, address netip.Addr) (PodReport, error) {
	url := "http://" + netip.AddrPortFrom(address, p.port).String() + "/status"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return PodReport{}, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return PodReport{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return PodReport{}, fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	var report PodReport
	if err := json.NewDecoder(io.LimitReader(resp.Body, podStatusLimit)).Decode(&report); err != nil {
		return PodReport{}, fmt.Errorf("GET %s: %w", url, err)
	}
	if report.ConfigDigest == "" {
		return PodReport{}, errors.New("GET " + url + ": the answer has no configDigest")
	}
	return report, nil
}
