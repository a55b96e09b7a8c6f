package ingest

import (
	"net/http"
	"strings"

	"heymarket.dev/operator/internal/contract"
)

// probed returns the proof that this receiver serves the URL of a probe: a line for each path below the probed prefix, the
// current one first, since the prober may know a previous one. It is empty if the request is not a probe, for example without a
// nonce.
func (r *rules) probed(req *http.Request) string {
	prefix, ok := strings.CutSuffix(req.URL.Path, contract.ProbeSegment)
	if !ok || req.Method != http.MethodPost {
		return ""
	}
	nonce, lines := req.URL.Query().Get(contract.ProbeNonce), ""
	for _, path := range r.Paths {
		segment, below := strings.CutPrefix(path, prefix)
		if answer := contract.ProbeAnswer(segment, nonce); below && answer != "" {
			lines += answer + "\n"
		}
	}
	return lines
}

// answerProbe answers 200. No body is read, no event is counted, and the connection is kept as for a health check.
func (h *Handler) answerProbe(w http.ResponseWriter, c *connection, lines string) {
	h.limitConnection(w, c)
	_, _ = w.Write([]byte(lines)) // The prober notices a truncated answer.
}
