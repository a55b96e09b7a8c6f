package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// identity is the part of a body that identifies the event.
type identity struct {
	// id is event_data.id, valid if hasID is set.
	id    int64
	hasID bool
	// status and updated are the raw JSON values of those members of event_data, empty when absent. A status of null is empty too.
	status, updated jsontext.Value
	// data is event_data as received.
	data jsontext.Value
}

// set stores the value of the member of event_data called name. An id that is not a positive 64-bit integer identifies nothing:
// software writes 0 and -1 for a missing ID, and readers round larger numbers differently.
func (i *identity) set(name string, value jsontext.Value) {
	switch kind := value.Kind(); {
	case name == "id":
		if id, err := integer(value); err == nil {
			i.id, i.hasID = id, id > 0
		}
	case name == "status" && kind != 'n':
		i.status = value
	case name == "updated":
		i.updated = value
	}
}

// Key is 128 bits of SHA-256 over the values that identify an event. Two deliveries with the same key are one event, unless the
// subject had another state in between, see Identity.
type Key [16]byte

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// ID renders the key as an event id: "evt_" and 26 lower-case characters.
func (k Key) ID() string {
	var id [30]byte
	copy(id[:], "evt_")
	lowerBase32.Encode(id[4:], k[:])
	return string(id[:])
}

// ParseID is the inverse of Key.ID; ok is false for anything that Key.ID does not produce.
func ParseID(id string) (k Key, ok bool) {
	text, found := strings.CutPrefix(id, "evt_")
	if !found || len(text) != lowerBase32.EncodedLen(len(k)) {
		return Key{}, false
	}
	if _, err := lowerBase32.Decode(k[:], []byte(text)); err != nil || k.ID() != id {
		return Key{}, false
	}
	return k, true
}

// The profiles by which repeats are recognized. They are part of the key, so keys of two profiles never collide.
const (
	byMessage      = "message"      // id, and the status when present: a changed status is a new event
	byConversation = "conversation" // id and updated: the same chat is closed on Monday and again on Friday
	byDigest       = "digest"       // a canonical form of the whole event_data
)

// Key returns the identity of the event that d delivers to the webhook called namespace/name. The envelope's id is not part of
// it: it names the webhook configuration and is the same in every delivery.
func (d *Delivery) Key(namespace, name string) Key {
	profile, part := d.identity.profile(subjectOf(d.Type))
	buf := make([]byte, 0, 256)
	for _, text := range [...]string{namespace, name, d.Type, profile} {
		buf = appendPart(buf, text)
	}
	buf = appendPart(buf, part)
	if profile != byDigest {
		buf = binary.BigEndian.AppendUint64(buf, uint64(d.identity.id))
	}
	sum := sha256.Sum256(buf)
	return Key(sum[:16])
}

// Conversation returns the ID of the event's conversation, or "" if it has none: for a message the ID of its conversation, for a
// conversation its own ID. No conversation is documented for events of other types.
func (d *Delivery) Conversation() string {
	switch subjectOf(d.Type) {
	case conversation:
		if d.identity.hasID {
			return strconv.FormatInt(d.identity.id, 10)
		}
	case message:
		// Called only for ordered targets, so the body of most events is not parsed a second time.
		var data struct {
			Conversation struct {
				ID jsontext.Value `json:"id"`
			} `json:"conversation"`
		}
		if err := json.Unmarshal(d.identity.data, &data, lenient); err == nil {
			if id, err := integer(data.Conversation.ID); err == nil && id > 0 {
				return strconv.FormatInt(id, 10)
			}
		}
	case consent, undocumented:
	}
	return ""
}

// profile returns the profile to use, and the value that it adds to the ID.
func (i *identity) profile(s subject) (string, []byte) {
	switch {
	case s == message && i.hasID:
		return byMessage, canonicalText(i.status)
	case s == conversation && i.hasID:
		if _, dated := timeOf(i.updated); dated {
			return byConversation, canonicalText(i.updated)
		}
	}
	return byDigest, canonical(i.data)
}

// appendPart appends part with its length as a prefix, so that no two lists of parts encode to the same bytes.
func appendPart[T string | []byte](buf []byte, part T) []byte {
	return append(binary.AppendUvarint(buf, uint64(len(part))), part...)
}

func canonicalText(raw jsontext.Value) []byte {
	if len(raw) == 0 || (raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0) {
		return raw // nothing to normalise, the common case
	}
	return canonical(raw)
}

// canonical returns valid JSON in the form of RFC 8785, with one difference: integers keep all their digits. The RFC rounds them
// to doubles, which would merge two events that differ only in a 64-bit ID. Half a surrogate pair becomes U+FFFD.
func canonical(raw jsontext.Value) []byte {
	out, err := jsontext.AppendFormat(make([]byte, 0, len(raw)), raw, lenient,
		jsontext.ReorderRawObjects(true),
		jsontext.CanonicalizeRawInts(false),
		jsontext.CanonicalizeRawFloats(true),
		jsontext.PreserveRawStrings(false),
		jsontext.SpaceAfterColon(false), jsontext.SpaceAfterComma(false), jsontext.Multiline(false))
	if err != nil {
		return raw // unreachable, since it has been decoded before; the raw bytes are a valid key as well
	}
	return out
}
