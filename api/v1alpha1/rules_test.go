package v1alpha1_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/apiservertest"
	"heymarket.dev/operator/internal/dev/admit"
	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/filter"
	"heymarket.dev/operator/internal/testenv"
)

func TestMain(m *testing.M) { apiservertest.Main(m) }

const (
	token   = "token: {secretKeyRef: {name: heymarket}}\n"
	targets = "targets: [{name: crm, url: 'http://crm.example.com'}]\n"
)

func oneTarget(fields string) string { return token + "targets: [{name: crm, " + fields + "}]\n" }
func withURL(fields string) string   { return oneTarget("url: 'http://crm.example.com', " + fields) }
func more(fields string) string      { return token + targets + fields }

// rules are pairs: each refused spec has an accepted neighbour. want is a part of the API server's answer; empty means
// that the spec is accepted.
var rules = []struct {
	name     string
	resource string // metadata.name, "support" if empty
	from     string // the spec that is changed; empty if the resource is new
	spec     string
	want     string
}{
	{name: "the smallest one", spec: more("")},
	{name: "no token", spec: targets, want: "spec.token: Required value"},
	{name: "no targets", spec: token, want: "spec.targets: Required value"},
	{name: "an empty list of targets", spec: token + "targets: []", want: "spec.targets: Invalid value"},

	{name: "52 characters of name", resource: strings.Repeat("a", 52), spec: more("")},
	{name: "53 characters of name", resource: strings.Repeat("a", 53), spec: more(""), want: "metadata.name must have at most 52 characters"},
	{name: "a name with digits and '-'", resource: "a-1", spec: more("")},
	{name: "a name that begins with a digit", resource: "1a", spec: more(""), want: "metadata.name must be lower-case letters"},
	{name: "a name with a dot", resource: "a.b", spec: more(""), want: "metadata.name must be lower-case letters"},

	{name: "a Secret with dots", spec: "token: {secretKeyRef: {name: a.b-c}}\n" + targets},
	{name: "a Secret with capitals", spec: "token: {secretKeyRef: {name: Heymarket}}\n" + targets, want: "name must be the name of a Secret"},
	{name: "a Secret without a name", spec: "token: {secretKeyRef: {name: ''}}\n" + targets, want: "spec.token.secretKeyRef.name"},
	{name: "a key with all that is allowed", spec: "token: {secretKeyRef: {name: a, key: .A_b-1}}\n" + targets},
	{name: "a key with a slash", spec: "token: {secretKeyRef: {name: a, key: a/b}}\n" + targets, want: "key must be a key of a Secret"},
	{name: "a key that climbs", spec: "token: {secretKeyRef: {name: a, key: ..}}\n" + targets, want: "key must be a key of a Secret"},

	{name: "a webhook id beyond 53 bits", spec: more("webhookID: 9007199254740993")},
	{name: "webhook id zero", spec: more("webhookID: 0"), want: "spec.webhookID"},

	{name: "event types", spec: more("eventTypes: [message_recieved, incoming_call]")},
	{name: "an event type that is spelt right", spec: more("eventTypes: [message_received]"), want: `Unsupported value: "message_received"`},
	{name: "an event type twice", spec: more("eventTypes: [chat_closed, chat_closed]"), want: "Duplicate value"},
	{name: "a target's types among the webhook's", spec: withURL("eventTypes: [chat_closed]") + "eventTypes: [chat_closed, chat_opened]"},
	{name: "a target's types beyond an empty list", spec: withURL("eventTypes: [chat_closed]") + "eventTypes: []"},
	{name: "a target's types beyond the webhook's", spec: withURL("eventTypes: [chat_closed]") + "eventTypes: [chat_opened]", want: "targets[crm].eventTypes has"},

	{name: "16 targets", spec: token + "targets: " + manyTargets(16)},
	{name: "17 targets", spec: token + "targets: " + manyTargets(17), want: "must have at most 16 items"},
	{name: "two targets of one name", spec: token + "targets: [{name: a, url: 'http://a'}, {name: a, url: 'http://b'}]", want: "Duplicate value"},
	{name: "40 characters of target name", spec: token + "targets: [{url: 'http://a', name: " + strings.Repeat("a", 40) + "}]"},
	{name: "41 characters of target name", spec: token + "targets: [{url: 'http://a', name: " + strings.Repeat("a", 41) + "}]", want: "Too long"},
	{name: "a target name with a digit first", spec: token + "targets: [{url: 'http://a', name: 2nd}]"},
	{name: "a target name with an underscore", spec: token + "targets: [{url: 'http://a', name: a_b}]", want: "name must be lower-case letters, digits and '-'"},

	{name: "a URL", spec: oneTarget("url: 'https://crm.example.com:8443/in?a=b@c'")},
	{name: "a URL with an IPv6 address", spec: oneTarget("url: 'http://[2001:db8::1]:8080/in'")},
	{name: "a Service", spec: oneTarget("service: {name: crm, port: 80}")},
	{name: "neither URL nor Service", spec: token + "targets: [{name: crm}]", want: "targets[crm]: set exactly one of url and service"},
	{name: "both URL and Service", spec: oneTarget("url: 'http://crm', service: {name: crm, port: 80}"), want: "targets[crm]: set exactly one of url and service"},
	{name: "another scheme", spec: oneTarget("url: 'ftp://crm'"), want: "url must begin with http:// or https://"},
	{name: "no scheme", spec: oneTarget("url: 'crm:80'"), want: "url must begin with http:// or https://"},
	{name: "user information", spec: oneTarget("url: 'https://me:secret@crm/'"), want: "url must not carry a user name or password"},
	{name: "a fragment", spec: oneTarget("url: 'https://crm/#top'"), want: "url must not have a fragment"},
	{name: "no host", spec: oneTarget("url: 'https:///in'"), want: "url must be a valid URL that names a host"},
	{name: "a bad escape", spec: oneTarget("url: 'https://crm/%zz'"), want: "url must be a valid URL that names a host"},
	{name: "a URL that is too long", spec: oneTarget("url: 'https://crm/" + strings.Repeat("a", 2048) + "'"), want: "Too long"},

	{name: "all of a Service", spec: oneTarget("service: {name: crm, port: 65535, path: '/in?a=b', scheme: HTTPS}")},
	{name: "a Service without a port", spec: oneTarget("service: {name: crm}"), want: "port: Required value"},
	{name: "port zero", spec: oneTarget("service: {name: crm, port: 0}"), want: "service.port"},
	{name: "a port that is too high", spec: oneTarget("service: {name: crm, port: 65536}"), want: "service.port"},
	{name: "a Service of another namespace", spec: oneTarget("service: {name: crm.other, port: 80}"), want: "name must be the name of a Service"},
	{name: "a path without a slash", spec: oneTarget("service: {name: crm, port: 80, path: in}"), want: "path must begin with '/'"},
	{name: "a path with a space", spec: oneTarget("service: {name: crm, port: 80, path: '/a b'}"), want: "path must begin with '/'"},
	{name: "a scheme in lower case", spec: oneTarget("service: {name: crm, port: 80, scheme: https}"), want: "Unsupported value"},

	{name: "the shortest timeout", spec: withURL("timeout: 100ms")},
	{name: "the longest timeout", spec: withURL("timeout: 2m")},
	{name: "a fraction of a second", spec: withURL("timeout: 1.5s")},
	{name: "a timeout that is too short", spec: withURL("timeout: 99ms"), want: "timeout must be from 100ms to 2m"},
	{name: "a timeout that is too long", spec: withURL("timeout: 2m1s"), want: "timeout must be from 100ms to 2m"},
	{name: "a timeout without a unit", spec: withURL("timeout: '10'"), want: "timeout in body should match"},
	{name: "a negative timeout", spec: withURL("timeout: -1s"), want: "timeout in body should match"},

	{name: "all of retry", spec: withURL("retry: {maxAttempts: 100, minBackoff: 10ms, maxBackoff: 24h, maxAge: 720h}")},
	{name: "no attempts", spec: withURL("retry: {maxAttempts: 0}"), want: "retry.maxAttempts"},
	{name: "too many attempts", spec: withURL("retry: {maxAttempts: 101}"), want: "retry.maxAttempts"},
	{name: "a backoff that is too short", spec: withURL("retry: {minBackoff: 9ms}"), want: "minBackoff must be from 10ms to 1h"},
	{name: "a first backoff that is too long", spec: withURL("retry: {minBackoff: 61m, maxBackoff: 2h}"), want: "minBackoff must be from 10ms to 1h"},
	{name: "a last backoff that is too long", spec: withURL("retry: {maxBackoff: 25h}"), want: "maxBackoff must be from 10ms to 24h"},
	{name: "an age that is too short", spec: withURL("retry: {maxAge: 500ms}"), want: "maxAge must be from 1s to 720h"},
	{name: "equal backoffs", spec: withURL("retry: {minBackoff: 1m, maxBackoff: 60s}")},
	{name: "backoffs the wrong way round", spec: withURL("retry: {minBackoff: 1m, maxBackoff: 30s}"), want: "minBackoff must not be longer than maxBackoff"},
	{name: "a first backoff beyond the default of the last", spec: withURL("retry: {minBackoff: 11m}"), want: "minBackoff must not be longer than maxBackoff"},

	{name: "statuses to retry", spec: withURL("retry: {statuses: [300, 404, 422, 499]}")},
	{name: "no statuses to retry", spec: withURL("retry: {statuses: []}")},
	{name: "a good status to retry", spec: withURL("retry: {statuses: [200]}"), want: "retry.statuses[0]"},
	{name: "a status to retry that always is", spec: withURL("retry: {statuses: [500]}"), want: "retry.statuses[0]"},
	{name: "410 to retry", spec: withURL("retry: {statuses: [404, 410]}"), want: "statuses must not hold 410"},
	{name: "one status twice", spec: withURL("retry: {statuses: [404, 404]}"), want: "Duplicate value"},
	{name: "too many statuses", spec: withURL("retry: {statuses: [" + manyStatuses() + "]}"), want: "Too many"},

	{name: "one at a time", spec: withURL("maxInFlight: 1")},
	{name: "none at a time", spec: withURL("maxInFlight: 0"), want: "maxInFlight"},
	{name: "too many at a time", spec: withURL("maxInFlight: 1001"), want: "maxInFlight"},

	{name: "a rate", spec: withURL("ratePerSecond: 100000")},
	{name: "a rate of nothing", spec: withURL("ratePerSecond: 0"), want: "ratePerSecond"},
	{name: "a rate that is too high", spec: withURL("ratePerSecond: 100001"), want: "ratePerSecond"},

	{name: "a filter", spec: withURL("filter: 'event.type == \"chat_closed\"'")},
	{name: "an empty filter", spec: withURL("filter: ''"), want: "filter"},
	{name: "a filter that is too long", spec: withURL("filter: " + strings.Repeat("a", 4097)), want: "Too long"},
	{name: "a deduplication key", spec: more("deduplication: {key: string(event.data.id)}")},
	{name: "a deduplication key that is too long", spec: more("deduplication: {key: " + strings.Repeat("a", 4097) + "}"), want: "Too long"},

	{name: "each format and order", spec: token + "targets: [{name: a, url: 'http://a', format: Heymarket, order: None}, {name: b, url: 'http://b', format: CloudEvents, order: Conversation}, {name: c, url: 'http://c', format: CloudEventsStructured}]"},
	{name: "a format that nobody knows", spec: withURL("format: XML"), want: "Unsupported value"},
	{name: "an order that nobody knows", spec: withURL("order: Total"), want: "Unsupported value"},

	{name: "a signed target", spec: withURL("signing: {secretKeyRef: {name: keys, key: one}, previousSecretKeyRef: {name: keys, key: zero}}")},
	{name: "signing without a key", spec: withURL("signing: {previousSecretKeyRef: {name: keys, key: zero}}"), want: "signing.secretKeyRef: Required value"},
	{name: "signing without a key's name", spec: withURL("signing: {secretKeyRef: {name: keys}}"), want: "secretKeyRef.key: Required value"},
	{name: "signing twice by one key", spec: withURL("signing: {secretKeyRef: {name: keys, key: one}, previousSecretKeyRef: {name: keys, key: one}}"), want: "signing.previousSecretKeyRef must name another"},
	{name: "a previous token", spec: "token: {secretKeyRef: {name: new}, previousSecretKeyRef: {name: old}}\n" + targets},
	{name: "a previous token of the same Secret", spec: "token: {secretKeyRef: {name: a}, previousSecretKeyRef: {name: a, key: old}}\n" + targets},
	{name: "one token twice", spec: "token: {secretKeyRef: {name: a}, previousSecretKeyRef: {name: a, key: token}}\n" + targets, want: "token.previousSecretKeyRef must name another"},

	{name: "headers", spec: withURL("headers: [{name: X-Team, value: \"a b\\tc\"}, {name: Authorization, secretKeyRef: {name: a, key: b}}]")},
	{name: "32 headers", spec: withURL("headers: " + manyHeaders(32))},
	{name: "33 headers", spec: withURL("headers: " + manyHeaders(33)), want: "must have at most 32 items"},
	{name: "a header twice", spec: withURL("headers: [{name: X-Team, value: a}, {name: x-team, value: b}]"), want: "headers must name each header once"},
	{name: "a header with a colon", spec: withURL("headers: [{name: 'X-Team:', value: a}]"), want: "name must be the name of an HTTP header"},
	{name: "a header of the connection", spec: withURL("headers: [{name: Transfer-Encoding, value: a}]"), want: "name must not be a header of the connection"},
	{name: "a header of the receiver's", spec: withURL("headers: [{name: ce-Id, value: a}]"), want: "name must not be a header of the connection"},
	{name: "a header without a value", spec: withURL("headers: [{name: X-Team}]"), want: "headers[X-Team]: set exactly one of value and secretKeyRef"},
	{name: "a header with two values", spec: withURL("headers: [{name: X-Team, value: a, secretKeyRef: {name: a, key: b}}]"), want: "headers[X-Team]: set exactly one of value and secretKeyRef"},
	{name: "a header of two lines", spec: withURL("headers: [{name: X-Team, value: \"a\\nb\"}]"), want: "value must not hold a line break"},
	{name: "a header with a delete character", spec: withURL("headers: [{name: X-Team, value: \"a\\x7f\"}]"), want: "value must not hold a line break"},

	{name: "a private CA", spec: oneTarget("url: 'https://crm', tls: {caSecretKeyRef: {name: ca, key: ca.crt}, serverName: crm.internal}")},
	{name: "a private CA of a Service", spec: oneTarget("service: {name: crm, port: 443, scheme: HTTPS}, tls: {serverName: crm}")},
	{name: "TLS that says nothing", spec: oneTarget("url: 'https://crm', tls: {}"), want: "tls"},
	{name: "TLS without https", spec: withURL("tls: {serverName: crm}"), want: "targets[crm]: tls has no effect on a target that is not reached by https"},
	{name: "TLS without HTTPS", spec: oneTarget("service: {name: crm, port: 443}, tls: {serverName: crm}"), want: "targets[crm]: tls has no effect on a target that is not reached by https"},
	{name: "a server name with a port", spec: oneTarget("url: 'https://crm', tls: {serverName: 'crm:443'}"), want: "serverName must be a DNS name"},

	{name: "all of retention", spec: more("retention: {deadLetters: 8760h, deadLetterLimit: 1000000}")},
	{name: "a retention that is too short", spec: more("retention: {deadLetters: 59m}"), want: "deadLetters must be from 1h to 8760h"},
	{name: "a retention of nothing", spec: more("retention: {deadLetterLimit: 0}"), want: "deadLetterLimit"},
	{name: "a Redis of its own", spec: more("redis: {secretKeyRef: {name: redis, key: url}}")},
	{name: "a Redis of nobody", spec: more("redis: {}"), want: "redis.secretKeyRef: Required value"},
	{name: "paused", spec: more("paused: true")},
	{name: "autoscaling", spec: more("receiver: {autoscaling: {minReplicas: 1, maxReplicas: 100, targetCPUUtilization: 1000}}")},
	{name: "autoscaling up to the default minimum", spec: more("receiver: {autoscaling: {maxReplicas: 2}}")},
	{name: "autoscaling below the default minimum", spec: more("receiver: {autoscaling: {maxReplicas: 1}}"), want: "minReplicas must not be more than maxReplicas"},
	{name: "autoscaling without a maximum", spec: more("receiver: {autoscaling: {}}"), want: "maxReplicas: Required value"},
	{name: "autoscaling to nothing", spec: more("receiver: {autoscaling: {minReplicas: 0, maxReplicas: 1}}"), want: "minReplicas"},
	{name: "autoscaling with a CPU request", spec: more("receiver: {autoscaling: {maxReplicas: 3}, resources: {requests: {cpu: 50m}}}")},
	{name: "autoscaling with a CPU limit", spec: more("receiver: {autoscaling: {maxReplicas: 3}, resources: {limits: {cpu: 1}}}")},
	{name: "autoscaling by the backlog without a CPU request", spec: more("receiver: {autoscaling: {maxReplicas: 3, backlogPerReplica: 1}, resources: {requests: {memory: 50Mi}}}")},
	{name: "autoscaling by both without a CPU request", spec: more("receiver: {autoscaling: {maxReplicas: 3, backlogPerReplica: 1, targetCPUUtilization: 80}, resources: {requests: {memory: 50Mi}}}"), want: "autoscaling needs resources.requests.cpu"},
	{name: "autoscaling by no backlog at all", spec: more("receiver: {autoscaling: {maxReplicas: 3, backlogPerReplica: 0}}"), want: "backlogPerReplica"},
	{name: "autoscaling without a CPU request", spec: more("receiver: {autoscaling: {maxReplicas: 3}, resources: {requests: {memory: 50Mi}}}"), want: "autoscaling needs resources.requests.cpu"},
	{name: "spread hard over zones and softly over nodes", spec: more("receiver: {topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}, {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]}")},
	{name: "the same spread twice", spec: more("receiver: {topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}, {maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]}"), want: "Duplicate value"},
	{name: "all of placement", spec: more("receiver: {nodeSelector: {a: b}, tolerations: [{operator: Exists}], affinity: {}, topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}], priorityClassName: important, podAnnotations: {example.com/a: b}, podLabels: {example.com/a: b}, imagePullSecrets: [{name: registry}]}")},
	{name: "IDs of users and groups", spec: more("receiver: {podSecurityContext: {runAsUser: 1000660000, runAsGroup: 1, fsGroup: 2147483647}}")},
	{name: "IDs left to the platform", spec: more("receiver: {podSecurityContext: {}}")},
	{name: "root", spec: more("receiver: {podSecurityContext: {runAsUser: 0}}"), want: "receiver.podSecurityContext.runAsUser: Invalid value: 0: spec.receiver.podSecurityContext.runAsUser in body should be greater than or equal to 1"},
	{name: "the group of root", spec: more("receiver: {podSecurityContext: {runAsGroup: 0}}"), want: "runAsGroup in body should be greater than or equal to 1"},
	{name: "a group of files beyond the bound", spec: more("receiver: {podSecurityContext: {fsGroup: 2147483648}}"), want: "fsGroup in body should be less than or equal to 2147483647"},
	{name: "a priority class with a space", spec: more("receiver: {priorityClassName: 'a b'}"), want: "priorityClassName must be the name of a PriorityClass"},
	{name: "a Service annotation without a name", spec: more("exposure: {serviceAnnotations: {'a b': c}}"), want: "the keys of serviceAnnotations"},
	{name: "a Pod annotation without a name", spec: more("receiver: {podAnnotations: {'a b': c}}"), want: "the keys of podAnnotations must be names"},
	{name: "a Pod annotation that loosens", spec: more("receiver: {podAnnotations: {container.apparmor.security.beta.kubernetes.io/receiver: unconfined}}"), want: "podAnnotations must not set AppArmor or seccomp"},
	{name: "a Pod label without a name", spec: more("receiver: {podLabels: {'a b': c}}"), want: "the keys of podLabels must be names"},
	{name: "a Pod label of ours", spec: more("receiver: {podLabels: {app.kubernetes.io/name: other}}"), want: "podLabels must not set app.kubernetes.io/name"},
	{name: "a Pod label with a space", spec: more("receiver: {podLabels: {a: 'b c'}}"), want: "podLabels.a in body should match"},
	{name: "a pull Secret with a slash", spec: more("receiver: {imagePullSecrets: [{name: a/b}]}"), want: "name must be the name of a Secret"},
	{name: "a security context", spec: more("receiver: {securityContext: {privileged: true}}"), want: "unknown field"},
	{name: "a service account", spec: more("receiver: {serviceAccountName: admin}"), want: "unknown field"},
	{name: "a log level", spec: more("receiver: {logLevel: debug}")},
	{name: "a log level in capitals", spec: more("receiver: {logLevel: Debug}"), want: "Unsupported value"},

	{name: "the longest horizon of retries", spec: more("deduplication: {retryHorizon: 720h}")},
	{name: "the shortest horizon of retries", spec: more("deduplication: {retryHorizon: 1s}")},
	{name: "a horizon of retries that is too long", spec: more("deduplication: {retryHorizon: 721h}"), want: "retryHorizon must be from 1s to 720h"},
	{name: "a horizon of retries that is too short", spec: more("deduplication: {retryHorizon: 0s}"), want: "retryHorizon must be from 1s to 720h"},
	{name: "the longest memory", spec: more("deduplication: {window: 720h}")},
	{name: "the shortest memory", spec: more("deduplication: {window: 1m}")},
	{name: "a memory that is too long", spec: more("deduplication: {window: 721h}"), want: "window must be from 1m to 720h"},
	{name: "a memory that is too short", spec: more("deduplication: {window: 59s}"), want: "window must be from 1m to 720h"},

	{name: "all of an Ingress", spec: more("exposure: {type: Ingress, host: hooks.example.com, ingress: {className: traefik, tlsSecretName: hooks-tls, annotations: {cert-manager.io/cluster-issuer: le, plain: ''}}}")},
	{name: "ingress with the default type", spec: more("exposure: {ingress: {className: traefik}}")},
	{name: "none", spec: more("exposure: {type: None, host: hooks.example.com}")},
	{name: "a type of exposure that nobody knows", spec: more("exposure: {type: Magic}"), want: "Unsupported value"},
	{name: "none, with ingress", spec: more("exposure: {type: None, ingress: {className: traefik}}"), want: "ingress has no effect unless type is Ingress"},
	{name: "an HTTPRoute", spec: more("exposure: {type: HTTPRoute, httpRoute: {parentRefs: [{name: public, namespace: gateways, sectionName: https, port: 443}, {name: internal}]}}")},
	{name: "an HTTPRoute without parents", spec: more("exposure: {type: HTTPRoute}")},
	{name: "an HTTPRoute of another type", spec: more("exposure: {httpRoute: {parentRefs: [{name: public}]}}"), want: "httpRoute has no effect unless type is HTTPRoute"},
	{name: "an HTTPRoute of nobody", spec: more("exposure: {type: HTTPRoute, httpRoute: {parentRefs: []}}"), want: "parentRefs"},
	{name: "a Gateway with a slash", spec: more("exposure: {type: HTTPRoute, httpRoute: {parentRefs: [{name: a/b}]}}"), want: "name must be the name of a Gateway"},
	{name: "a Gateway in a dotted namespace", spec: more("exposure: {type: HTTPRoute, httpRoute: {parentRefs: [{name: a, namespace: a.b}]}}"), want: "namespace must be the name of a namespace"},
	{name: "a listener with a space", spec: more("exposure: {type: HTTPRoute, httpRoute: {parentRefs: [{name: a, sectionName: 'a b'}]}}"), want: "sectionName must be the name of a listener"},
	{name: "a path", spec: more("exposure: {path: /hooks/a.b/v1_~-}")},
	{name: "a path without a slash", spec: more("exposure: {path: hooks}"), want: "path must be elements such as /hooks/support"},
	{name: "a path with a slash at the end", spec: more("exposure: {path: /hooks/}"), want: "path must be elements such as /hooks/support"},
	{name: "a path that climbs", spec: more("exposure: {path: /hooks/../x}"), want: "path must be elements such as /hooks/support"},
	{name: "a path with an escape", spec: more("exposure: {path: /hooks%2fx}"), want: "path must be elements such as /hooks/support"},
	{name: "the root as a path", spec: more("exposure: {path: /}"), want: "exposure.path"},
	{name: "a host with a port", spec: more("exposure: {host: 'hooks.example.com:443'}"), want: "host must be a DNS name"},
	{name: "a wildcard host", spec: more("exposure: {host: '*.example.com'}"), want: "host must be a DNS name"},
	{name: "a host in capitals", spec: more("exposure: {host: Hooks.example.com}"), want: "host must be a DNS name"},
	{name: "a class with a space", spec: more("exposure: {ingress: {className: 'a b'}}"), want: "className must be the name of an IngressClass"},
	{name: "a TLS Secret with a slash", spec: more("exposure: {ingress: {tlsSecretName: other/tls}}"), want: "tlsSecretName must be the name of a Secret"},
	{name: "a resource that takes its keys along", spec: more("deletionPolicy: Delete")},
	{name: "a policy that nobody knows", spec: more("deletionPolicy: Orphan"), want: "Unsupported value"},
	{name: "a renewed URL", spec: more("exposure: {urlRevision: 1, previousURLFor: 720h}")},
	{name: "a renewed URL that leaked", from: more("exposure: {urlRevision: 1}"), spec: more("exposure: {urlRevision: 2, previousURLFor: 0s}")},
	{name: "a negative revision", spec: more("exposure: {urlRevision: -1}"), want: "urlRevision"},
	{name: "the same revision again", from: more("exposure: {urlRevision: 2}"), spec: more("exposure: {urlRevision: 2}")},
	{name: "an earlier revision", from: more("exposure: {urlRevision: 2}"), spec: more("exposure: {urlRevision: 1}"), want: "urlRevision may only rise"},
	{name: "a revision that is left out", from: more("exposure: {urlRevision: 2}"), spec: more(""), want: "urlRevision may only rise"},
	{name: "a previous URL for too long", spec: more("exposure: {previousURLFor: 721h}"), want: "previousURLFor must be from 0s to 720h"},

	{name: "an annotation without a name", spec: more("exposure: {ingress: {annotations: {'a b': c}}}"), want: "the keys of annotations must be names"},
	{name: "an annotation that is too long", spec: more("exposure: {ingress: {annotations: {a: " + strings.Repeat("b", 4097) + "}}}"), want: "Too long"},

	{name: "one replica with resources", spec: more("receiver: {replicas: 1, resources: {requests: {cpu: 1, memory: 64Mi}, limits: {memory: 0.1Gi}}}")},
	{name: "all resources", spec: more("receiver: {resources: {requests: {cpu: 1, memory: 64Mi, ephemeral-storage: 1Gi}, limits: {cpu: 1}}}")},
	{name: "a device", spec: more("receiver: {resources: {limits: {nvidia.com/gpu: 1}}}"), want: "resources may name cpu, memory and ephemeral-storage"},
	{name: "a priority class of the system", spec: more("receiver: {priorityClassName: system-node-critical}"), want: "priorityClassName must not be one of the system's own"},
	{
		name: "a type that the webhook does not accept", spec: token + "eventTypes: [chat_closed]\ntargets: [{name: crm, url: 'http://crm', eventTypes: [chat_closed]}, {name: archive, url: 'http://a', eventTypes: [chat_closed, chat_opened]}]",
		want: "targets[archive].eventTypes has chat_opened, which is not among spec.eventTypes",
	},
	{name: "a URL with a line break", spec: oneTarget(`url: "http://crm/a\r\nX: y"`), want: "url must not hold a space, a line break or another control character"},
	{name: "a URL with a control character of two bytes", spec: oneTarget(`url: "http://crm/a?b=\u0085"`), want: "url must not hold a space, a line break or another control character"},
	{name: "a URL with letters of other languages", spec: oneTarget(`url: "http://crm/ä?b=ö"`)},
	{name: "a path with a control character", spec: oneTarget(`service: {name: crm, port: 80, path: "/a\x01"}`), want: "no control character"},
	{name: "a path with a control character of two bytes", spec: oneTarget(`service: {name: crm, port: 80, path: "/a\u0085"}`), want: "no control character"},
	{name: "a header value with a control character of two bytes", spec: withURL(`headers: [{name: X-Team, value: "a\u0085b"}]`), want: "value must not hold a line break or another control character"},
	{name: "no replicas", spec: more("receiver: {replicas: 0}"), want: "receiver.replicas"},
	{name: "too many replicas", spec: more("receiver: {replicas: 101}"), want: "receiver.replicas"},
	{name: "a quantity that is none", spec: more("receiver: {resources: {limits: {memory: lots}}}"), want: "limits.memory"},
	{name: "a field that does not exist", spec: more("retentions: {}"), want: `unknown field "spec.retentions"`},
}

func manyTargets(n int) string {
	var b strings.Builder
	b.WriteString("[")
	for i := range n {
		fmt.Fprintf(&b, "{name: t%d, url: 'http://t'},", i)
	}
	return b.String() + "]"
}

func manyHeaders(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{name: X-%d, value: a},", i)
	}
	return "[" + b.String() + "]"
}

// The CRD and the receiver reject the same header names.
func TestHeaderNamesAreTheReceivers(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	for _, name := range []string{
		"Authorization", "X-Api-Key", "Accept", "Cookie", "Forwarded", "Webhook-Custom", "Heymarket", "Ce",
		"Host", "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "TE", "Trailer",
		"Transfer-Encoding", "Upgrade", "Content-Length", "Expect", "Content-Type", "Content-Encoding", "User-Agent",
		"Traceparent", "Tracestate", "Webhook-Id", "webhook-timestamp", "WEBHOOK-SIGNATURE", "Heymarket-Event-Type", "ce-type",
		"a b", "a(b)", "ä",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours := c.Create(t.Context(), webhook(t, "", withURL("headers: [{name: '"+name+"', value: a}]")), client.DryRunAll)
			theirs := config.CheckHeaderName(name)
			if (ours == nil) != (theirs == nil) {
				t.Errorf("the API server says %v, the receiver %v", ours, theirs)
			}
		})
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			u := webhook(t, r.resource, r.spec)
			var err error
			if r.from == "" {
				err = c.Create(t.Context(), u, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict))
			} else {
				err = change(t, c, r.from, u)
			}
			switch {
			case r.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case r.want != "" && err == nil:
				t.Errorf("accepted, want %q", r.want)
			case r.want != "" && !strings.Contains(err.Error(), r.want):
				t.Errorf("refused with %v, want %q", err, r.want)
			}
			if r.from == "" {
				wantTheSame(t, err, webhook(t, r.resource, r.spec))
			}
		})
	}
}

// wantTheSame compares the errors of `kubectl heymarket dev` for a resource with those of an API server.
func wantTheSame(t *testing.T, said error, u *unstructured.Unstructured) {
	t.Helper()
	text, err := u.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	_, got := admit.HeymarketWebhook(t.Context(), text)
	if sentence(got) != sentence(said) {
		t.Errorf("dev says\n\t%v\nand the API server\n\t%v", got, said)
	}
}

// sentence is an error's text, without what a client puts before it and in whatever order the API server has its parts.
func sentence(err error) string {
	if err == nil {
		return "accepted"
	}
	_, rest, found := strings.Cut(err.Error(), "is invalid: ")
	if !found {
		rest = err.Error()
	}
	parts := strings.Split(strings.Trim(rest, "[]"), ", ")
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// change tries to make u of what is made with the spec from.
func change(t *testing.T, c client.Client, from string, u *unstructured.Unstructured) error {
	t.Helper()
	before := webhook(t, "", from)
	before.SetName("")
	before.SetGenerateName("changed-")
	if err := c.Create(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	u.SetName(before.GetName())
	u.SetResourceVersion(before.GetResourceVersion())
	return c.Update(t.Context(), u, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict))
}

// Every CEL rule of the CRD has a refused case above; the accepted cases show that each also accepts something.
func TestEveryRuleHasACase(t *testing.T) {
	t.Parallel()
	// An expression puts the name where the message, which stands in for it, has none.
	anonymous := strings.NewReplacer("[crm]", "[]", "[X-Team]", "[]")
	for _, message := range messages(schema(t)) {
		covered := false
		for _, r := range rules {
			covered = covered || r.want != "" && strings.HasPrefix(message, anonymous.Replace(r.want))
		}
		if !covered {
			t.Errorf("no case of the table is refused with %q", message)
		}
	}
}

func messages(s apiextensionsv1.JSONSchemaProps) []string {
	var out []string
	for _, v := range s.XValidations {
		out = append(out, v.Message)
	}
	for _, p := range s.Properties {
		out = append(out, messages(p)...)
	}
	if s.Items != nil && s.Items.Schema != nil {
		out = append(out, messages(*s.Items.Schema)...)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		out = append(out, messages(*s.AdditionalProperties.Schema)...)
	}
	return out
}

// Every field has a description, for kubectl explain.
func TestEveryFieldIsDescribed(t *testing.T) {
	t.Parallel()
	var walk func(path string, s apiextensionsv1.JSONSchemaProps)
	walk = func(path string, s apiextensionsv1.JSONSchemaProps) {
		if s.Description == "" {
			t.Errorf("%s has no description", path)
		}
		for name, p := range s.Properties {
			if path+"."+name != ".metadata" {
				walk(path+"."+name, p)
			}
		}
		if s.Items != nil && s.Items.Schema != nil && s.Items.Schema.Type == "object" {
			walk(path+"[]", *s.Items.Schema)
		}
	}
	walk("", schema(t))
}

// The CRD and the receiver's configuration have the same defaults and bounds. Targets have no defaults in the
// CRD: those inside lists show as a difference in GitOps tools forever. The receiver fills them in.
func TestDefaultsAreTheReceivers(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	u := webhook(t, "", more(""))
	if err := c.Create(t.Context(), u, client.DryRunAll); err != nil {
		t.Fatal(err)
	}
	var w v1alpha1.HeymarketWebhook
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &w); err != nil {
		t.Fatal(err)
	}
	duration := func(d v1alpha1.Duration) string {
		v, err := d.Std()
		if err != nil {
			t.Error(err)
		}
		return v.String()
	}
	got := map[string]any{
		"window":      duration(w.Spec.Deduplication.Window),
		"horizon":     duration(w.Spec.Deduplication.RetryHorizon),
		"deadLetters": duration(w.Spec.Retention.DeadLetters),
		"deadLimit":   *w.Spec.Retention.DeadLetterLimit,
		"maxHeaders":  *schema(t).Properties["spec"].Properties["targets"].Items.Schema.Properties["headers"].MaxItems,
		"maxFilter":   *schema(t).Properties["spec"].Properties["targets"].Items.Schema.Properties["filter"].MaxLength,
		"maxKey":      *schema(t).Properties["spec"].Properties["deduplication"].Properties["key"].MaxLength,
		"maxTargets":  *schema(t).Properties["spec"].Properties["targets"].MaxItems,
		"key":         w.Spec.Token.SecretKeyRef.Key,
		"exposure":    w.Spec.Exposure.Type,
		"replicas":    *w.Spec.Receiver.Replicas,
	}
	want := map[string]any{
		"window":      config.DefaultDeduplicationWindow.String(),
		"horizon":     config.DefaultRetryHorizon.String(),
		"deadLetters": config.DefaultDeadLetterAge.String(),
		"deadLimit":   int64(config.DefaultDeadLetterLimit),
		"maxHeaders":  int64(config.MaxHeaders),
		"maxFilter":   int64(filter.MaxLength),
		"maxKey":      int64(filter.MaxLength),
		"maxTargets":  int64(config.MaxTargets),
		"key":         "token",
		"exposure":    v1alpha1.ExposureIngress,
		"replicas":    int32(2),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

func manyStatuses() string {
	var out []string
	for i := range config.MaxRetryStatuses + 1 {
		out = append(out, strconv.Itoa(300+i))
	}
	return strings.Join(out, ", ")
}

// A default inside an item of a list is a difference that a three-way merge never settles.
func TestItemsOfListsHaveNoDefaults(t *testing.T) {
	t.Parallel()
	var walk func(path string, s apiextensionsv1.JSONSchemaProps, inList bool)
	walk = func(path string, s apiextensionsv1.JSONSchemaProps, inList bool) {
		if inList && s.Default != nil {
			t.Errorf("%s has the default %s inside a list", path, s.Default.Raw)
		}
		for name, p := range s.Properties {
			walk(path+"."+name, p, inList)
		}
		if s.Items != nil && s.Items.Schema != nil {
			walk(path+"[]", *s.Items.Schema, true)
		}
		if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
			walk(path+"{}", *s.AdditionalProperties.Schema, true)
		}
	}
	walk("", schema(t), false)
}

// What kubectl apply and Argo CD compare: the manifest, the annotation with the manifest that was applied last, and the object
// that the API server keeps. No field of the manifest may differ in the object.
func TestAppliedManifestsAreKeptAsTheyAre(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	for name, spec := range map[string]string{"smallest": "", "a target with a Service": "service"} {
		u := webhook(t, "", more(""))
		if spec != "" {
			targets, _, _ := unstructured.NestedSlice(u.Object, "spec", "targets")
			target := targets[0].(map[string]any)
			delete(target, "url")
			target["service"] = map[string]any{"name": "crm", "port": int64(80)}
			target["retry"] = map[string]any{"maxAttempts": int64(3)}
			if err := unstructured.SetNestedSlice(u.Object, targets, "spec", "targets"); err != nil {
				t.Fatal(err)
			}
		}
		asked := u.DeepCopy()
		if err := c.Create(t.Context(), u, client.DryRunAll); err != nil {
			t.Fatal(err)
		}
		askedTargets, _, _ := unstructured.NestedSlice(asked.Object, "spec", "targets")
		keptTargets, _, _ := unstructured.NestedSlice(u.Object, "spec", "targets")
		if diff := cmp.Diff(askedTargets, keptTargets); diff != "" {
			t.Errorf("%s: spec.targets (-applied +kept):\n%s", name, diff)
		}
	}
}

func newClient(t *testing.T) client.Client {
	t.Helper()
	c, err := client.New(apiservertest.Config(t), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func webhook(t *testing.T, name, spec string) *unstructured.Unstructured {
	t.Helper()
	if name == "" {
		name = "support"
	}
	u := &unstructured.Unstructured{Object: map[string]any{}}
	var s map[string]any
	if err := yaml.Unmarshal([]byte(spec), &s); err != nil {
		t.Fatalf("the case's own YAML: %v", err)
	}
	u.Object["spec"] = s
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("HeymarketWebhook"))
	u.SetNamespace("default")
	u.SetName(name)
	return u
}

func schema(t *testing.T) apiextensionsv1.JSONSchemaProps {
	t.Helper()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(root, "config", "crd", "heymarket.dev_heymarketwebhooks.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(b, &crd); err != nil {
		t.Fatal(err)
	}
	return *crd.Spec.Versions[0].Schema.OpenAPIV3Schema
}
