package desired

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/api/v1alpha1"
)

// wire is what one field of the spec does: with value in its place, and nothing else changed, exactly these places of what is applied have these values,
// which they had not before.
type wire struct {
	value string // JSON
	// base is the resource that is changed; empty: everything.
	base string
	// at is where the value goes; empty: the path of the field, in the first element of each list.
	at   string
	does []string
	// test replaces does where what is applied does not show the effect.
	test func(*testing.T)
}

// wiring has a row for each field of the spec. A path is that of its JSON names.
var wiring = map[string]wire{
	"token.secretKeyRef.name":                     {value: `"other"`, does: []string{"config.tokenFiles.0 = /etc/heymarket/secrets/other/support.token", "mount.other/support.token = other/support.token", "mount.tokens/support.token is gone"}},
	"token.secretKeyRef.key":                      {value: `"other"`, does: []string{"config.tokenFiles.0 = /etc/heymarket/secrets/tokens/other", "mount.tokens/other = tokens/other", "mount.tokens/support.token is gone"}},
	"token.previousSecretKeyRef.name":             {value: `"other"`, does: []string{"config.tokenFiles.1 = /etc/heymarket/secrets/other/token", "mount.old-tokens/token is gone", "mount.other/token = other/token"}},
	"token.previousSecretKeyRef.key":              {value: `"other"`, does: []string{"config.tokenFiles.1 = /etc/heymarket/secrets/old-tokens/other", "mount.old-tokens/other = old-tokens/other", "mount.old-tokens/token is gone"}},
	"webhookID":                                   {value: `4711`, does: []string{"config.webhookID = 4711"}},
	"eventTypes":                                  {value: `["chat_opened"]`, does: []string{"config.eventTypes.0 = chat_opened", "config.eventTypes.1 is gone", "config.eventTypes.2 is gone"}},
	"targets[].name":                              {value: `"other"`, does: []string{"config.targets.0.name = other"}},
	"targets[].url":                               {value: `"https://other.example.com/"`, does: []string{"config.targets.0.url = https://other.example.com/"}},
	"targets[].service.name":                      {value: `"other"`, at: "targets.1.service.name", does: []string{"config.targets.1.url = https://other.staging.svc:8443/events"}},
	"targets[].service.port":                      {value: `4711`, at: "targets.1.service.port", does: []string{"config.targets.1.url = https://archive.staging.svc:4711/events"}},
	"targets[].service.path":                      {value: `"/other"`, at: "targets.1.service.path", does: []string{"config.targets.1.url = https://archive.staging.svc:8443/other"}},
	"targets[].service.scheme":                    {value: `"HTTPS"`, at: "targets.2.service.scheme", does: []string{"config.targets.2.url = https://log.staging.svc:80/"}},
	"targets[].eventTypes":                        {value: `["chat_opened"]`, does: []string{"config.targets.0.eventTypes.0 = chat_opened"}},
	"targets[].filter":                            {value: `"event.type == 'chat_opened'"`, does: []string{"config.targets.0.filter = event.type == 'chat_opened'"}},
	"targets[].format":                            {value: `"Heymarket"`, does: []string{"config.targets.0.format = Heymarket"}},
	"targets[].order":                             {value: `"Conversation"`, at: "targets.1.order", does: []string{"config.targets.1.order = Conversation"}},
	"targets[].signing.secretKeyRef.name":         {value: `"other"`, does: []string{"config.targets.0.signingKeyFiles.0 = /etc/heymarket/secrets/other/signing", "mount.crm/signing is gone", "mount.other/signing = other/signing"}},
	"targets[].signing.secretKeyRef.key":          {value: `"other"`, does: []string{"config.targets.0.signingKeyFiles.0 = /etc/heymarket/secrets/crm/other", "mount.crm/other = crm/other", "mount.crm/signing is gone"}},
	"targets[].signing.previousSecretKeyRef.name": {value: `"other"`, does: []string{"config.targets.0.signingKeyFiles.1 = /etc/heymarket/secrets/other/signing-before", "mount.crm/signing-before is gone", "mount.other/signing-before = other/signing-before"}},
	"targets[].signing.previousSecretKeyRef.key":  {value: `"other"`, does: []string{"config.targets.0.signingKeyFiles.1 = /etc/heymarket/secrets/crm/other", "mount.crm/other = crm/other", "mount.crm/signing-before is gone"}},
	"targets[].headers[].name":                    {value: `"X-Other"`, does: []string{"config.targets.0.headers.0.name = X-Other"}},
	"targets[].headers[].value":                   {value: `"other"`, does: []string{"config.targets.0.headers.0.value = other"}},
	"targets[].headers[].secretKeyRef.name":       {value: `"other"`, at: "targets.0.headers.1.secretKeyRef.name", does: []string{"config.targets.0.headers.1.valueFile = /etc/heymarket/secrets/other/authorization", "mount.crm/authorization is gone", "mount.other/authorization = other/authorization"}},
	"targets[].headers[].secretKeyRef.key":        {value: `"other"`, at: "targets.0.headers.1.secretKeyRef.key", does: []string{"config.targets.0.headers.1.valueFile = /etc/heymarket/secrets/crm/other", "mount.crm/authorization is gone", "mount.crm/other = crm/other"}},
	"targets[].tls.caSecretKeyRef.name":           {value: `"other"`, does: []string{"config.targets.0.tls.caFile = /etc/heymarket/secrets/other/ca.crt", "mount.other/ca.crt = other/ca.crt", "mount.private-ca/ca.crt is gone"}},
	"targets[].tls.caSecretKeyRef.key":            {value: `"other"`, does: []string{"config.targets.0.tls.caFile = /etc/heymarket/secrets/private-ca/other", "mount.private-ca/ca.crt is gone", "mount.private-ca/other = private-ca/other"}},
	"targets[].tls.serverName":                    {value: `"other.internal"`, does: []string{"config.targets.0.tls.serverName = other.internal"}},
	"targets[].timeout":                           {value: `"47s"`, does: []string{"config.targets.0.timeout = 47s"}},
	"targets[].retry.maxAttempts":                 {value: `47`, does: []string{"config.targets.0.retry.maxAttempts = 47"}},
	"targets[].retry.minBackoff":                  {value: `"47ms"`, does: []string{"config.targets.0.retry.minBackoff = 47ms"}},
	"targets[].retry.maxBackoff":                  {value: `"47s"`, does: []string{"config.targets.0.retry.maxBackoff = 47s"}},
	"targets[].retry.maxAge":                      {value: `"47m"`, does: []string{"config.targets.0.retry.maxAge = 47m0s"}},
	"targets[].retry.statuses":                    {value: `[]`, does: []string{"config.targets.0.retry.statuses.0 is gone", "config.targets.0.retry.statuses.1 is gone"}},
	"targets[].maxInFlight":                       {value: `47`, does: []string{"config.targets.0.maxInFlight = 47"}},
	"targets[].ratePerSecond":                     {value: `47`, does: []string{"config.targets.0.ratePerSecond = 47"}},
	"deduplication.window":                        {value: `"47h"`, does: []string{"config.deduplication.window = 47h0m0s"}},
	"deduplication.retryHorizon":                  {value: `"47m"`, does: []string{"config.deduplication.retryHorizon = 47m0s"}},
	"deduplication.key":                           {value: `"event.type"`, does: []string{"config.deduplication.key = event.type"}},
	"exposure.type":                               {value: `"Ingress"`, base: "not-exposed", does: []string{"Ingress = there"}},
	"exposure.path":                               {value: `"/other"`, does: []string{"Ingress.spec.rules.0.http.paths.0.path = /other/", "config.paths.0 = /other/abcdefghijklmnopqrstuvwxyz", "url = https://hooks.example.com/other/abcdefghijklmnopqrstuvwxyz"}},
	"exposure.host":                               {test: elsewhere("hostclaims_test.go", "TestClaims")},
	"exposure.urlRevision": {test: func(t *testing.T) {
		if next := follow(t, v1alpha1.Exposure{URLRevision: 1}); next.Segment == segment || next.Revision != 1 {
			t.Errorf("the address is still %+v", next)
		}
	}},
	"exposure.previousURLFor": {test: func(t *testing.T) {
		for keep, paths := range map[v1alpha1.Duration]int{"1h": 0, "3h": 1} {
			if next := follow(t, v1alpha1.Exposure{PreviousURLFor: keep}); len(next.Previous) != paths {
				t.Errorf("for %s there are %d previous paths, want %d", keep, len(next.Previous), paths)
			}
		}
	}},
	"exposure.serviceAnnotations":                 {value: `{"other": "yes"}`, does: []string{"Service.metadata.annotations.cloud.google.com/backend-config is gone", "Service.metadata.annotations.other = yes"}},
	"exposure.ingress.className":                  {value: `"other"`, does: []string{"Ingress.spec.ingressClassName = other"}},
	"exposure.ingress.annotations":                {value: `{"other": "yes"}`, does: []string{"Ingress.metadata.annotations.cert-manager.io/cluster-issuer is gone", "Ingress.metadata.annotations.other = yes"}},
	"exposure.ingress.tlsSecretName":              {value: `"other"`, does: []string{"Ingress.spec.tls.0.secretName = other"}},
	"exposure.httpRoute.parentRefs[].name":        {value: `"other"`, base: "http-route", does: []string{"HTTPRoute.spec.parentRefs.0.name = other"}},
	"exposure.httpRoute.parentRefs[].namespace":   {value: `"other"`, base: "http-route", does: []string{"HTTPRoute.spec.parentRefs.0.namespace = other"}},
	"exposure.httpRoute.parentRefs[].sectionName": {value: `"other"`, base: "http-route", does: []string{"HTTPRoute.spec.parentRefs.0.sectionName = other"}},
	"exposure.httpRoute.parentRefs[].port":        {value: `4711`, base: "http-route", does: []string{"HTTPRoute.spec.parentRefs.0.port = 4711"}},
	"receiver.replicas":                           {value: `47`, does: []string{"Deployment.spec.replicas = 47"}},
	"receiver.autoscaling.minReplicas":            {value: `3`, base: "autoscaled-by-backlog", does: []string{"PodDisruptionBudget = there", "ScaledObject.spec.minReplicaCount = 3"}},
	"receiver.autoscaling.maxReplicas":            {value: `47`, base: "autoscaled", does: []string{"HorizontalPodAutoscaler.spec.maxReplicas = 47"}},
	"receiver.autoscaling.targetCPUUtilization":   {value: `47`, base: "autoscaled", does: []string{"HorizontalPodAutoscaler.spec.metrics.0.resource.target.averageUtilization = 47"}},
	"receiver.autoscaling.backlogPerReplica":      {value: `47`, base: "autoscaled-by-backlog", does: []string{"ScaledObject.spec.triggers.0.metadata.targetValue = 47"}},
	"receiver.resources.requests":                 {value: `{"cpu": "47m"}`, does: []string{"pod.containers.0.resources.requests.cpu = 47m", "pod.containers.0.resources.requests.memory is gone"}},
	"receiver.resources.limits":                   {value: `{"memory": "100Mi"}`, does: []string{"pod.containers.0.env.0.name = GOMEMLIMIT", "pod.containers.0.env.0.value = 94371840", "pod.containers.0.resources.limits.memory = 100Mi"}},
	"receiver.podSecurityContext.runAsUser":       {value: `4711`, does: []string{"pod.securityContext.runAsUser = 4711"}},
	"receiver.podSecurityContext.runAsGroup":      {value: `4711`, does: []string{"pod.securityContext.runAsGroup = 4711"}},
	"receiver.podSecurityContext.fsGroup":         {value: `4711`, does: []string{"pod.securityContext.fsGroup = 4711"}},
	"receiver.logLevel":                           {value: `"warn"`, does: []string{"config.logLevel = warn"}},
	"receiver.nodeSelector":                       {value: `{"other": "yes"}`, does: []string{"pod.nodeSelector.kubernetes.io/arch is gone", "pod.nodeSelector.other = yes"}},
	"receiver.tolerations":                        {test: copied(corev1.Toleration{}, "tolerations", true)},
	"receiver.affinity":                           {test: copied(corev1.Affinity{}, "affinity", false)},
	"receiver.topologySpreadConstraints":          {test: copied(corev1.TopologySpreadConstraint{}, "topologySpreadConstraints", true)},
	"receiver.priorityClassName":                  {value: `"other"`, does: []string{"pod.priorityClassName = other"}},
	"receiver.podAnnotations":                     {value: `{"other": "yes"}`, does: []string{"pod.annotations.example.com/scrape is gone", "pod.annotations.other = yes"}},
	"receiver.podLabels":                          {value: `{"other": "yes"}`, does: []string{"pod.labels.other = yes", "pod.labels.team is gone"}},
	"receiver.imagePullSecrets[].name":            {value: `"other"`, does: []string{"pod.imagePullSecrets.0.name = other"}},
	"redis.secretKeyRef.name":                     {value: `"other"`, base: "own-redis", does: []string{"config.redisURLFile = /etc/heymarket/secrets/other/url", "mount.other/url = other/url", "mount.redis/url is gone"}},
	"redis.secretKeyRef.key":                      {value: `"other"`, base: "own-redis", does: []string{"config.redisURLFile = /etc/heymarket/secrets/redis/other", "mount.redis/other = redis/other", "mount.redis/url is gone"}},
	"redis.caSecretKeyRef.name":                   {value: `"other"`, base: "own-redis", does: []string{"config.redisCAFile = /etc/heymarket/secrets/other/ca.crt", "mount.other/ca.crt = other/ca.crt", "mount.redis/ca.crt is gone"}},
	"redis.caSecretKeyRef.key":                    {value: `"other"`, base: "own-redis", does: []string{"config.redisCAFile = /etc/heymarket/secrets/redis/other", "mount.redis/ca.crt is gone", "mount.redis/other = redis/other"}},
	"retention.deadLetters":                       {value: `"47h"`, does: []string{"config.retention.deadLetters = 47h0m0s"}},
	"retention.deadLetterLimit":                   {value: `47`, does: []string{"config.retention.deadLetterLimit = 47"}},
	"deletionPolicy":                              {test: elsewhere("finalize_test.go", "TestFinalizerFollowsThePolicy")},
	"paused":                                      {value: `true`, base: "smallest", does: []string{"config.paused = true"}},
}

// follow is the address of a resource whose URL was renewed two hours ago.
func follow(t *testing.T, exposure v1alpha1.Exposure) Address {
	t.Helper()
	w := &v1alpha1.HeymarketWebhook{Spec: v1alpha1.HeymarketWebhookSpec{Exposure: exposure}}
	before := Address{Segment: segment, Previous: []PreviousPath{{Path: "/before", Replaced: noon.Add(-2 * time.Hour)}}}
	next, err := before.Follow(w, PathPrefix(w)+segment, noon)
	if err != nil {
		t.Fatal(err)
	}
	next.Previous = slices.DeleteFunc(next.Previous, func(p PreviousPath) bool { return p.Path != "/before" })
	return next
}

// elsewhere is for a field that does not affect applied objects: an existing test of the reconciler covers it.
func elsewhere(file, name string) func(*testing.T) {
	return func(t *testing.T) {
		text, err := os.ReadFile(filepath.Join("..", file))
		if err != nil || !bytes.Contains(text, []byte("func "+name+"(")) {
			t.Errorf("there is no %s in %s: %v", name, file, err)
		}
	}
}

// copied is for values that are copied to Pods unchanged, with each of their fields.
func copied[T any](of T, to string, list bool) func(*testing.T) {
	return func(t *testing.T) {
		fill(reflect.ValueOf(&of).Elem())
		var value any = of
		if list {
			value = []T{of}
		}
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{}
		flatten(want, "pod."+to, decoded(t, text))
		if len(want) < 5 {
			t.Fatalf("%d fields", len(want))
		}
		after := applied(t, "smallest", []string{"receiver", to}, text)
		maps.DeleteFunc(after, func(place, _ string) bool { return !strings.HasPrefix(place, "pod."+to) })
		if diff := gocmp.Diff(want, after); diff != "" {
			t.Errorf("of what the resource has (-want +got):\n%s", diff)
		}
	}
}

// fill sets every field of a value to something.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.String:
		v.SetString("other")
	case reflect.Int32, reflect.Int64:
		v.SetInt(47)
	default:
		panic("a field of a kind that nothing is known for: " + v.Type().String())
	}
}

// A field that is validated and defaulted but never used breaks only a golden, which a regeneration hides. So each field is
// followed from the resource to the applied objects, and a new field without a row fails.
func TestEveryFieldReachesWhereItActs(t *testing.T) {
	t.Parallel()
	missing := map[string]bool{}
	for _, field := range leaves("", reflect.TypeFor[v1alpha1.HeymarketWebhookSpec]()) {
		missing[field] = true
	}
	for _, field := range slices.Sorted(maps.Keys(wiring)) {
		if !missing[field] {
			t.Errorf("there is a row for %s, which is no field of the spec", field)
		}
		delete(missing, field)
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			row := wiring[field]
			if row.test != nil {
				row.test(t)
				return
			}
			base := cmp.Or(row.base, "everything")
			before, after := applied(t, base, nil, nil), applied(t, base, location(cmp.Or(row.at, field)), json.RawMessage(row.value))
			if diff := gocmp.Diff(row.does, changes(before, after)); diff != "" {
				t.Errorf("what it changes (-want +got):\n%s", diff)
			}
		})
	}
	for _, field := range slices.Sorted(maps.Keys(missing)) {
		t.Errorf("%s has no row: show what is applied because of it", field)
	}
}

// leaves are the paths of all fields that have no fields of ours themselves.
func leaves(at string, t reflect.Type) (out []string) {
	switch {
	case t.Kind() == reflect.Pointer:
		return leaves(at, t.Elem())
	case t.Kind() == reflect.Slice && ours(t.Elem()):
		return leaves(at+"[]", t.Elem())
	case ours(t):
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			out = append(out, leaves(strings.TrimPrefix(at+"."+name, "."), f.Type)...)
		}
		return out
	}
	return []string{at}
}

func ours(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.PkgPath() == reflect.TypeFor[v1alpha1.HeymarketWebhookSpec]().PkgPath()
}

func location(field string) []string {
	return strings.Split(strings.ReplaceAll(field, "[]", ".0"), ".")
}

// applied is all that is applied for a resource of testdata with a value in the place at of its spec: value by place.
func applied(t *testing.T, base string, at []string, value json.RawMessage) map[string]string {
	t.Helper()
	in := input(t, base, Input{
		Host: "hooks.example.com", HostRequested: true, KEDA: true,
		NetworkPolicy: &NetworkPolicy{OperatorNamespace: "heymarket-system"}, OwnRedisURL: "redis://own.example.com:6390",
	})
	if at != nil {
		text, err := os.ReadFile(filepath.Join("testdata", base+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		object := decoded(t, text).(map[string]any)
		object["spec"] = put(object["spec"], at, value)
		changed, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		in.Webhook = &v1alpha1.HeymarketWebhook{}
		if err := yaml.UnmarshalStrict(changed, in.Webhook); err != nil {
			t.Fatal(err)
		}
	}
	out := map[string]string{}
	for document := range bytes.SplitSeq(bytes.TrimPrefix(render(t, build(t, in)), []byte("---\n")), []byte("\n---\n")) {
		object := decoded(t, document).(map[string]any)
		// What is mounted is more telling than where in the list of mounts it stands.
		if pod, ok := field(object, "spec", "template", "spec").(map[string]any); ok {
			for _, volume := range pod["volumes"].([]any) {
				sources, _ := field(volume, "projected", "sources").([]any)
				for _, source := range sources {
					for _, item := range field(source, "secret", "items").([]any) {
						out[fmt.Sprint("mount.", field(item, "path"))] = fmt.Sprint(field(source, "secret", "name"), "/", field(item, "key"))
					}
				}
			}
			delete(pod, "volumes")
		}
		if data, ok := object["stringData"].(map[string]any); ok && data[KeyConfig] != nil {
			data["config"] = decoded(t, []byte(data[KeyConfig].(string)))
			delete(data, KeyConfig)
		}
		kind := object["kind"].(string)
		out[kind] = "there"
		flatten(out, kind, object)
	}
	return out
}

// field is that of an object, nil if it or one on the way is not there.
func field(object any, path ...string) any {
	for _, name := range path {
		fields, _ := object.(map[string]any)
		object = fields[name]
	}
	return object
}

// decoded keeps numbers as they are written.
func decoded(t *testing.T, text []byte) (value any) {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(asJSON))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// short are the places in which most fields act.
var short = strings.NewReplacer("Secret.stringData.", "", "Deployment.spec.template.spec.", "pod.", "Deployment.spec.template.metadata.", "pod.")

func flatten(out map[string]string, at string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for name, field := range v {
			flatten(out, at+"."+name, field)
		}
	case []any:
		for i, element := range v {
			flatten(out, at+"."+strconv.Itoa(i), element)
		}
	default:
		out[short.Replace(at)] = fmt.Sprint(v)
	}
}

// put returns tree with a value at a place, creating missing maps and lists.
func put(tree any, at []string, value any) any {
	if len(at) == 0 {
		return value
	}
	if i, err := strconv.Atoi(at[0]); err == nil {
		list, _ := tree.([]any)
		for len(list) <= i {
			list = append(list, nil)
		}
		list[i] = put(list[i], at[1:], value)
		return list
	}
	fields, ok := tree.(map[string]any)
	if !ok {
		fields = map[string]any{}
	}
	fields[at[0]] = put(fields[at[0]], at[1:], value)
	return fields
}

// changes are the places with other values than before, sorted.
func changes(before, after map[string]string) (out []string) {
	for place, value := range after {
		kind, rest, _ := strings.Cut(place, ".")
		if _, there := after[kind]; there && before[kind] == "" && rest != "" {
			continue // of a new object it is enough that it is there
		}
		if was, there := before[place]; !there || was != value {
			out = append(out, place+" = "+value)
		}
	}
	for place := range before {
		if _, there := after[place]; !there {
			out = append(out, place+" is gone")
		}
	}
	slices.Sort(out)
	return out
}
