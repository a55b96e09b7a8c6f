package target

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// dateFormats are HTTP date formats that servers send and http.ParseTime does not support.
var dateFormats = []string{
	"Mon, 2 Jan 2006 15:04:05 -0700", "2 Jan 2006 15:04:05 -0700", "Monday, 02-Jan-06 15:04:05 -0700", "Mon, 02-Jan-2006 15:04:05 -0700",
	time.RFC3339, "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 -0700",
}

// retryAfter parses the header of RFC 9110, section 10.2.3, seconds or an HTTP date, in the forms that servers send: with
// a fraction, in quotes, with another name of UTC or an offset. A number that is too large yields the maximum duration. It
// returns 0 for a time in the past and for anything else.
func retryAfter(header string, now time.Time) time.Duration {
	header = strings.Trim(header, " \t\"'")
	if header == "" {
		return 0
	}
	if strings.Trim(header, "0123456789.eE+-") == "" {
		seconds, _ := strconv.ParseFloat(header, 64) // 0 if not a number, infinite if it is too large
		switch {
		case !(seconds > 0):
			return 0
		case seconds >= (math.MaxInt64 / float64(time.Second)):
			return math.MaxInt64
		}
		return time.Duration(seconds * float64(time.Second))
	}
	if at, ok := parseDate(header); ok && at.After(now) {
		return at.Sub(now) // capped at the maximum duration
	}
	return 0
}

func parseDate(text string) (time.Time, bool) {
	for _, zone := range []string{" UTC", " UT", " Z", " GMT", " utc", " gmt"} {
		if date, found := strings.CutSuffix(text, zone); found {
			text = date + " GMT"
			break
		}
	}
	if at, err := http.ParseTime(text); err == nil {
		return at, true
	}
	text = strings.Replace(text, " GMT", " +0000", 1)
	for _, format := range dateFormats {
		if at, err := time.Parse(format, text); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}
