package filter

import (
	"bytes"
	"errors"
	"strconv"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"github.com/go-json-experiment/json/jsontext"
)

// variable is the name of the event in expressions.
const variable = "event"

const typeName = "heymarket.Event"

var eventType = cel.ObjectType(typeName)

// Event is an event as expressions see it. It parses the body lazily, once for all expressions. It must not be used
// concurrently.
type Event struct {
	// Type is the type in its wire spelling.
	Type string
	// ID is the event's own id; it may be set after a Key was evaluated.
	ID string
	// Body is the provider's envelope, with or without the token. It must be valid JSON without duplicate members, as
	// every accepted body is.
	Body []byte

	read      bool
	readError error
	webhookID int64
	hasID     bool
	data      map[string]any
}

var errBody = errors.New("unsupported body: not an envelope with event_data")

// envelope parses the body unless it has been parsed.
func (e *Event) envelope() error {
	if !e.read {
		e.read = true
		e.readError = e.decode()
	}
	return e.readError
}

func (e *Event) decode() error {
	// Half of a surrogate pair, which JSON allows, is replaced with U+FFFD: a CEL string cannot hold it.
	decoder := jsontext.NewDecoder(bytes.NewBuffer(e.Body), jsontext.AllowInvalidUTF8(true))
	if open, err := decoder.ReadToken(); err != nil || open.Kind() != '{' {
		return errBody
	}
	for decoder.PeekKind() != '}' {
		name, err := decoder.ReadToken()
		if err != nil {
			return errBody
		}
		switch name.String() {
		case "id":
			id, err := value(decoder)
			if err != nil {
				return errBody
			}
			e.webhookID, e.hasID = id.(int64)
		case "event_data":
			data, err := value(decoder)
			if err != nil {
				return errBody
			}
			e.data, _ = data.(map[string]any)
		default:
			if err := decoder.SkipValue(); err != nil {
				return errBody
			}
		}
	}
	if e.data == nil {
		return errBody
	}
	return nil
}

// value reads the next JSON value as a Go value that CEL can convert: nil, bool, string, []any, map[string]any, and for
// numbers the first of int64, uint64 and float64 that holds all digits.
func value(decoder *jsontext.Decoder) (any, error) {
	token, err := decoder.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case '{':
		members := map[string]any{}
		for decoder.PeekKind() != '}' {
			token, err := decoder.ReadToken()
			if err != nil {
				return nil, err
			}
			name := token.String() // before the next read, which invalidates the token
			if members[name], err = value(decoder); err != nil {
				return nil, err
			}
		}
		_, err := decoder.ReadToken()
		return members, err
	case '[':
		elements := []any{}
		for decoder.PeekKind() != ']' {
			element, err := value(decoder)
			if err != nil {
				return nil, err
			}
			elements = append(elements, element)
		}
		_, err := decoder.ReadToken()
		return elements, err
	case '0':
		return number(token.String())
	case '"':
		return token.String(), nil
	case 't', 'f':
		return token.Bool(), nil
	}
	return nil, nil //nolint:nilnil // JSON's null
}

func number(text string) (any, error) {
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return i, nil
	}
	if u, err := strconv.ParseUint(text, 10, 64); err == nil {
		return u, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if errors.Is(err, strconv.ErrRange) {
		return f, nil // beyond a double's range: infinite, as in other readers
	}
	return f, err
}

// provider describes an event's members to the type checker, and resolves them for the interpreter.
type provider struct {
	*types.Registry
	kind Kind
}

// FindStructType implements types.Provider.
func (p provider) FindStructType(name string) (*types.Type, bool) {
	if name == typeName {
		return types.NewTypeTypeWithParam(eventType), true
	}
	return p.Registry.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (p provider) FindStructFieldNames(name string) ([]string, bool) {
	if name != typeName {
		return p.Registry.FindStructFieldNames(name)
	}
	names := []string{"type", "webhook_id", "data"}
	if p.kind == Wanted {
		names = append(names, "id")
	}
	return names, true
}

// FindStructFieldType implements types.Provider.
func (p provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	switch {
	case name != typeName:
		return p.Registry.FindStructFieldType(name, field)
	case field == "type":
		return member(cel.StringType, func(e *Event) (any, error) { return e.Type, nil }), true
	case field == "id" && p.kind == Wanted:
		return member(cel.StringType, func(e *Event) (any, error) { return e.ID, nil }), true
	case field == "webhook_id":
		f := member(cel.IntType, func(e *Event) (any, error) {
			err := e.envelope()
			return e.webhookID, err
		})
		f.IsSet = func(of any) bool {
			e, ok := of.(*Event)
			return ok && e.envelope() == nil && e.hasID
		}
		return f, true
	case field == "data":
		return member(cel.MapType(cel.StringType, cel.DynType), func(e *Event) (any, error) {
			err := e.envelope()
			return e.data, err
		}), true
	}
	return nil, false
}

func member(t *types.Type, get func(*Event) (any, error)) *types.FieldType {
	return &types.FieldType{
		Type:  t,
		IsSet: func(any) bool { return true },
		GetFrom: func(of any) (any, error) {
			e, ok := of.(*Event)
			if !ok {
				return nil, errBody
			}
			return get(e)
		},
	}
}
