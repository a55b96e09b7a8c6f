// Package jsonparity holds the receiver's reading of an envelope against that of other JSON readers, of a module of their own so
// that the operator does not depend on them. What the receiver accepts, all of them must see as the same event: the same
// type, the same id and the same token. Where two readers could differ, a token that is checked by one could be another
// than the one that the next acts on.
package jsonparity

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/buger/jsonparser"
	goccy "github.com/goccy/go-json"
	jsoniter "github.com/json-iterator/go"
	"github.com/tidwall/gjson"
	"github.com/valyala/fastjson"
)

// envelope is the result of a reader. An id that is missing or null is "".
type envelope struct{ Type, ID, Token string }

// readers are in order of how common they are. Each returns an error where it refuses the body.
var readers = []struct {
	name string
	read func([]byte) (envelope, error)
}{
	{"encoding/json, by exact name", exact(stdjson.Unmarshal)},
	{"encoding/json, in any case, the last one wins", folded(stdjson.Unmarshal)},
	{"json-iterator", folded(jsoniter.ConfigCompatibleWithStandardLibrary.Unmarshal)},
	{"goccy/go-json", exact(goccy.Unmarshal)},
	{"gjson, the first one wins", byPath},
	{"fastjson", byTree},
	{"jsonparser", byKey},
}

func exact(unmarshal func([]byte, any) error) func([]byte) (envelope, error) {
	return func(body []byte) (envelope, error) {
		var members map[string]stdjson.RawMessage
		if err := unmarshal(body, &members); err != nil {
			return envelope{}, err
		}
		var e envelope
		var err error
		if e.Type, err = text(members["type"]); err != nil {
			return e, err
		}
		if e.Token, err = text(members["token"]); err != nil {
			return e, err
		}
		e.ID = number(string(members["id"]))
		return e, nil
	}
}

func text(raw stdjson.RawMessage) (string, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || raw[0] != '"' { // the receiver treats a token that is not a string as missing
		return "", nil
	}
	var s string
	err := stdjson.Unmarshal(raw, &s)
	return s, err
}

// number writes integers in one way, and strings.
func number(raw string) string {
	if raw == "" || raw == "null" {
		return ""
	}
	var s string
	if stdjson.Unmarshal([]byte(raw), &s) == nil {
		return strconv.Quote(s)
	}
	if n, err := strconv.ParseInt(raw, 10, 64); err == nil {
		return strconv.FormatInt(n, 10)
	}
	if f, err := strconv.ParseFloat(raw, 64); err == nil && f == float64(int64(f)) {
		return strconv.FormatInt(int64(f), 10)
	}
	return raw
}

func folded(unmarshal func([]byte, any) error) func([]byte) (envelope, error) {
	return func(body []byte) (envelope, error) {
		var e struct {
			Type  string             `json:"type"`
			ID    *int64             `json:"id"`
			Token stdjson.RawMessage `json:"token"`
		}
		if err := unmarshal(body, &e); err != nil {
			return envelope{}, err
		}
		out := envelope{Type: e.Type}
		if e.ID != nil {
			out.ID = strconv.FormatInt(*e.ID, 10)
		}
		var err error
		out.Token, err = text(e.Token)
		return out, err
	}
}

func byPath(body []byte) (envelope, error) {
	if !gjson.ValidBytes(body) {
		return envelope{}, errors.New("not valid")
	}
	all := gjson.GetManyBytes(body, "type", "id", "token")
	e := envelope{Type: all[0].String(), ID: number(all[1].Raw)}
	if all[2].Type == gjson.String {
		e.Token = all[2].String()
	}
	return e, nil
}

func byTree(body []byte) (envelope, error) {
	v, err := fastjson.ParseBytes(body)
	if err != nil {
		return envelope{}, err
	}
	e := envelope{Type: string(v.GetStringBytes("type")), Token: string(v.GetStringBytes("token"))}
	if id := v.Get("id"); id != nil {
		e.ID = number(id.String())
	}
	return e, nil
}

func byKey(body []byte) (e envelope, err error) {
	for name, to := range map[string]*string{"type": &e.Type, "id": &e.ID, "token": &e.Token} {
		raw, kind, _, err := jsonparser.Get(body, name)
		switch {
		case errors.Is(err, jsonparser.KeyPathNotFoundError):
			continue
		case err != nil:
			return e, err
		case kind == jsonparser.String && name != "id":
			if *to, err = jsonparser.ParseString(raw); err != nil {
				return e, err
			}
		case kind == jsonparser.Number && name == "id":
			*to = number(string(raw))
		case kind == jsonparser.String:
			return e, fmt.Errorf("%s is a string", name)
		}
	}
	return e, nil
}
