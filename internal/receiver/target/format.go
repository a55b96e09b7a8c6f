package target

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/event"
)

// Headers of the CloudEvents binary mode, and of Standard Webhooks signatures.
const (
	headerSpecVersion = "Ce-Specversion"
	headerCloudID     = "Ce-Id"
	headerSource      = "Ce-Source"
	headerCloudType   = "Ce-Type"
	headerTime        = "Ce-Time"
	// HeaderSignature carries, for each signing key, "v1," and base64 of HMAC-SHA-256 over "id.timestamp.body".
	HeaderSignature = "Webhook-Signature"
	// HeaderTrace carries the W3C traceparent.
	HeaderTrace = "Traceparent"

	headerTraceState = "Tracestate"
	headerBaggage    = "Baggage"
)

const (
	mediaTypeJSON       = "application/json"
	mediaTypeStructured = "application/cloudevents+json"
	cloudSpecVersion    = "1.0"
	// typePrefix qualifies the provider's types: CloudEvents types should have an owner.
	typePrefix = "heymarket."
)

// Source returns the CloudEvents source of a webhook. Together with the event id it is unique, as the standard
// requires.
func Source(namespace, name string) string { return "/heymarket/" + namespace + "/" + name }

// encode returns the body of a request and sets the headers of its format.
func (t *Target) encode(e event.Event, header http.Header) (body []byte) {
	header["Content-Type"] = []string{mediaTypeJSON}
	switch t.format {
	case contract.FormatCloudEvents:
		header[headerSpecVersion] = []string{cloudSpecVersion}
		header[headerCloudID] = []string{e.ID}
		header[headerSource] = []string{t.source}
		header[headerCloudType] = []string{typePrefix + e.Type}
		header[headerTime] = []string{cloudTime(e)}
	case contract.FormatCloudEventsStructured:
		header["Content-Type"] = []string{mediaTypeStructured}
		return t.structured(e)
	case contract.FormatHeymarket:
	}
	return e.Body
}

// structured wraps the event's body in a CloudEvent, byte for byte. The CloudEvents SDK would link a JSON and an XML library, half a
// MiB of every receiver's memory.
func (t *Target) structured(e event.Event) []byte {
	out := make([]byte, 0, 256+len(e.Body))
	for _, attribute := range [...]struct{ name, value string }{
		{`{"specversion":`, cloudSpecVersion},
		{`,"id":`, e.ID},
		{`,"source":`, t.source},
		{`,"type":`, typePrefix + e.Type},
		{`,"datacontenttype":`, mediaTypeJSON},
		{`,"time":`, cloudTime(e)},
	} {
		out = append(out, attribute.name...)
		out, _ = jsontext.AppendQuote(out, attribute.value) // an error means that it has replaced invalid UTF-8
	}
	out = append(out, `,"data":`...)
	return append(append(out, e.Body...), '}')
}

func cloudTime(e event.Event) string { return e.AcceptedAt.UTC().Format(time.RFC3339Nano) }

// sign returns the value of HeaderSignature: one signature per key, separated by spaces, so that a target with either
// key of a rotation can verify it.
func sign(keys [][]byte, id string, timestamp int64, body []byte) string {
	out := make([]byte, 0, len(keys)*(len("v1, ")+base64.StdEncoding.EncodedLen(sha256.Size)))
	signed := make([]byte, 0, len(id)+24)
	signed = append(append(signed, id...), '.')
	signed = append(strconv.AppendInt(signed, timestamp, 10), '.')
	for i, key := range keys {
		if i > 0 {
			out = append(out, ' ')
		}
		mac := hmac.New(sha256.New, key)
		mac.Write(signed)
		mac.Write(body)
		out = append(out, "v1,"...)
		out = base64.StdEncoding.AppendEncode(out, mac.Sum(nil))
	}
	return string(out)
}
