package plugin_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	s := newScene(t, "plugin-pause")
	paused := func() bool {
		var hook v1alpha1.HeymarketWebhook
		if err := s.api.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: "support"}, &hook); err != nil {
			t.Fatal(err)
		}
		return hook.Spec.Paused
	}
	for _, want := range []bool{true, false} {
		command := map[bool]string{true: "pause", false: "resume"}[want]
		out, err := run(t.Context(), s.args(command, "support")...)
		if err != nil || !strings.Contains(out, "support is "+command) || paused() != want {
			t.Errorf("%s: %q, %v; spec.paused is %t", command, out, err, paused())
		}
	}
	wantMistake(t, []string{`no HeymarketWebhook "other"`}, s.args("pause", "other")...)
	wantMistake(t, []string{"spec.paused", "manifest"}, "pause", "support", "--dev")
}

// Shell completion: names, types, targets; nothing for unknown ones, and never an error.
func TestCompletion(t *testing.T) {
	t.Parallel()
	s := newScene(t, "plugin-complete")
	for _, c := range []struct {
		want, command string
		rest          []string
	}{
		{"support\n:4", "status", []string{""}},
		{"support\n:4", "dead list", []string{""}},
		{"message_sent\nmessage_recieved\nchat", "send", []string{"support", ""}},
		{"audit\ncrm\n:4", "dead list", []string{"support", "--target", ""}},
		{"message_sent\nmessage_recieved\nchat", "dead list", []string{"support", "--type", ""}},
		{":4\n", "status --context=other", []string{""}},
	} {
		// Flags stand before the word that is completed.
		args := append(append(append([]string{"__complete"}, strings.Fields(c.command)...), s.flags...), c.rest...)
		out, err := run(t.Context(), args...)
		if err != nil || !strings.HasPrefix(out, c.want) {
			t.Errorf("%q offers\n%s%v, want %q", args, out, err, c.want)
		}
	}
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	s := newScene(t, "plugin-doctor")
	const segment = "abcdefghijklmnopqrstuvwxyz"
	answers := func(secret string) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodPost && req.URL.Path == "/hooks/"+contract.ProbeSegment {
				fmt.Fprintln(w, contract.ProbeAnswer(secret, req.URL.Query().Get(contract.ProbeNonce)))
			}
		}
	}
	receiver := httptest.NewTLSServer(answers(segment))
	t.Cleanup(receiver.Close)
	path := "/hooks/" + segment

	wants := func(words ...string) {
		t.Helper()
		out, err := run(t.Context(), s.args("doctor")...)
		if err == nil {
			t.Error("doctor finds nothing wrong")
		}
		for _, word := range words {
			found := false
			for line := range strings.Lines(out) {
				found = found || strings.Contains(strings.Join(strings.Fields(line), " "), word)
			}
			if !found {
				t.Errorf("doctor does not report %q:\n%s", word, out)
			}
		}
		if strings.Contains(out, segment) {
			t.Errorf("doctor prints the URL:\n%s", out)
		}
	}
	wants("Operator NOT OK the resource has no status", `Token NOT OK there is no key "token"`, "URL NOT OK", "Receiver NOT OK no receiver Pod")

	s.secret(t, "heymarket", "token", "the-token")
	s.secret(t, "support-url", "url", receiver.URL+path)
	var hook v1alpha1.HeymarketWebhook
	if err := s.api.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: "support"}, &hook); err != nil {
		t.Fatal(err)
	}
	meta.SetStatusCondition(&hook.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionDurable, Status: metav1.ConditionFalse, Reason: "RedisUnreachable", Message: "Redis does not answer.", ObservedGeneration: hook.Generation,
	})
	if err := s.api.Status().Update(t.Context(), &hook); err != nil {
		t.Fatal(err)
	}
	wants("Token ok", "Durable NOT OK RedisUnreachable: Redis does not answer.", "DNS ok", `Certificate ok issued by "Acme Co", valid until 2084-01-29`,
		"Route ok the receiver of this webhook answers")

	var secret corev1.Secret
	if err := s.api.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: "support-url"}, &secret); err != nil {
		t.Fatal(err)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	at := func(url string) {
		t.Helper()
		secret.Data["url"] = []byte(url)
		if err := s.api.Update(t.Context(), &secret); err != nil {
			t.Fatal(err)
		}
	}
	at("https://nowhere.invalid" + path)
	wants("DNS NOT OK NameNotResolved: nowhere.invalid does not resolve here")
	at(strings.Replace(receiver.URL, "127.0.0.1", "localhost", 1) + path)
	wants("DNS ok", "Connection ok", "Certificate NOT OK CertificateInvalid: The certificate at \"localhost\" is for other names")
	at(strings.Replace(plain.URL, "http:", "https:", 1) + path)
	wants("Connection ok", "Certificate NOT OK CertificateInvalid: Port 443")
	at("ftp://example.com" + path)
	wants("Route NOT OK the Secret holds no valid URL")
	at(receiver.URL + path)
	receiver.Config.Handler = answers("zyxwvutsrqponmlkjihgfedcba") // a receiver, of another webhook
	wants("Certificate ok", "Route NOT OK RouteElsewhere: What answers")
	receiver.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	wants("Certificate ok", "Route NOT OK ReceiverNotAnswering:")
	receiver.Close()
	wants("Connection NOT OK NotConnected: 127.0.0.1:")
	wantMistake(t, []string{"of the checks failed"}, s.args("doctor", "support")...)
}
