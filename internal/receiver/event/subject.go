package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Identity holds the values by which deliveries are compared.
type Identity struct {
	// Key identifies the event, and its ID is derived from it.
	Key
	// Rule decides when a delivery whose Key is remembered is a repeat.
	Rule Rule
	// Subject is what the event is about: a message, a conversation, the consent of one recipient. It is zero with Any.
	Subject Key
	// State is the state that the event reports of its subject. Two consecutive deliveries with the same State are one
	// event.
	State Key
	// Updated is when the subject changed, in microseconds since 1970, by the sender's clock; 0: unknown.
	Updated int64
}

// Rule decides when a delivery whose key is remembered is a repeat, and not a state that has returned.
type Rule string

// The rules.
const (
	// Any: always. The event has no known subject.
	Any Rule = "any"
	// Last: when its state is the last of its subject, or when it is older than the last.
	Last Rule = "last"
	// OptOut: when its state is the last of its subject.
	OptOut Rule = "opt-out"
	// OptIn: as OptOut; also, while the sender may still be retrying, when it equals an opt-in from before an opt-out.
	OptIn Rule = "opt-in"
)

// Judgement is the result of comparing a delivery with the remembered ones.
type Judgement string

// The judgements. New and Returned are stored, the others are not.
const (
	New Judgement = "new"
	// Returned: the same event was stored before, and its subject had another state in between.
	Returned Judgement = "returned"
	// Repeat: the delivery repeats the last event of its subject, or any event if there is no subject.
	Repeat Judgement = "repeat"
	// LateRepeat: the delivery repeats an event of its subject that is older than the last.
	LateRepeat Judgement = "late_repeat"
	// OptInWithheld: the opt-in equals one from before an opt-out, and the sender may still be retrying that one.
	OptInWithheld Judgement = "opt_in_withheld"
)

// Stored reports whether a delivery with this judgement is stored.
func (j Judgement) Stored() bool { return j == New || j == Returned }

// The kinds of subject, as a part of the hash.
const (
	ofMessage      = "message subject"
	ofConversation = "conversation subject"
	ofConsent      = "consent subject"
)

// Identity returns the identity of the event that d delivers to the webhook called namespace/name.
func (d *Delivery) Identity(namespace, name string) Identity {
	out := Identity{Key: d.Key(namespace, name), Rule: Any}
	out.State = out.Key
	id, kind := d.identity.id, subjectOf(d.Type)
	switch {
	case kind == message && d.identity.hasID:
		out.Rule, out.Subject = Last, hash([4]string{namespace, name, ofMessage, d.Type}, id)
		out.Updated, _ = timeOf(d.identity.updated)
	case kind == conversation && d.identity.hasID:
		out.Rule = Last
		if _, dated := timeOf(d.identity.updated); !dated {
			out.Subject = hash([4]string{namespace, name, ofConversation}, id)
			break
		}
		// A time identifies one change of a conversation, or several within its resolution, which differ in content.
		out.Subject = hash([4]string{namespace, name, ofConversation}, id, canonicalText(d.identity.updated))
		out.State = hash([4]string{d.Type}, 0, canonical(d.identity.data))
	case kind == consent:
		out.Rule = OptIn
		if d.Type == TargetOptOut || d.Type == TargetDoubleOptRestricted {
			out.Rule = OptOut
		}
		recipient, inbox, id := d.identity.recipient()
		out.Subject = hash([4]string{namespace, name, ofConsent}, id, recipient, inbox)
	}
	return out
}

// recipient returns whose consent the event is about. The fields of these events are not published; if no known field
// names a recipient, all such events of the webhook share one recipient, so that no opt-out is mistaken for a repeat of
// an older one.
func (i *identity) recipient() (recipient, inbox []byte, id int64) {
	var data struct {
		Target jsontext.Value `json:"target"`
		Phone  jsontext.Value `json:"phone"`
		Inbox  jsontext.Value `json:"inbox"`
	}
	if err := json.Unmarshal(i.data, &data, jsontext.AllowInvalidUTF8(true)); err == nil {
		for _, value := range []jsontext.Value{data.Target, data.Phone} {
			if names(value) {
				return canonicalText(value), canonicalText(data.Inbox), 0
			}
		}
	}
	if i.hasID {
		return nil, nil, i.id
	}
	return nil, nil, 0
}

// names reports whether a value can name something: not null, not empty, not zero.
func names(value jsontext.Value) bool {
	switch value.Kind() {
	case '"':
		return strings.Trim(string(value), "\" \t") != ""
	case '0':
		return string(value) != "0"
	}
	return false
}

// hash returns 128 bits of SHA-256 over the values that name a subject or a state.
func hash(texts [4]string, id int64, parts ...[]byte) Key {
	buf := make([]byte, 0, 256)
	for _, text := range texts {
		buf = appendPart(buf, text)
	}
	buf = binary.BigEndian.AppendUint64(buf, uint64(id))
	for _, part := range parts {
		buf = appendPart(buf, part)
	}
	sum := sha256.Sum256(buf)
	return Key(sum[:16])
}

// timeLayouts are the accepted notations of a time, RFC 3339 among them.
var timeLayouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", time.DateOnly}

// timeOf reads a time. It is present unless the value is one that software writes for a missing time: null, an empty
// text, zero, the year 1, the beginning of 1970. A time that is present but cannot be parsed counts as 0 microseconds.
func timeOf(raw jsontext.Value) (microseconds int64, present bool) {
	switch raw.Kind() {
	case '0':
		seconds, err := strconv.ParseFloat(string(raw), 64)
		if err != nil || seconds <= 0 {
			return 0, false
		}
		for seconds > 1e11 { // milliseconds, microseconds or nanoseconds
			seconds /= 1000
		}
		return int64(seconds * 1e6), true
	case '"':
		return textTime(raw)
	}
	return 0, false
}

func textTime(raw jsontext.Value) (microseconds int64, present bool) {
	var t time.Time
	if t.UnmarshalText(raw[1:len(raw)-1]) == nil { // RFC 3339, the common case
		return max(t.UnixMicro(), 0), t.Unix() > 0
	}
	unquoted, err := jsontext.AppendUnquote(nil, raw)
	text := string(bytes.TrimSpace(unquoted))
	if err != nil || strings.Trim(text, "0-:./TZ +") == "" {
		return 0, false
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			return max(t.UnixMicro(), 0), t.Unix() > 0
		}
	}
	return 0, !strings.HasPrefix(text, "0001-01-01") && !strings.HasPrefix(text, "1970-01-01")
}
