package v1alpha1

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// HeymarketWebhook receives the events of one Heymarket webhook configuration and delivers each of them to its targets at least
// once. It creates a receiver (Deployment), its exposure (Service and Ingress), and a URL to enter in the Heymarket app, which is
// in the Secret "<name>-url" under the key "url".
//
// The name must be a lower-case DNS label that begins with a letter and has at most 52 characters, because the names of the child
// objects are derived from it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=hmw;heymarket,categories=all
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Host",type=string,JSONPath=`.status.host`
// +kubebuilder:printcolumn:name="Pending",type=integer,JSONPath=`.status.pending`
// +kubebuilder:printcolumn:name="Dead",type=integer,JSONPath=`.status.deadLetters`
// +kubebuilder:printcolumn:name="Last event",type=date,JSONPath=`.status.lastEventTime`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Image",type=string,priority=1,JSONPath=`.status.image`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 52",message="metadata.name must have at most 52 characters: the names of its Service and Deployment are made from it"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must be lower-case letters, digits and '-', begin with a letter and end with a letter or digit: its Service gets a name made from it"
type HeymarketWebhook struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the desired state.
	// +required
	Spec HeymarketWebhookSpec `json:"spec"`
	// status is the observed state. It contains no token and no full URL.
	// +optional
	Status HeymarketWebhookStatus `json:"status,omitempty"`
}

// HeymarketWebhookList is a list of HeymarketWebhooks.
//
// +kubebuilder:object:root=true
type HeymarketWebhookList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []HeymarketWebhook `json:"items"`
}

// HeymarketWebhookSpec is the desired state.
//
// +kubebuilder:validation:XValidation:rule="!has(self.eventTypes) || size(self.eventTypes) == 0 || self.targets.all(t, !has(t.eventTypes) || t.eventTypes.all(e, e in self.eventTypes))",message="targets[].eventTypes has a type that is not among spec.eventTypes, so that it would never reach the target: remove it, or add it to spec.eventTypes",messageExpression="self.targets.map(t, has(t.eventTypes), t.eventTypes.map(e, !(e in self.eventTypes), 'targets[' + t.name + '].eventTypes has ' + e + ', which is not among spec.eventTypes, so that it would never reach the target: remove it, or add it to spec.eventTypes')).filter(l, size(l) > 0)[0][0]"
type HeymarketWebhookSpec struct {
	// token refers to the verification token of the Heymarket webhook configuration. Deliveries with another token are rejected
	// with 401.
	// +required
	Token Token `json:"token"`

	// webhookID is the number of the Heymarket webhook configuration that this URL belongs to, from 1 on. If set, deliveries of
	// another configuration are rejected with 403. Default: any.
	// +optional
	// +kubebuilder:validation:Minimum=1
	WebhookID *int64 `json:"webhookID,omitempty"`

	// eventTypes are the accepted event types, at most 12, in Heymarket's spelling. Others are answered with 200 and dropped.
	// Default, also for an empty list: all, including unknown future types.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=12
	EventTypes []EventType `json:"eventTypes,omitempty"`

	// targets are the services that get the events, 1 to 16. Every target gets every event that it accepts, independently of the
	// others. A target's name identifies its queue: renaming a target leaves its undelivered events behind.
	// +required
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Targets []Target `json:"targets"`

	// deduplication configures how deliveries are identified and for how long a delivery is remembered, so that Heymarket's
	// repeats are answered with 200 and not delivered again.
	// +optional
	// +kubebuilder:default={}
	Deduplication Deduplication `json:"deduplication,omitempty"`

	// exposure configures how the receiver is reached from outside the cluster. Default: by an Ingress.
	// +optional
	// +kubebuilder:default={}
	Exposure Exposure `json:"exposure,omitempty"`

	// receiver configures the receiver Pods.
	// +optional
	// +kubebuilder:default={}
	Receiver Receiver `json:"receiver,omitempty"`

	// redis is the resource's own Redis. Default: the operator's shared one. Data stays in the Redis in which it was stored:
	// before a change, stop deliveries from Heymarket, set paused to false and let pending reach 0.
	// +optional
	Redis *Redis `json:"redis,omitempty"`

	// retention bounds the dead letters of each target.
	// +optional
	// +kubebuilder:default={}
	Retention Retention `json:"retention,omitempty"`

	// paused means that events are accepted and stored, but not delivered, until it is false again. Attempts in flight finish.
	// Default: false.
	// +optional
	Paused bool `json:"paused,omitempty"`

	// deletionPolicy is what happens to the data in Redis when the resource is deleted: undelivered events, dead letters, and the
	// deduplication state. Retain keeps it for a webhook of the same name. Delete removes it: the resource is then deleted once
	// its receivers have stopped and the keys are removed, or after five minutes anyway, with an event that names the keys that
	// stay. Default: Retain.
	// +optional
	// +kubebuilder:default=Retain
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// DeletionPolicy is what happens to the data in Redis when the resource is deleted.
//
// +kubebuilder:validation:Enum=Delete;Retain
type DeletionPolicy string

const (
	// DeletionDelete removes it with the resource.
	DeletionDelete DeletionPolicy = "Delete"
	// DeletionRetain keeps it for a webhook of the same name.
	DeletionRetain DeletionPolicy = "Retain"
)

// FinalizerRedisKeys keeps a resource with DeletionDelete until its keys are removed from Redis.
const FinalizerRedisKeys = "heymarket.dev/redis-keys"

// Token refers to the verification token.
//
// +kubebuilder:validation:XValidation:rule="!has(self.previousSecretKeyRef) || self.previousSecretKeyRef.name != self.secretKeyRef.name || self.previousSecretKeyRef.key != self.secretKeyRef.key",message="token.previousSecretKeyRef must name another Secret or key than token.secretKeyRef: the two tokens differ"
type Token struct {
	// secretKeyRef names a Secret in the same namespace and the key in it that holds the token. A trailing newline is not part of
	// it. A changed value is picked up without a restart.
	// +required
	SecretKeyRef TokenReference `json:"secretKeyRef"`
	// previousSecretKeyRef names a second token, which is also accepted during a rotation. Default: none.
	// +optional
	PreviousSecretKeyRef *TokenReference `json:"previousSecretKeyRef,omitempty"`
}

// TokenReference names a key of a Secret in the same namespace that holds a verification token.
type TokenReference struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="name must be the name of a Secret: lower-case letters, digits, '-' and '.'"
	Name string `json:"name"`
	// key in the Secret's data. Default: token.
	// +optional
	// +kubebuilder:default=token
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')",message="key must be a key of a Secret: letters, digits, '-', '_' and '.'"
	Key string `json:"key,omitempty"`
}

// SecretKeyReference names a key of a Secret in the same namespace. It is mounted into the receiver Pods, never copied, and a
// changed value is picked up without a restart.
type SecretKeyReference struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="name must be the name of a Secret: lower-case letters, digits, '-' and '.'"
	Name string `json:"name"`
	// key in the Secret's data.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')",message="key must be a key of a Secret: letters, digits, '-', '_' and '.'"
	Key string `json:"key"`
}

// EventType is a type of Heymarket event in its wire spelling; message_recieved is misspelt by Heymarket.
//
// +kubebuilder:validation:Enum=message_sent;message_recieved;chat_reassigned;chat_closed;chat_opened;chat_pending;chat_transferred;target_opt_out;target_opt_in;target_double_opt_in;target_double_opt_restricted;incoming_call
type EventType string

// Duration is a duration such as 500ms, 10s, 1h30m or 96h: numbers with the units h, m, s and ms.
//
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:Pattern=`^([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms)){1,4}$`
type Duration string

// Std returns d as the standard library's type; zero if d is empty. An error names d; the CRD rejects such a value.
func (d Duration) Std() (time.Duration, error) {
	if d == "" {
		return 0, nil
	}
	v, err := time.ParseDuration(string(d))
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 10s or 96h", string(d))
	}
	return v, nil
}

// Target is one downstream service.
//
// +kubebuilder:validation:XValidation:rule="has(self.url) != has(self.service)",message="targets[]: set exactly one of url and service",messageExpression="'targets[' + self.name + ']: set exactly one of url and service'"
// +kubebuilder:validation:XValidation:rule="!has(self.tls) || (has(self.url) && self.url.startsWith('https://')) || (has(self.service) && has(self.service.scheme) && self.service.scheme == 'HTTPS')",message="targets[]: tls has no effect on a target that is not reached by https: change the scheme, or remove tls",messageExpression="'targets[' + self.name + ']: tls has no effect on a target that is not reached by https: change the scheme, or remove tls'"
type Target struct {
	// name identifies the target within this resource: a lower-case DNS label of at most 40 characters.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="name must be lower-case letters, digits and '-', and begin and end with a letter or digit"
	Name string `json:"name"`

	// url is the URL to which events are sent by POST: http or https, absolute, without user name, password or fragment, at most
	// 2048 characters. Exactly one of url and service is set.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="self.startsWith('http://') || self.startsWith('https://')",message="url must begin with http:// or https://"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[a-z]+://[^/?#]*@')",message="url must not carry a user name or password: they would be readable by everyone who can read this resource"
	// +kubebuilder:validation:XValidation:rule="!self.contains('#')",message="url must not have a fragment (#...): it would not be sent"
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^\\x00-\\x20\\x7f-\\u009f]*$')",message="url must not hold a space, a line break or another control character"
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getHostname() != ''",message="url must be a valid URL that names a host, such as http://crm.example.com/heymarket"
	URL *string `json:"url,omitempty"`

	// service is a Service in the same namespace to which events are sent by POST. Exactly one of url and service is
	// set.
	// +optional
	Service *ServiceReference `json:"service,omitempty"`

	// eventTypes restricts which events this target gets, at most 12 entries. Default, also for an empty list: all that the
	// webhook accepts.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=12
	EventTypes []EventType `json:"eventTypes,omitempty"`

	// filter restricts further which events this target gets: a CEL expression that yields a bool, at most 4096 bytes. It can use
	// event.type, event.id, event.webhook_id and event.data, for example event.data.?text.orValue("").contains("urgent"). It is
	// validated with the resource: a mistake becomes the reason FilterInvalid of the condition Accepted. An event for which it
	// fails becomes a dead letter of the target. Default: all events of the eventTypes.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Filter string `json:"filter,omitempty"`

	// format is the encoding of events: Heymarket is the body as received, without the token; CloudEvents the same body with the
	// CloudEvents 1.0 attributes in headers (HTTP binary mode); CloudEventsStructured one CloudEvents 1.0 JSON document. Default:
	// Heymarket.
	// +optional
	Format Format `json:"format,omitempty"`

	// order is None, or Conversation: the events of one conversation then reach this target one at a time, in the order in which
	// they were accepted; an event that waits for a retry holds back the later ones of its conversation, and no others. Default:
	// None.
	// +optional
	Order Order `json:"order,omitempty"`

	// signing signs every attempt as defined by Standard Webhooks (the headers webhook-id, webhook-timestamp and
	// webhook-signature). Default: unsigned.
	// +optional
	Signing *Signing `json:"signing,omitempty"`

	// headers are sent with every attempt, at most 32, each name once, ignoring letter case.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(h, self.exists_one(g, g.name.lowerAscii() == h.name.lowerAscii()))",message="headers must name each header once; letter case makes no difference"
	Headers []Header `json:"headers,omitempty"`

	// tls configures targets behind a private certificate authority; only for https. Default: the system's authorities, and the
	// host of the URL.
	// +optional
	TLS *TLS `json:"tls,omitempty"`

	// timeout bounds one attempt, from dialing to the last byte of the answer: 100ms to 2m. Default: 10s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('100ms') && duration(self) <= duration('2m')",message="timeout must be from 100ms to 2m"
	Timeout Duration `json:"timeout,omitempty"`

	// retry is the schedule of attempts for one event.
	// +optional
	Retry Retry `json:"retry,omitempty"`

	// maxInFlight bounds the concurrent attempts of one receiver Pod at this target: 1 to 1000. Opt-outs and opt-ins may have 4
	// in addition, so that nothing delays them. Default: 32.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MaxInFlight *int32 `json:"maxInFlight,omitempty"`

	// ratePerSecond bounds the attempts that one receiver Pod starts at this target per second: 1 to 100000. Default: unlimited.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	RatePerSecond *int32 `json:"ratePerSecond,omitempty"`
}

// Format is the encoding of events.
//
// +kubebuilder:validation:Enum=Heymarket;CloudEvents;CloudEventsStructured
type Format string

// Order is the order in which events reach a target.
//
// +kubebuilder:validation:Enum=None;Conversation
type Order string

// Signing refers to the keys for Standard Webhooks signatures.
//
// +kubebuilder:validation:XValidation:rule="!has(self.previousSecretKeyRef) || self.previousSecretKeyRef.name != self.secretKeyRef.name || self.previousSecretKeyRef.key != self.secretKeyRef.key",message="signing.previousSecretKeyRef must name another Secret or key than signing.secretKeyRef: the two keys differ"
type Signing struct {
	// secretKeyRef names the key: whsec_ and base64 of at least 24 bytes.
	// +required
	SecretKeyRef SecretKeyReference `json:"secretKeyRef"`
	// previousSecretKeyRef names a second key. While it is set every attempt carries a signature with each of the two. Default:
	// none.
	// +optional
	PreviousSecretKeyRef *SecretKeyReference `json:"previousSecretKeyRef,omitempty"`
}

// Header is sent with every attempt.
//
// +kubebuilder:validation:XValidation:rule="has(self.value) != has(self.secretKeyRef)",message="headers[]: set exactly one of value and secretKeyRef",messageExpression="'headers[' + self.name + ']: set exactly one of value and secretKeyRef'"
type Header struct {
	// name of the header, at most 128 characters. Headers that the receiver sets itself, and those of the connection, are
	// rejected.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-!#$%&*+.^_|~0-9A-Za-z]+$')",message="name must be the name of an HTTP header: letters, digits and '-'"
	// +kubebuilder:validation:XValidation:rule="!(self.lowerAscii() in ['host', 'connection', 'keep-alive', 'proxy-authenticate', 'proxy-authorization', 'proxy-connection', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'content-length', 'expect', 'content-type', 'content-encoding', 'user-agent', 'traceparent', 'tracestate', 'webhook-id', 'webhook-timestamp', 'webhook-signature']) && !self.lowerAscii().startsWith('heymarket-') && !self.lowerAscii().startsWith('ce-')",message="name must not be a header of the connection or one that the receiver sets itself, such as Host, Content-Type, Webhook-*, Heymarket-* or Ce-*"
	Name string `json:"name"`
	// value of the header, at most 4096 bytes without control characters. Anyone who can read this resource can read it: for a
	// secret use secretKeyRef. Exactly one of value and secretKeyRef is set.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^\\x00-\\x08\\x0a-\\x1f\\x7f-\\u009f]*$')",message="value must not hold a line break or another control character"
	Value *string `json:"value,omitempty"`
	// secretKeyRef names the value; a trailing newline is not part of it. Exactly one of value and secretKeyRef is set.
	// +optional
	SecretKeyRef *SecretKeyReference `json:"secretKeyRef,omitempty"`
}

// TLS configures targets behind a private certificate authority. At least one field is set.
//
// +kubebuilder:validation:MinProperties=1
type TLS struct {
	// caSecretKeyRef names certificates in PEM form that are trusted instead of the system's authorities. Default: the system's.
	// +optional
	CASecretKeyRef *SecretKeyReference `json:"caSecretKeyRef,omitempty"`
	// serverName is expected in the target's certificate: a DNS name. Default: the host of the URL.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$')",message="serverName must be a DNS name such as crm.internal: lower-case, without scheme, port or wildcard"
	ServerName string `json:"serverName,omitempty"`
}

// Redis is a resource's own Redis.
type Redis struct {
	// secretKeyRef names the URL: redis://user:password@host:6379/0, or rediss:// for TLS.
	// +required
	SecretKeyRef SecretKeyReference `json:"secretKeyRef"`
	// caSecretKeyRef names certificates in PEM form that are trusted for rediss:// instead of the system's authorities. Default:
	// the system's.
	// +optional
	CASecretKeyRef *SecretKeyReference `json:"caSecretKeyRef,omitempty"`
}

// Retention bounds the dead letters of each target.
type Retention struct {
	// deadLetters is how long a dead letter is kept: 1h to 8760h. Default: 336h, which is 14 days.
	// +optional
	// +kubebuilder:default="336h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1h') && duration(self) <= duration('8760h')",message="deadLetters must be from 1h to 8760h"
	DeadLetters Duration `json:"deadLetters,omitempty"`
	// deadLetterLimit is how many dead letters a target may have: 1 to 1000000. At the limit, events that it rejects stay in its
	// queue. Default: 10000.
	// +optional
	// +kubebuilder:default=10000
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	DeadLetterLimit *int64 `json:"deadLetterLimit,omitempty"`
}

// ServiceReference names a port of a Service in the same namespace.
type ServiceReference struct {
	// name of the Service.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="name must be the name of a Service: lower-case letters, digits and '-', beginning with a letter"
	Name string `json:"name"`
	// port of the Service: 1 to 65535.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
	// path of the request, with an optional query; begins with "/", without fragment, at most 1024 characters.
	// Default: /.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self.matches('^/[^#\\\\s\\x00-\\x20\\x7f-\\u009f]*$')",message="path must begin with '/' and hold no '#', no white space and no control character"
	Path string `json:"path,omitempty"`
	// scheme is HTTP or HTTPS. Default: HTTP.
	// +optional
	// +kubebuilder:validation:Enum=HTTP;HTTPS
	Scheme string `json:"scheme,omitempty"`
}

// Retry is the schedule of attempts for one event at one target. An event that runs out of attempts or of time becomes
// a dead letter.
//
// +kubebuilder:validation:XValidation:rule="duration(has(self.minBackoff) ? self.minBackoff : '1s') <= duration(has(self.maxBackoff) ? self.maxBackoff : '10m')",message="minBackoff must not be longer than maxBackoff; their defaults are 1s and 10m"
type Retry struct {
	// maxAttempts includes the first attempt: 1 to 100. Default: 16.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MaxAttempts *int32 `json:"maxAttempts,omitempty"`
	// minBackoff is the delay before the second attempt: 10ms to 1h. It doubles for each further one, with jitter. Default: 1s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('1h')",message="minBackoff must be from 10ms to 1h"
	MinBackoff Duration `json:"minBackoff,omitempty"`
	// maxBackoff bounds the delay between two attempts: 10ms to 24h. Default: 10m.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('24h')",message="maxBackoff must be from 10ms to 24h"
	MaxBackoff Duration `json:"maxBackoff,omitempty"`
	// maxAge bounds the retries: an event is given up if its next attempt would be later than this after its acceptance. One that
	// had to wait longer, because the target's circuit was open or the webhook paused, is still tried once. 1s to 720h. Default:
	// 24h.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('720h')",message="maxAge must be from 1s to 720h"
	MaxAge Duration `json:"maxAge,omitempty"`
	// statuses are the HTTP statuses that are retried and open the circuit, besides 408, 409, 425, 429 and 5xx: at most 32, from
	// 300 to 499 except 410, which stops the target. Any other status except 2xx makes the event a dead letter at once. An empty
	// list means none. Default: 401, 403, 404, 407, 421, 423, 424 and 499, which describe the path to the target, such as a
	// missing route during a rollout, and not the event.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:Minimum=300
	// +kubebuilder:validation:items:Maximum=499
	// +kubebuilder:validation:XValidation:rule="!(410 in self)",message="statuses must not hold 410: it stops the target until a person restarts the receiver"
	Statuses []int32 `json:"statuses,omitzero"`
}

// Deduplication configures how deliveries are identified and for how long a delivery is remembered.
type Deduplication struct {
	// window is how long a delivery is remembered: 1m to 720h. Default: 96h, because comparable senders repeat for up to three
	// days.
	// +optional
	// +kubebuilder:default="96h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('720h')",message="window must be from 1m to 720h"
	Window Duration `json:"window,omitempty"`
	// retryHorizon is how long after a delivery Heymarket may still send it again: 1s to 720h; a value above window has the
	// effect of window. An opt-in that equals one from before an opt-out can be such a repeat, so it is dropped during this time,
	// and the recipient stays opted out. Afterwards it is a new opt-in. Default: 72h.
	// +optional
	// +kubebuilder:default="72h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('720h')",message="retryHorizon must be from 1s to 720h"
	RetryHorizon Duration `json:"retryHorizon,omitempty"`
	// key identifies deliveries: a CEL expression that yields a string, at most 4096 bytes. Two deliveries of the same type and
	// key are one event. It can use event.type, event.webhook_id and event.data. It is validated with the resource: a mistake
	// becomes the reason FilterInvalid of the condition Accepted. If it fails or yields an empty string, the default applies.
	// After a change, repeats of earlier deliveries count as new. Default: the profile of the event's type.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Key string `json:"key,omitempty"`
}

// ExposureType is how a receiver is exposed.
//
// +kubebuilder:validation:Enum=Ingress;HTTPRoute;None
type ExposureType string

const (
	// ExposureIngress creates an Ingress.
	ExposureIngress ExposureType = "Ingress"
	// ExposureHTTPRoute creates an HTTPRoute of the Gateway API.
	ExposureHTTPRoute ExposureType = "HTTPRoute"
	// ExposureNone creates neither; the receiver is reached through its Service.
	ExposureNone ExposureType = "None"
)

// Exposure configures how the receiver is reached from outside the cluster.
//
// +kubebuilder:validation:XValidation:rule="!has(self.ingress) || !has(self.type) || self.type == 'Ingress'",message="ingress has no effect unless type is Ingress: remove ingress, or set type to Ingress"
// +kubebuilder:validation:XValidation:rule="!has(self.httpRoute) || (has(self.type) && self.type == 'HTTPRoute')",message="httpRoute has no effect unless type is HTTPRoute: remove httpRoute, or set type to HTTPRoute"
type Exposure struct {
	// type is Ingress, HTTPRoute of the Gateway API (gateway.networking.k8s.io/v1), or None for neither: the receiver is then
	// reached through the Service "<name>-receiver", by any route to it. Default: Ingress.
	// +optional
	// +kubebuilder:default=Ingress
	Type ExposureType `json:"type,omitempty"`

	// host is the host in the URL: a DNS name without wildcard, at most 253 characters, that the operator's --allowed-hosts allow
	// in the namespace; without that flag, one that --host-template does not yield for another namespace. With type Ingress or
	// HTTPRoute it is the host of that object; with None it is only displayed. Default: from the operator's --host-template;
	// without one, with type Ingress, the address that the ingress controller publishes, and with None the name of the Service.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$')",message="host must be a DNS name such as hooks.example.com: lower-case, without scheme, port, path or wildcard"
	Host string `json:"host,omitempty"`

	// path is the part of the URL's path before the secret segment: /hooks/support yields
	// https://hooks.example.com/hooks/support/<segment>. At most 256 characters. It must not begin with the name of another
	// namespace that has HeymarketWebhooks. If two resources claim the same host and path, or a path below it, the one whose path
	// begins with its own /<namespace>/<name> keeps it, or else the older one; an empty host means every host. Default:
	// /<namespace>/<name>.
	// +optional
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^(/[A-Za-z0-9_~-]([A-Za-z0-9._~-]*[A-Za-z0-9_~-])?)+$')",message="path must be elements such as /hooks/support: letters, digits, '-', '_', '.' and '~', without a slash at the end"
	Path string `json:"path,omitempty"`

	// serviceAnnotations are set on the Service "<name>-receiver", at most 64, for load balancers that read them there, such as
	// cloud.google.com/backend-config. They must be among the operator's --allowed-annotations.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, size(k) <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",message="the keys of serviceAnnotations must be names such as cloud.google.com/backend-config"
	ServiceAnnotations map[string]AnnotationValue `json:"serviceAnnotations,omitempty"`

	// urlRevision renews the secret segment of the URL: each increase generates a new one. It must not decrease, because an
	// earlier URL cannot be restored. Default: 0.
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +kubebuilder:validation:XValidation:rule="self >= oldSelf",message="urlRevision may only rise: a lower number brings no earlier URL back"
	URLRevision int64 `json:"urlRevision,omitempty"`

	// previousURLFor is how long a previous path of the URL is still accepted: 0s to 720h, counted from the change, so that a
	// person has time to enter the new URL in the Heymarket app. 0s revokes it at once, for a URL that has leaked. A change of
	// path or host still moves the Ingress or HTTPRoute at once. Default: 168h.
	// +optional
	// +kubebuilder:default="168h"
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('720h')",message="previousURLFor must be from 0s to 720h"
	PreviousURLFor Duration `json:"previousURLFor,omitempty"`

	// ingress configures the Ingress; only with type Ingress.
	// +optional
	Ingress *IngressExposure `json:"ingress,omitempty"`

	// httpRoute configures the HTTPRoute; only with type HTTPRoute. Default: the Gateways of the operator's --gateway; required
	// if there are none.
	// +optional
	HTTPRoute *HTTPRouteExposure `json:"httpRoute,omitempty"`
}

// HTTPRouteExposure configures the HTTPRoute.
type HTTPRouteExposure struct {
	// parentRefs are the Gateways that the route attaches to, 1 to 8. They must allow the route and serve the host.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	ParentRefs []GatewayReference `json:"parentRefs"`
}

// GatewayReference names a Gateway, or one of its listeners.
type GatewayReference struct {
	// name of the Gateway.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="name must be the name of a Gateway: lower-case letters, digits, '-' and '.'"
	Name string `json:"name"`
	// namespace of the Gateway. Default: that of the resource.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="namespace must be the name of a namespace: lower-case letters, digits and '-'"
	Namespace string `json:"namespace,omitempty"`
	// sectionName is the listener. Default: all that allow the route.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="sectionName must be the name of a listener: lower-case letters, digits, '-' and '.'"
	SectionName string `json:"sectionName,omitempty"`
	// port of the listeners: 1 to 65535. Default: any.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port *int32 `json:"port,omitempty"`
}

// IngressExposure configures the Ingress.
type IngressExposure struct {
	// className is the IngressClass. Default: the operator's --ingress-class; without one, the cluster's default class.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="className must be the name of an IngressClass: lower-case letters, digits, '-' and '.'"
	ClassName string `json:"className,omitempty"`
	// annotations are set on the Ingress unchanged, at most 64, for example for cert-manager. They must be among the operator's
	// --allowed-annotations.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, size(k) <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",message="the keys of annotations must be names such as cert-manager.io/cluster-issuer"
	Annotations map[string]AnnotationValue `json:"annotations,omitempty"`
	// tlsSecretName is a Secret of type kubernetes.io/tls in the same namespace with the certificate for the host. The host must
	// then be set by exposure.host or the operator's --host-template. Default: none; the ingress controller's default then
	// applies.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="tlsSecretName must be the name of a Secret: lower-case letters, digits, '-' and '.'"
	TLSSecretName string `json:"tlsSecretName,omitempty"`
}

// AnnotationValue is the value of an annotation, at most 4096 characters.
//
// +kubebuilder:validation:MaxLength=4096
type AnnotationValue string

// Receiver configures the receiver Pods. It is an allow list: nothing in it affects the Pods' security settings, and the Pods are
// subject to every quota and policy of their namespace.
//
// +kubebuilder:validation:XValidation:rule="!has(self.autoscaling) || (has(self.autoscaling.backlogPerReplica) && !has(self.autoscaling.targetCPUUtilization)) || !has(self.resources) || (has(self.resources.requests) && 'cpu' in self.resources.requests) || (has(self.resources.limits) && 'cpu' in self.resources.limits)",message="autoscaling needs resources.requests.cpu: the use of CPU is measured against it"
type Receiver struct {
	// replicas is the number of receiver Pods: 1 to 100. From two on a PodDisruptionBudget keeps all but one of them running. It
	// has no effect with autoscaling; the condition Accepted reports that if it is not the default. Default: 2, spread over
	// nodes.
	// +optional
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Replicas *int32 `json:"replicas,omitempty"`
	// autoscaling lets an autoscaler set the number of Pods: a HorizontalPodAutoscaler by CPU, or KEDA by the backlog. Default:
	// replicas is the number.
	// +optional
	Autoscaling *Autoscaling `json:"autoscaling,omitempty"`
	// resources of the receiver container. If set, they replace the default as a whole. Default: requests of 10m CPU, 100m with
	// autoscaling, and 32Mi memory, a limit of 128Mi memory.
	// +optional
	Resources *Resources `json:"resources,omitempty"`
	// podSecurityContext sets the user and group IDs of the Pods. If set, it replaces the operator's default as a whole, and the
	// platform chooses any missing ID: {} leaves all to the platform, as OpenShift's security context constraints expect. The
	// rest of the Pods' security profile is fixed. Default: the operator's --receiver-user-id, which is 65532 for all three
	// unless changed.
	// +optional
	PodSecurityContext *PodSecurityContext `json:"podSecurityContext,omitempty"`
	// logLevel is debug, info, warn or error. Default: info.
	// +optional
	// +kubebuilder:default=info
	LogLevel LogLevel `json:"logLevel,omitempty"`

	// nodeSelector of the Pods, at most 32 labels. Default: any node.
	// +optional
	// +mapType=atomic
	// +kubebuilder:validation:MaxProperties=32
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// tolerations of the Pods, at most 32. Default: none.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// affinity of the Pods. Default: none.
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`
	// topologySpreadConstraints of the Pods, at most 8, each with a different topologyKey or whenUnsatisfiable; they replace the
	// default as a whole. One without labelSelector selects the Pods of this receiver. Default: spread over nodes if possible.
	// +optional
	// +listType=map
	// +listMapKey=topologyKey
	// +listMapKey=whenUnsatisfiable
	// +kubebuilder:validation:MaxItems=8
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`
	// priorityClassName of the Pods; not one of the system's own. Default: the cluster's.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="priorityClassName must be the name of a PriorityClass: lower-case letters, digits, '-' and '.'"
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('system-')",message="priorityClassName must not be one of the system's own (system-...): receivers would displace what the cluster needs"
	PriorityClassName string `json:"priorityClassName,omitempty"`
	// podAnnotations are set on the Pods, at most 64. They must be among the operator's --allowed-annotations. Those that would
	// weaken the Pods' security profile are rejected.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, size(k) <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",message="the keys of podAnnotations must be names such as example.com/team"
	// +kubebuilder:validation:XValidation:rule="!self.exists(k, k.contains('apparmor.security.') || k.contains('seccomp.security.'))",message="podAnnotations must not set AppArmor or seccomp profiles: the receiver's are fixed"
	PodAnnotations map[string]AnnotationValue `json:"podAnnotations,omitempty"`
	// podLabels are set on the Pods, at most 64, in addition to the operator's own, which they cannot change. They must be among
	// the operator's --allowed-labels.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, size(k) <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",message="the keys of podLabels must be names such as example.com/team"
	// +kubebuilder:validation:XValidation:rule="!self.exists(k, k in ['app.kubernetes.io/name', 'app.kubernetes.io/instance', 'app.kubernetes.io/managed-by', 'pod-template-hash'])",message="podLabels must not set app.kubernetes.io/name, instance or managed-by, nor pod-template-hash: the receiver's Service finds its Pods by them"
	PodLabels map[string]LabelValue `json:"podLabels,omitempty"`
	// imagePullSecrets are Secrets in the same namespace for pulling the receiver's image, at most 8. Default: those of
	// the namespace's default ServiceAccount.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=8
	ImagePullSecrets []LocalSecretReference `json:"imagePullSecrets,omitempty"`
}

// Autoscaling lets an autoscaler set the number of Pods.
//
// +kubebuilder:validation:XValidation:rule="self.minReplicas <= self.maxReplicas",message="minReplicas must not be more than maxReplicas"
type Autoscaling struct {
	// minReplicas is the minimum number of Pods: 1 to 100. Default: 2.
	// +optional
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MinReplicas *int32 `json:"minReplicas,omitempty"`
	// maxReplicas is the maximum number of Pods: 1 to 100.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MaxReplicas int32 `json:"maxReplicas"`
	// targetCPUUtilization is the target average CPU utilization, in percent of the Pods' requests: 1 to 1000. Default: 80; with
	// backlogPerReplica, CPU is not considered.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	TargetCPUUtilization *int32 `json:"targetCPUUtilization,omitempty"`
	// backlogPerReplica is the number of stored, undelivered events per Pod, of all targets together, above which Pods are added:
	// 1 to 1000000. It requires KEDA in the cluster, which then replaces the HorizontalPodAutoscaler; if targetCPUUtilization is
	// set as well, the larger number of Pods applies. Without KEDA the condition Scaled is False, and targetCPUUtilization alone
	// decides, or else the number of Pods is minReplicas. Default: the backlog is not considered.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	BacklogPerReplica *int32 `json:"backlogPerReplica,omitempty"`
}

// LabelValue is the value of a label: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$`
type LabelValue string

// LocalSecretReference names a Secret in the same namespace.
type LocalSecretReference struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="name must be the name of a Secret: lower-case letters, digits, '-' and '.'"
	Name string `json:"name"`
}

// LogLevel is the level from which a receiver logs.
//
// +kubebuilder:validation:Enum=debug;info;warn;error
type LogLevel string

// Resources are requests and limits of one container: cpu, memory and ephemeral-storage.
//
// +kubebuilder:validation:XValidation:rule="(!has(self.requests) || self.requests.all(r, r in ['cpu', 'memory', 'ephemeral-storage'])) && (!has(self.limits) || self.limits.all(r, r in ['cpu', 'memory', 'ephemeral-storage']))",message="resources may name cpu, memory and ephemeral-storage: a receiver has no use for others, such as devices"
type Resources struct {
	// requests by resource name, such as cpu and memory, at most 8. Default: the limits.
	// +optional
	// +kubebuilder:validation:MaxProperties=8
	Requests corev1.ResourceList `json:"requests,omitempty"`
	// limits by resource name, at most 8. The receiver keeps its heap below the memory limit.
	// +optional
	// +kubebuilder:validation:MaxProperties=8
	Limits corev1.ResourceList `json:"limits,omitempty"`
}

// PodSecurityContext sets the user and group IDs of the Pods.
type PodSecurityContext struct {
	// runAsUser is the user of the containers: 1 to 2147483647. Default: the platform's, or the image's, 65532.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483647
	RunAsUser *int64 `json:"runAsUser,omitempty"`
	// runAsGroup is their primary group: 1 to 2147483647. Default: the platform's, or the image's, 65532.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483647
	RunAsGroup *int64 `json:"runAsGroup,omitempty"`
	// fsGroup is the group that may read mounted Secrets: 1 to 2147483647. Default: the platform's. Without one, every user in
	// the Pod may read them.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483647
	FSGroup *int64 `json:"fsGroup,omitempty"`
}

// HeymarketWebhookStatus is the observed state.
type HeymarketWebhookStatus struct {
	// observedGeneration is the generation of the spec that this status applies to.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions are Accepted, Available, Exposed, Durable, Scaled with autoscaling by the backlog, Reachable with the operator's
	// --probe-interval, and Ready, which is True when all others except Reachable are.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// url is the URL for Heymarket, with the secret part masked. The full one is in the Secret "<name>-url", key "url".
	// +optional
	URL string `json:"url,omitempty"`
	// urlRevision is the spec.exposure.urlRevision for which the URL was last generated.
	// +optional
	URLRevision int64 `json:"urlRevision,omitempty"`
	// previousURLUntil is when the previous URL stops being accepted. Absent if only the current one is.
	// +optional
	PreviousURLUntil *metav1.Time `json:"previousURLUntil,omitempty"`
	// host is the host of the URL.
	// +optional
	Host string `json:"host,omitempty"`
	// image of the receiver.
	// +optional
	Image string `json:"image,omitempty"`
	// pending is the number of events that are stored and not yet delivered or given up, for all targets together. Rounded down
	// to one significant digit (4321 becomes 4000). It changes at most once a minute.
	// +optional
	Pending *int64 `json:"pending,omitempty"`
	// deadLetters is the number of events that were given up, for all targets together, rounded like pending.
	// +optional
	DeadLetters *int64 `json:"deadLetters,omitempty"`
	// targets are the targets of the spec, as far as a receiver has reported them. Their figures are rounded like pending.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Targets []TargetStatus `json:"targets,omitempty"`
	// token records when the tokens were last used, which shows when a rotation can be finished.
	// +optional
	Token *TokenStatus `json:"token,omitempty"`
	// lastEventTime is when the last delivery with a valid token arrived, to within five minutes.
	// +optional
	LastEventTime *metav1.Time `json:"lastEventTime,omitempty"`
	// countTime is when pending, deadLetters or targets last changed.
	// +optional
	CountTime *metav1.Time `json:"countTime,omitempty"`
}

// TokenStatus records when the tokens were last used.
type TokenStatus struct {
	// secretKeyRef is the reference that lastUsed applies to: that of the last accepted spec.
	// +required
	SecretKeyRef TokenReference `json:"secretKeyRef"`
	// lastUsed is when the last delivery with this token arrived, to within five minutes. Absent if there was none.
	// +optional
	LastUsed *metav1.Time `json:"lastUsed,omitempty"`
	// previousSecretKeyRef is the reference that previousLastUsed applies to. Absent if there is no previous token.
	// +optional
	PreviousSecretKeyRef *TokenReference `json:"previousSecretKeyRef,omitempty"`
	// previousLastUsed is when the last delivery with the previous token arrived, to within five minutes. Once lastUsed is
	// updated and this is not, the previous token can be revoked.
	// +optional
	PreviousLastUsed *metav1.Time `json:"previousLastUsed,omitempty"`
}

// TargetStatus is the observed state of one target.
type TargetStatus struct {
	// name of the target.
	// +required
	Name string `json:"name"`
	// pending is the number of events that are stored for this target and not yet delivered or given up.
	// +optional
	Pending int64 `json:"pending"`
	// deadLetters is the number of this target's events that were given up.
	// +optional
	DeadLetters int64 `json:"deadLetters"`
	// circuit is Closed if events are delivered, Open if the target fails and gets fewer attempts until it recovers, and Gone if
	// it answered 410. If the receiver Pods differ, the worst state is reported.
	// +optional
	Circuit Circuit `json:"circuit,omitempty"`
	// lastDelivered is when this target last accepted an event, to within five minutes. Absent if that was not observed.
	// +optional
	LastDelivered *metav1.Time `json:"lastDelivered,omitempty"`
	// oldestPending is when the oldest undelivered event entered its queue, by acceptance or replay, to within five minutes.
	// Absent if no event is pending.
	// +optional
	OldestPending *metav1.Time `json:"oldestPending,omitempty"`
	// lastError is why delivery attempts fail. Absent if they succeed; a target that recovers keeps it for five more minutes.
	// +optional
	LastError *TargetError `json:"lastError,omitempty"`
	// nextAttempt is when the next retry is due, to within five minutes. Absent if no event waits for a retry.
	// +optional
	NextAttempt *metav1.Time `json:"nextAttempt,omitempty"`
}

// TargetError is why delivery attempts at a target fail.
type TargetError struct {
	// class is the kind of the latest error. Attempts without an answer: NameLookup, BlockedAddress, ConnectionError, TLS,
	// Timeout, Other. Answers: Redirected (3xx), Unauthorized (401, 403, 407), NotFound (404), Gone (410), RateLimited (429),
	// Rejected (other 4xx), ServerError (5xx). The log of the receiver has the details.
	// +required
	Class string `json:"class"`
	// since is when errors of this class started, to within five minutes.
	// +required
	Since metav1.Time `json:"since"`
}

// Circuit is the state of a target, based on its latest answers.
//
// +kubebuilder:validation:Enum=Closed;Open;Gone
type Circuit string

// The states of a circuit.
const (
	// CircuitClosed is the normal state: events are delivered.
	CircuitClosed Circuit = "Closed"
	// CircuitOpen means that the target fails; it is probed until it recovers.
	CircuitOpen Circuit = "Open"
	// CircuitGone means that the target answered 410; it is probed rarely.
	CircuitGone Circuit = "Gone"
)
