package desired

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/receiver/config"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden.yaml")

const segment = "abcdefghijklmnopqrstuvwxyz"

// certificateText looks like the certificate of an authority, which nothing here reads.
const certificateText = "-----BEGIN CERTIFICATE-----\nMIIBcTCCARegAwIBAgIBATAKBggqhkjOPQQDAjAU\n-----END CERTIFICATE-----\n"

// Each testdata/NAME.yaml is a resource as the API server hands it out, and NAME.golden.yaml all that is applied for it.
var goldens = []struct {
	name string
	in   Input
}{
	{name: "smallest", in: Input{}},
	{name: "host-from-template", in: Input{Host: "staging.hooks.example.com", HostRequested: true, IngressClass: "traefik"}},
	{name: "host-from-ingress", in: Input{Host: "203.0.113.7"}},
	{name: "everything", in: Input{Host: "hooks.example.com", HostRequested: true, IngressClass: "traefik"}},
	{name: "own-redis", in: Input{Host: "staging.hooks.example.com", HostRequested: true}},
	{name: "autoscaled", in: Input{Host: "staging.hooks.example.com", HostRequested: true}},
	{name: "autoscaled-by-backlog", in: Input{Host: "staging.hooks.example.com", HostRequested: true, KEDA: true}},
	{name: "http-route", in: Input{Host: "staging.hooks.example.com", HostRequested: true}},
	{name: "renewed", in: Input{Host: "staging.hooks.example.com", HostRequested: true, Address: Address{
		Segment: strings.Repeat("n", 26), Revision: 2, Previous: []PreviousPath{
			{Path: "/staging/support/" + segment, Replaced: time.Date(2026, 11, 21, 12, 30, 0, 0, time.UTC)},
		},
	}}},
	{name: "network-policy", in: Input{Host: "staging.hooks.example.com", HostRequested: true, NetworkPolicy: &NetworkPolicy{
		OperatorNamespace: "heymarket-system", EventsFrom: []string{"traefik"}, OperationsFrom: []string{"monitoring", "keda"}, TargetNamespaces: []string{"data"},
	}}},
	{name: "private-ca", in: Input{SharedRedis: SharedRedis{URL: "rediss://redis.example.com:6379/0", CA: []byte(certificateText)}}},
	{name: "traced", in: Input{
		Host: "staging.hooks.example.com", HostRequested: true, NetworkPolicy: &NetworkPolicy{OperatorNamespace: "heymarket-system"},
		Traces: Traces{Endpoint: "http://collector.observability:4318", Ratio: 0.25},
	}},
	{name: "not-exposed", in: Input{Host: "support-receiver.staging.svc"}},
}

func input(t *testing.T, name string, in Input) Input {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	in.Webhook = &v1alpha1.HeymarketWebhook{}
	if err := yaml.UnmarshalStrict(b, in.Webhook); err != nil {
		t.Fatal(err)
	}
	if in.Segment == "" {
		in.Segment = segment
	}
	if in.SharedRedis.URL == "" {
		in.SharedRedis.URL = "redis://redis.example.com:6379/0"
	}
	in.Image, in.UserID = "heymarket.dev/operator:v1", ImageUser
	return in
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			got := render(t, build(t, input(t, g.name, g.in)))
			file := filepath.Join("testdata", g.name+".golden.yaml")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("%v; run go test ./internal/controller/desired -update", err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("what is applied has changed (-want +got); if it is meant to, run go test ./internal/controller/desired -update:\n%s", diff)
			}
		})
	}
}

func build(t *testing.T, in Input) Objects {
	t.Helper()
	o, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// wanted returns the first object of a type.
func wanted[T any](t *testing.T, o Objects) T {
	t.Helper()
	for _, c := range o.Children {
		if object, ok := c.Object.(T); ok {
			return object
		}
	}
	t.Fatalf("there is no %T", *new(T))
	return *new(T)
}

// render shows the Secrets' data in clear text, so that a reviewer sees what a receiver reads.
func render(t *testing.T, o Objects) []byte {
	t.Helper()
	var b bytes.Buffer
	write := func(obj any) {
		y, err := yaml.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("---\n")
		b.Write(y)
	}
	for _, c := range o.Children {
		switch object := c.Object.(type) {
		case nil:
		case *corev1ac.SecretApplyConfiguration:
			shown := *object
			shown.StringData, shown.Data = map[string]string{}, nil
			for k, v := range object.Data {
				shown.StringData[k] = string(v)
			}
			write(shown)
		case *unstructured.Unstructured:
			write(object.Object)
		default:
			write(object)
		}
	}
	return b.Bytes()
}

func TestReceiverUnderstandsConfiguration(t *testing.T) {
	t.Parallel()
	in := input(t, "everything", Input{})
	o := build(t, in)
	encoded := o.ConfigSecret.Data[KeyConfig]
	c, err := config.Decode(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(c.Targets), len(in.Webhook.Spec.Targets); got != want {
		t.Errorf("%d targets, want %d", got, want)
	}
	if got := DigestOf(o.ConfigSecret.Data); got != o.ConfigDigest {
		t.Errorf("DigestOf = %s, want %s", got, o.ConfigDigest)
	}
}

// For a resource of release 0.1.0 the receivers get, byte for byte, the configuration of that release: so old receivers can
// read it, and new ones see no change. With its own Redis a resource has one more member, which old receivers ignore.
func TestConfigurationIsThatOfRelease010(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"smallest", "everything"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := input(t, "release-0.1.0/"+name, Input{})
			want, err := os.ReadFile("../../receiver/config/testdata/format-1/" + name + ".json")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(build(t, in).ConfigSecret.Data[KeyConfig])); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestReceiverIsToldWhichProxiesToBelieve(t *testing.T) {
	t.Parallel()
	want := []string{"10.244.0.0/16"}
	c, err := config.Decode(build(t, input(t, "smallest", Input{TrustedProxies: want})).ConfigSecret.Data[KeyConfig])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, c.TrustedProxies); diff != "" {
		t.Error(diff)
	}
}

func TestReceiverIsToldWhereTargetsMayBe(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		from TargetAddresses
		want config.Addresses
	}{
		{TargetAddresses{}, config.Addresses{}},
		{TargetAddresses{Public: true, AndNetworks: []string{"10.96.0.0/12"}}, config.Addresses{DenyPrivate: true, AllowNetworks: []string{"10.96.0.0/12"}}},
	} {
		c, err := config.Decode(build(t, input(t, "smallest", Input{TargetAddresses: tc.from})).ConfigSecret.Data[KeyConfig])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, c.Addresses); diff != "" {
			t.Errorf("%+v: %s", tc.from, diff)
		}
	}
}

func TestBuildRefusesWhatNoReceiverTakes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		mutate func(*v1alpha1.HeymarketWebhook)
		want   string
	}{
		"no URL":          {func(w *v1alpha1.HeymarketWebhook) { w.Spec.Targets[0].URL = nil }, "url must begin with http"},
		"another timeout": {func(w *v1alpha1.HeymarketWebhook) { w.Spec.Targets[0].Timeout = "soon" }, `timeout: "soon" is not a duration`},
		"another age":     {func(w *v1alpha1.HeymarketWebhook) { w.Spec.Retention.DeadLetters = "soon" }, `retention.deadLetters: "soon" is not`},
		"another window":  {func(w *v1alpha1.HeymarketWebhook) { w.Spec.Deduplication.Window = "soon" }, `deduplication.window: "soon" is not`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := input(t, "smallest", Input{})
			tc.mutate(in.Webhook)
			if _, err := Build(in); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Build: %v, want %q", err, tc.want)
			}
		})
	}
}

// Nothing that a receiver re-reads from a file may restart its Pods.
func TestConfigurationLeavesPodTemplateAlone(t *testing.T) {
	t.Parallel()
	template := func(in Input) string {
		y, err := yaml.Marshal(build(t, in).Deployment.Spec.Template)
		if err != nil {
			t.Fatal(err)
		}
		return string(y)
	}
	before := template(input(t, "smallest", Input{}))
	for name, change := range map[string]func(*Input){
		"Redis URL":   func(in *Input) { in.SharedRedis.URL = "rediss://another:6380/1" },
		"Redis CA":    func(in *Input) { in.SharedRedis.CA = []byte(certificateText) },
		"host":        func(in *Input) { in.Host = "another.example.com" },
		"segment":     func(in *Input) { in.Segment = strings.Repeat("z", 26) },
		"event types": func(in *Input) { in.Webhook.Spec.EventTypes = []v1alpha1.EventType{"chat_closed"} },
		"webhook id":  func(in *Input) { in.Webhook.Spec.WebhookID = new(int64(7)) },
		"window":      func(in *Input) { in.Webhook.Spec.Deduplication.Window = "1h" },
		"target":      func(in *Input) { in.Webhook.Spec.Targets[0].URL = new("http://another") },
		"timeout":     func(in *Input) { in.Webhook.Spec.Targets[0].Timeout = "9s" },
		"filter":      func(in *Input) { in.Webhook.Spec.Targets[0].Filter = "true" },
		"format":      func(in *Input) { in.Webhook.Spec.Targets[0].Format = "CloudEvents" },
		"pause":       func(in *Input) { in.Webhook.Spec.Paused = true },
		"log level":   func(in *Input) { in.Webhook.Spec.Receiver.LogLevel = "debug" },
		"header":      func(in *Input) { in.Webhook.Spec.Targets[0].Headers = []v1alpha1.Header{{Name: "A", Value: new("b")}} },
		"the token as a header": func(in *Input) {
			in.Webhook.Spec.Targets[0].Headers = []v1alpha1.Header{{Name: "A", SecretKeyRef: &v1alpha1.SecretKeyReference{Name: "heymarket", Key: "token"}}}
		},
		"exposure": func(in *Input) { in.Webhook.Spec.Exposure.Type = v1alpha1.ExposureNone },
		"replicas": func(in *Input) { in.Webhook.Spec.Receiver.Replicas = new(int32(5)) },
		"more targets": func(in *Input) {
			in.Webhook.Spec.Targets = append(in.Webhook.Spec.Targets, v1alpha1.Target{Name: "b", URL: new("http://b")})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := input(t, "smallest", Input{})
			change(&in)
			if diff := cmp.Diff(before, template(in)); diff != "" {
				t.Errorf("the Pod template has changed:\n%s", diff)
			}
		})
	}
}

// A rotation restarts Pods when the second token is added and removed, but not when the two are swapped.
func TestMountsFollowTheSetOfReferences(t *testing.T) {
	t.Parallel()
	volume := func(current, previous string) string {
		in := input(t, "smallest", Input{})
		in.Webhook.Spec.Token.SecretKeyRef = v1alpha1.TokenReference{Name: current, Key: "token"}
		if previous != "" {
			in.Webhook.Spec.Token.PreviousSecretKeyRef = &v1alpha1.TokenReference{Name: previous, Key: "token"}
		}
		y, err := yaml.Marshal(build(t, in).Deployment.Spec.Template)
		if err != nil {
			t.Fatal(err)
		}
		return string(y)
	}
	if diff := cmp.Diff(volume("a", "b"), volume("b", "a")); diff != "" {
		t.Errorf("the Pod template has changed:\n%s", diff)
	}
	if volume("a", "b") == volume("a", "") {
		t.Error("the second token is not mounted")
	}
}

// Every file that the configuration names is mounted, and no other key of a Secret is.
func TestFilesAreMounted(t *testing.T) {
	t.Parallel()
	o := build(t, input(t, "everything", Input{SharedRedis: SharedRedis{CA: []byte(certificateText)}}))
	mounted := map[string]bool{}
	for key := range o.ConfigSecret.Data { // The whole Secret is.
		mounted[configMount+"/"+key] = true
	}
	delete(mounted, configMount+"/"+KeyConfig)
	for _, s := range o.Deployment.Spec.Template.Spec.Volumes[1].Projected.Sources {
		for _, i := range s.Secret.Items {
			if want := *s.Secret.Name + "/" + *i.Key; *i.Path != want {
				t.Errorf("key %s of Secret %s is at %s, want %s", *i.Key, *s.Secret.Name, *i.Path, want)
			}
			mounted[secretsMount+"/"+*i.Path] = true
		}
	}
	c, err := config.Decode(o.ConfigSecret.Data[KeyConfig])
	if err != nil {
		t.Fatal(err)
	}
	named := append([]string{c.RedisURLFile, c.RedisCAFile}, c.TokenFiles...)
	for _, target := range c.Targets {
		named = append(named, target.SigningKeyFiles...)
		for _, h := range target.Headers {
			named = append(named, h.ValueFile)
		}
		named = append(named, target.TLS.CAFile)
	}
	for _, f := range named {
		if f != "" && !mounted[f] {
			t.Errorf("%s is not mounted", f)
		}
		delete(mounted, f)
	}
	if len(mounted) != 0 {
		t.Errorf("mounted for nothing: %v", mounted)
	}
}

func TestCheckExpressions(t *testing.T) {
	t.Parallel()
	in := input(t, "everything", Input{})
	if err := CheckExpressions(in.Webhook); err != nil {
		t.Error(err)
	}
	in.Webhook.Spec.Deduplication.Key = "event.id"
	if err := CheckExpressions(in.Webhook); err == nil || !strings.HasPrefix(err.Error(), "spec.deduplication.key has a mistake at line:column 1:6: ") {
		t.Errorf("a key of what the key makes: %v", err)
	}
	in.Webhook.Spec.Targets[0].Filter = "event.type =\n  event.typ"
	if err := CheckExpressions(in.Webhook); err == nil || !strings.HasPrefix(err.Error(), "spec.targets[crm].filter has a mistake at line:column 1:") {
		t.Errorf("a bad filter: %v", err)
	}
}

func TestGracePeriod(t *testing.T) {
	t.Parallel()
	for timeout, want := range map[v1alpha1.Duration]int64{"": 60, "100ms": 60, "10s": 60, "27s": 60, "28s": 90, "2m": 180} {
		in := input(t, "smallest", Input{})
		in.Webhook.Spec.Targets[0].Timeout = timeout
		if got := *build(t, in).Deployment.Spec.Template.Spec.TerminationGracePeriodSeconds; got != want {
			t.Errorf("timeout %q: %d s, want %d s", timeout, got, want)
		}
	}
}

// An IPv6 address is in brackets in a URL, and nowhere else.
func TestURLOfAnAddress(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"2001:db8::10": "https://[2001:db8::10]/staging/support/", "203.0.113.7": "https://203.0.113.7/staging/support/",
		"::ffff:203.0.113.7": "https://[::ffff:203.0.113.7]/staging/support/", "hooks.example.com": "https://hooks.example.com/staging/support/",
	} {
		in := Input{Webhook: &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: "staging", Name: "support"}}, Host: host}
		in.Segment = "x"
		if got := URL(in); got != want+"x" {
			t.Errorf("URL = %s, want %sx", got, want)
		}
		if got := MaskedURL(in); got != want+"****" {
			t.Errorf("masked URL = %s", got)
		}
		if _, err := url.Parse(URL(in)); err != nil {
			t.Error(err)
		}
	}
}

func TestURLIsMasked(t *testing.T) {
	t.Parallel()
	in := input(t, "smallest", Input{Host: "hooks.example.com"})
	if got, want := URL(in), "https://hooks.example.com/staging/support/"+segment; got != want {
		t.Errorf("URL = %s, want %s", got, want)
	}
	if got, want := MaskedURL(in), "https://hooks.example.com/staging/support/****"; got != want {
		t.Errorf("MaskedURL = %s, want %s", got, want)
	}
	in.Host = ""
	if URL(in) != "" || MaskedURL(in) != "" {
		t.Error("a URL without a host")
	}
	// The segment is in the two Secrets, and nowhere else.
	o := build(t, in)
	for _, obj := range []any{wanted[*corev1ac.ServiceApplyConfiguration](t, o), o.Deployment, wanted[*networkingv1ac.IngressApplyConfiguration](t, o)} {
		y, err := yaml.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(y, []byte(segment)) {
			t.Errorf("the segment is in %T", obj)
		}
	}
}

// The API server rounds a container's requests up to thousandths.
func TestResourcesAreRounded(t *testing.T) {
	t.Parallel()
	in := input(t, "smallest", Input{})
	in.Webhook.Spec.Receiver.Resources = &v1alpha1.Resources{Requests: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("100u"), corev1.ResourceMemory: resource.MustParse("32Mi"),
	}}
	requests := *build(t, in).Deployment.Spec.Template.Spec.Containers[0].Resources.Requests
	if cpu, memory := requests.Cpu().String(), requests.Memory().String(); cpu != "1m" || memory != "32Mi" {
		t.Errorf("cpu %s, memory %s", cpu, memory)
	}
}

// An empty affinity is none: the API server keeps an empty struct that is applied to a new Deployment, and drops it from one whose
// affinity it empties, so that the same webhook would have two Deployments.
func TestEmptyAffinityIsNone(t *testing.T) {
	t.Parallel()
	in := input(t, "smallest", Input{})
	term := corev1.PodAffinityTerm{TopologyKey: "zone", LabelSelector: &metav1.LabelSelector{}}
	for want, affinity := range map[string]*corev1.Affinity{
		"null": {NodeAffinity: &corev1.NodeAffinity{}, PodAffinity: &corev1.PodAffinity{}, PodAntiAffinity: &corev1.PodAntiAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{},
		}},
		`{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"labelSelector":{},"topologyKey":"zone"}]}}`: {
			NodeAffinity: &corev1.NodeAffinity{},
			PodAntiAffinity: &corev1.PodAntiAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term}, // an empty selector selects all Pods
			},
		},
	} {
		in.Webhook.Spec.Receiver.Affinity = affinity
		got, err := json.Marshal(build(t, in).Deployment.Spec.Template.Spec.Affinity)
		if err != nil || string(got) != want {
			t.Errorf("affinity %s, %v; want %s", got, err, want)
		}
	}
	in.Webhook.Spec.Receiver.Affinity = &corev1.Affinity{}
	if got := build(t, in).Deployment.Spec.Template.Spec.Affinity; got != nil {
		t.Errorf("affinity {} became %v", got)
	}
}

// The Pod that removes the keys from a resource's own Redis gets its URL and its certificate authority, and no other Secret.
func TestRemovalReachesItsOwnRedis(t *testing.T) {
	t.Parallel()
	removal, err := BuildRemoval(input(t, "own-redis", Input{}))
	if err != nil {
		t.Fatal(err)
	}
	var mounted []string
	for _, volume := range removal.Deployment.Spec.Template.Spec.Volumes {
		if volume.Projected == nil {
			continue
		}
		for _, source := range volume.Projected.Sources {
			for _, item := range source.Secret.Items {
				mounted = append(mounted, *source.Secret.Name+"/"+*item.Key+" at "+*item.Path)
			}
		}
	}
	slices.Sort(mounted)
	if diff := cmp.Diff([]string{"redis/ca.crt at redis/ca.crt", "redis/url at redis/url"}, mounted); diff != "" {
		t.Errorf("what is mounted (-want +got):\n%s", diff)
	}
	c, err := config.Decode(removal.ConfigSecret.Data[KeyConfig])
	if err != nil || !strings.HasSuffix(c.RedisURLFile, "/redis/url") || !strings.HasSuffix(c.RedisCAFile, "/redis/ca.crt") || !c.RestrictRedis {
		t.Errorf("the configuration leads to %q by %q, restricted %t: %v", c.RedisURLFile, c.RedisCAFile, c.RestrictRedis, err)
	}
}

// A removal has one Pod, which removes keys and mounts no Secret of the user's where Redis is the shared one.
func TestRemovalRemovesKeysAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"smallest", "everything", "own-redis"} {
		in := input(t, name, Input{})
		removal, err := BuildRemoval(in)
		if err != nil {
			t.Fatal(err)
		}
		spec := removal.Deployment.Spec
		container := spec.Template.Spec.Containers[0]
		if *spec.Replicas != 1 || !slices.Contains(container.Args, removeKeysFlag) || slices.Contains(build(t, in).Deployment.Spec.Template.Spec.Containers[0].Args, removeKeysFlag) {
			t.Errorf("%s: %d Pods with %q", name, *spec.Replicas, container.Args)
		}
		volumes, mounts := map[string]bool{}, map[string]bool{}
		for _, v := range spec.Template.Spec.Volumes {
			volumes[*v.Name] = true
		}
		for _, m := range container.VolumeMounts {
			mounts[*m.Name] = true
		}
		if diff := cmp.Diff(volumes, mounts); diff != "" {
			t.Errorf("%s: volumes and what is mounted (-want +got):\n%s", name, diff)
		}
		if own := len(RedisReferences(in.Webhook)) > 0; volumes["secrets"] != own {
			t.Errorf("%s: a Secret of the user's is mounted: %t, its own Redis: %t", name, volumes["secrets"], own)
		}
	}
}

// Where the platform chooses the user of a Pod, the files of Secrets are readable by any user of it.
func TestSecretModes(t *testing.T) {
	t.Parallel()
	in := input(t, "smallest", Input{})
	for userID, want := range map[int64]int32{0: 0o444, 65532: 0o440} {
		in.UserID = userID
		if _, mode := podSecurity(in); mode != want {
			t.Errorf("user %d: mode %o, want %o", userID, mode, want)
		}
	}
}

// A target's certificates are not sent to the target, but the Secret keys that hold the operator's own values are closed to them as they are
// to headers.
func TestCertificatesOfATargetAreAValueForATarget(t *testing.T) {
	t.Parallel()
	in := input(t, "everything", Input{})
	in.Webhook.Spec.Targets[0].TLS = &v1alpha1.TLS{CASecretKeyRef: &v1alpha1.SecretKeyReference{Name: "ca", Key: "ca.crt"}}
	found := false
	for _, r := range References(in.Webhook) {
		if strings.HasSuffix(r.Field, "tls.caSecretKeyRef") && strings.HasPrefix(r.Field, "spec.targets") {
			found = true
			if !r.Target || r.Redis || r.Token {
				t.Errorf("%s is a reference for a target: %t, for Redis: %t, of a token: %t", r.Field, r.Target, r.Redis, r.Token)
			}
		}
	}
	if !found {
		t.Error("no certificate authority of a target is referred to")
	}
}
