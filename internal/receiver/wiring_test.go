package receiver_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver"
	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/redistest"
)

// wired is what a row of TestEveryMemberReachesWhereItActs has: a webhook of its own in a Redis that the rows share.
type wired struct {
	*testing.T
	redis  *redistest.Server
	config config.Config
	target *sink
	dir    string
}

// crm is the one target of the configuration.
func (w *wired) crm() *config.Target { return &w.config.Targets[0] }

func (w *wired) start(with ...func(*process, *receiver.Options)) *process {
	w.Helper()
	p := start(w.T, w.redis.URL(), w.config, with...)
	p.awaitReady()
	return p
}

// rejects has the target answer status to everything.
func (w *wired) rejects(status int) { w.target.answer(func() int { return status }) }

// posted starts a receiver, posts one message, which is accepted, and returns the receiver.
func (w *wired) posted() *process {
	w.Helper()
	p := w.start()
	p.wantPost(sample(1), http.StatusOK)
	return p
}

// metric waits for a line of a scrape.
func (p *process) metric(line string) {
	p.t.Helper()
	until(p.t, line, func() bool {
		_, scrape := p.get("/metrics")
		return strings.Contains(scrape, "\nheymarket_receiver_"+line+"\n")
	})
}

// fails waits until attempts at the target fail with an error of this class.
func (p *process) fails(class contract.ErrorClass) {
	p.t.Helper()
	p.metric(fmt.Sprintf(`target_failing{class=%q,target="crm"} 1`, class))
}

func (p *process) deadLetters(n int) {
	p.t.Helper()
	p.metric(fmt.Sprintf(`dead_letters{target="crm"} %d`, n))
}

// postFrom posts a body for a client that a proxy speaks for.
func (p *process) postFrom(client, body string) int {
	p.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, p.events+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Forwarded-For", client)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}

// consent is an opt-out or opt-in of one person.
func consent(eventType string) string {
	return fmt.Sprintf(`{"type":%q,"id":41,"token":%q,"event_data":{"target":"+15550100","inbox":3}}`, eventType, token)
}

// private is an address that is private and that is not in use: a part of fc00::/7 that is not handed out (RFC 4193).
const private = "http://[fc00::dead:beef]:9/"

// wiring has a row for each member of the configuration: what a running receiver does because of it, that it would not do by its
// default. A path of a member is that of its JSON names.
var wiring = map[string]func(*wired){
	"version": func(w *wired) { // of a higher format, members that this build does not know are ignored
		p := w.start()
		raw, err := config.Encode(p.complete(w.config))
		if err != nil {
			w.Fatal(err)
		}
		p.writeFile("config.json", strings.Replace(string(raw), `"version": 1`, `"version": 99, "colour": 1`, 1))
		p.metric("config_ignored_members 1")
	},
	"webhook.namespace": func(w *wired) {
		w.rejects(http.StatusServiceUnavailable)
		w.posted()
		w.hasKey(contract.RedisPrefix("staging", w.config.Webhook.Name))
	},
	"webhook.name": func(w *wired) {
		w.config.Webhook.Name = "another"
		w.rejects(http.StatusServiceUnavailable)
		w.posted()
		w.hasKey(contract.RedisPrefix("staging", "another"))
	},
	"paths": func(w *wired) {
		w.config.Paths = []string{"/staging/support/zyxwvutsrqponmlkjihgfedcba"}
		w.start().wantPost(sample(1), http.StatusNotFound)
	},
	"tokenFiles": func(w *wired) {
		w.config.TokenFiles = []string{write(w.T, w.dir, "new", "another-token-91bc"), write(w.T, w.dir, "old", token)}
		w.posted().metric(`token_used_total{token="previous"} 1`)
	},
	"redisURLFile": func(w *wired) {
		other := redistest.Start(w.T)
		w.config.RedisURLFile = write(w.T, w.dir, "other", other.URL())
		w.config.Paused = true
		w.posted()
		w.redis = other
		w.hasKey(contract.RedisPrefix("staging", w.config.Webhook.Name))
	},
	"redisCAFile": func(w *wired) {
		_, url, ca := redistest.StartTLS(w.T)
		w.config.RedisURLFile, w.config.RedisCAFile = write(w.T, w.dir, "other", url), write(w.T, w.dir, "ca", string(ca))
		w.posted()
	},
	"webhookID": func(w *wired) {
		w.config.WebhookID = new(int64(42))
		w.start().wantPost(sample(1), http.StatusForbidden)
	},
	"eventTypes": func(w *wired) {
		w.config.EventTypes = []string{"chat_closed"}
		w.posted().metric(`requests_total{reason="",result="ignored"} 1`)
	},
	"targets[].name": func(w *wired) {
		w.crm().Name = "erp"
		w.posted().metric(`events_delivered_total{target="erp"} 1`)
	},
	"targets[].url": func(w *wired) {
		w.posted()
		w.target.await(w.T, 1)
	},
	"targets[].eventTypes": func(w *wired) {
		w.crm().EventTypes = []string{"chat_closed"}
		w.posted().metric(`requests_total{reason="",result="ignored"} 1`)
	},
	"targets[].timeout": func(w *wired) {
		silent := make(chan struct{})
		w.crm().URL = w.serve(func(http.ResponseWriter, *http.Request) { <-silent })
		w.Cleanup(func() { close(silent) })
		w.crm().Timeout = config.Duration(50 * time.Millisecond)
		w.posted().fails(contract.ErrorTimeout)
	},
	"targets[].retry.maxAttempts": func(w *wired) {
		w.crm().Retry.MaxAttempts = 1
		w.rejects(http.StatusServiceUnavailable)
		w.posted().deadLetters(1)
	},
	"targets[].retry.minBackoff": func(w *wired) { // by default it is delivered a second later
		w.crm().Retry.MinBackoff, w.crm().Retry.MaxBackoff = config.Duration(20*time.Hour), config.Duration(20*time.Hour)
		w.rejects(http.StatusServiceUnavailable)
		p := w.posted()
		until(w.T, "the next attempt is hours away", func() bool {
			targets := p.status().Targets
			return len(targets) == 1 && time.Until(targets[0].NextAttempt) > 5*time.Hour
		})
	},
	"targets[].retry.maxBackoff": func(w *wired) { // without it, the ninth attempt comes after more than twenty seconds
		w.crm().Retry = config.Retry{MaxAttempts: 9, MinBackoff: config.Duration(200 * time.Millisecond), MaxBackoff: config.Duration(200 * time.Millisecond)}
		w.rejects(http.StatusServiceUnavailable)
		w.posted().deadLetters(1)
	},
	"targets[].retry.maxAge": func(w *wired) {
		w.crm().Retry = config.Retry{MinBackoff: config.Duration(time.Hour), MaxBackoff: config.Duration(time.Hour), MaxAge: config.Duration(time.Millisecond)}
		w.target.answer(func() int { time.Sleep(2 * time.Millisecond); return http.StatusServiceUnavailable })
		w.posted().deadLetters(1)
	},
	"targets[].retry.statuses": func(w *wired) { // by default such an answer is final
		w.crm().Retry.Statuses = []int{http.StatusTeapot}
		first := true
		w.target.answer(func() int {
			if first {
				first = false
				return http.StatusTeapot
			}
			return http.StatusOK
		})
		w.posted()
		w.target.await(w.T, 1)
	},
	"targets[].maxInFlight": func(w *wired) {
		w.crm().MaxInFlight = 1
		var mu sync.Mutex
		now, most := 0, 0
		w.crm().URL = w.serve(func(http.ResponseWriter, *http.Request) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(20 * time.Millisecond) // long enough for others to come
			mu.Lock()
			now--
			mu.Unlock()
		})
		p := w.start()
		for i := range 5 {
			p.wantPost(sample(i), http.StatusOK)
		}
		p.metric(`events_delivered_total{target="crm"} 5`)
		mu.Lock()
		defer mu.Unlock()
		if most != 1 {
			w.Errorf("%d attempts at once, want 1", most)
		}
	},
	"targets[].ratePerSecond": func(w *wired) {
		w.crm().RatePerSecond = 1
		var mu sync.Mutex
		var came []time.Time
		w.crm().URL = w.serve(func(http.ResponseWriter, *http.Request) {
			mu.Lock()
			came = append(came, time.Now())
			mu.Unlock()
		})
		p := w.start()
		p.wantPost(sample(1), http.StatusOK)
		p.wantPost(sample(2), http.StatusOK)
		p.metric(`events_delivered_total{target="crm"} 2`)
		mu.Lock()
		defer mu.Unlock()
		if gap := came[1].Sub(came[0]); gap < 500*time.Millisecond {
			w.Errorf("the second attempt begins %s after the first, at one a second", gap)
		}
	},
	"targets[].filter": func(w *wired) {
		w.crm().Filter = `event.type == "chat_closed"`
		w.posted().metric(`requests_total{reason="",result="ignored"} 1`)
	},
	"targets[].format": func(w *wired) {
		w.crm().Format = contract.FormatCloudEvents
		w.header("Ce-Specversion", "1.0")
	},
	"targets[].order": func(w *wired) {
		w.crm().Order = contract.OrderConversation
		w.crm().Retry.MinBackoff, w.crm().Retry.MaxBackoff = config.Duration(500*time.Millisecond), config.Duration(500*time.Millisecond)
		var mu sync.Mutex
		var came []string
		w.crm().URL = w.serve(func(rw http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			mu.Lock()
			defer mu.Unlock()
			came = append(came, string(body[:bytes.IndexByte(body, ',')]))
			if len(came) == 1 {
				rw.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		p := w.start()
		for _, eventType := range []string{"chat_closed", "chat_opened"} { // of one conversation
			p.wantPost(fmt.Sprintf(`{"type":%q,"id":41,"token":%q,"event_data":{"id":7,"updated":"2026-01-02T03:04:05Z"}}`, eventType, token), http.StatusOK)
		}
		p.metric(`events_delivered_total{target="crm"} 2`)
		mu.Lock()
		defer mu.Unlock()
		if want := []string{`{"type":"chat_closed"`, `{"type":"chat_closed"`, `{"type":"chat_opened"`}; !slices.Equal(came, want) {
			w.Errorf("the target got %q, want %q", came, want)
		}
	},
	"targets[].signingKeyFiles": func(w *wired) {
		key := "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{'a'}, 32))
		w.crm().SigningKeyFiles = []string{write(w.T, w.dir, "key", key)}
		w.header("Webhook-Signature", "v1,")
	},
	"targets[].headers[].name": func(w *wired) {
		w.crm().Headers = []config.Header{{Name: "X-Team", Value: "crm"}}
		w.header("X-Team", "")
	},
	"targets[].headers[].value": func(w *wired) {
		w.crm().Headers = []config.Header{{Name: "X-Team", Value: "support"}}
		w.header("X-Team", "support")
	},
	"targets[].headers[].valueFile": func(w *wired) {
		w.crm().Headers = []config.Header{{Name: "X-Team", ValueFile: write(w.T, w.dir, "team", "sales\n")}}
		w.header("X-Team", "sales")
	},
	"targets[].tls.caFile": func(w *wired) {
		to := newMailbox(w.T, true)
		w.trust(to)
		w.posted()
		to.next(w.T)
	},
	"targets[].tls.serverName": func(w *wired) {
		w.trust(newMailbox(w.T, true))
		w.crm().TLS.ServerName = "crm.internal"
		w.posted().fails(contract.ErrorTLS)
	},
	"deduplication.window": func(w *wired) {
		w.config.Deduplication.Window = config.Duration(time.Millisecond)
		p := w.posted()
		until(w.T, "a delivery is forgotten", func() bool {
			p.wantPost(sample(1), http.StatusOK)
			_, scrape := p.get("/metrics")
			return strings.Contains(scrape, `heymarket_receiver_requests_total{reason="",result="stored"} 2`)
		})
	},
	"deduplication.retryHorizon": func(w *wired) {
		w.config.Deduplication.RetryHorizon = config.Duration(time.Millisecond)
		p := w.start()
		for _, eventType := range []string{"target_opt_in", "target_opt_out", "target_opt_in"} {
			p.wantPost(consent(eventType), http.StatusOK)
			time.Sleep(5 * time.Millisecond) // beyond the horizon
		}
		p.metric(`deduplication_decisions_total{decision="returned"} 1`)
	},
	"deduplication.key": func(w *wired) {
		w.config.Deduplication.Key = "event.type"
		p := w.posted()
		p.wantPost(sample(2), http.StatusOK)
		p.metric(`requests_total{reason="",result="duplicate"} 1`)
	},
	"retention.deadLetters": func(w *wired) { // what is too old goes when a receiver starts, and each minute
		w.rejects(http.StatusTeapot)
		p := w.posted()
		p.deadLetters(1)
		w.config.Retention.DeadLetters = config.Duration(time.Millisecond)
		w.start().deadLetters(0)
	},
	"retention.deadLetterLimit": func(w *wired) {
		w.config.Retention.DeadLetterLimit = 1
		w.rejects(http.StatusTeapot)
		p := w.posted()
		p.wantPost(sample(2), http.StatusOK)
		p.deadLetters(1)
		until(w.T, "the second one waits", func() bool { s := p.status().Targets[0]; return s.Pending == 1 && !s.NextAttempt.IsZero() })
	},
	"paused": func(w *wired) {
		w.config.Paused = true
		p := w.posted()
		p.metric(`events_pending{target="crm"} 1`)
		w.config.Paused = false
		if n, _ := w.target.count(); n > 0 {
			w.Error("the target got an event")
		}
		p.configure(w.config)
		w.target.await(w.T, 1)
	},
	"logLevel": func(w *wired) {
		w.config.LogLevel = "error"
		level := new(slog.LevelVar)
		w.start(func(_ *process, o *receiver.Options) { o.Level = level })
		if level.Level() != slog.LevelError {
			w.Errorf("the level is %s", level.Level())
		}
	},
	"trustedProxies": func(w *wired) {
		w.config.TrustedProxies = []string{"127.0.0.0/8"}
		p := w.start()
		until(w.T, "a client that guesses tokens is limited", func() bool {
			return p.postFrom("203.0.113.1", strings.Replace(sample(1), token, "wrong", 1)) == http.StatusTooManyRequests
		})
		if status := p.postFrom("203.0.113.2", strings.Replace(sample(1), token, "wrong", 1)); status != http.StatusUnauthorized {
			w.Errorf("the first guess of another client behind the proxy is answered %d", status)
		}
	},
	"addresses.allowLoopback": func(w *wired) {
		w.config.Addresses.AllowLoopback = false
		w.posted().fails(contract.ErrorBlocked)
	},
	"addresses.denyPrivate": func(w *wired) {
		w.config.Addresses.DenyPrivate, w.crm().URL, w.crm().Timeout = true, private, config.Duration(100*time.Millisecond)
		w.posted().fails(contract.ErrorBlocked)
	},
	"addresses.allowNetworks": func(w *wired) {
		w.config.Addresses.DenyPrivate, w.crm().URL, w.crm().Timeout = true, private, config.Duration(100*time.Millisecond)
		w.config.Addresses.AllowNetworks = []string{"fc00::/8"}
		p := w.posted()
		until(w.T, "an attempt fails, and not because its address is blocked", func() bool {
			e := p.status().Targets[0].LastError
			return e != nil && e.Class != contract.ErrorBlocked
		})
	},
	"restrictRedis": func(w *wired) {
		w.config.RestrictRedis, w.config.Addresses.AllowLoopback = true, false
		p := start(w.T, w.redis.URL(), w.config)
		until(w.T, "Redis is at a blocked address", func() bool { return slices.Contains(p.status().Problems, contract.RedisBlocked) })
	},
	"maxBodyBytes": func(w *wired) {
		w.config.MaxBodyBytes = 100
		w.start().wantPost(sample(1), http.StatusRequestEntityTooLarge)
	},
	"maxBacklog": func(w *wired) {
		w.config.MaxBacklog, w.config.Paused = 1, true
		w.posted().wantPost(sample(2), http.StatusTooManyRequests)
	},
	"maxBacklogBytes": func(w *wired) {
		w.config.MaxBacklogBytes, w.config.Paused = 1, true
		p := w.start()
		until(w.T, "events are more than a byte", func() bool { return p.answer(sample(int(time.Now().UnixNano()))) == http.StatusTooManyRequests })
	},
}

// No test of a package notices a setting that is read but never used. So each member of the configuration is followed from the
// mounted file to its effect in a running receiver, and a new member without a row fails.
func TestEveryMemberReachesWhereItActs(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	missing := map[string]bool{}
	for _, m := range leaves("", reflect.TypeFor[config.Config]()) {
		missing[m] = true
	}
	for i, member := range slices.Sorted(maps.Keys(wiring)) {
		if !missing[member] {
			t.Errorf("there is a row for %s, which is no member of the configuration", member)
		}
		delete(missing, member)
		t.Run(member, func(t *testing.T) {
			t.Parallel()
			w := &wired{T: t, redis: redis, target: newSink(t), dir: t.TempDir()}
			w.config = newConfig(crm(w.target))
			w.config.Webhook.Name = "wired" + string(rune('a'+i/26)) + string(rune('a'+i%26))
			wiring[member](w)
		})
	}
	for m := range missing {
		t.Errorf("%s has no row: show what a running receiver does because of it", m)
	}
}

// leaves are the paths of all members that have no members themselves.
func leaves(at string, t reflect.Type) (out []string) {
	switch t.Kind() {
	case reflect.Pointer:
		return leaves(at, t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			return leaves(at+"[]", t.Elem())
		}
	case reflect.Struct:
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			out = append(out, leaves(strings.TrimPrefix(at+"."+name, "."), f.Type)...)
		}
		return out
	}
	return []string{at}
}

// hasKey waits for a key of the webhook in Redis.
func (w *wired) hasKey(prefix string) {
	w.Helper()
	until(w.T, "a key that begins with "+prefix, func() bool {
		keys, err := w.redis.Do("KEYS", prefix+"*")
		return err == nil && strings.HasPrefix(keys, prefix)
	})
}

// serve runs a target until the end of the test and returns its URL.
func (w *wired) serve(handler http.HandlerFunc) string {
	s := httptest.NewServer(handler)
	w.Cleanup(s.Close)
	return s.URL
}

// header posts an event, and expects a header of the target's request that begins with a value.
func (w *wired) header(name, value string) {
	w.Helper()
	to := newMailbox(w.T, false)
	w.crm().URL = to.URL
	w.posted()
	header, _ := to.next(w.T)
	if got, there := header[http.CanonicalHeaderKey(name)]; !there || !strings.HasPrefix(got[0], value) {
		w.Errorf("%s = %q, want %q", name, got, value)
	}
}

// trust makes to the target, and trusts its certificate alone.
func (w *wired) trust(to *mailbox) {
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: to.Certificate().Raw})
	w.crm().URL, w.crm().TLS.CAFile = to.URL, write(w.T, w.dir, "ca", string(certificate))
}

// complete is c with the files that it does not name itself.
func (p *process) complete(c config.Config) config.Config {
	if len(c.TokenFiles) == 0 {
		c.TokenFiles = []string{filepath.Join(p.dir, "token")}
	}
	if c.RedisURLFile == "" {
		c.RedisURLFile = filepath.Join(p.dir, "redis-url")
	}
	return c
}
