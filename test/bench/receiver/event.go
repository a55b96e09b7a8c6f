package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
)

// The webhook that all measurements are about. Its name is as long as real ones are: it stands in every key.
const (
	namespace = "staging"
	name      = "support"
	path      = "/staging/support/abcdefghijklmnopqrstuvwxyz"
	token     = "bench-token-2f9c41d07a"
	userAgent = "Heymarket/1.0"
)

// idDigits is how long the ids of events are: always the same, so that one can be overwritten by the next.
const idDigits = 15

const firstID = int64(100_000_000_000_000)

var lastID atomic.Int64

// nextID returns an id that no event of this run has had.
func nextID() int64 { return firstID + lastID.Add(1) }

const eventData = `"event_data":{"id":`

// body is a message as the provider's guide shows it, about 600 bytes, with the id given.
func body(id int64) []byte {
	return fmt.Appendf(nil, `{"type":"message_recieved","id":41872,"token":%q,"event_data":{"id":%d,"conversation_id":81724455,`+
		`"inbox_id":30211,"team_id":1184,"text":"Hi, I would like to move my appointment from Tuesday to Thursday afternoon. Is there a slot after three? Thanks!",`+
		`"phone":"+15005550006","channel":"sms","author":{"id":0,"name":"","type":"contact"},"contact":{"id":55120934,"first_name":"Alex","last_name":"Example",`+
		`"email":"alex@example.com","tags":["vip","newsletter"]},"media":[],"private":false,"created":"2026-11-21T10:15:30.123Z","updated":"2026-11-21T10:15:30.123Z"}}`,
		token, id)
}

// request is a complete request as bytes, and where its event's id stands in them.
type request struct {
	bytes []byte
	ids   []int
}

func newRequest(addr string) request {
	b := body(firstID)
	var r strings.Builder
	fmt.Fprintf(&r, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, addr, userAgent, len(b), b)
	raw := []byte(r.String())
	return request{raw, []int{bytes.Index(raw, []byte(eventData)) + len(eventData)}}
}

// stamp writes a fresh id into b, a copy of the request's bytes, and returns it.
func (r request) stamp(b []byte) int64 {
	id := nextID()
	for _, at := range r.ids {
		strconv.AppendInt(b[at:at], id, 10)
	}
	return id
}

// idOf returns the id of the event in an HTTP message, or 0.
func idOf(message []byte) int64 {
	i := bytes.Index(message, []byte(eventData))
	if i < 0 || len(message) < i+len(eventData)+idDigits {
		return 0
	}
	id, err := strconv.ParseInt(string(message[i+len(eventData):i+len(eventData)+idDigits]), 10, 64)
	if err != nil {
		return 0
	}
	return id
}
