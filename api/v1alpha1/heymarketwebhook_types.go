package v1alpha1

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// HeymarketWebhook receives the events of one Heymarket webhook configuration and delivers each of them to its targets
// at least once. It yields a receiver (Deployment), a way to it (Service and Ingress), and a URL to type into the
// Heymarket app, which is in the Secret "<name>-url" under the key "url".
//
// The name must be a lower-case DNS label that begins with a letter and has at most 52 characters, because the names of
// the child objects are made from it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=hmw;heymarket,categories=all
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Host",type=string,JSONPath=`.status.host`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Image",type=string,priority=1,JSONPath=`.status.image`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 52",message="metadata.name must have at most 52 characters: the names of its Service and Deployment are made from it"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must be lower-case letters, digits and '-', begin with a letter and end with a letter or digit: its Service gets a name made from it"
type HeymarketWebhook struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +required
	Spec HeymarketWebhookSpec `json:"spec"`
	// status is what the operator has seen. It holds no token and no full URL.
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

// HeymarketWebhookSpec is what is wanted.
//
// +kubebuilder:validation:XValidation:rule="!has(self.eventTypes) || size(self.eventTypes) == 0 || self.targets.all(t, !has(t.eventTypes) || t.eventTypes.all(e, e in self.eventTypes))",message="targets[].eventTypes must be among spec.eventTypes: a type that the webhook does not accept would never reach the target"
type HeymarketWebhookSpec struct {
	// token says where the verification token of the Heymarket webhook configuration is kept. Deliveries that carry
	// another token are refused with 401.
	// +required
	Token Token `json:"token"`

	// webhookID is the number of the Heymarket webhook configuration that this URL belongs to, from 1 on. When set,
	// deliveries of another configuration are refused with 403. Default: any.
	// +optional
	// +kubebuilder:validation:Minimum=1
	WebhookID *int64 `json:"webhookID,omitempty"`

	// eventTypes are the types of events that are accepted, at most 12, in Heymarket's spelling. Others are answered
	// 200 and dropped. Default, also for an empty list: all, unknown future types included.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=12
	EventTypes []EventType `json:"eventTypes,omitempty"`

	// targets are who gets the events, 1 to 16. Every target gets every event that it wants, independently of the
	// others. A target's name identifies its queue: renaming a target leaves what was not yet delivered behind.
	// +required
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Targets []Target `json:"targets"`

	// deduplication says for how long a delivery is remembered, so that Heymarket's repeats are answered 200 and not
	// delivered again.
	// +optional
	// +kubebuilder:default={}
	Deduplication Deduplication `json:"deduplication,omitempty"`

	// exposure says how the receiver is reached from outside the cluster. Default: by an Ingress.
	// +optional
	// +kubebuilder:default={}
	Exposure Exposure `json:"exposure,omitempty"`

	// receiver sizes the receiver Pods.
	// +optional
	// +kubebuilder:default={}
	Receiver Receiver `json:"receiver,omitempty"`
}

// Token says where the verification token is kept.
type Token struct {
	// secretKeyRef names a Secret in the same namespace and the key in it that holds the token. A trailing
	// newline is not part of it. A token that is changed in place is picked up without a restart.
	// +required
	SecretKeyRef SecretKeyReference `json:"secretKeyRef"`
}

// SecretKeyReference names a key of a Secret in the same namespace.
type SecretKeyReference struct {
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

// EventType is a type of Heymarket event in its spelling on the wire; message_recieved is misspelt by Heymarket.
//
// +kubebuilder:validation:Enum=message_sent;message_recieved;chat_reassigned;chat_closed;chat_opened;chat_pending;chat_transferred;target_opt_out;target_opt_in;target_double_opt_in;target_double_opt_restricted;incoming_call
type EventType string

// Duration is a length of time such as 500ms, 10s, 1h30m or 96h: numbers with the units h, m, s and ms.
//
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:Pattern=`^([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms)){1,4}$`
type Duration string

// Std returns d as the standard library's type; zero if d is empty. An error names d; the CRD lets no such value pass.
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
// +kubebuilder:validation:XValidation:rule="has(self.url) != has(self.service)",message="set exactly one of url and service"
type Target struct {
	// name identifies the target within this resource: a lower-case DNS label of at most 40 characters.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="name must be lower-case letters, digits and '-', and begin and end with a letter or digit"
	Name string `json:"name"`

	// url is where events are sent by POST: http or https, absolute, without user name, password or fragment, at most
	// 2048 characters. Exactly one of url and service is set.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="self.startsWith('http://') || self.startsWith('https://')",message="url must begin with http:// or https://"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[a-z]+://[^/?#]*@')",message="url must not carry a user name or password: they would be readable by everyone who can read this resource"
	// +kubebuilder:validation:XValidation:rule="!self.contains('#')",message="url must not have a fragment (#...): it would not be sent"
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getHostname() != ''",message="url must be a valid URL that names a host, such as http://crm.example.com/heymarket"
	URL *string `json:"url,omitempty"`

	// service is a Service in the same namespace to which events are sent by POST. Exactly one of url and service is
	// set.
	// +optional
	Service *ServiceReference `json:"service,omitempty"`

	// eventTypes narrows what this target gets, at most 12 entries. Default, also for an empty list: all that the
	// webhook accepts.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=12
	EventTypes []EventType `json:"eventTypes,omitempty"`

	// timeout bounds one attempt, from dialing to the last byte of the answer: 100ms to 2m. Default: 10s.
	// +optional
	// +kubebuilder:default="10s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('100ms') && duration(self) <= duration('2m')",message="timeout must be from 100ms to 2m"
	Timeout Duration `json:"timeout,omitempty"`

	// retry is the schedule of attempts for one event.
	// +optional
	// +kubebuilder:default={}
	Retry Retry `json:"retry,omitempty"`

	// maxInFlight bounds the attempts that one receiver Pod has under way at this target: 1 to 1000. Default: 32.
	// +optional
	// +kubebuilder:default=32
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MaxInFlight *int32 `json:"maxInFlight,omitempty"`
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
	// +kubebuilder:default="/"
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self.matches('^/[^#\\\\s]*$')",message="path must begin with '/' and hold no '#' and no white space"
	Path string `json:"path,omitempty"`
	// scheme is HTTP or HTTPS. Default: HTTP.
	// +optional
	// +kubebuilder:default=HTTP
	// +kubebuilder:validation:Enum=HTTP;HTTPS
	Scheme string `json:"scheme,omitempty"`
}

// Retry is the schedule of attempts for one event at one target. An event that runs out of attempts or of time becomes
// a dead letter.
//
// +kubebuilder:validation:XValidation:rule="!has(self.minBackoff) || !has(self.maxBackoff) || duration(self.minBackoff) <= duration(self.maxBackoff)",message="minBackoff must not be longer than maxBackoff"
type Retry struct {
	// maxAttempts counts the first attempt as well: 1 to 100. Default: 16.
	// +optional
	// +kubebuilder:default=16
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MaxAttempts *int32 `json:"maxAttempts,omitempty"`
	// minBackoff is the delay before the second attempt: 10ms to 1h. Each further one doubles it, with jitter.
	// Default: 1s.
	// +optional
	// +kubebuilder:default="1s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('1h')",message="minBackoff must be from 10ms to 1h"
	MinBackoff Duration `json:"minBackoff,omitempty"`
	// maxBackoff bounds the delay between two attempts: 10ms to 24h. Default: 10m.
	// +optional
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('24h')",message="maxBackoff must be from 10ms to 24h"
	MaxBackoff Duration `json:"maxBackoff,omitempty"`
	// maxAge is counted from the acceptance of an event; past it no further attempt is made: 1s to 720h. Default: 24h.
	// +optional
	// +kubebuilder:default="24h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('720h')",message="maxAge must be from 1s to 720h"
	MaxAge Duration `json:"maxAge,omitempty"`
}

// Deduplication says for how long a delivery is remembered.
type Deduplication struct {
	// window is the time for which a delivery is remembered: 1m to 720h. Default: 96h, because senders of this kind
	// repeat for up to three days.
	// +optional
	// +kubebuilder:default="96h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('720h')",message="window must be from 1m to 720h"
	Window Duration `json:"window,omitempty"`
}

// ExposureType says how a receiver is reached.
//
// +kubebuilder:validation:Enum=Ingress;None
type ExposureType string

const (
	// ExposureIngress makes an Ingress.
	ExposureIngress ExposureType = "Ingress"
	// ExposureNone makes none; the receiver is reached through its Service.
	ExposureNone ExposureType = "None"
)

// Exposure says how the receiver is reached from outside the cluster.
//
// +kubebuilder:validation:XValidation:rule="!has(self.ingress) || !has(self.type) || self.type == 'Ingress'",message="ingress has no effect unless type is Ingress: remove ingress, or set type to Ingress"
type Exposure struct {
	// type is Ingress, or None for no object at all: the receiver is then reached through the Service
	// "<name>-receiver", by whatever routes to it. Default: Ingress.
	// +optional
	// +kubebuilder:default=Ingress
	Type ExposureType `json:"type,omitempty"`

	// host is the name in the URL: a DNS name without wildcard, at most 253 characters. With type Ingress the Ingress
	// asks for it; with None it is only shown. Default: from the operator's --host-template; without one, with type
	// Ingress, the address that the ingress controller publishes, and with None the name of the Service.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$')",message="host must be a DNS name such as hooks.example.com: lower-case, without scheme, port, path or wildcard"
	Host string `json:"host,omitempty"`

	// ingress shapes the Ingress; only with type Ingress.
	// +optional
	Ingress *IngressExposure `json:"ingress,omitempty"`
}

// IngressExposure shapes the Ingress.
type IngressExposure struct {
	// className is the IngressClass. Default: the operator's --ingress-class; without one, the cluster's default class.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="className must be the name of an IngressClass: lower-case letters, digits, '-' and '.'"
	ClassName string `json:"className,omitempty"`
	// annotations are set on the Ingress as they are, at most 64, for example for cert-manager.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, size(k) <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",message="the keys of annotations must be names such as cert-manager.io/cluster-issuer"
	Annotations map[string]AnnotationValue `json:"annotations,omitempty"`
	// tlsSecretName is a Secret of type kubernetes.io/tls in the same namespace with the certificate for the host. The
	// host must then be known, from exposure.host or the operator's --host-template. Default: none; TLS is then up to
	// the ingress controller's own default.
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

// Receiver sizes the receiver Pods.
type Receiver struct {
	// replicas is the number of receiver Pods: 1 to 100. Default: 2, spread over nodes.
	// +optional
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Replicas *int32 `json:"replicas,omitempty"`
	// resources of the receiver container. When set, they replace the default as a whole. Default: requests of 10m CPU
	// and 32Mi memory, a limit of 128Mi memory.
	// +optional
	Resources *Resources `json:"resources,omitempty"`
}

// Resources are requests and limits of one container.
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

// HeymarketWebhookStatus is what the operator has seen.
type HeymarketWebhookStatus struct {
	// observedGeneration is the generation of the spec that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions are Accepted, Available, Exposed, and Ready, which is True when all others are.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// url is where Heymarket has to send events, with the secret part masked. The full one is in the Secret
	// "<name>-url", key "url".
	// +optional
	URL string `json:"url,omitempty"`
	// host is the host of the URL.
	// +optional
	Host string `json:"host,omitempty"`
	// image of the receiver.
	// +optional
	Image string `json:"image,omitempty"`
}
