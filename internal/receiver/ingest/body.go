package ingest

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
)

// isPlainJSON reports whether a body is uncompressed JSON in UTF-8 or its subset ASCII.
func isPlainJSON(h http.Header) bool {
	for _, line := range h.Values("Content-Encoding") {
		for encoding := range strings.SplitSeq(line, ",") {
			encoding = strings.TrimSpace(encoding)
			if encoding != "" && !strings.EqualFold(encoding, "identity") && !isUTF8(encoding) { // some senders put the charset here
				return false
			}
		}
	}
	contentType := h.Get("Content-Type")
	if contentType == "application/json" {
		return true
	}
	mediaType, params, err := mime.ParseMediaType(contentType)
	if err != nil || mediaType != "application/json" {
		return false
	}
	return params["charset"] == "" || isUTF8(params["charset"])
}

// isUTF8 reports whether a name of a character encoding means UTF-8 or a subset of it.
func isUTF8(name string) bool {
	switch strings.ToLower(name) {
	case "utf-8", "utf8", "us-ascii", "ascii":
		return true
	}
	return false
}

var (
	errTooLarge  = errors.New("the body is too large")
	errDisplaced = errors.New("the connection was closed in favor of newer ones")
)

// trustedLength is how many bytes are allocated for a Content-Length before the body arrives.
const trustedLength = 8 << 10

// readBody reads at most limit bytes. A body whose Content-Length exceeds the limit is not read at all. Memory for a long
// one is allocated only as its bytes arrive, and within the bound on all bodies.
func readBody(req *http.Request, limit int64, c *connection) ([]byte, error) {
	switch {
	case req.ContentLength > limit:
		return nil, errTooLarge
	case req.ContentLength >= 0 && req.ContentLength <= trustedLength:
		body := make([]byte, req.ContentLength)
		_, err := io.ReadFull(req.Body, body)
		return body, err
	}
	most := limit + 1 // one byte beyond the limit shows that the body is too long
	if req.ContentLength >= 0 {
		most = req.ContentLength
	}
	body := make([]byte, 0, min(trustedLength, most))
	for {
		n, err := req.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case int64(len(body)) > limit:
			return nil, errTooLarge
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			return nil, err
		}
		if len(body) == cap(body) && int64(len(body)) < most {
			longer := min(2*int64(cap(body)), most)
			if !c.hold(longer - int64(cap(body))) {
				return nil, errDisplaced
			}
			body = append(make([]byte, 0, longer), body...)
		}
	}
}
