package event

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strconv"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Delivery is one request body of the provider, decoded once into the fields that the receiver needs.
type Delivery struct {
	// Type is the event type in its wire spelling; the corrected spelling of a misspelled type is converted to it.
	Type string
	// Respelled reports that the type arrived in its corrected spelling.
	Respelled bool
	// WebhookID is the provider's webhook configuration, valid if HasWebhookID is set. It is not an event ID.
	WebhookID    int64
	HasWebhookID bool
	// OddWebhookID reports that the member "id" is not a plain 64-bit integer but a string or a number such as 7.0. It then
	// identifies no webhook.
	OddWebhookID bool
	// Token is the verification token as received; empty if missing or not a string. It is valid until Body is changed.
	Token []byte
	// Body is the request body, byte for byte, without a leading byte order mark and without the member that holds the token.
	Body []byte

	identity identity
}

// Malformed is the error for a body that is not an event. Its text is meant for the sender and quotes nothing from the body.
type Malformed string

func (m Malformed) Error() string { return string(m) }

// The reasons why a body is malformed.
const (
	NotJSON          Malformed = "the body is not one JSON object in valid UTF-8 without duplicate members"
	NoType           Malformed = `the member "type" is missing or not a name of 1 to 64 letters, digits, '_', '-' and '.'`
	NoEventData      Malformed = `the member "event_data" is missing or not an object`
	BadID            Malformed = `the member "id" is not a 64-bit integer`
	AmbiguousMembers Malformed = `a member's name differs from "type", "id", "token" or "event_data" in letter case, '_' or '-' only`
	// AmbiguousName applies to names at any depth: readers that end a string at U+0000, or that replace half a surrogate
	// pair, see a different name.
	AmbiguousName Malformed = "a member's name contains U+0000 or half of a surrogate pair"
	// AmbiguousEventData allows a variant spelling that occurs alone: the fields of some types are not published.
	AmbiguousEventData Malformed = `two members of "event_data" are both "id", "status" or "updated" but for letter case`
)

// maxTypeLength bounds the type, which is passed on in headers and log lines. The longest documented one has 28 characters.
const maxTypeLength = 64

// decoder is the state of one Decode call, pooled for reuse.
type decoder struct {
	buf  bytes.Buffer
	json jsontext.Decoder
}

var decoders = sync.Pool{New: func() any { return new(decoder) }}

// byteOrderMark may precede a document (RFC 8259, section 8.1). It is not part of the document, and many readers reject it,
// so it is not passed on.
const byteOrderMark = "\ufeff"

// lenient accepts an escaped half of a surrogate pair, which the JSON grammar allows. Readers keep it or replace it with
// U+FFFD, which makes no difference in text. In names, type and token it would make one, so Decode refuses it there. Bytes
// that are not UTF-8 have been refused before.
var lenient = jsontext.AllowInvalidUTF8(true)

// Decode reads one request body. It refuses, as a Malformed error, everything that two readers could interpret as two
// different events: names that differ in case only, duplicate names at any depth, names that readers truncate or replace,
// invalid UTF-8, trailing data, and ids that do not fit 64 bits. The Delivery refers to body.
func Decode(body []byte) (Delivery, error) {
	body = bytes.TrimPrefix(body, []byte(byteOrderMark))
	if !utf8.Valid(body) {
		return Delivery{}, NotJSON
	}
	d := decoders.Get().(*decoder)
	defer func() { // the pool must not keep the sender's data
		d.buf = bytes.Buffer{}
		d.json.Reset(&d.buf, lenient)
		decoders.Put(d)
	}()
	d.buf = *bytes.NewBuffer(body)
	d.json.Reset(&d.buf, lenient)

	var (
		out      Delivery
		hasData  bool
		cut      span // the token's member, omitted from Body
		firstCut bool // the token is the first member: the member that follows decides where the cut ends
		end      int  // where the previous member's value ended
	)
	if tok, err := d.json.ReadToken(); err != nil || tok.Kind() != '{' {
		return Delivery{}, NotJSON
	}
	for first := true; d.json.PeekKind() != '}'; first = false {
		rawName, err := d.json.ReadValue()
		if err != nil {
			return Delivery{}, NotJSON
		}
		nameStart := int(d.json.InputOffset()) - len(rawName)
		if firstCut {
			cut.end, firstCut = nameStart, false
		}
		isToken := false
		switch name := memberName(rawName); string(name) {
		case "type":
			out.Type, err = d.readType()
		case "id":
			err = d.readWebhookID(&out)
		case "token":
			isToken = true
			out.Token, err = d.readToken(body)
		case "event_data":
			hasData = true
			err = d.readEventData(body, &out.identity)
		default:
			if foldedIndex(envelopeNames, name) >= 0 || isCamelEventData(name) {
				return Delivery{}, AmbiguousMembers
			}
			if d.json.SkipValue() != nil {
				err = NotJSON
			}
		}
		if err != nil {
			return Delivery{}, err
		}
		valueEnd := int(d.json.InputOffset())
		if isToken {
			cut = span{end, valueEnd}
			if first {
				cut, firstCut = span{nameStart, valueEnd}, true
			}
		}
		end = valueEnd
	}
	if _, err := d.json.ReadToken(); err != nil {
		return Delivery{}, NotJSON
	}
	if len(bytes.TrimLeft(body[d.json.InputOffset():], whiteSpace)) != 0 {
		return Delivery{}, NotJSON
	}
	switch {
	case hasAmbiguousName(body):
		return Delivery{}, AmbiguousName
	case out.Type == "":
		return Delivery{}, NoType
	case !hasData:
		return Delivery{}, NoEventData
	}
	if out.Type == messageReceivedCorrected {
		out.Type, out.Respelled = MessageReceived, true
	}
	out.Body = body
	if cut.end > cut.start {
		out.Body = make([]byte, 0, len(body)-(cut.end-cut.start))
		out.Body = append(append(out.Body, body[:cut.start]...), body[cut.end:]...)
	}
	return out, nil
}

// whiteSpace is the white space that JSON allows between tokens.
const whiteSpace = " \t\r\n"

// span is a range of the body, start inclusive, end exclusive.
type span struct{ start, end int }

var (
	envelopeNames = [][]byte{[]byte("type"), []byte("id"), []byte("token"), []byte("event_data")}
	identityNames = [][]byte{[]byte("id"), []byte("status"), []byte("updated")}
)

// memberName returns the decoded name of raw, a JSON string, valid until the next read. It allocates only for a name with
// escapes.
func memberName(raw jsontext.Value) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	name, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return nil
	}
	return name
}

// foldedIndex returns the index of the name that equals name under case folding, or -1.
func foldedIndex(names [][]byte, name []byte) int {
	return slices.IndexFunc(names, func(known []byte) bool { return bytes.EqualFold(name, known) })
}

// isCamelEventData reports whether name is event_data when letter case, '_' and '-' are ignored, as some readers do.
func isCamelEventData(name []byte) bool {
	const short, long = len("eventdata"), len("e-v-e-n-t-d-a-t-a")
	if len(name) < short || len(name) > long {
		return false
	}
	var letters [long]byte
	n := 0
	for _, c := range name {
		if c != '_' && c != '-' {
			letters[n] = c
			n++
		}
	}
	return bytes.EqualFold(letters[:n], []byte("eventdata"))
}

func (d *decoder) readType() (string, error) {
	raw, err := d.json.ReadValue()
	if err != nil {
		return "", NotJSON
	}
	if raw.Kind() != '"' {
		return "", NoType
	}
	for _, known := range allTypes {
		if string(raw[1:len(raw)-1]) == known {
			return known, nil
		}
	}
	name, err := jsontext.AppendUnquote(nil, raw)
	if err != nil || !isTypeName(name) {
		return "", NoType
	}
	return string(name), nil
}

var allTypes = Types()

// IsTypeName reports whether name can be a type: 1 to 64 letters, digits, '_', '-' and '.'.
func IsTypeName(name string) bool { return isTypeName([]byte(name)) }

func isTypeName(name []byte) bool {
	if len(name) == 0 || len(name) > maxTypeLength {
		return false
	}
	for _, c := range name {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-', c == '.':
		default:
			return false
		}
	}
	return true
}

// readWebhookID reads the webhook's number. Another notation is accepted here, because it matters only if the webhook ID is
// checked.
func (d *decoder) readWebhookID(out *Delivery) error {
	raw, err := d.json.ReadValue()
	if err != nil {
		return NotJSON
	}
	if raw.Kind() == 'n' {
		return nil
	}
	if out.WebhookID, err = integer(raw); err == nil {
		out.HasWebhookID = true
		return nil
	}
	out.WebhookID, out.OddWebhookID = 0, isText(raw) || isWhole(raw)
	if !out.OddWebhookID {
		return BadID
	}
	return nil
}

// isText reports whether raw is a string that every reader decodes to the same value.
func isText(raw jsontext.Value) bool {
	return raw.Kind() == '"' && !isAmbiguous(raw)
}

// isWhole reports whether raw, which is not written as an integer of 64 bits, is a number that every reader decodes to the same
// integer, such as 7.0.
func isWhole(raw jsontext.Value) bool {
	const exact = 1 << 53 // from here on a double cannot represent every integer
	if raw.Kind() != '0' {
		return false
	}
	n, err := strconv.ParseFloat(string(raw), 64)
	return err == nil && n == math.Trunc(n) && math.Abs(n) < exact
}

// hasAmbiguousName reports whether a member of valid JSON, at any depth, has a name that isAmbiguous.
func hasAmbiguousName(body []byte) bool {
	if !bytes.Contains(body, []byte(`\u`)) {
		return false
	}
	for {
		start := bytes.IndexByte(body, '"')
		if start < 0 {
			return false
		}
		escaped, end := false, start+1
		for ; body[end] != '"'; end++ {
			if body[end] == '\\' {
				escaped = true
				end++
			}
		}
		text := body[start : end+1]
		body = body[end+1:]
		if escaped && bytes.HasPrefix(bytes.TrimLeft(body, whiteSpace), []byte(":")) && isAmbiguous(text) {
			return true
		}
	}
}

// isAmbiguous reports whether a JSON string contains U+0000 or half of a surrogate pair.
func isAmbiguous(raw jsontext.Value) bool {
	text, err := jsontext.AppendUnquote(nil, raw)
	return err != nil || bytes.IndexByte(text, 0) >= 0
}

var errNoInteger = errors.New("not a 64-bit integer")

func integer(raw jsontext.Value) (int64, error) {
	if raw.Kind() != '0' {
		return 0, errNoInteger
	}
	return strconv.ParseInt(string(raw), 10, 64)
}

// readToken returns the token, or nil if it is not a string: such a token is wrong, not malformed.
func (d *decoder) readToken(body []byte) ([]byte, error) {
	raw, err := d.json.ReadValue()
	if err != nil {
		return nil, NotJSON
	}
	if raw.Kind() != '"' {
		return nil, nil
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		end := int(d.json.InputOffset())
		return body[end-len(raw)+1 : end-1], nil
	}
	token, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return nil, NotJSON
	}
	return token, nil
}

// readEventData walks the members of event_data and keeps the few that identify an event.
func (d *decoder) readEventData(body []byte, id *identity) error {
	if d.json.PeekKind() != '{' {
		return NoEventData
	}
	if _, err := d.json.ReadToken(); err != nil {
		return NotJSON
	}
	start := int(d.json.InputOffset()) - 1
	var seen [3]bool // of identityNames, in any letter case
	for d.json.PeekKind() != '}' {
		rawName, err := d.json.ReadValue()
		if err != nil {
			return NotJSON
		}
		name := memberName(rawName)
		which := foldedIndex(identityNames, name)
		if which >= 0 {
			if seen[which] {
				return AmbiguousEventData
			}
			seen[which] = true
			if !bytes.Equal(name, identityNames[which]) {
				which = -1
			}
		}
		raw, err := d.json.ReadValue()
		if err != nil {
			return NotJSON
		}
		if which >= 0 {
			end := int(d.json.InputOffset())
			id.set(string(identityNames[which]), body[end-len(raw):end])
		}
	}
	if _, err := d.json.ReadToken(); err != nil {
		return NotJSON
	}
	id.data = body[start:d.json.InputOffset()]
	return nil
}
