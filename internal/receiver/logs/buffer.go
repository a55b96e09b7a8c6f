// Package logs writes a receiver's log: lines are gathered, so that one for every request costs little, and one is made of each
// request's report.
package logs

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// A line for every request, each written by itself, would cost as much as the rest of taking an event in. So lines are
// gathered, for so long at most and up to so many bytes. Their reader may be slow, and no request shall wait for
// that: while some are written the next ones gather, up to twice as many.
const (
	logDelay = 100 * time.Millisecond
	logBytes = 32 << 10
)

// buffer gathers lines and writes them together. Its methods may be called concurrently.
type buffer struct {
	out io.Writer

	mu    sync.Mutex
	lines []byte
	timer *time.Timer
	armed bool // to write after logDelay
	full  bool // to write at once

	writing chan struct{} // holds one while somebody writes, who may take mu
	written []byte        // the room of lines that have been written, for the next ones
}

func newBuffer(out io.Writer) *buffer {
	b := &buffer{out: out, writing: make(chan struct{}, 1)}
	b.timer = time.AfterFunc(time.Hour, b.Flush)
	b.timer.Stop()
	return b
}

// Write keeps one line, which is written at the latest after logDelay. Where too many wait it waits for them to be written.
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

// Flush writes what has been gathered.
func (b *buffer) Flush() {
	b.writing <- struct{}{}
	defer func() { <-b.writing }()
	b.mu.Lock()
	lines := b.lines
	b.lines, b.armed, b.full = b.written[:0], false, false
	b.mu.Unlock()
	if len(lines) > 0 {
		_, _ = b.out.Write(lines) // there is nowhere to say that the log cannot be written
	}
	b.written = lines
	if cap(lines) > 4*logBytes { // one huge line is not kept
		b.written = nil
	}
}

// New returns a logger that writes JSON to out, at the given level and above, and a function that writes what has been gathered.
// Call it before the process ends.
func New(out io.Writer, level slog.Leveler) (log *slog.Logger, flush func()) {
	b := newBuffer(out)
	return slog.New(promptHandler{slog.NewJSONHandler(b, &slog.HandlerOptions{Level: level}), b}), b.Flush
}

// promptHandler does not let errors wait in the buffer: the next thing may be the end of the process.
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
