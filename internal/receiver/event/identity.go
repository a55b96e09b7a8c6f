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

// identity is what a body says about which event it is.
type identity struct {
	// id is event_data.id, valid where hasID says so.
	id    int64
	hasID bool
	// status and updated are the raw JSON values of those members of event_data, empty when absent or null.
	status, updated jsontext.Value
	// data is event_data as it came.
	data jsontext.Value
}

// set takes the value of the member of event_data called name. An id that is no positive 64-bit integer identifies nothing:
// 0 and -1 are what software writes where there is none, and readers round larger ones in different ways.
func (i *identity) set(name string, value jsontext.Value) {
	switch kind := value.Kind(); {
	case name == "id":
		if id, err := integer(value); err == nil {
			i.id, i.hasID = id, id > 0
		}
	case name == "status" && kind != 'n':
		i.status = value
	case name == "updated" && kind != 'n':
		i.updated = value
	}
}

// Key is 128 bits of SHA-256 over what makes an event the same event. Two deliveries with one key are one event, unless
// its subject had another state in between, see Identity.
type Key [16]byte

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// ID renders the key as an event id: "evt_" and 26 lower-case characters.
func (k Key) ID() string {
	var id [30]byte
	copy(id[:], "evt_")
	lowerBase32.Encode(id[4:], k[:])
	return string(id[:])
}

// ParseID is the inverse of Key.ID; ok is false for anything that Key.ID does not write.
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

// The profiles by which repeats are recognized; part of the key, so that keys of two profiles never collide.
const (
	byMessage      = "message"      // id, and the status when present: a status that moves on is news
	byConversation = "conversation" // id and updated: the same chat is closed on Monday and again on Friday
	byDigest       = "digest"       // a canonical form of the whole event_data
)

// Key returns the identity of the event that d delivers to the webhook called namespace/name. The envelope's id takes
// no part in it: that one names the webhook configuration and is the same in every delivery.
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

// Conversation returns what identifies the conversation of the event, or "" where it has none: for a message the id of
// its conversation, for a conversation its own id. Events of other types belong to no conversation that is documented.
func (d *Delivery) Conversation() string {
	switch subjectOf(d.Type) {
	case conversation:
		if d.identity.hasID {
			return strconv.FormatInt(d.identity.id, 10)
		}
	case message:
		// Only targets that want an order ask, so the body of most events is not read a second time.
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

// profile returns the profile to go by, and what it asks for besides the id.
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

// appendPart writes part behind its length, so that no two lists of parts read the same.
func appendPart[T string | []byte](buf []byte, part T) []byte {
	return append(binary.AppendUvarint(buf, uint64(len(part))), part...)
}

func canonicalText(raw jsontext.Value) []byte {
	if len(raw) == 0 || (raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0) {
		return raw // nothing to normalise, which is the rule
	}
	return canonical(raw)
}

// canonical returns valid JSON in the form of RFC 8785, with one difference: integers keep all their digits. The RFC
// rounds them to doubles, and two events that differ in a 64-bit id only would become one. Half a surrogate pair becomes U+FFFD.
func canonical(raw jsontext.Value) []byte {
	out, err := jsontext.AppendFormat(make([]byte, 0, len(raw)), raw, lenient,
		jsontext.ReorderRawObjects(true),
		jsontext.CanonicalizeRawInts(false),
		jsontext.CanonicalizeRawFloats(true),
		jsontext.PreserveRawStrings(false),
		jsontext.SpaceAfterColon(false), jsontext.SpaceAfterComma(false), jsontext.Multiline(false))
	if err != nil {
		return raw // it has been decoded before, so this is out of reach; the raw bytes are an honest key, too
	}
	return out
}
