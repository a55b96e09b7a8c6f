// Package logs writes a receiver's log: lines are buffered, so that one per request costs little, and each request's report
// becomes a line.
package logs

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// Writing one line per request separately would cost as much as the rest of accepting an event. So lines are buffered, for at
// most this time and this many bytes. The reader may be slow, and no request must wait for it: while some are being written the
// next ones are buffered, up to twice as many.
const (
	logDelay = 100 * time.Millisecond
	logBytes = 32 << 10
)

// buffer collects lines and writes them together. Its methods may be called concurrently.
type buffer struct {
	out io.Writer

	mu    sync.Mutex
	lines []byte
	timer *time.Timer
	armed bool // the timer will write after logDelay
	full  bool // the timer will write at once

	writing chan struct{} // holds one while a goroutine writes, which may lock mu
	written []byte        // the memory of written lines, for reuse
}

func newBuffer(out io.Writer) *buffer {
	b := &buffer{out: out, writing: make(chan struct{}, 1)}
	b.timer = time.AfterFunc(time.Hour, b.Flush)
	b.timer.Stop()
	return b
}

// Write buffers one line, which is written after logDelay at the latest. If too many are waiting it blocks until they are
// written.
func (b *buffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	b.lines = append(b.lines, line...)
	n := len(b.lines)
	switch {
	case n >= logBytes && !b.full:
		b.armed, b.full = true, true
		b.timer.Reset(0) // runs in the timer's goroutine
	case !b.armed:
		b.armed = true
		b.timer.Reset(logDelay)
	}
	b.mu.Unlock()
	if n >= 2*logBytes {
		b.Flush()
	}
	return len(line), nil
}

// Flush writes the buffered lines.
func (b *buffer) Flush() {
	b.writing <- struct{}{}
	defer func() { <-b.writing }()
	b.mu.Lock()
	lines := b.lines
	b.lines, b.armed, b.full = b.written[:0], false, false
	b.mu.Unlock()
	if len(lines) > 0 {
		_, _ = b.out.Write(lines) // there is no other place to report it
	}
	b.written = lines
	if cap(lines) > 4*logBytes { // the memory of a huge line is not kept
		b.written = nil
	}
}

// New returns a logger that writes JSON to out, at the given level and above, and a function that flushes the buffered lines.
// Call it before the process ends.
func New(out io.Writer, level slog.Leveler) (log *slog.Logger, flush func()) {
	b := newBuffer(out)
	return slog.New(promptHandler{slog.NewJSONHandler(b, &slog.HandlerOptions{Level: level}), b}), b.Flush
}

// promptHandler flushes errors at once: the process may be about to end.
type promptHandler struct {
	slog.Handler
	buffer *buffer
}

// Handle implements slog.Handler.
func (h promptHandler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelError {
		h.buffer.Flush()
	}
	return err
}

// WithAttrs implements slog.Handler.
func (h promptHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return promptHandler{h.Handler.WithAttrs(attrs), h.buffer}
}

// WithGroup implements slog.Handler.
func (h promptHandler) WithGroup(name string) slog.Handler {
	return promptHandler{h.Handler.WithGroup(name), h.buffer}
}
