package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/rueidis"
)

// runControl is the main function of this program as a control. Controls are processes of their own, as the
// product is, so that the generator shares a process with none of them.
func runControl(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: bench control KIND ADDRESS [ARGUMENT...]")
	}
	switch kind, addr := args[0], args[1]; kind {
	case "bare":
		return http.ListenAndServe(addr, http.HandlerFunc(bare))
	case "asynq":
		return http.ListenAndServe(addr, newAsynqIngest(args[2]))
	case "raw":
		return http.ListenAndServe(addr, rawHandler(args[2:]))
	case "load":
		d, err := time.ParseDuration(args[2])
		if err != nil {
			return err
		}
		r, err := load{addr: addr, request: newRequest(addr)}.run(d)
		fmt.Printf("%.0f/s, p50 %s, p99 %s\n", r.perSecond(), r.percentile(50), r.percentile(99))
		return err
	case "receiver":
		return profiledReceiver(addr, args[2:])
	default:
		return fmt.Errorf("no control is called %q", kind)
	}
}

// bare is the least that an HTTP server in Go can do with an event.
func bare(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusOK)
}

// asynqIngest is an afternoon's implementation: verify, derive a key, enqueue with it, answer 200.
type asynqIngest struct {
	client *asynq.Client
	token  [sha256.Size]byte
}

func newAsynqIngest(redisAddr string) *asynqIngest {
	return &asynqIngest{
		client: asynq.NewClient(asynq.RedisClientOpt{Addr: redisAddr, PoolSize: connections}),
		token:  sha256.Sum256([]byte(token)),
	}
}

func (a *asynqIngest) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != path {
		http.NotFound(w, r)
		return
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, "body", http.StatusBadRequest)
		return
	}
	var envelope struct {
		Type      string `json:"type"`
		Token     string `json:"token"`
		EventData struct {
			ID     int64  `json:"id"`
			Status string `json:"status"`
		} `json:"event_data"`
	}
	if err := json.Unmarshal(raw, &envelope); err != nil || envelope.Type == "" {
		http.Error(w, "malformed", http.StatusBadRequest)
		return
	}
	sum := sha256.Sum256([]byte(envelope.Token))
	if subtle.ConstantTimeCompare(sum[:], a.token[:]) != 1 {
		http.Error(w, "token", http.StatusUnauthorized)
		return
	}
	key := sha256.Sum256([]byte(envelope.Type + "/" + strconv.FormatInt(envelope.EventData.ID, 10) + "/" + envelope.EventData.Status))
	task := asynq.NewTask(envelope.Type, raw)
	_, err = a.client.EnqueueContext(r.Context(), task, asynq.TaskID(hex.EncodeToString(key[:16])), asynq.Retention(96*time.Hour))
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		http.Error(w, "not stored", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// rawHandler drains a stream each time that it is asked to: arguments are Redis' address, the stream, the target's URL
// and the number of workers.
func rawHandler(args []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(args[3])
		if err == nil {
			err = rawLoop(r.Context(), args[0], args[1], args[2], n)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
}

// rawLoop drains a stream as plainly as possible: each of n workers reads a batch, posts each entry, acknowledges it.
// It is the control of the product's delivery, with the same number of requests in flight, the same HTTP client and the
// same Redis client. It decides nothing, retries nothing and deletes nothing.
func rawLoop(ctx context.Context, redisAddr, stream, url string, n int) error {
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{redisAddr}, DisableCache: true, PipelineMultiplex: -1, ClientName: "raw-loop",
	})
	if err != nil {
		return err
	}
	defer client.Close()
	transport := &http.Transport{MaxIdleConnsPerHost: n, MaxIdleConns: n}
	defer transport.CloseIdleConnections()
	poster := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- rawWorker(ctx, client, poster, stream, url, "worker-"+strconv.Itoa(i)) }()
	}
	for range n {
		err = errors.Join(err, <-errs)
	}
	return err
}

func rawWorker(ctx context.Context, client rueidis.Client, poster *http.Client, stream, url, consumer string) error {
	const batch = 8
	for ctx.Err() == nil {
		read, err := client.Do(ctx, client.B().Xreadgroup().Group("raw", consumer).Count(batch).Streams().Key(stream).Id(">").Build()).AsXRead()
		if rueidis.IsRedisNil(err) {
			return nil // drained
		}
		if err != nil {
			return err
		}
		for _, entry := range read[stream] {
			if err := post(ctx, poster, url, entry.FieldValues["body"]); err != nil {
				return err
			}
			if err := client.Do(ctx, client.B().Xack().Key(stream).Group("raw").Id(entry.ID).Build()).Error(); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

func post(ctx context.Context, client *http.Client, url, body string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := client.Do(r)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, response.Body)
	return response.Body.Close()
}
