package target_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/target"
)

// received is one attempt as a target receives it.
type received struct {
	header http.Header
	body   []byte
}

var accepted = time.Date(2026, 11, 21, 9, 30, 0, int(250*time.Millisecond), time.UTC)

// awkward is a body that most JSON libraries change when they read and write it.
const awkward = ` { "type" : "message_recieved","id":41,"event_data":{"super":9007199254740993,"f":1.0,"e":1E3,"s":"\u00e9\/<&>","z":null}}`

func anEvent() event.Event {
	return event.Event{
		ID: "evt_abcdefghijklmnopqrstuvwxyz", Type: event.MessageReceived, AcceptedAt: accepted, Body: []byte(awkward),
		Trace:      "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		TraceState: "rojo=00f067aa0ba902b7", Baggage: "team=support",
	}
}

// send makes one attempt at a target that notes what it gets.
func send(t *testing.T, o target.Options) received {
	t.Helper()
	return sendEvent(t, o, anEvent())
}

func sendEvent(t *testing.T, o target.Options, e event.Event) received {
	t.Helper()
	var got received
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got.header = r.Header
		got.body, _ = io.ReadAll(r.Body)
	}))
	t.Cleanup(server.Close)
	o.URL = server.URL
	if out := sendEventTo(t, o, e); !out.Delivered() {
		t.Fatalf("not delivered: %+v", out)
	}
	return got
}

func sendTo(t *testing.T, o target.Options) delivery.Outcome {
	t.Helper()
	return sendEventTo(t, o, anEvent())
}

func sendEventTo(t *testing.T, o target.Options, e event.Event) delivery.Outcome {
	t.Helper()
	o.Timeout, o.MaxInFlight, o.UserAgent = 5*time.Second, 1, "heymarket-operator/test"
	o.Source, o.Addresses.AllowLoopback = target.Source("staging", "support"), true
	s := target.New(o)
	t.Cleanup(s.Close)
	return s.Send(t.Context(), e, 3)
}

func TestTraceContextTravels(t *testing.T) {
	t.Parallel()
	e := anEvent()
	for _, f := range contract.Formats() {
		got := send(t, target.Options{Format: f}).header
		want := [3]string{e.Trace, e.TraceState, e.Baggage}
		if travelled := [3]string{got.Get("traceparent"), got.Get("tracestate"), got.Get("baggage")}; travelled != want {
			t.Errorf("%s: %q, want %q", f, travelled, want)
		}
	}
}

func TestHeymarketFormat(t *testing.T) {
	t.Parallel()
	for _, format := range []contract.Format{"", contract.FormatHeymarket} {
		got := send(t, target.Options{Format: format})
		if string(got.body) != awkward {
			t.Errorf("body = %s; want what was accepted, byte for byte", got.body)
		}
		wantHeaders(t, got.header, map[string]string{
			"Content-Type": "application/json", "User-Agent": "heymarket-operator/test",
			"webhook-id": "evt_abcdefghijklmnopqrstuvwxyz", "heymarket-event-type": "message_recieved", "heymarket-attempt": "3",
			"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
			"ce-id":       "", "webhook-signature": "",
		})
	}
}

func TestCloudEventsBinary(t *testing.T) {
	t.Parallel()
	got := send(t, target.Options{Format: contract.FormatCloudEvents})
	if string(got.body) != awkward {
		t.Errorf("body = %s; want what was accepted, byte for byte", got.body)
	}
	wantHeaders(t, got.header, map[string]string{
		"Content-Type": "application/json", "ce-specversion": "1.0", "ce-id": "evt_abcdefghijklmnopqrstuvwxyz",
		"ce-source": "/heymarket/staging/support", "ce-type": "heymarket.message_recieved", "ce-time": "2026-11-21T09:30:00.25Z",
		"webhook-id": "evt_abcdefghijklmnopqrstuvwxyz",
	})
}

func TestCloudEventsStructured(t *testing.T) {
	t.Parallel()
	got := send(t, target.Options{Format: contract.FormatCloudEventsStructured})
	wantHeaders(t, got.header, map[string]string{"Content-Type": "application/cloudevents+json", "ce-id": ""})
	if !bytes.Contains(got.body, []byte(`"data":`+awkward)) {
		t.Errorf("body = %s; want the accepted body in it, byte for byte", got.body)
	}
	var ce cloudevents.Event
	if err := ce.UnmarshalJSON(got.body); err != nil {
		t.Fatalf("the SDK does not read %s: %v", got.body, err)
	}
	if err := ce.Validate(); err != nil {
		t.Error(err)
	}
	want := map[string]string{
		"id": "evt_abcdefghijklmnopqrstuvwxyz", "source": "/heymarket/staging/support", "type": "heymarket.message_recieved",
		"time": accepted.String(), "datacontenttype": "application/json",
	}
	read := map[string]string{
		"id": ce.ID(), "source": ce.Source(), "type": ce.Type(), "time": ce.Time().String(), "datacontenttype": ce.DataContentType(),
	}
	if diff := cmp.Diff(want, read); diff != "" {
		t.Error(diff)
	}
}

// What Redis holds is not trusted: an attribute stays one attribute, whatever it contains.
func TestCloudEventsStructuredQuotesAttributes(t *testing.T) {
	t.Parallel()
	e := anEvent()
	e.ID, e.Type = `evt_","source":"/other`, "a\"\\\xff<"
	got := sendEvent(t, target.Options{Format: contract.FormatCloudEventsStructured}, e)
	var ce cloudevents.Event
	if err := ce.UnmarshalJSON(got.body); err != nil {
		t.Fatalf("the SDK does not read %s: %v", got.body, err)
	}
	if ce.ID() != e.ID || ce.Type() != "heymarket.a\"\\\uFFFD<" || ce.Source() != "/heymarket/staging/support" {
		t.Errorf("read as id %q, type %q, source %q", ce.ID(), ce.Type(), ce.Source())
	}
}

func TestSignaturesVerify(t *testing.T) {
	t.Parallel()
	current := "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	previous := "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	for _, format := range contract.Formats() {
		got := send(t, target.Options{Format: format, SigningKeys: [][]byte{parseKey(t, current), parseKey(t, previous)}})
		for _, secret := range []string{current, previous} {
			if want := signature(t, secret, got); !slices.Contains(strings.Fields(got.header.Get("Webhook-Signature")), want) {
				t.Errorf("%s: Webhook-Signature = %q lacks %s", format, got.header.Get("Webhook-Signature"), want)
			}
		}
		if n := len(strings.Fields(got.header.Get("webhook-signature"))); n != 2 {
			t.Errorf("%s: %d signatures, want one a key", format, n)
		}
	}
}

// signature is that of the specification of Standard Webhooks; test/surface/docs lets its libraries verify.
func signature(t *testing.T, secret string, r received) string {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", r.header.Get("Webhook-Id"), r.header.Get("Webhook-Timestamp"), r.body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func parseKey(t *testing.T, text string) []byte {
	t.Helper()
	key, err := config.ParseSigningKey([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestHeadersNeverOverrideOurs(t *testing.T) {
	t.Parallel()
	given := http.Header{
		"Authorization": {"Bearer abc"}, "User-Agent": {"mine"}, "Webhook-Id": {"mine"}, "Webhook-Signature": {"mine"},
		"Content-Type": {"mine"}, "Heymarket-Attempt": {"mine"}, "Traceparent": {"mine"}, "Ce-Id": {"mine"},
	}
	before := given.Clone()
	got := send(t, target.Options{Headers: given, Format: contract.FormatCloudEvents, SigningKeys: [][]byte{bytes.Repeat([]byte{1}, 24)}})
	wantHeaders(t, got.header, map[string]string{"Authorization": "Bearer abc"})
	for name, values := range got.header {
		if strings.Contains(strings.Join(values, ""), "mine") {
			t.Errorf("%s is the user's", name)
		}
	}
	if diff := cmp.Diff(before, given); diff != "" {
		t.Errorf("Send changed the options: %s", diff)
	}
}

func TestPrivateCertificateAuthority(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	server.Config.ErrorLog = nil
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	for _, tt := range []struct {
		name string
		o    target.Options
		want bool
	}{
		{"the system's", target.Options{}, false},
		{"its own", target.Options{RootCAs: pool}, true},
		{"its own, by another name of the certificate", target.Options{RootCAs: pool, ServerName: "example.com"}, true},
		{"its own, by a name that the certificate lacks", target.Options{RootCAs: pool, ServerName: "crm.internal"}, false},
		{"an empty pool", target.Options{RootCAs: x509.NewCertPool()}, false},
	} {
		tt.o.URL = server.URL
		if out := sendTo(t, tt.o); out.Delivered() != tt.want {
			t.Errorf("%s: %+v; want delivered = %v", tt.name, out, tt.want)
		}
	}
}

// What is older than TLS 1.2, and a header of an answer that would fill the memory, is an answer that failed.
func TestAnswersThatAreNotTaken(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		tls   *tls.Config
		bytes int
		want  bool
	}{
		"a header of 32 KiB": {nil, 32 << 10, true},
		"a header of 96 KiB": {nil, 96 << 10, false},
		"TLS 1.2":            {&tls.Config{MaxVersion: tls.VersionTLS12}, 0, true},
		"TLS 1.1":            {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, 0, false},
	} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", tc.bytes))
		}))
		server.TLS, server.Config.ErrorLog = tc.tls, slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		server.StartTLS()
		pool := x509.NewCertPool()
		pool.AddCert(server.Certificate())
		if out := sendTo(t, target.Options{URL: server.URL, RootCAs: pool}); out.Delivered() != tc.want {
			t.Errorf("%s: %+v; want delivered = %v", name, out, tc.want)
		}
		server.Close()
	}
}

func wantHeaders(t *testing.T, got http.Header, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got.Get(name) != value {
			t.Errorf("%s = %q, want %q", name, got.Get(name), value)
		}
	}
}
