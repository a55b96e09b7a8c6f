package plugin_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/apiservertest"
	"heymarket.dev/operator/internal/plugin"
)

func TestMain(m *testing.M) {
	trustTestServers()
	apiservertest.Main(m)
}

// trustTestServers makes the certificate of httptest's servers the one authority of this process.
func trustTestServers() {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	file, err := os.CreateTemp("", "heymarket-authority-")
	if err != nil {
		panic(err)
	}
	defer file.Close()
	defer os.Remove(file.Name())
	if err := pem.Encode(file, &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}); err != nil {
		panic(err)
	}
	if err := errors.Join(os.Setenv("SSL_CERT_FILE", file.Name()), os.Setenv("SSL_CERT_DIR", file.Name())); err != nil {
		panic(err)
	}
	if _, err := x509.SystemCertPool(); err != nil { // read now, and kept
		panic(err)
	}
}

// run runs the plugin as a person does.
func run(ctx context.Context, args ...string) (out string, err error) {
	var stdout bytes.Buffer
	cmd := plugin.Command("test")
	cmd.SetArgs(args)
	cmd.SetOut(&stdout)
	cmd.SetErr(&stdout)
	err = cmd.ExecuteContext(ctx)
	return stdout.String(), err
}

// wantMistake runs what must fail, with an error that holds these words.
func wantMistake(t *testing.T, words []string, args ...string) {
	t.Helper()
	out, err := run(t.Context(), args...)
	if err == nil {
		t.Errorf("%q did not fail and printed\n%s", args, out)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q failed without saying %q: %v", args, word, err)
		}
	}
}

// kubeconfig writes a way to the API server as a person has it.
func kubeconfig(t *testing.T, config *rest.Config) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	file := clientcmdapi.NewConfig()
	file.Clusters["test"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	file.AuthInfos["test"] = &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	file.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test"}
	file.CurrentContext = "test"
	if err := clientcmd.WriteToFile(*file, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// scene is a namespace with a HeymarketWebhook "support" of two targets.
type scene struct {
	api       client.Client
	namespace string
	flags     []string
}

func newScene(t *testing.T, namespace string) scene {
	t.Helper()
	config := apiservertest.Config(t)
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	api, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	s := scene{api: api, namespace: namespace, flags: []string{"--namespace", namespace, "--kubeconfig", kubeconfig(t, config)}}
	s.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	target := func(name string) v1alpha1.Target {
		return v1alpha1.Target{Name: name, URL: new("http://" + name + ".example.com/")}
	}
	s.create(t, &v1alpha1.HeymarketWebhook{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "support"},
		Spec: v1alpha1.HeymarketWebhookSpec{
			WebhookID: new(int64(4711)),
			Token:     v1alpha1.Token{SecretKeyRef: v1alpha1.TokenReference{Name: "heymarket", Key: "token"}},
			Targets:   []v1alpha1.Target{target("audit"), target("crm")},
		},
	})
	return s
}

func (s scene) create(t *testing.T, object client.Object) {
	t.Helper()
	if err := s.api.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

func (s scene) secret(t *testing.T, name, key, value string) {
	t.Helper()
	s.create(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}, StringData: map[string]string{key: value}})
}

func (s scene) args(args ...string) []string { return append(args, s.flags...) }

func TestURL(t *testing.T) {
	t.Parallel()
	s := newScene(t, "plugin-url")
	wantMistake(t, []string{`no HeymarketWebhook "other"`, "kubectl get hmw"}, s.args("url", "other")...)
	wantMistake(t, []string{"support-url", "kubectl heymarket status support"}, s.args("url", "support")...)
	wantMistake(t, []string{"name one HeymarketWebhook"}, s.args("url")...)
	s.secret(t, "support-url", "url", "https://hooks.example.com/secret\n")
	out, err := run(t.Context(), s.args("url", "support")...)
	if err != nil || out != "https://hooks.example.com/secret\n" {
		t.Errorf("printed %q, %v", out, err)
	}
}

func TestWithoutRights(t *testing.T) {
	t.Parallel()
	s := newScene(t, "plugin-rights")
	file := kubeconfig(t, apiservertest.User(t, "a-stranger"))
	wantMistake(t, []string{"forbidden", "Role in namespace"}, "status", "support", "--namespace", s.namespace, "--kubeconfig", file)
	wantMistake(t, []string{"KUBECONFIG"}, "status", "support", "--kubeconfig", "/does/not/exist")
	wantMistake(t, []string{"--context"}, s.args("status", "support", "--context", "other")...)
}

func TestStatusOfANewWebhook(t *testing.T) {
	t.Parallel()
	s := newScene(t, "plugin-status")
	out, err := run(t.Context(), s.args("status", "support")...)
	if err != nil || !strings.Contains(out, "has no status yet") {
		t.Errorf("printed %q, %v", out, err)
	}
}

func TestStatusOfSeveral(t *testing.T) {
	t.Parallel()
	s, other := newScene(t, "plugin-list"), newScene(t, "plugin-list-other")
	for _, tc := range []struct {
		args []string
		has  []string
		not  []string
	}{
		{[]string{"status"}, []string{"NAME", "READY", "support"}, []string{"NAMESPACE", "IMAGE"}},
		{[]string{"status", "-o", "wide"}, []string{"READY", "IMAGE"}, []string{"NAMESPACE"}},
		{[]string{"status", "-A"}, []string{"NAMESPACE", s.namespace, other.namespace}, nil},
		{[]string{"status", "-o", "name"}, []string{"heymarketwebhook.heymarket.dev/support\n"}, nil},
		{[]string{"status", "-o", "json"}, []string{`"kind": "HeymarketWebhookList"`, `"kind": "HeymarketWebhook"`, `"namespace": "` + s.namespace}, []string{other.namespace, "managedFields"}},
		{[]string{"status", "support", "-o", "yaml"}, []string{"kind: HeymarketWebhook\n", "apiVersion: heymarket.dev/v1alpha1", "name: crm"}, []string{"managedFields"}},
		{[]string{"status", "support", "-o", "name"}, []string{"heymarketwebhook.heymarket.dev/support\n"}, nil},
	} {
		out, err := run(t.Context(), s.args(tc.args...)...)
		if err != nil {
			t.Errorf("%q: %v", tc.args, err)
		}
		for _, word := range tc.has {
			if !strings.Contains(out, word) {
				t.Errorf("%q lacks %q:\n%s", tc.args, word, out)
			}
		}
		for _, word := range tc.not {
			if strings.Contains(out, word) {
				t.Errorf("%q has %q:\n%s", tc.args, word, out)
			}
		}
	}
	wantMistake(t, []string{"json, yaml, name or wide"}, s.args("status", "-o", "xml")...)
	wantMistake(t, []string{"leave out the NAME"}, s.args("status", "support", "-A")...)
	out, err := run(t.Context(), "status", "--namespace", "plugin-empty", s.flags[2], s.flags[3])
	if err != nil || out != "No HeymarketWebhooks found in namespace plugin-empty.\n" {
		t.Errorf("printed %q, %v", out, err)
	}
}

// The flags for user and cluster are kubectl's, and hints repeat those that a command was given.
func TestFlagsOfKubectl(t *testing.T) {
	t.Parallel()
	s := newScene(t, "plugin-flags")
	wantMistake(t, []string{`User "nobody-knows-me" cannot get`}, s.args("status", "support", "--as", "nobody-knows-me")...)
	wantMistake(t, []string{"127.0.0.1:1"}, s.args("status", "support", "--server", "https://127.0.0.1:1", "--request-timeout", "5s")...)
	wantMistake(t, []string{"leave out --namespace"}, "status", "--dev", "--as", "someone")
	out, err := run(t.Context(), s.args("pause", "support", "--context", "test")...)
	if err != nil || !strings.Contains(out, "resume support --namespace plugin-flags --context test") {
		t.Errorf("printed %q, %v", out, err)
	}
}

func TestRenewURL(t *testing.T) {
	t.Parallel()
	s := newScene(t, "plugin-renew")
	exposure := func() v1alpha1.Exposure {
		var hook v1alpha1.HeymarketWebhook
		if err := s.api.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: "support"}, &hook); err != nil {
			t.Fatal(err)
		}
		return hook.Spec.Exposure
	}
	out, err := run(t.Context(), s.args("renew-url", "support")...)
	if err != nil || !strings.Contains(out, "accepted for 168h") || !strings.Contains(out, "urlRevision: 1 there") {
		t.Errorf("printed %q, %v", out, err)
	}
	if got := exposure(); got.URLRevision != 1 || got.PreviousURLFor != "168h" {
		t.Errorf("renewed to %+v", got)
	}
	wantMistake(t, []string{"--yes"}, s.args("renew-url", "support", "--leaked")...)
	if got := exposure(); got.URLRevision != 1 {
		t.Errorf("without confirmation: %+v", got)
	}
	out, err = run(t.Context(), s.args("renew-url", "support", "--leaked", "--yes")...)
	if err != nil || !strings.Contains(out, "rejected within about a minute") {
		t.Errorf("printed %q, %v", out, err)
	}
	if got := exposure(); got.URLRevision != 2 || got.PreviousURLFor != "0s" {
		t.Errorf("renewed to %+v", got)
	}
	wantMistake(t, []string{"--dev"}, "renew-url", "support", "--dev")
}

func TestSend(t *testing.T) {
	t.Parallel()
	s := newScene(t, "plugin-send")
	var got struct {
		Type, Token string
		ID          int64
		Data        map[string]any `json:"event_data"`
	}
	status := http.StatusOK
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil || r.URL.Path != "/hooks/secret" {
			t.Errorf("sent to %s, %v", r.URL.Path, err)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(receiver.Close)

	s.secret(t, "support-url", "url", receiver.URL+"/hooks/secret")
	wantMistake(t, []string{`"token"`, `Secret "heymarket"`}, s.args("send", "support")...)
	s.secret(t, "heymarket", "token", "the-token\n")
	out, err := run(t.Context(), s.args("send", "support", "chat_closed", "--text", "Hello", "--set", "event_data.inbox=7")...)
	if err != nil || !strings.Contains(out, "accepted") || !strings.Contains(out, "chat_closed") {
		t.Errorf("printed %q, %v", out, err)
	}
	if got.Type != "chat_closed" || got.Token != "the-token" || got.ID != 4711 || got.Data["text"] != "Hello" || got.Data["inbox"] != 7.0 || got.Data["updated"] == nil {
		t.Errorf("sent %+v", got)
	}
	for code, words := range map[int][]string{
		http.StatusUnauthorized:       {"401", `Secret "heymarket"`},
		http.StatusServiceUnavailable: {"503", "Durable"},
		http.StatusFound:              {"302", "in front of it"},
	} {
		status = code
		wantMistake(t, words, s.args("send", "support")...)
	}
	wantMistake(t, []string{"message_recieved"}, s.args("send", "support", "message_received")...)
	wantMistake(t, []string{"pod"}, s.args("send", "support", "--via", "post")...)
	wantMistake(t, []string{"leave out --via pod"}, s.args("send", "support", "--via", "pod", "--resolve", "127.0.0.1")...)
	wantMistake(t, []string{"no receiver Pod", "status support"}, s.args("send", "support", "--via", "pod")...)
	receiver.Close()
	_, err = run(t.Context(), s.args("send", "support")...)
	if err == nil || !strings.Contains(err.Error(), "--via pod") || strings.Contains(err.Error(), "secret") {
		t.Errorf("without an answer: %v", err)
	}
}

func TestDeadLettersNeedATargetAndAPod(t *testing.T) {
	t.Parallel()
	s := newScene(t, "plugin-dead")
	wantMistake(t, []string{"--target", "audit, crm"}, s.args("dead", "replay", "support", "--all")...)
	wantMistake(t, []string{`"other"`, "audit, crm"}, s.args("dead", "list", "support", "--target", "other")...)
	wantMistake(t, []string{"no receiver Pod"}, s.args("dead", "list", "support")...)
}
