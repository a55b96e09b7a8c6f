package contract

import (
	"net/http"
	"time"
)

// ErrorClass is a code for why delivery attempts at a target fail. It contains no text from the target.
type ErrorClass string

// The classes. The first group applies to attempts without an answer, the second to answers other than 2xx.
const (
	ErrorNameLookup ErrorClass = "NameLookup"      // its host is not known to DNS
	ErrorBlocked    ErrorClass = "BlockedAddress"  // an address that receivers must not connect to
	ErrorRefused    ErrorClass = "ConnectionError" // refused, unreachable, or broken before an answer
	ErrorTLS        ErrorClass = "TLS"             // no TLS, or a certificate that is not trusted
	ErrorTimeout    ErrorClass = "Timeout"
	ErrorOther      ErrorClass = "Other"

	ErrorRedirect     ErrorClass = "Redirected"   // 3xx: receivers follow no redirects
	ErrorUnauthorized ErrorClass = "Unauthorized" // 401, 403, 407
	ErrorNotFound     ErrorClass = "NotFound"     // 404
	ErrorGone         ErrorClass = "Gone"         // 410
	ErrorTooMany      ErrorClass = "RateLimited"  // 429
	ErrorRejected     ErrorClass = "Rejected"     // any other 4xx
	ErrorServer       ErrorClass = "ServerError"  // 5xx
)

// ErrorClasses are all classes.
func ErrorClasses() []ErrorClass {
	return []ErrorClass{
		ErrorNameLookup, ErrorBlocked, ErrorRefused, ErrorTLS, ErrorTimeout, ErrorOther,
		ErrorRedirect, ErrorUnauthorized, ErrorNotFound, ErrorGone, ErrorTooMany, ErrorRejected, ErrorServer,
	}
}

// ClassOfStatus returns the class of an HTTP status that is not 2xx.
func ClassOfStatus(status int) ErrorClass {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		return ErrorUnauthorized
	case status == http.StatusNotFound:
		return ErrorNotFound
	case status == http.StatusGone:
		return ErrorGone
	case status == http.StatusTooManyRequests:
		return ErrorTooMany
	case status >= 300 && status < 400:
		return ErrorRedirect
	case status >= 400 && status < 500:
		return ErrorRejected
	case status >= 500 && status < 600:
		return ErrorServer
	}
	return ErrorOther
}

// TargetError is why the latest delivery attempts at a target failed.
type TargetError struct {
	// Class is the class of the latest failure.
	Class ErrorClass `json:"class"`
	// Since is when failures of this class started, truncated to the minute.
	Since time.Time `json:"since"`
}
