package jsonparity

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
)

// seeds are envelopes that are good, and some that two readers could take for two events.
var seeds = [][]byte{
	[]byte(`{"type":"message_recieved","id":41,"token":"t0ken","event_data":{"id":7,"status":"sent","text":"hello"}}`),
	[]byte(`{"token":"t0ken","event_data":{"id":7,"updated":"m"},"type":"chat_closed","id":1}`),
	[]byte(`{"type":"target_opt_out","event_data":{"phone":"15550100"},"token":"\"}\\","id":-0}`),
	[]byte(`{"id":9007199254740993,"type":"a","event_data":{"type":"b","id":2,"token":"c"},"token":"x"}`),
	[]byte(` { "type" : "a" , "event_data" : { } , "more" : [ { "token" : "y" } , 1.5e3 , null ] , "token" : "\u0074" } `),
	[]byte(`{"type":"a","event_data":{},"token":"ä\ud83d\ude00","Token":"y"}`),
	[]byte("\ufeff" + `{"type":"message_sent","id":"7","token":"t0ken","event_data":{"id":7.0,"text":"cut \ud83d"}}`),
	[]byte(`{"type":"message_sent","token":"t0ken","id":70e-1,"event_data":{"text":"\ude00"}}`),
	[]byte(`{"type":"a","type":"b","event_data":{},"token":"x"}`),
}

// pieces are inputs on which JSON readers are known to differ.
var pieces = []string{
	`"`, `\`, `{`, `}`, `[`, `]`, `:`, `,`, ` `, "\t", "\n", "\x00", "\ufeff", "\xff", "\xc0\xaf", "\u2028", "\x7f", "/", "//", "/**/", "'",
	`\u0000`, `\ud800`, `\udc00`, `\ud83d\ude00`, `\u0074oken`, `\u0054ype`, `\/`, `\x`, `\u12`, `\"`,
	`"type":"b"`, `"token":"other"`, `"id":2`, `"Type":"b"`, `"TOKEN":"other"`, `"to` + "\u212a" + `en":"other"`, `"ID":2`, `"event_data":{}`,
	`"\u0074ype":"b"`, `"t\u006fken":"other"`, `"type\u0000":"b"`, `"":1`, `"token\u0000":"other"`, `"\u0000id":2`, `"type":null`, `"token":null`, `"id":null`, `"token":1`, `"id":"1"`, `"id":7.0`, `"id":1e2`,
	"0", "-0", "1.0", "1e0", "1E400", "01", "+1", "18446744073709551616", "-9223372036854775809", "9223372036854775807", "NaN", "Infinity", "0x1",
	"true", "null", "nul", "undefined", `"__proto__":{"token":"other"}`,
}

// mutant is a seed with one to four changes.
func mutant(rng *rand.Rand) []byte {
	body := slices.Clone(seeds[rng.IntN(len(seeds))])
	for range 1 + rng.IntN(4) {
		at := rng.IntN(len(body) + 1)
		switch rng.IntN(9) {
		case 0, 1: // put a piece in
			body = slices.Insert(body, at, []byte(pieces[rng.IntN(len(pieces))])...)
		case 2: // put a member in, where one may stand
			if at = nextAfter(body, at, "{,"); at > 0 {
				body = slices.Insert(body, at, []byte(pieces[rng.IntN(len(pieces))]+",")...)
			}
		case 3: // take something out
			body = slices.Delete(body, at, min(len(body), at+1+rng.IntN(8)))
		case 4: // write a letter otherwise
			if at < len(body) && body[at] >= 'A' && body[at] <= 'z' {
				if rng.IntN(2) == 0 {
					body[at] ^= 0x20
				} else {
					body = slices.Replace(body, at, at+1, fmt.Appendf(nil, `\u%04x`, body[at])...)
				}
			}
		case 5: // any byte
			if at < len(body) {
				body[at] = byte(rng.IntN(256))
			}
		case 6: // repeat a part
			end := min(len(body), at+rng.IntN(40))
			body = slices.Insert(body, end, bytes.Clone(body[at:end])...)
		case 7: // the head of one, the tail of another
			other := seeds[rng.IntN(len(seeds))]
			body = append(body[:at:at], other[rng.IntN(len(other)):]...)
		case 8: // nest it
			if rng.IntN(50) == 0 {
				n := rng.IntN(20_000)
				body = slices.Insert(body, at, bytes.Repeat([]byte("["), n)...)
			}
		}
		if len(body) == 0 {
			return body
		}
	}
	return body
}

// nextAfter returns the place behind the next of some bytes, or 0.
func nextAfter(body []byte, from int, of string) int {
	if i := bytes.IndexAny(body[from:], of); i >= 0 {
		return from + i + 1
	}
	return 0
}
