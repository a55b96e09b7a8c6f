// Package echo is a target for trials: it records the requests that it receives and answers 200, or as programmed. The receiver's
// binary serves it as `receiver echo`, so that a demo needs only the operator's image, and the plugin serves it in its own
// process.
package echo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// maxBody is how much of a body is kept, in bytes; twice what a receiver accepts.
	maxBody = 2 << 20
	// maxRecords is the minimum number of requests that are kept; the oldest of twice as many are dropped.
	maxRecords = 50_000
)

// Record is one request as received.
type Record struct {
	Seq     int               `json:"seq"` // counts from 1 and continues after a DELETE
	Time    time.Time         `json:"time"`
	Method  string            `json:"method"`
	Path    string            `json:"path"` // with its query
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	Status  int               `json:"status"` // of the answer
}

// step is the answer to a number of requests.
type step struct {
	Status  int               `json:"status"`
	Delay   string            `json:"delay,omitempty"`
	Times   int               `json:"times,omitempty"` // 0 means 1
	Headers map[string]string `json:"headers,omitempty"`
}

// Target is the http.Handler of the echo target; its zero value is ready.
//
//	POST   /<path>    is recorded and answered 200, or as the program says
//	GET    /received  what was recorded, as a JSON list; ?after=N leaves out the first N records ever made
//	DELETE /received  forgets the records and the program
//	POST   /program   sets the answers to the next requests: [{"status": 503, "delay": "2s", "times": 3, "headers": {"Retry-After": "1"}}, …]
//	GET    /healthz   says 200
//
// It keeps the last maxRecords records.
type Target struct {
	mu      sync.Mutex
	records []Record
	seq     int
	program []step
}

// Serve serves a Target on a listener until ctx ends, then finishes requests in flight, for up to five seconds.
func Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: &Target{}, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		done <- server.Shutdown(bounded)
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-done
}

// ServeHTTP implements http.Handler.
func (e *Target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.URL.Path {
	case "GET /received":
		e.list(w, r)
	case "DELETE /received":
		e.forget(w)
	case "POST /program":
		e.setProgram(w, r)
	case "GET /healthz":
	default:
		e.receive(w, r)
	}
}

// Received returns the records except the first after ones ever made.
func (e *Target) Received(after int) []Record {
	e.mu.Lock()
	defer e.mu.Unlock()
	first, _ := slices.BinarySearchFunc(e.records, after+1, func(r Record, seq int) int { return r.Seq - seq })
	return append([]Record{}, e.records[first:]...)
}

func (e *Target) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	kept := Record{Time: time.Now().UTC(), Method: r.Method, Path: r.URL.RequestURI(), Headers: map[string]string{}, Body: string(body), Status: http.StatusOK}
	for name, values := range r.Header {
		if name != "Accept-Encoding" && name != "Connection" { // the transport's own
			kept.Headers[name] = values[0]
		}
	}
	answer := e.keep(kept)
	// The delay follows the record: a client that times out on a slow target has reached it nevertheless.
	if delay, err := time.ParseDuration(answer.Delay); err == nil {
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
			return
		}
	}
	for name, value := range answer.Headers {
		w.Header().Set(name, value)
	}
	w.WriteHeader(answer.Status)
}

// keep records a request and returns its answer from the program.
func (e *Target) keep(r Record) step {
	e.mu.Lock()
	defer e.mu.Unlock()
	answer := step{Status: http.StatusOK}
	if len(e.program) > 0 {
		answer = e.program[0]
		if e.program[0].Times--; e.program[0].Times <= 0 {
			e.program = e.program[1:]
		}
	}
	e.seq++
	r.Seq, r.Status = e.seq, answer.Status
	e.records = append(e.records, r)
	if len(e.records) >= 2*maxRecords {
		e.records = slices.Clone(e.records[maxRecords:])
	}
	return answer
}

func (e *Target) list(w http.ResponseWriter, r *http.Request) {
	after := 0
	if text := r.URL.Query().Get("after"); text != "" {
		var err error
		if after, err = strconv.Atoi(text); err != nil {
			http.Error(w, "after takes a number", http.StatusBadRequest)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(e.Received(after)) // a disconnected client misses nothing
}

func (e *Target) forget(w http.ResponseWriter) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.records, e.program = nil, nil
	w.WriteHeader(http.StatusNoContent)
}

func (e *Target) setProgram(w http.ResponseWriter, r *http.Request) {
	var program []step
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&program); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, s := range program {
		if _, err := time.ParseDuration(s.Delay); s.Delay != "" && err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if s.Status < 200 || s.Status > 599 {
			http.Error(w, fmt.Sprintf("%d is no status to answer with: 200 to 599", s.Status), http.StatusBadRequest)
			return
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.program = program
	w.WriteHeader(http.StatusNoContent)
}
