package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// The ways in which a write can go wrong.
const (
	unreached = "unreached" // The connection is refused.
	failed    = "failed"    // 500, and nothing was done.
	conflict  = "conflict"  // 409, and nothing was done.
	timeout   = "timeout"   // 504, and nothing was done.
	forbidden = "forbidden" // 403, such as by a quota that is full for a moment.
	lost      = "lost"      // It was done, and the answer is lost.
	killed    = "killed"    // It was done, and the operator dies before the answer.
)

// The ways in which a watch event can go wrong. An API server never leaves one out of a watch that goes on.
const (
	dropped = "dropped" // The watch ends with 410 Gone, so the informer must list again.
	cut     = "cut"     // The connection ends, so the informer watches again from where it was.
	delayed = "delayed" // It comes late, and what follows on this watch comes after it.
)

// stale is the way in which a cached read can go wrong: it shows the version before the present one, once.
const stale = "stale"

var (
	writeFaults = []string{unreached, failed, conflict, timeout, forbidden, lost, killed}
	eventFaults = []string{dropped, cut, delayed}
)

// fault is one thing that goes wrong at one moment, such as killed at "PATCH services/support-receiver #1".
type fault struct{ kind, moment string }

func (f fault) String() string { return f.kind + " at " + f.moment }

// wire is the connection for the requests of all managers of one plan.
type wire struct {
	namespace string

	mu      sync.Mutex
	armed   bool
	faults  []fault // still to come
	struck  []fault
	counts  map[string]int // by moment
	moments map[string][]string
	written []string // writes that are no Events
}

func newWire(namespace string, faults ...fault) *wire {
	return &wire{namespace: namespace, faults: slices.Clone(faults), counts: map[string]int{}, moments: map[string][]string{}}
}

func (w *wire) arm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = true
}

// The sorts of moments.
const (
	aWrite  = "write"
	anEvent = "event"
	aRead   = "read"
)

// meet notes that a moment has come, the nth of its name, and returns the fault that belongs to it, if any.
func (w *wire) meet(sort, name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.armed {
		return ""
	}
	w.counts[name]++
	moment := fmt.Sprintf("%s #%d", name, w.counts[name])
	w.moments[sort] = append(w.moments[sort], moment)
	i := slices.IndexFunc(w.faults, func(f fault) bool { return f.moment == moment })
	if i < 0 {
		return ""
	}
	f := w.faults[i]
	w.faults = slices.Delete(w.faults, i, i+1)
	w.struck = append(w.struck, f)
	return f.kind
}

// take returns the writes since it was called last, Events aside.
func (w *wire) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.written
	w.written = nil
	return out
}

// process is one life of the operator.
type process struct {
	wire *wire
	die  context.CancelFunc
	dead context.Context //nolint:containedctx // It is the process's own life, and no call's.
}

func (w *wire) newProcess(ctx context.Context) *process {
	p := &process{wire: w}
	p.dead, p.die = context.WithCancel(ctx)
	return p
}

// config is a way to the API server that ends with the process.
func (p *process) config(cfg *rest.Config) *rest.Config {
	cfg = rest.CopyConfig(cfg)
	cfg.ContentType = "application/json"
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) { return p.send(next, req) })
	})
	return cfg
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

var errDead = errors.New("the process is dead")

func (p *process) send(next http.RoundTripper, req *http.Request) (*http.Response, error) {
	if p.dead.Err() != nil {
		return nil, errDead
	}
	if req.Method == http.MethodGet {
		if !req.URL.Query().Has("watch") {
			return next.RoundTrip(req)
		}
		return p.watch(next, req)
	}
	name := target(req)
	if !strings.HasSuffix(name, " events") {
		p.wire.mu.Lock()
		p.wire.written = append(p.wire.written, name)
		p.wire.mu.Unlock()
	}
	switch p.wire.meet(aWrite, name) {
	case unreached:
		return nil, errors.New("dial tcp 127.0.0.1:443: connect: connection refused")
	case failed:
		return refusal(req, http.StatusInternalServerError, metav1.StatusReasonInternalError)
	case conflict:
		return refusal(req, http.StatusConflict, metav1.StatusReasonConflict)
	case timeout:
		return refusal(req, http.StatusGatewayTimeout, metav1.StatusReasonTimeout)
	case forbidden:
		return refusal(req, http.StatusForbidden, metav1.StatusReasonForbidden)
	case lost:
		if resp, err := next.RoundTrip(req); err == nil {
			resp.Body.Close()
		}
		return nil, errors.New("read tcp 127.0.0.1:443: connection reset by peer")
	case killed:
		if resp, err := next.RoundTrip(req); err == nil {
			resp.Body.Close()
		}
		p.die()
		return nil, errDead
	}
	return next.RoundTrip(req)
}

// target is the name of a write, such as "PATCH services/support-receiver".
func target(req *http.Request) string {
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	if i := slices.Index(parts, "namespaces"); i >= 0 && len(parts) > i+2 {
		parts = parts[i+2:]
	}
	if parts[0] == "events" {
		parts = parts[:1] // Their names are made up.
	}
	return req.Method + " " + strings.Join(parts, "/")
}

func refusal(req *http.Request, code int32, reason metav1.StatusReason) (*http.Response, error) {
	if req.Body != nil {
		req.Body.Close()
	}
	b, err := json.Marshal(metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: code, Reason: reason, Message: "a fault of the wire",
	})
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: int(code), Status: http.StatusText(int(code)), Proto: "HTTP/2.0", ProtoMajor: 2, Request: req,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(b)), ContentLength: int64(len(b)),
	}, nil
}
