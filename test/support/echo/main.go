// Command echo is the target of the demo and of the end-to-end tests: it records what it receives and answers as it is told to.
//
//	POST   /<path>    is recorded and answered 200, or as the program says
//	GET    /received  what was recorded, as a JSON list; ?after=N leaves out the first N records ever made
//	DELETE /received  forgets the records and the program
//	POST   /program   sets the answers to the next requests: [{"status": 503, "delay": "2s", "times": 3, "headers": {"Retry-After": "1"}}, …]
//	GET    /healthz   says 200
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// maxBody is what is kept of a body, in bytes; twice what a receiver accepts.
const maxBody = 2 << 20

// record is one request as it came.
type record struct {
	Seq     int               `json:"seq"` // counts from 1 and goes on after a DELETE
	Time    time.Time         `json:"time"`
	Method  string            `json:"method"`
	Path    string            `json:"path"` // with its query
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	Status  int               `json:"status"` // what it was answered
}

// step is the answer to the next requests.
type step struct {
	Status  int               `json:"status"`
	Delay   string            `json:"delay,omitempty"`
	Times   int               `json:"times,omitempty"` // 0 means 1
	Headers map[string]string `json:"headers,omitempty"`
}

type echo struct {
	mu      sync.Mutex
	records []record
	seq     int
	program []step
}

func main() {
	address := flag.String("listen", ":8080", "address to listen on")
	flag.Parse()
	if err := serve(*address); err != nil {
		fmt.Fprintf(os.Stderr, "echo: %v\n", err)
		os.Exit(1)
	}
}

func serve(address string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server := &http.Server{Addr: address, Handler: newEcho(), ReadHeaderTimeout: 5 * time.Second}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		bounded, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		done <- server.Shutdown(bounded)
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-done
}

func newEcho() http.Handler {
	e := &echo{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /received", e.list)
	mux.HandleFunc("DELETE /received", e.forget)
	mux.HandleFunc("POST /program", e.setProgram)
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/", e.receive)
	return mux
}

func (e *echo) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	kept := record{Time: time.Now().UTC(), Method: r.Method, Path: r.URL.RequestURI(), Headers: map[string]string{}, Body: string(body), Status: http.StatusOK}
	for name, values := range r.Header {
		if name != "Accept-Encoding" && name != "Connection" { // the transport's own
			kept.Headers[name] = values[0]
		}
	}
	answer := e.keep(kept)
	// The delay comes after the record: a client that gives up on a slow target has reached it nevertheless.
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

// keep records a request and takes its answer from the program.
func (e *echo) keep(r record) step {
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
	return answer
}

func (e *echo) list(w http.ResponseWriter, r *http.Request) {
	after := 0
	if text := r.URL.Query().Get("after"); text != "" {
		var err error
		if after, err = strconv.Atoi(text); err != nil {
			http.Error(w, "after takes a number", http.StatusBadRequest)
			return
		}
	}
	e.mu.Lock()
	first, _ := slices.BinarySearchFunc(e.records, after+1, func(r record, seq int) int { return r.Seq - seq })
	records := append([]record{}, e.records[first:]...)
	e.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(records) // who has gone misses nothing
}

func (e *echo) forget(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.records, e.program = nil, nil
	w.WriteHeader(http.StatusNoContent)
}

func (e *echo) setProgram(w http.ResponseWriter, r *http.Request) {
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
