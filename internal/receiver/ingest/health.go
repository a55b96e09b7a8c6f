package ingest

import "net/http"

// isHealthCheck reports whether a request is a load balancer's health check: GET or HEAD of "/" or "/healthz". No webhook has
// such a path, because a webhook's path ends in its secret segment.
func isHealthCheck(req *http.Request) bool {
	return (req.Method == http.MethodGet || req.Method == http.MethodHead) && (req.URL.Path == "/" || req.URL.Path == "/healthz")
}

// answerHealth answers 200, or 503 while the receiver is shutting down. The answer is the same for every webhook, and no event
// is counted. The connection is kept for the next check, unless connections are scarce: anyone may send this request.
func (h *Handler) answerHealth(w http.ResponseWriter, c *connection) {
	h.limitConnection(w, c)
	if h.draining.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// limitConnection ends the connection of a request that anyone may send, if connections are scarce or the receiver shuts down.
func (h *Handler) limitConnection(w http.ResponseWriter, c *connection) {
	if h.draining.Load() || c != nil && !c.proved && c.all.isCrowded() {
		w.Header()["Connection"] = closes
	}
}
