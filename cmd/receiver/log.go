package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// A line for every request, each written by itself, would cost as much as the rest of taking an event in. So lines are
// gathered, for so long at most and up to so many bytes.
const (
	logDelay = 100 * time.Millisecond
	logBytes = 32 << 10
)

// logBuffer gathers lines and writes them together. Its methods may be called concurrently.
type logBuffer struct {
	mu    sync.Mutex
	out   io.Writer
	lines []byte
	timer *time.Timer
	armed bool
}

func newLogBuffer(out io.Writer) *logBuffer {
	b := &logBuffer{out: out, lines: make([]byte, 0, logBytes)}
	b.timer = time.AfterFunc(time.Hour, b.Flush)
	b.timer.Stop()
	return b
}

// Write keeps one line, which is written at the latest after logDelay.
func (b *logBuffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.lines)+len(line) > logBytes {
		b.flush()
	}
	b.lines = append(b.lines, line...)
	if !b.armed {
		b.armed = true
		b.timer.Reset(logDelay)
	}
	return len(line), nil
}

// Flush writes what has been gathered.
func (b *logBuffer) Flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.armed = false
	b.flush()
}

func (b *logBuffer) flush() {
	if len(b.lines) > 0 {
		_, _ = b.out.Write(b.lines) // there is nowhere to say that the log cannot be written
		b.lines = b.lines[:0]
	}
}

// promptHandler does not let errors wait in the buffer: the next thing may be the end of the process.
type promptHandler struct {
	slog.Handler
	buffer *logBuffer
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
