package dev_test

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/dev"
	"heymarket.dev/operator/internal/echo"
	"heymarket.dev/operator/internal/fixture"
	"heymarket.dev/operator/internal/receiver/address"
	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/event"
)

const quickstart = "../../examples/quickstart"

func manifest(t *testing.T, path, stdin string) *dev.Manifest {
	t.Helper()
	m, err := dev.ReadManifest(t.Context(), path, strings.NewReader(stdin), "default", "")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func start(t *testing.T, o dev.Options) *dev.Running {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.DiscardHandler
	}
	r, err := dev.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// The quickstart in one process, as `make try` shows it: each request with its answer and the target's requests.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	r := start(t, dev.Options{Manifest: manifest(t, quickstart, ""), Echo: true})
	if !r.InMemory || len(r.MadeTokens) > 0 || r.Token != "quickstart-token-for-trying-out" {
		t.Errorf("in memory: %t, made tokens: %v", r.InMemory, r.MadeTokens)
	}
	rows, err := r.Play(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string]bool{}
	for _, row := range rows {
		repeat := strings.HasSuffix(row.Says, ", again")
		rejected := strings.HasPrefix(row.Says, "with ") || strings.HasPrefix(row.Says, "a body")
		switch {
		case rejected && (row.Status/100 != 4 || row.Sentence == "" || len(row.Received) != 0):
			t.Errorf("%s: %+v", row.Says, row)
		case repeat && (row.Status != 200 || row.Result != "duplicate" || len(row.Received) != 0):
			t.Errorf("%s: %+v", row.Says, row)
		case !repeat && !rejected:
			stored[row.Says] = true
			if row.Result != "stored" || len(row.Received) != 1 {
				t.Fatalf("%s: %+v", row.Says, row)
			}
			got := row.Received[0]
			if got.Path != "/crm" || strings.Contains(got.Body, r.Token) || !strings.Contains(got.Body, `"`+row.Says+`"`) {
				t.Errorf("%s: the target got %+v", row.Says, got)
			}
		}
	}
	for _, eventType := range event.Types() {
		if !stored[eventType] {
			t.Errorf("no event of type %s was sent", eventType)
		}
	}
	s, err := r.Status(t.Context())
	if err != nil || s.Durable || s.Redis != "ok" || len(s.Problems) != 1 || s.Problems[0] != contract.RedisForgets {
		t.Errorf("a Redis in memory is reported as %+v, %v", s, err)
	}
}

const webhook = `
apiVersion: heymarket.dev/v1alpha1
kind: HeymarketWebhook
metadata: {name: support, namespace: staging}
spec:
  token: {secretKeyRef: {name: heymarket, key: token}}
`

// A failing target is retried after its backoff, by the clock of the in-memory Redis.
func TestRetriesGoOn(t *testing.T) {
	t.Parallel()
	var target echo.Target
	server := httptest.NewServer(&target)
	t.Cleanup(server.Close)
	program(t, server.URL, `[{"status": 503, "times": 2}]`)
	m := manifest(t, "-", webhook+"  targets: [{name: crm, service: {name: crm, port: 80}, retry: {minBackoff: 100ms}}]\n")
	r := start(t, dev.Options{Manifest: m, Forward: map[string]string{"crm": server.URL}})
	if len(r.MadeTokens) != 1 || len(r.Token) < 20 {
		t.Errorf("a token that the manifest does not hold is %q, made for %v", r.Token, r.MadeTokens)
	}
	send(t, r)
	var got []echo.Record
	for len(got) < 3 {
		<-time.After(10 * time.Millisecond)
		got = target.Received(0)
	}
	for i, want := range []int{503, 503, 200} {
		if got[i].Status != want || got[i].Headers["Webhook-Id"] != got[0].Headers["Webhook-Id"] {
			t.Errorf("attempt %d: %+v", i+1, got[i])
		}
	}
}

// The receiver's address policy is relaxed only for dev: the same configuration, as the operator writes it, delivers nothing to
// this machine.
func TestLoopbackStaysBlockedElsewhere(t *testing.T) {
	t.Parallel()
	m := manifest(t, "-", webhook+"  targets: [{name: crm, url: 'http://10.0.0.1/'}]\n")
	children, err := dev.Children(m)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, child := range children {
		secret, ok := child.Object.(*corev1ac.SecretApplyConfiguration)
		if !ok || secret.Data[desired.KeyConfig] == nil {
			continue
		}
		found = true
		c, err := config.Decode(secret.Data[desired.KeyConfig])
		if err != nil {
			t.Fatal(err)
		}
		if a := c.Addresses; a.AllowLoopback || (address.Policy{AllowLoopback: a.AllowLoopback}).Refuses(netip.MustParseAddr("127.0.0.1")) == "" {
			t.Errorf("the operator's configuration opens loopback: %+v", a)
		}
	}
	if !found {
		t.Error("there is no configuration among the children")
	}
}

func TestMistakesInAManifest(t *testing.T) {
	t.Parallel()
	target := "  targets: [{name: crm, url: 'http://crm.example.com/'}]\n"
	for name, c := range map[string]struct{ manifest, want string }{
		"a rule":             {webhook + "  targets: [{name: crm, url: 'http://crm/', service: {name: crm, port: 80}}]\n", `HeymarketWebhook.heymarket.dev "support" is invalid: spec.targets[0]: Invalid value`},
		"an unknown field":   {webhook + target + "  retentions: {}\n", `unknown field "spec.retentions"`},
		"no webhook":         {"kind: ConfigMap\napiVersion: v1\n", "holds no HeymarketWebhook"},
		"two webhooks":       {webhook + target + "---" + strings.Replace(webhook, "support", "sales", 1) + target, "name one of support, sales"},
		"a filter":           {webhook + "  targets: [{name: crm, url: 'http://crm.example.com/', filter: 'event.data.text =='}]\n", "filter"},
		"a missing Secret":   {webhook + "  targets: [{name: crm, url: 'http://crm.example.com/', signing: {secretKeyRef: {name: crm, key: signing}}}]\n", `key "signing" of Secret "crm", which the manifest does not hold`},
		"an empty token":     {webhook + target + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: heymarket, namespace: staging}\nstringData: {token: ' '}\n", "it is empty"},
		"a cluster's target": {webhook + "  targets: [{name: crm, service: {name: crm, port: 80}}]\n", "--forward crm=URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := dev.ReadManifest(t.Context(), "-", strings.NewReader(c.manifest), "default", "")
			if err == nil {
				var r *dev.Running
				if r, err = dev.Start(t.Context(), dev.Options{Manifest: m, Log: slog.DiscardHandler}); err == nil {
					_ = r.Close()
				}
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("said %v, want %q", err, c.want)
			}
		})
	}
}

// Nothing here authenticates clients, so nothing listens where others could connect.
func TestListensOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"0.0.0.0:0", ":8080", "[::]:0", "example.com:80", "127.0.0.1"} {
		r, err := dev.Start(t.Context(), dev.Options{Manifest: manifest(t, quickstart, ""), Echo: true, Listen: address, Log: slog.DiscardHandler})
		if err == nil {
			_ = r.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%s: %v", address, err)
		}
	}
	r, err := dev.Start(t.Context(), dev.Options{Manifest: manifest(t, quickstart, ""), Echo: true, Log: slog.DiscardHandler})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	target, err := url.Parse(r.EchoURL)
	if err != nil {
		t.Fatal(err)
	}
	for what, address := range map[string]string{"events": r.Address, "operations": r.Ops, "administration": r.Admin, "the target": target.Host} {
		if ip := net.ParseIP(address[:strings.LastIndexByte(address, ':')]); ip == nil || !ip.IsLoopback() {
			t.Errorf("%s: it listens on %s", what, address)
		}
	}
}

func program(t *testing.T, target, steps string) {
	t.Helper()
	response, err := http.Post(target+"/program", "application/json", strings.NewReader(steps))
	if err != nil || response.StatusCode != http.StatusNoContent {
		t.Fatal(response, err)
	}
}

func send(t *testing.T, r *dev.Running) {
	t.Helper()
	body, err := fixture.Fresh(event.MessageReceived, time.Now())
	if err == nil {
		body, err = fixture.For(body, r.Token, fixture.WebhookID)
	}
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(r.URL, "application/json", bytes.NewReader(body))
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response, err)
	}
}
