package ingest

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
)

func isPlainJSON(h http.Header) bool {
	for _, encoding := range h.Values("Content-Encoding") {
		if encoding != "" && !strings.EqualFold(encoding, "identity") {
			return false
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
	charset := params["charset"]
	return charset == "" || strings.EqualFold(charset, "utf-8")
}

var errTooLarge = errors.New("the body is too large")

// trustedLength is up to where memory is set aside by what a request says of itself, before a byte of it is there.
const trustedLength = 8 << 10

// readBody reads at most limit bytes. A body that says that it is longer is not read at all.
func readBody(req *http.Request, limit int64) ([]byte, error) {
	switch {
	case req.ContentLength > limit:
		return nil, errTooLarge
	case req.ContentLength >= 0 && req.ContentLength <= trustedLength:
		body := make([]byte, req.ContentLength)
		_, err := io.ReadFull(req.Body, body)
		return body, err
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, limit+1))
	if err == nil && int64(len(body)) > limit {
		return nil, errTooLarge
	}
	return body, err
}
