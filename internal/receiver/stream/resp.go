package stream

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
)

// errMalformed fails a connection whose input violates the Redis protocol or its bounds. The client library trusts lengths: an
// excessive one would crash the process.
var errMalformed = errors.New("the answer is not valid in the Redis protocol")

// The bounds of one message. A page of dead letters or a batch of events stays well below them.
const (
	maxRespLine     = 16 << 10 // bytes of a header, a status or an error
	maxRespDepth    = 16
	maxRespElements = 1 << 16
	// maxRespBytes bounds the total memory of the incomplete messages on all connections of a Store.
	maxRespBytes = 64 << 20
	elementBytes = 48 // of memory that the client library allocates for each
)

// message describes one complete message that a scanner has read.
type message struct {
	kind     byte
	elements int64
	first    []byte // its first string, also of an array; truncated to maxFirst bytes, and valid until the scanner continues
}

const maxFirst = 32

// scanner follows the Redis protocol (RESP2 and RESP3) in a stream of bytes, in pieces of any size. It rejects parts of the
// protocol that Redis never sends: streamed strings and aggregates, attributes and long errors.
type scanner struct {
	held *atomic.Int64 // bytes of incomplete messages, of all scanners that share it

	line     []byte
	bulk     int64   // remaining bytes of a bulk string and its line end
	text     int64   // remaining bytes of bulk before its line end
	open     []int64 // remaining elements of the open aggregates, the innermost last
	elements int64
	bytes    int64
	message  message
	hasFirst bool
	room     [maxFirst]byte
}

// scan reads p and calls complete for each message that ends in it.
func (s *scanner) scan(p []byte, complete func(message) error) error {
	for len(p) > 0 {
		if s.bulk > 0 {
			n := min(s.bulk, int64(len(p)))
			s.keep(p[:min(n, s.text)])
			s.text = max(s.text-n, 0)
			s.bulk -= n
			p = p[n:]
			if s.bulk > 0 {
				return nil
			}
			s.hasFirst = true
			if err := s.end(complete); err != nil {
				return err
			}
			continue
		}
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			end = len(p) - 1
		}
		line := p[:end+1]
		p = p[end+1:]
		if len(s.line)+len(line) > maxRespLine {
			return fmt.Errorf("%w: a line of more than %d bytes", errMalformed, maxRespLine)
		}
		if len(s.line) > 0 || line[end] != '\n' {
			s.line = append(s.line, line...)
			line = s.line
		}
		if line[len(line)-1] != '\n' {
			return nil
		}
		s.line = s.line[:0]
		if err := s.header(line, complete); err != nil {
			return err
		}
	}
	return nil
}

// header parses a complete line, which starts a value and is the whole of most values.
func (s *scanner) header(line []byte, complete func(message) error) error {
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return fmt.Errorf("%w: a line that does not end in CR LF", errMalformed)
	}
	kind, rest := line[0], line[1:len(line)-2]
	if len(s.open) == 0 {
		s.message = message{kind: kind, first: s.room[:0]}
	}
	switch kind {
	case '+', ',', '(':
		s.first(rest)
		return s.end(complete)
	case '-':
		s.first(rest)
		if err := checkRedirect(string(rest)); err != nil {
			return err
		}
		return s.end(complete)
	case ':':
		if _, err := number(rest); err != nil {
			return err
		}
		return s.end(complete)
	case '_', '#':
		// The client library reads a fixed number of bytes.
		if want := strings.IndexByte("_#", kind); len(rest) != want {
			return fmt.Errorf("%w: a null or a boolean of another length", errMalformed)
		}
		return s.end(complete)
	case '$', '=':
		n, err := number(rest)
		switch {
		case err != nil:
			return err
		case n == -1 && kind == '$':
			return s.end(complete)
		}
		s.bulk, s.text = n+2, n
		return s.hold(n, 0)
	case '*', '~', '%', '>':
		return s.aggregate(kind, rest, complete)
	}
	return fmt.Errorf("%w: a value of type %q", errMalformed, kind)
}

func (s *scanner) aggregate(kind byte, length []byte, complete func(message) error) error {
	n, err := number(length)
	switch {
	case err != nil:
		return err
	case n == -1 && kind == '*':
		return s.end(complete)
	case n < 0 || n > maxRespElements:
		return fmt.Errorf("%w: a length of %d elements", errMalformed, n)
	case kind == '>' && len(s.open) > 0:
		return fmt.Errorf("%w: a push message inside another message", errMalformed)
	case len(s.open) == maxRespDepth:
		return fmt.Errorf("%w: more than %d levels", errMalformed, maxRespDepth)
	}
	if kind == '%' {
		n *= 2
	}
	if err := s.hold(0, n); err != nil {
		return err
	}
	if len(s.open) == 0 {
		s.message.elements = n
	}
	if n == 0 {
		return s.end(complete)
	}
	s.open = append(s.open, n)
	return nil
}

// end completes a value and every aggregate of which it is the last element.
func (s *scanner) end(complete func(message) error) error {
	for len(s.open) > 0 {
		last := len(s.open) - 1
		if s.open[last]--; s.open[last] > 0 {
			return nil
		}
		s.open = s.open[:last]
	}
	s.release()
	s.hasFirst = false
	return complete(s.message)
}

// hold counts the memory that a message takes.
func (s *scanner) hold(bytes, elements int64) error {
	s.elements += elements
	n := bytes + elements*elementBytes
	if bytes < 0 || elements < 0 || s.elements > maxRespElements || n > maxRespBytes {
		return fmt.Errorf("%w: a length that is negative, more than %d elements or more than %d bytes", errMalformed, maxRespElements, maxRespBytes)
	}
	s.bytes += n
	if s.held.Add(n) > maxRespBytes {
		return fmt.Errorf("%w: answers of more than %d bytes", errMalformed, maxRespBytes)
	}
	return nil
}

// release frees the memory of the incomplete message.
func (s *scanner) release() {
	s.held.Add(-s.bytes)
	s.bytes, s.elements = 0, 0
}

func (s *scanner) first(text []byte) {
	if !s.hasFirst {
		s.keep(text)
		s.hasFirst = true
	}
}

func (s *scanner) keep(text []byte) {
	if !s.hasFirst {
		s.message.first = append(s.message.first, text[:min(maxFirst-len(s.message.first), len(text))]...)
	}
}

// number parses a length or an integer as the client library does, but rejects values that would overflow there.
func number(text []byte) (int64, error) {
	digits, negative := bytes.CutPrefix(text, []byte("-"))
	if len(digits) == 0 || len(digits) > 19 {
		return 0, fmt.Errorf("%w: a number of %d digits", errMalformed, len(digits))
	}
	var n uint64 // 19 digits fit
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%w: a number with the byte %q", errMalformed, c)
		}
		n = n*10 + uint64(c-'0')
	}
	if negative {
		return -int64(n), nil
	}
	return int64(n), nil
}

// checkRedirect rejects a redirection without an address, because the client library would index past its end.
func checkRedirect(text string) error {
	fields := strings.Split(text, " ")
	for prefix, want := range map[string]int{"MOVED": 3, "ASK": 3, "REDIRECT": 2} {
		if strings.HasPrefix(text, prefix) && len(fields) < want {
			return fmt.Errorf("%w: a redirection without an address", errMalformed)
		}
	}
	return nil
}
