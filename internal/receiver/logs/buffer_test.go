package logs

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// written is where the lines go; the timer of the buffer writes from a goroutine of its own.
type written struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

func (w *written) Reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Reset()
}

func TestLogIsGatheredForAMoment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out written
		buffer := newBuffer(&out)
		log := slog.New(promptHandler{slog.NewTextHandler(buffer, nil), buffer})

		log.Info("one")
		log.Info("two")
		if out.String() != "" {
			t.Errorf("written at once: %s", out.String())
		}
		time.Sleep(logDelay)
		synctest.Wait()
		if got := strings.Count(out.String(), "\n"); got != 2 {
			t.Errorf("%d lines are written after the delay, want 2: %s", got, out.String())
		}

		out.Reset()
		log.With("part", "a").WithGroup("g").Error("three")
		if !strings.Contains(out.String(), "three") {
			t.Error("an error waits in the buffer")
		}

		out.Reset()
		log.Info("four")
		buffer.Flush()
		if !strings.Contains(out.String(), "four") {
			t.Error("Flush leaves a line behind")
		}
	})
}

func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out written
		buffer := newBuffer(&out)
		line := []byte(strings.Repeat("x", 999) + "\n")
		for range 100 {
			if n, err := buffer.Write(line); n != len(line) || err != nil {
				t.Fatal(n, err)
			}
			synctest.Wait() // the writer has caught up
			if waiting := len(buffer.lines); waiting > logBytes {
				t.Fatalf("%d bytes wait, and nobody writes them", waiting)
			}
		}
		buffer.Flush()
		if want := 100 * len(line); len(out.String()) != want {
			t.Errorf("%d bytes are written, want %d", len(out.String()), want)
		}
		huge := bytes.Repeat([]byte("y"), 5*logBytes) // no line is too long to be written
		_, _ = buffer.Write(huge)
		buffer.Flush()
		if !strings.HasSuffix(out.String(), string(huge)) {
			t.Error("a line that is longer than the buffer is lost")
		}
	})
}

// slowReader accepts writes only on request.
type slowReader struct {
	written
	ready chan struct{}
}

func (s *slowReader) Write(p []byte) (int, error) {
	<-s.ready
	return s.written.Write(p)
}

// While the log's reader is slow, lines wait but their writers do not; when too many lines wait, the
// writers wait as well.
func TestASlowReaderOfTheLogHoldsUpNobodyForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := slowReader{ready: make(chan struct{})}
		buffer := newBuffer(&out)
		line := []byte(strings.Repeat("x", 1023) + "\n")
		const first, second = logBytes / 1024, 2*logBytes/1024 - 1
		begin := time.Now()
		for range first {
			_, _ = buffer.Write(line)
		}
		synctest.Wait() // the first lines are being written
		for range second {
			_, _ = buffer.Write(line)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("%d lines took %v", first+second, took)
		}
		over := make(chan struct{})
		go func() {
			_, _ = buffer.Write(line)
			close(over)
		}()
		synctest.Wait()
		select {
		case <-over:
			t.Error("nobody bounds what waits")
		default:
		}
		close(out.ready)
		<-over
		buffer.Flush()
		if want := (first + second + 1) * len(line); len(out.String()) != want {
			t.Errorf("%d bytes are written, want %d", len(out.String()), want)
		}
	})
}
