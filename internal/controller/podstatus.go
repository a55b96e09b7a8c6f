package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"time"

	"heymarket.dev/operator/internal/controller/desired"
)

const (
	podStatusTimeout = 2 * time.Second
	podStatusLimit   = 64 << 10
)

// HTTPPodStatus asks by GET /status on the Pod's ops port.
type HTTPPodStatus struct {
	client *http.Client
	port   uint16
}

// NewHTTPPodStatus returns a PodStatus for Pods that the operator reaches directly: no proxy, no redirect, 2 seconds.
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

// ConfigDigest implements PodStatus.
func (p *HTTPPodStatus) ConfigDigest(ctx context.Context, address netip.Addr) (string, error) {
	url := "http://" + netip.AddrPortFrom(address, p.port).String() + "/status"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	// Members that this version does not know are those of another version of the receiver.
	var status struct {
		ConfigDigest string `json:"configDigest"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, podStatusLimit)).Decode(&status); err != nil {
		return "", fmt.Errorf("GET %s: %w", url, err)
	}
	if status.ConfigDigest == "" {
		return "", errors.New("GET " + url + ": the answer has no configDigest")
	}
	return status.ConfigDigest, nil
}
