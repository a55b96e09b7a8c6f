package event

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// Delivery is one request body of the provider, read once into what the receiver needs.
type Delivery struct {
	// Type is the event type; a corrected spelling of the provider's own has been turned into the one on the wire.
	Type string
	// Respelled says that the type came in its corrected spelling.
	Respelled bool
	// WebhookID is the provider's webhook configuration, valid where HasWebhookID says so. It is no event id.
	WebhookID    int64
	HasWebhookID bool
	// Token is the verification token as it came; empty when missing or no string. It is valid until Body is changed.
	Token []byte
	// Body is the request body, byte for byte, less the member that holds the token.
	Body []byte

	identity identity
}

// Malformed is the error of a body that is not an event. Its text is meant for the sender and repeats nothing of the body.
type Malformed string

func (m Malformed) Error() string { return string(m) }

// What can be wrong with a body.
const (
	NotJSON          Malformed = "the body is not one JSON object in valid UTF-8 without duplicate members"
	NoType           Malformed = `the member "type" is missing or not a name of 1 to 64 letters, digits, '_', '-' and '.'`
	NoEventData      Malformed = `the member "event_data" is missing or not an object`
	BadID            Malformed = `the member "id" is not a 64-bit integer`
	BadEventDataID   Malformed = `the member "id" of "event_data" is a number but not a 64-bit integer`
	AmbiguousMembers Malformed = `a member's name differs from "type", "id", "token" or "event_data" in letter case only`
)

// maxTypeLength bounds the type, which travels on in headers and log lines. The longest documented one has 28 characters.
const maxTypeLength = 64

// decoder is what one Decode needs and the next can use again.
type decoder struct {
	buf  bytes.Buffer
	json jsontext.Decoder
}

var decoders = sync.Pool{New: func() any { return new(decoder) }}

// Decode reads one request body. It refuses, as a Malformed error, everything that two readers could take for two
// different events: names that differ in case only, duplicate names at any depth, invalid UTF-8, trailing data, and ids
// that do not fit 64 bits. The Delivery refers to body.
func Decode(body []byte) (Delivery, error) {
	d := decoders.Get().(*decoder)
	defer func() { // the pool must not keep the sender's data
		d.buf = bytes.Buffer{}
		d.json.Reset(&d.buf)
		decoders.Put(d)
	}()
	d.buf = *bytes.NewBuffer(body)
	d.json.Reset(&d.buf)

	var (
		out      Delivery
		hasData  bool
		cut      span // the token's member, to be left out of Body
		firstCut bool // the token is the first member: what follows it decides where the cut ends
		end      int  // where the previous member's value ended
	)
	if tok, err := d.json.ReadToken(); err != nil || tok.Kind() != '{' {
		return Delivery{}, NotJSON
	}
	end = int(d.json.InputOffset())
	for first := true; d.json.PeekKind() != '}'; first = false {
		rawName, err := d.json.ReadValue()
		if err != nil {
			return Delivery{}, NotJSON
		}
		nameStart := int(d.json.InputOffset()) - len(rawName)
		if firstCut {
			cut.end, firstCut = nameStart, false
		}
		name := memberName(rawName)
		switch name {
		case "type":
			out.Type, err = d.readType()
		case "id":
			out.WebhookID, out.HasWebhookID, err = d.readWebhookID()
		case "token":
			out.Token, err = d.readToken(body)
		case "event_data":
			hasData = true
			err = d.readEventData(body, &out.identity)
		default:
			if looksLikeKnown(name) {
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
		if name == "token" {
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
	if len(bytes.TrimLeft(body[d.json.InputOffset():], " \t\r\n")) != 0 {
		return Delivery{}, NotJSON
	}
	switch {
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

// span is a range of the body, start inclusive, end exclusive.
type span struct{ start, end int }

// memberName returns the name that raw, a JSON string, stands for. It allocates only for a name with escapes.
func memberName(raw jsontext.Value) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		switch inner := raw[1 : len(raw)-1]; string(inner) { // the compiler compares without a copy
		case "type":
			return "type"
		case "id":
			return "id"
		case "token":
			return "token"
		case "event_data":
			return "event_data"
		case "status":
			return "status"
		case "updated":
			return "updated"
		default:
			return string(inner)
		}
	}
	name, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return ""
	}
	return string(name)
}

func looksLikeKnown(name string) bool {
	for _, known := range [...]string{"type", "id", "token", "event_data"} {
		if strings.EqualFold(name, known) {
			return true
		}
	}
	return false
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

func (d *decoder) readWebhookID() (id int64, present bool, err error) {
	raw, err := d.json.ReadValue()
	if err != nil {
		return 0, false, NotJSON
	}
	if raw.Kind() == 'n' {
		return 0, false, nil
	}
	if id, err = integer(raw); err != nil {
		return 0, false, BadID
	}
	return id, true, nil
}

var errNoInteger = errors.New("not a 64-bit integer")

func integer(raw jsontext.Value) (int64, error) {
	if raw.Kind() != '0' {
		return 0, errNoInteger
	}
	return strconv.ParseInt(string(raw), 10, 64)
}

// readToken returns the token, or nothing where it is no string: such a token is wrong, not malformed.
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

// readEventData walks the members of event_data and keeps the few that tell events apart.
func (d *decoder) readEventData(body []byte, id *identity) error {
	if d.json.PeekKind() != '{' {
		return NoEventData
	}
	if _, err := d.json.ReadToken(); err != nil {
		return NotJSON
	}
	start := int(d.json.InputOffset()) - 1
	for d.json.PeekKind() != '}' {
		rawName, err := d.json.ReadValue()
		if err != nil {
			return NotJSON
		}
		var into *string
		switch memberName(rawName) {
		case "id":
			raw, err := d.json.ReadValue()
			if err != nil {
				return NotJSON
			}
			if raw.Kind() == '0' {
				if id.id, err = integer(raw); err != nil {
					return BadEventDataID
				}
				id.hasID = true
			}
			continue
		case "status":
			into = &id.status
		case "updated":
			into = &id.updated
		}
		raw, err := d.json.ReadValue()
		if err != nil {
			return NotJSON
		}
		if into != nil && raw.Kind() != 'n' {
			*into = string(raw)
		}
	}
	if _, err := d.json.ReadToken(); err != nil {
		return NotJSON
	}
	id.data = body[start:d.json.InputOffset()]
	return nil
}
