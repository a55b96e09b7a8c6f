package receiver_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"heymarket.dev/operator/internal/receiver/redistest"
)

// TestTheAccountAddsUpAtEveryScrape scrapes as fast as it can while requests of every kind come in, some of them cut off in
// the middle and some that stay half-sent. At each scrape received = stored + duplicate + ignored + refused, and it is no
// fewer than were answered before it and no more than were begun when it ended.
func TestTheAccountAddsUpAtEveryScrape(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	c := newConfig(crm(to))
	c.EventTypes, c.MaxBodyBytes = []string{"message_recieved"}, 4096
	p := start(t, redis.URL(), c)
	p.awaitReady()

	const senders, rounds = 4, 40
	var (
		begun, answered atomic.Int64
		sending         sync.WaitGroup
		event           atomic.Int64
	)
	request := func(method, path, contentType, body string) {
		req, err := http.NewRequestWithContext(t.Context(), method, p.events+path, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Content-Type", contentType)
		begun.Add(1)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		answered.Add(1)
	}
	half := func() net.Conn {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.events, "http://"))
		if err != nil {
			t.Error(err)
			return nil
		}
		begun.Add(1)
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", path)
		return conn
	}
	var staying []net.Conn
	for range 5 {
		staying = append(staying, half())
	}
	const json = "application/json"
	for range senders {
		sending.Go(func() {
			for range rounds {
				n := int(event.Add(1))
				request(http.MethodPost, path, json, sample(n))
				request(http.MethodPost, path, json, sample(n))
				request(http.MethodPost, path, json, strings.Replace(sample(n), "message_recieved", "chat_closed", 1))
				request(http.MethodPost, path, json, strings.Replace(sample(n), token, "wrong", 1))
				request(http.MethodPost, path, json, "{")
				request(http.MethodPost, path, "text/plain", "{}")
				request(http.MethodPost, path, json, strings.Repeat(" ", 5000))
				request(http.MethodGet, path, json, "")
				request(http.MethodPost, "/elsewhere", json, "")
				_ = half().Close()
			}
		})
	}
	done := make(chan struct{})
	go func() {
		sending.Wait()
		close(done)
	}()
	scrapes := 0
	for running := true; running; scrapes++ {
		select {
		case <-done:
			running = false // and once more
		default:
		}
		least := answered.Load()
		_, metrics := p.get("/metrics")
		most := begun.Load()
		received, sum := account(t, metrics)
		if received != sum || received < least || received > most {
			t.Fatalf("scrape %d: %d received, %d by result; %d were answered before it, %d begun by its end", scrapes, received, sum, least, most)
		}
		if !strings.Contains(metrics, `heymarket_receiver_events_unaccounted{target="crm"} 0`) {
			t.Fatalf("scrape %d: the account of the target does not add up:\n%s", scrapes, metrics)
		}
	}
	for _, conn := range staying {
		_ = conn.Close()
	}
	until(t, "those that were cut off are counted as well", func() bool {
		_, metrics := p.get("/metrics")
		received, sum := account(t, metrics)
		return received == sum && received == begun.Load()
	})
	_, metrics := p.get("/metrics")
	for _, line := range []string{
		fmt.Sprintf(`requests_total{reason="",result="stored"} %d`, senders*rounds),
		fmt.Sprintf(`requests_total{reason="",result="duplicate"} %d`, senders*rounds),
		fmt.Sprintf(`requests_total{reason="",result="ignored"} %d`, senders*rounds),
		fmt.Sprintf(`requests_total{reason="unreadable",result="refused"} %d`, senders*rounds+len(staying)),
		fmt.Sprintf(`requests_total{reason="too_large",result="refused"} %d`, senders*rounds),
	} {
		if !strings.Contains(metrics, "heymarket_receiver_"+line+"\n") {
			t.Errorf("the metrics lack %s", line)
		}
	}
	t.Logf("%d scrapes during %d requests", scrapes, begun.Load())
}

// account reads both sides of the account of requests.
func account(t *testing.T, metrics string) (received, sum int64) {
	t.Helper()
	for line := range strings.Lines(metrics) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, _, _ = strings.Cut(name, "{")
		if name != "heymarket_receiver_requests_total" && name != "heymarket_receiver_requests_received_total" {
			continue
		}
		value = value[strings.LastIndexByte(value, ' ')+1:]
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if name == "heymarket_receiver_requests_total" {
			sum += int64(n)
		} else {
			received = int64(n)
		}
	}
	return received, sum
}
