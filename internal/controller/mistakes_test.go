package controller

import (
	"bytes"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
)

const misconfigurationsHead = `# What a mistake looks like

Each row is a mistake and the answer to it, word for word. A test makes every one of them on a real API server and compares the answers with this page; it plays Pods, Redis and Gateways.
The webhook is ` + "`support`" + ` in the namespace ` + "`staging`" + `; what is not shown is as in the [smallest one](../../README.md).

Look for yourself with ` + "`kubectl describe hmw support`" + `: the condition ` + "`Ready`" + ` names the first one that fails, and an event says the same.
While ` + "`Accepted`" + ` is False because of a mistake, what already runs keeps running, and the condition resolves automatically once the mistake is fixed.
`

// misconfigurations are the sections of the page.
var misconfigurations = []struct {
	title, lead string
	// gateways reports that the cluster has the Gateway API.
	gateways bool
	cases    []misconfiguration
}{
	{
		title: "Refused by kubectl apply",
		lead:  "Nothing is stored, and nothing changes.",
		cases: []misconfiguration{
			{
				mistake: "An event type is spelt as in English, and not as Heymarket does", spec: "eventTypes: [message_received]",
				words: []string{"spec.eventTypes[0]", "message_received", "supported values", "message_recieved"},
			},
			{
				mistake: "A field is misspelt", spec: "targets:\n- {name: crm, url: 'http://crm.example.com', filters: 'true'}",
				words: []string{"spec.targets[0].filters", "unknown field"},
			},
			{
				mistake: "A target has a URL and a Service", spec: "targets:\n- {name: crm, url: 'http://crm', service: {name: crm, port: 80}}",
				words: []string{"spec.targets[0]", "targets[crm]: set exactly one of url and service"},
			},
			{
				mistake: "The URL of a target holds a password", spec: "targets:\n- {name: crm, url: 'https://me:secret@crm.example.com'}",
				words: []string{"spec.targets[0].url", "must not carry a user name or password", "readable by everyone"},
			},
			{
				mistake: "The URL of a target has no scheme", spec: "targets:\n- {name: crm, url: crm.staging.svc:8080}",
				words: []string{"spec.targets[0].url", "must begin with http:// or https://"},
			},
			{
				mistake: "A Service of another namespace", spec: "targets:\n- {name: crm, service: {name: crm.other, port: 80}}",
				words: []string{"spec.targets[0].service.name", "must be the name of a Service"},
			},
			{
				mistake: "A private CA for a target that is not reached by TLS", spec: "targets:\n- {name: crm, url: 'http://crm', tls: {caSecretKeyRef: {name: ca, key: ca.crt}}}",
				words: []string{"spec.targets[0]", "tls has no effect", "change the scheme, or remove tls"},
			},
			{
				mistake: "A header that the receiver sets itself", spec: "targets:\n- {name: crm, url: 'http://crm', headers: [{name: Content-Type, value: text/plain}]}",
				words: []string{"spec.targets[0].headers[0].name", "sets itself"},
			},
			{
				mistake: "A target wants a type that the webhook does not accept", spec: "eventTypes: [chat_closed]\ntargets:\n- {name: crm, url: 'http://crm', eventTypes: [chat_opened]}",
				words: []string{"spec", "targets[crm].eventTypes has chat_opened", "would never reach"},
			},
			{
				mistake: "A first backoff that is longer than the last", spec: "targets:\n- {name: crm, url: 'http://crm', retry: {minBackoff: 1h}}",
				words: []string{"spec.targets[0].retry", "minBackoff must not be longer than maxBackoff"},
			},
			{
				mistake: "A host with a scheme", spec: "exposure: {host: 'https://hooks.example.com'}",
				words: []string{"spec.exposure.host", "must be a DNS name such as hooks.example.com", "without scheme"},
			},
			{
				mistake: "Gateways without the type that uses them", spec: "exposure: {httpRoute: {parentRefs: [{name: public}]}}",
				words: []string{"spec.exposure", "httpRoute has no effect unless type is HTTPRoute", "remove httpRoute, or set type to HTTPRoute"},
			},
			{
				mistake: "Autoscaling between bounds that contradict each other", spec: "receiver: {autoscaling: {minReplicas: 5, maxReplicas: 3}}",
				words: []string{"spec.receiver.autoscaling", "minReplicas must not be more than maxReplicas"},
			},
			{
				mistake: "Autoscaling on CPU without a request for CPU", spec: "receiver: {autoscaling: {maxReplicas: 3}, resources: {requests: {memory: 64Mi}}}",
				words: []string{"spec.receiver", "autoscaling needs resources.requests.cpu", "measured against it"},
			},
			{
				mistake: "The previous token is the same one", spec: "token:\n  secretKeyRef: {name: heymarket}\n  previousSecretKeyRef: {name: heymarket}",
				words: []string{"spec.token", "must name another Secret or key"},
			},
		},
	},
	{
		title: "Accepted",
		lead:  "The reason is that of the condition `Accepted`, and of the event.",
		cases: []misconfiguration{
			{
				mistake: "The token's Secret does not exist", before: func(*world) {},
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonTokenSecretNotFound,
				words: []string{`"heymarket" of spec.token.secretKeyRef`, "does not exist", "create it", `"token"`},
			},
			{
				mistake: "The token's Secret is in another namespace",
				before: func(w *world) {
					other := newWorld(w.t)
					other.secret("heymarket", map[string]string{"token": canary})
				},
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonTokenSecretNotFound,
				words: []string{"spec.token.secretKeyRef", "does not exist in namespace", "create it"},
			},
			{
				mistake:   "The token's Secret was made from a file, so its key is the name of the file",
				before:    secret("heymarket", "token.txt", canary),
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonTokenKeyNotFound,
				words: []string{"spec.token.secretKeyRef", `has no key "token"`, "add it", "name the right key"},
			},
			{
				mistake: "The token is empty", before: secret("heymarket", "token", "\n"),
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonTokenEmpty,
				words: []string{`Key "token"`, "spec.token.secretKeyRef", "is empty", "put"},
			},
			{
				mistake: "The previous token was deleted too early", spec: "token:\n  secretKeyRef: {name: heymarket}\n  previousSecretKeyRef: {name: heymarket-before}",
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonTokenSecretNotFound,
				words: []string{`"heymarket-before" of spec.token.previousSecretKeyRef`, "does not exist", "create it"},
			},
			{
				mistake: "The Secret of a signing key does not exist", spec: "targets:\n- {name: crm, url: 'http://crm', signing: {secretKeyRef: {name: crm, key: signing}}}",
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonSecretNotFound,
				words: []string{`"crm" of spec.targets[crm].signing.secretKeyRef`, "does not exist", "create it with a signing key"},
			},
			{
				mistake: "A signing key is a password", spec: "targets:\n- {name: crm, url: 'http://crm', signing: {secretKeyRef: {name: crm, key: signing}}}",
				before:    secret("crm", "signing", canary),
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonSecretValueInvalid,
				words: []string{`Key "signing"`, "spec.targets[crm].signing.secretKeyRef", "not whsec_ and base64", "openssl rand"},
			},
			{
				mistake: "The Secret of a header does not exist", spec: "targets:\n- {name: crm, url: 'http://crm', headers: [{name: Authorization, secretKeyRef: {name: crm, key: bearer}}]}",
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonSecretNotFound,
				words: []string{"spec.targets[crm].headers[Authorization].secretKeyRef", "does not exist", "create it"},
			},
			{
				mistake: "The value of a header has a line break in it", spec: "targets:\n- {name: crm, url: 'http://crm', headers: [{name: Authorization, secretKeyRef: {name: crm, key: bearer}}]}",
				before:    secret("crm", "bearer", "Bearer\n"+canary),
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonSecretValueInvalid,
				words: []string{`Key "bearer"`, "spec.targets[crm].headers[Authorization].secretKeyRef", "line break", "one line"},
			},
			{
				mistake: "A CA is in DER form, and not in PEM", spec: "targets:\n- {name: crm, url: 'https://crm', tls: {caSecretKeyRef: {name: crm, key: ca.crt}}}",
				before:    secret("crm", "ca.crt", "0\x82"),
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonSecretValueInvalid,
				words: []string{`Key "ca.crt"`, "spec.targets[crm].tls.caSecretKeyRef", "no certificate in PEM form", "openssl x509"},
			},
			{
				mistake: "The Secret of an own Redis does not exist", spec: "redis: {secretKeyRef: {name: redis, key: url}}",
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonSecretNotFound,
				words: []string{`"redis" of spec.redis.secretKeyRef`, "does not exist", "create it with the URL of Redis"},
			},
			{
				mistake: "The URL of an own Redis begins with http://", spec: "redis: {secretKeyRef: {name: redis, key: url}}",
				before:    secret("redis", "url", "http://redis:6379"),
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonSecretValueInvalid,
				words: []string{`Key "url"`, "spec.redis.secretKeyRef", "must begin with redis:// or rediss://"},
			},
			{
				mistake: "The password in the URL of an own Redis is not escaped", spec: "redis: {secretKeyRef: {name: redis, key: url}}",
				before:    secret("redis", "url", "redis://user:50%off@redis:6379"),
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonSecretValueInvalid,
				words: []string{`Key "url"`, "spec.redis.secretKeyRef", "cannot be read", "percent-encoded"},
			},
			{
				mistake: "The URL of an own Redis names no host", spec: "redis: {secretKeyRef: {name: redis, key: url}}",
				before:    secret("redis", "url", "redis:///0"),
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonSecretValueInvalid,
				words: []string{`Key "url"`, "spec.redis.secretKeyRef", "names no host", "redis://user:password@host:6379/0"},
			},
			{
				mistake: "A private CA for an own Redis that is not reached by TLS", spec: "redis: {secretKeyRef: {name: redis, key: url}, caSecretKeyRef: {name: redis, key: ca.crt}}",
				before:    secret("redis", "url", "redis://redis:6379"),
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonSecretValueInvalid,
				words: []string{`Key "url"`, "begins with redis://", "spec.redis.caSecretKeyRef has no effect", "begin it with rediss://"},
			},
			{
				mistake: "A filter asks for a member that events do not have", spec: "targets:\n- {name: crm, url: 'http://crm', filter: event.typ == \"chat_closed\"}",
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonFilterInvalid,
				words: []string{"spec.targets[crm].filter has a mistake at line:column 1:6", "undefined field 'typ'", "kubectl explain hmw.spec.targets.filter"},
			},
			{
				mistake: "A filter does not end", spec: "targets:\n- {name: crm, url: 'http://crm', filter: 'event.type in [\"chat_closed\"'}",
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonFilterInvalid,
				words: []string{"spec.targets[crm].filter has a mistake at line:column 1:29", "expecting", "']'"},
			},
			{
				mistake: "A filter yields a text", spec: "targets:\n- {name: crm, url: 'http://crm', filter: event.type}",
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonFilterInvalid,
				words: []string{"spec.targets[crm].filter has a mistake at line:column 1:1", "yields string, and bool is needed"},
			},
			{
				mistake: "A key that is too expensive", spec: "deduplication:\n  key: string(event.data.a.all(x, event.data.a.all(y, event.data.a.all(z, x == y))))",
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonFilterInvalid,
				words: []string{"spec.deduplication.key has a mistake at line:column 1:1", "may cost more than", "nest fewer loops"},
			},
			{
				mistake: "A target's Service does not exist", spec: "targets:\n- {name: crm, service: {name: crm, port: 80}}",
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonTargetServiceNotFound,
				words: []string{`"crm" of spec.targets[crm].service`, "does not exist in namespace", "create it", "kept meanwhile"},
			},
			{
				mistake: "A target's Service has another port", spec: "targets:\n- {name: crm, service: {name: crm, port: 8080}}",
				before: func(w *world) {
					secret("heymarket", "token", canary)(w)
					w.do(w.person.Create(w.t.Context(), &corev1.Service{
						ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "crm"},
						Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
					}))
				},
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonTargetPortNotFound,
				words: []string{`"crm" has no port 8080`, "spec.targets[crm].service.port", "kubectl get service crm"},
			},
			{
				mistake: "A target on the Pod's own loopback", spec: "targets:\n- {name: crm, url: 'http://localhost:8080/in'}",
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonTargetAddressRefused,
				words: []string{"localhost of spec.targets[crm].url", "loopback address", "name another one", "kept meanwhile"},
			},
			{
				mistake: "A target where a cloud keeps credentials", spec: "targets:\n- {name: crm, url: 'http://169.254.169.254/latest'}",
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonTargetAddressRefused,
				words: []string{"169.254.169.254 of spec.targets[crm].url", "link-local address", "name another one"},
			},
			{
				mistake: "A target in a private network, which the operator does not allow (`--target-addresses=Public`)", spec: "targets:\n- {name: crm, url: 'http://10.0.0.7/in'}",
				before: func(w *world) {
					secret("heymarket", "token", canary)(w)
					w.r.Settings.TargetAddresses.Public = true
				},
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonTargetAddressRefused,
				words: []string{"10.0.0.7 of spec.targets[crm].url", "private address", "--target-addresses allow its network"},
			},
			{
				mistake: "A host that the operator does not allow to this namespace (`--allowed-hosts={{.Namespace}}.example.com`)", spec: "exposure: {host: hooks.example.com}",
				before: func(w *world) {
					secret("heymarket", "token", canary)(w)
					var err error
					w.r.Settings.AllowedHosts, err = ParseAllowedHosts("{{.Namespace}}.example.com")
					w.do(err)
				},
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonHostNotAllowed,
				words: []string{`"hooks.example.com" of spec.exposure.host`, "not one that namespace", "choose another", "--allowed-hosts"},
			},
			{
				mistake: "A Service with the name of the receiver's exists already",
				before: func(w *world) {
					secret("heymarket", "token", canary)(w)
					w.do(w.person.Create(w.t.Context(), &corev1.Service{
						ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "support-receiver"},
						Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
					}))
				},
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonChildNameTaken,
				words: []string{`Service "support-receiver"`, "does not belong to this HeymarketWebhook", "delete or rename it"},
			},
			{
				mistake: "A request for memory above the limit", spec: "receiver: {resources: {requests: {memory: 1Gi}, limits: {memory: 64Mi}}}",
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonChildRefused,
				words: []string{`Deployment "support-receiver"`, "resources.requests", "must be less than or equal to memory limit", "change the part of the spec"},
			},
			{
				mistake: "A quota leaves no room for the receiver's objects (`count/services: 0`)",
				before: func(w *world) {
					secret("heymarket", "token", canary)(w)
					hard := corev1.ResourceList{"count/services": apiresource.MustParse("0")}
					quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "objects"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}
					w.do(w.person.Create(w.t.Context(), quota))
					quota.Status = corev1.ResourceQuotaStatus{Hard: hard, Used: hard}
					w.do(w.person.Status().Update(w.t.Context(), quota))
				},
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonChildRefused,
				words: []string{`Service "support-receiver"`, "exceeded quota: objects", "quota"},
			},
			{
				mistake:   "An admission webhook denies a child; here that of an ingress controller, because another Ingress has the host and path",
				before:    denyingWebhook(`host "staging.hooks.example.com" and path "/staging/support" is already defined in ingress staging/old`),
				condition: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonChildRefused,
				words: []string{`Ingress "support-receiver"`, "denied the request", "is already defined in ingress staging/old", "policy"},
			},
		},
	},
	{
		title: "Available",
		lead:  "The reason is that of the condition `Available`, and of the event; the last one is no event, because for a moment it is true of every Pod that is replaced.",
		cases: []misconfiguration{
			{
				mistake: "The image cannot be pulled",
				after: deploymentSays(appsv1.DeploymentCondition{
					Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded",
					Message: `ReplicaSet "support-receiver-77c5c9d6f4" has timed out progressing.`,
				}),
				condition: v1alpha1.ConditionAvailable, reason: v1alpha1.ReasonRolloutStuck,
				words: []string{`Deployment "support-receiver"`, `"heymarket.dev/operator:v1"`, "do not become ready", "spec.receiver.imagePullSecrets", "kubectl describe pods"},
			},
			{
				mistake:   "An admission webhook of the cluster does not answer",
				before:    deadWebhook,
				condition: v1alpha1.ConditionAvailable, reason: v1alpha1.ReasonChildFailed,
				words: []string{`Service "support-receiver"`, `failed calling webhook "validate.example.com"`, "retries", "fix what the answer names"},
			},
			{
				mistake: "A quota forbids the Pods",
				after: deploymentSays(appsv1.DeploymentCondition{
					Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate",
					Message: `pods "support-receiver-77c5c9d6f4-x8k2v" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=10, limited: pods=10`,
				}),
				condition: v1alpha1.ConditionAvailable, reason: v1alpha1.ReasonPodsRefused,
				words: []string{`Deployment "support-receiver"`, "exceeded quota: compute", "change the quota"},
			},
			{
				mistake: "A platform that assigns user IDs, such as OpenShift, rejects those of the Pods",
				after: deploymentSays(appsv1.DeploymentCondition{
					Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate",
					Message: `pods "support-receiver-77c5c9d6f4-" is forbidden: unable to validate against any security context constraint: [provider restricted-v2: .spec.securityContext.fsGroup: Invalid value: []int64{65532}: 65532 is not an allowed group]`,
				}),
				condition: v1alpha1.ConditionAvailable, reason: v1alpha1.ReasonPodsRefused,
				words: []string{`Deployment "support-receiver"`, "restricted-v2", "spec.receiver.podSecurityContext", "--receiver-user-id", "docs/openshift.md"},
			},
			{
				mistake: "A priority class that does not exist", spec: "receiver: {priorityClassName: importent}",
				after: deploymentSays(appsv1.DeploymentCondition{
					Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate",
					Message: `pods "support-receiver-77c5c9d6f4-" is forbidden: no PriorityClass with name importent was found`,
				}),
				condition: v1alpha1.ConditionAvailable, reason: v1alpha1.ReasonPodsRefused,
				words: []string{`Deployment "support-receiver"`, "no PriorityClass with name importent", "spec.receiver"},
			},
			{
				mistake: "A NetworkPolicy keeps the operator from the Pods", silent: true,
				after:     func(w *world) { w.rollOut(2) },
				condition: v1alpha1.ConditionAvailable, reason: v1alpha1.ReasonStatusUnreachable,
				words: []string{`Deployment "support-receiver"`, "does not answer", "NetworkPolicy", "port 8081", "service mesh", "excludeInboundPorts"},
			},
			{
				mistake: "The rollout of the receiver's Deployment is paused (`kubectl rollout pause`)",
				after: func(w *world) {
					w.rollOut(2)
					change(w, w.deployment(), func(d *appsv1.Deployment) { d.Spec.Paused = true })
				},
				condition: v1alpha1.ConditionAvailable, reason: v1alpha1.ReasonDeploymentPaused,
				words: []string{`Deployment "support-receiver"`, "paused", "kubectl rollout resume deployment support-receiver"},
			},
			{
				mistake: "The receiver's Deployment is scaled to zero beside an autoscaler", spec: "receiver: {autoscaling: {maxReplicas: 5}}",
				after: func(w *world) {
					w.reconcile() // It leaves the number to the autoscaler.
					change(w, w.deployment(), func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(0)) })
				},
				condition: v1alpha1.ConditionAvailable, reason: v1alpha1.ReasonScaledToZero,
				words: []string{`Deployment "support-receiver"`, "kubectl scale deployment support-receiver", "--replicas=2"},
			},
		},
	},
	{
		title: "Exposed",
		lead:  "The reason is that of the condition `Exposed`, and of the event. Silence of an ingress controller or a Gateway is an event after five minutes.",
		cases: []misconfiguration{
			{
				mistake: "The IngressClass does not exist", spec: "exposure: {ingress: {className: ngnix}}",
				before: impatient, after: func(*world) {},
				condition: v1alpha1.ConditionExposed, reason: v1alpha1.ReasonAddressMissing,
				words: []string{`"ngnix" of spec.exposure.ingress.className`, "No ingress controller has published an address", "kubectl get ingressclass"},
			},
			{
				mistake: "The cluster has no default IngressClass, and the resource names none",
				before:  impatient, after: func(*world) {},
				condition: v1alpha1.ConditionExposed, reason: v1alpha1.ReasonAddressMissing,
				words: []string{"spec.exposure.ingress.className is not set", "No ingress controller has published an address", "kubectl get ingressclass", "delete the Ingress"},
			},
			{
				mistake: "The Secret of the certificate does not exist, and nothing creates it", spec: "exposure: {ingress: {tlsSecretName: support-tls}}",
				before: impatient, after: func(w *world) { w.admit("203.0.113.7") },
				condition: v1alpha1.ConditionExposed, reason: v1alpha1.ReasonCertificateMissing,
				words: []string{`"support-tls" of spec.exposure.ingress.tlsSecretName`, "does not exist", "kubectl create secret tls", "does not trust"},
			},
			{
				mistake: "The Secret of the certificate is not of that kind", spec: "exposure: {ingress: {tlsSecretName: support-tls}}",
				before: func(w *world) {
					impatient(w)
					w.secret("support-tls", map[string]string{"support.pem": "x"})
				},
				after:     func(w *world) { w.admit("203.0.113.7") },
				condition: v1alpha1.ConditionExposed, reason: v1alpha1.ReasonCertificateMissing,
				words: []string{`"support-tls" of spec.exposure.ingress.tlsSecretName`, `no value under the key "tls.crt"`, "kubectl create secret tls"},
			},
			{
				mistake: "Two webhooks with one host and path", spec: "exposure: {host: hooks.example.com, path: /hooks}",
				before: func(w *world) {
					secret("heymarket", "token", canary)(w)
					older := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "a-first"}}
					w.do(yaml.UnmarshalStrict([]byte(smallest), &older.Spec))
					older.Spec.Exposure = v1alpha1.Exposure{Host: "hooks.example.com", Path: "/hooks"}
					w.do(w.person.Create(w.t.Context(), older))
				},
				condition: v1alpha1.ConditionExposed, reason: v1alpha1.ReasonHostConflict,
				words: []string{`"a-first"`, "is older and has the same host and path", "set another spec.exposure.host or spec.exposure.path"},
			},
			{
				mistake: "An HTTPRoute in a cluster without the Gateway API", spec: "exposure: {type: HTTPRoute, httpRoute: {parentRefs: [{name: public}]}}",
				condition: v1alpha1.ConditionExposed, reason: v1alpha1.ReasonGatewayAPIMissing,
				words: []string{"no HTTPRoute", "install the Gateway API", "spec.exposure.type"},
			},
		},
	},
	{
		title: "Exposed by the Gateway API", gateways: true,
		lead: "Likewise.",
		cases: []misconfiguration{
			{
				mistake: "The Gateway does not exist", spec: "exposure: {type: HTTPRoute, httpRoute: {parentRefs: [{name: pubic, namespace: gateways}]}}",
				condition: v1alpha1.ConditionExposed, reason: v1alpha1.ReasonGatewayMissing,
				words: []string{`"pubic" of spec.exposure.httpRoute.parentRefs`, `does not exist in namespace "gateways"`, "create it, or name another one", "kubectl get gateway -n gateways"},
			},
			{
				mistake: "No controller serves the Gateway", spec: "exposure: {type: HTTPRoute, httpRoute: {parentRefs: [{name: unserved, namespace: gateways}]}}",
				before: func(w *world) {
					impatient(w)
					w.gateway("gateways", "unserved")
				},
				after:     func(*world) {},
				condition: v1alpha1.ConditionExposed, reason: v1alpha1.ReasonRouteIgnored,
				words: []string{`"unserved" of spec.exposure.httpRoute.parentRefs`, "has not reported", "that a controller serves it", "kubectl get gateway -n gateways"},
			},
			{
				mistake: "The Gateway takes no routes from this namespace", spec: "exposure: {type: HTTPRoute, httpRoute: {parentRefs: [{name: public}]}}",
				before: func(w *world) {
					secret("heymarket", "token", canary)(w)
					w.gateway(w.namespace, "public")
				},
				after: func(w *world) {
					route := &unstructured.Unstructured{}
					route.SetGroupVersionKind(desired.HTTPRouteKind)
					get(w, "support-receiver", route)
					refused := routeCondition("Accepted", "False", "NotAllowedByListeners", route.GetGeneration())
					refused["message"] = "No listener of the Gateway allows routes from this namespace."
					route.Object["status"] = map[string]any{"parents": []any{map[string]any{
						"parentRef": map[string]any{"name": "public"}, "conditions": []any{refused},
					}}}
					w.do(w.person.Status().Update(w.t.Context(), route))
				},
				condition: v1alpha1.ConditionExposed, reason: v1alpha1.ReasonRouteRefused,
				words: []string{`"public" of spec.exposure.httpRoute.parentRefs`, "rejects HTTPRoute", "NotAllowedByListeners", "allows routes from this namespace"},
			},
			{
				mistake: "No Gateway is named", spec: "exposure: {type: HTTPRoute}",
				condition: v1alpha1.ConditionExposed, reason: v1alpha1.ReasonGatewayUnknown,
				words: []string{"No Gateway is configured", "spec.exposure.httpRoute.parentRefs", "--gateway"},
			},
			{
				mistake: "No host is named", spec: "exposure: {type: HTTPRoute, httpRoute: {parentRefs: [{name: public}]}}",
				before: func(w *world) {
					secret("heymarket", "token", canary)(w)
					w.r.Settings.HostTemplate = nil
				},
				condition: v1alpha1.ConditionExposed, reason: v1alpha1.ReasonHostUnknown,
				words: []string{"The host of the URL is unknown", "set spec.exposure.host", "--host-template"},
			},
		},
	},
	{
		title: "Scaled",
		lead:  "The reason is that of the condition `Scaled`, and of the event.",
		cases: []misconfiguration{
			{
				mistake: "Scaling by the backlog in a cluster without KEDA", spec: "receiver: {autoscaling: {maxReplicas: 5, backlogPerReplica: 100}}",
				condition: v1alpha1.ConditionScaled, reason: v1alpha1.ReasonKEDAMissing,
				words: []string{"no ScaledObject", "install KEDA", "remove spec.receiver.autoscaling.backlogPerReplica", "is spec.receiver.autoscaling.minReplicas"},
			},
		},
	},
	{
		title: "Durable",
		lead:  "The reason is that of the condition `Durable`, and of the event. The receivers ask Redis.",
		cases: []misconfiguration{
			{
				mistake:   "Redis evicts what it has no room for",
				after:     redisSays(troubled(contract.RedisEvicts)),
				condition: v1alpha1.ConditionDurable, reason: v1alpha1.ReasonNotDurable,
				words: []string{"may evict", "maxmemory-policy to noeviction"},
			},
			{
				mistake:   "Redis writes no append-only file",
				after:     redisSays(troubled(contract.RedisForgets)),
				condition: v1alpha1.ConditionDurable, reason: v1alpha1.ReasonNotDurable,
				words: []string{"append-only file is off", "loses events when it restarts", "set appendonly yes"},
			},
			{
				mistake:   "The URL names a replica of Redis",
				after:     redisSays(troubled(contract.RedisReadOnly)),
				condition: v1alpha1.ConditionDurable, reason: v1alpha1.ReasonNotDurable,
				words: []string{"read-only replica", "set its primary"},
			},
			{
				mistake:   "Redis is full: its maxmemory is reached",
				after:     redisSays(troubled(contract.RedisFull)),
				condition: v1alpha1.ConditionDurable, reason: v1alpha1.ReasonNotDurable,
				words: []string{"out of memory", "rejects new events", "raise its maxmemory"},
			},
			{
				mistake:   "The password of Redis is wrong",
				after:     redisSays(troubled(contract.RedisBadLogin)),
				condition: v1alpha1.ConditionDurable, reason: v1alpha1.ReasonNotDurable,
				words: []string{"rejects the login", "user and password in the Redis URL"},
			},
			{
				mistake:   "Redis cannot be reached",
				after:     redisSays(troubled(contract.RedisUnreachable)),
				condition: v1alpha1.ConditionDurable, reason: v1alpha1.ReasonRedisUnreachable,
				words: []string{"cannot be reached", "host and port", "NetworkPolicy"},
			},
			{
				mistake:   "The URL of a webhook's own Redis leads to a loopback or metadata address",
				after:     redisSays(troubled(contract.RedisBlocked)),
				condition: v1alpha1.ConditionDurable, reason: v1alpha1.ReasonRedisUnreachable,
				words: []string{"is blocked", "Set another host in the Redis URL"},
			},
		},
	},
	{
		title: "The shared Redis",
		lead:  "The operator does not start: the log of its Pod ends with the sentence. While it runs, it logs the same and keeps to what was good before.",
		cases: []misconfiguration{
			{
				mistake: "The URL begins with http://",
				shared:  func(*testing.T) desired.SharedRedis { return desired.SharedRedis{URL: "http://redis:6379"} },
				words:   []string{"--redis-url-file", "/redis/url", "must begin with redis:// or rediss://"},
			},
			{
				mistake: "The certificates are in DER form, and not in PEM",
				shared: func(*testing.T) desired.SharedRedis {
					return desired.SharedRedis{URL: "rediss://redis:6379", CA: []byte("0\x82\x01\x0a")}
				},
				words: []string{"--redis-ca-file", "/redis-ca/ca.crt", "no certificate in PEM form", "openssl x509"},
			},
			{
				mistake: "There are certificates, and the URL begins with redis://",
				shared: func(t *testing.T) desired.SharedRedis {
					t.Helper()
					return desired.SharedRedis{URL: "redis://redis:6379", CA: []byte(certificate(t))}
				},
				words: []string{"--redis-url-file", "/redis/url", "begins with redis://", "begin it with rediss://", "leave --redis-ca-file out"},
			},
			{
				mistake: "The certificates are those of a whole system",
				shared: func(t *testing.T) desired.SharedRedis {
					t.Helper()
					return desired.SharedRedis{URL: "rediss://redis:6379", CA: bytes.Repeat([]byte(certificate(t)), 200)}
				},
				words: []string{"--redis-ca-file", "every receiver gets a copy", "keep those of the authority"},
			},
		},
	},
}

// secret prepares one Secret besides the token's.
func secret(name, key, value string) func(*world) {
	return func(w *world) {
		w.t.Helper()
		w.secret(name, map[string]string{key: value})
		if name != "heymarket" {
			w.secret("heymarket", map[string]string{"token": canary})
		}
	}
}

// impatient lets every silence be one of five minutes.
func impatient(w *world) {
	w.t.Helper()
	secret("heymarket", "token", canary)(w)
	w.r.Settings.exposureTimeout = 1
}

// deploymentSays plays a Deployment controller that does not get on.
func deploymentSays(c appsv1.DeploymentCondition) func(*world) {
	return func(w *world) {
		w.t.Helper()
		d := w.deployment()
		d.Status.ObservedGeneration = d.Generation
		d.Status.Conditions = []appsv1.DeploymentCondition{c}
		w.do(w.person.Status().Update(w.t.Context(), d))
	}
}

// troubled has a Pod report problems with Redis.
func troubled(problems ...contract.Problem) func(*contract.Status) {
	return func(s *contract.Status) {
		s.Durable, s.Problems = false, problems
		for _, p := range problems {
			if !p.Accepting() {
				s.Redis = p.Message()
			}
		}
	}
}

// redisSays plays Pods that all see the same of Redis.
func redisSays(change func(*contract.Status)) func(*world) {
	return func(w *world) {
		w.t.Helper()
		w.rollOut(2)
		w.serve("10.1.0.1", "10.1.0.2")
		w.says("10.1.0.1", change)
		w.says("10.1.0.2", change)
	}
}
