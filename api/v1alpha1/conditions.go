package v1alpha1

// Condition types of a HeymarketWebhook. All have positive polarity: True is good. Each sets observedGeneration to the generation
// that it applies to.
const (
	// ConditionAccepted reports whether the spec is valid and all references resolve. While it is False nothing new is rolled
	// out, and the running configuration stays in force; a missing Service of a target does not stop a rollout, because its
	// events are kept.
	ConditionAccepted = "Accepted"
	// ConditionAvailable reports whether receiver Pods are serving the configuration of this generation.
	ConditionAvailable = "Available"
	// ConditionExposed reports whether the receiver can be reached from outside the cluster.
	ConditionExposed = "Exposed"
	// ConditionDurable reports whether Redis can be reached and keeps confirmed writes.
	ConditionDurable = "Durable"
	// ConditionScaled reports whether KEDA scales the receiver by its backlog. It exists only with
	// spec.receiver.autoscaling.backlogPerReplica.
	ConditionScaled = "Scaled"
	// ConditionReachable reports whether the receiver answers at the public URL, through DNS, TLS and the route. It exists only
	// with the operator's --probe-interval, and does not affect Ready.
	ConditionReachable = "Reachable"
	// ConditionReady is True if and only if all others except Reachable are True; otherwise its reason and message are those of
	// the first one that is not.
	ConditionReady = "Ready"
)

// Reasons of ConditionAccepted.
const (
	// ReasonAccepted: the spec is valid and all references resolve.
	ReasonAccepted = "Accepted"
	// ReasonTokenSecretNotFound: the Secret of spec.token.secretKeyRef, or of previousSecretKeyRef, does not exist. Resolves
	// automatically when it appears.
	ReasonTokenSecretNotFound = "TokenSecretNotFound"
	// ReasonTokenKeyNotFound: that Secret exists, but has no such key. Resolves automatically when the key appears.
	ReasonTokenKeyNotFound = "TokenKeyNotFound"
	// ReasonTokenEmpty: the key exists, but its value is empty or only white space.
	ReasonTokenEmpty = "TokenEmpty"
	// ReasonSecretNotFound: another Secret that the spec names does not exist. Resolves automatically when it appears.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonSecretKeyNotFound: that Secret exists, but has no such key. Resolves automatically when the key appears.
	ReasonSecretKeyNotFound = "SecretKeyNotFound"
	// ReasonSecretValueInvalid: the key exists, but receivers cannot use its value. The message has the reason.
	ReasonSecretValueInvalid = "SecretValueInvalid"
	// ReasonSecretNotAllowed: a reference reaches a Secret that the operator owns, or would send a verification token, the Redis
	// URL or the secret part of the URL to a target. Resolves automatically once the reference names another Secret.
	ReasonSecretNotAllowed = "SecretNotAllowed"
	// ReasonFilterInvalid: targets[].filter or deduplication.key is invalid. The message has the line and column.
	ReasonFilterInvalid = "FilterInvalid"
	// ReasonTargetServiceNotFound: the Service of a target does not exist. Its events are kept in the meantime. Resolves
	// automatically when it appears.
	ReasonTargetServiceNotFound = "TargetServiceNotFound"
	// ReasonTargetPortNotFound: the Service of a target has no such port. Its events are kept in the meantime. Resolves
	// automatically when the port appears.
	ReasonTargetPortNotFound = "TargetPortNotFound"
	// ReasonTargetAddressRefused: a target, or its Service, has an address to which no receiver sends, such as loopback, or a
	// private one if the operator's --target-addresses is Public. Its events are kept in the meantime. Names are not resolved.
	ReasonTargetAddressRefused = "TargetAddressRefused"
	// ReasonTargetNamespaceClosed: a target is in a namespace to which the receivers' NetworkPolicy blocks traffic, because the
	// operator's --network-policy-target-namespaces do not allow it. Its events are kept in the meantime.
	ReasonTargetNamespaceClosed = "TargetNamespaceClosed"
	// ReasonHostNotAllowed: the operator's --allowed-hosts do not allow spec.exposure.host in this namespace; or there is no such
	// flag, and --host-template yields that host for another namespace.
	ReasonHostNotAllowed = "HostNotAllowed"
	// ReasonAnnotationNotAllowed: the operator's --allowed-annotations do not allow an annotation of spec.exposure.ingress or
	// spec.receiver, or its value is invalid. The message names it.
	ReasonAnnotationNotAllowed = "AnnotationNotAllowed"
	// ReasonLabelNotAllowed: the operator's --allowed-labels do not allow a label of spec.receiver.podLabels.
	ReasonLabelNotAllowed = "LabelNotAllowed"
	// ReasonRedisUserNotCreated: with the operator's --redis-isolation=Managed, the operator cannot reach the shared Redis, or log in, to
	// create the user of this namespace. Resolves automatically once it can.
	ReasonRedisUserNotCreated = "RedisUserNotCreated"
	// ReasonRedisUserRefused: Redis does not let the operator create that user. The message has the remedy.
	ReasonRedisUserRefused = "RedisUserRefused"
	// ReasonInvalidConfiguration: the spec passed the schema, but receivers would reject it. The message has the reason.
	ReasonInvalidConfiguration = "InvalidConfiguration"
	// ReasonChildNameTaken: an object with the name of a child exists and belongs to another owner. It is not changed, and
	// nothing more is created or changed for the resource until the name is free.
	ReasonChildNameTaken = "ChildNameTaken"
	// ReasonChildRefused: the API server rejected a child object, because of a value in the spec or a policy in the cluster. The
	// message is the API server's own.
	ReasonChildRefused = "ChildRefused"
	// ReasonFinalizerRefused: the API server does not allow the operator to add the finalizer of DeletionDelete to the resource, or
	// to remove it. The message is the API server's.
	ReasonFinalizerRefused = "FinalizerRefused"
)

// Reasons of ConditionAvailable.
const (
	// ReasonServing: every ready receiver Pod serves the configuration of this generation.
	ReasonServing = "Serving"
	// ReasonNotDeployed: there is no receiver yet, because Accepted is not True.
	ReasonNotDeployed = "NotDeployed"
	// ReasonChildFailed: the API server fails to store a child object, for example because an admission webhook does not answer,
	// or to delete one that is no longer wanted. The message is the API server's own. Resolves automatically when it succeeds. It
	// is a reason of ConditionExposed if the child is an Ingress or HTTPRoute, and of ConditionScaled if it is a ScaledObject.
	ReasonChildFailed = "ChildFailed"
	// ReasonChildOverwritten: another field manager changes a child object back each time the operator writes it. The operator
	// writes it at increasing intervals, up to ten minutes. It is a reason of Exposed and Scaled for the objects of those
	// conditions.
	ReasonChildOverwritten = "ChildOverwritten"
	// ReasonRolloutInProgress: the Deployment is replacing its Pods.
	ReasonRolloutInProgress = "RolloutInProgress"
	// ReasonDeploymentPaused: someone has paused the rollout of the Deployment, so changes do not reach its Pods.
	ReasonDeploymentPaused = "DeploymentPaused"
	// ReasonScaledToZero: someone has scaled the Deployment to zero, which disables its autoscaler.
	ReasonScaledToZero = "ScaledToZero"
	// ReasonPodsRefused: the API server rejects the Deployment's Pods, because of a quota, a policy, or a missing object that the
	// Pods refer to. The message is the API server's own.
	ReasonPodsRefused = "PodsRefused"
	// ReasonRolloutStuck: the Deployment exceeded its progress deadline.
	ReasonRolloutStuck = "RolloutStuck"
	// ReasonNoReadyReplicas: no receiver Pod is ready.
	ReasonNoReadyReplicas = "NoReadyReplicas"
	// ReasonConfigurationPending: a ready Pod still serves an earlier configuration. The kubelet delivers the new one within
	// about a minute.
	ReasonConfigurationPending = "ConfigurationPending"
	// ReasonStatusUnreachable: a ready Pod did not report which configuration it serves.
	ReasonStatusUnreachable = "StatusUnreachable"
)

// Reasons of ConditionExposed.
const (
	// ReasonAdmitted: an ingress controller has published an address for the Ingress, or all Gateways have accepted the
	// HTTPRoute.
	ReasonAdmitted = "Admitted"
	// ReasonNotRequested: spec.exposure.type is None, so there is nothing to expose.
	ReasonNotRequested = "NotRequested"
	// ReasonAddressPending: no ingress controller has published an address for the Ingress yet.
	ReasonAddressPending = "AddressPending"
	// ReasonAddressMissing: no ingress controller has published one for five minutes. Resolves automatically when one does.
	ReasonAddressMissing = "AddressMissing"
	// ReasonCertificatePending: the Secret of spec.exposure.ingress.tlsSecretName does not exist yet, or holds no certificate.
	ReasonCertificatePending = "CertificatePending"
	// ReasonCertificateMissing: the certificate has been missing for five minutes. Resolves automatically when it appears.
	ReasonCertificateMissing = "CertificateMissing"
	// ReasonRoutePending: a Gateway has not reported yet whether it accepts the HTTPRoute.
	ReasonRoutePending = "RoutePending"
	// ReasonRouteIgnored: a Gateway has not reported that for five minutes. Resolves automatically when it does.
	ReasonRouteIgnored = "RouteIgnored"
	// ReasonRouteRefused: a Gateway does not accept the HTTPRoute. The message has the reason.
	ReasonRouteRefused = "RouteRefused"
	// ReasonHostUnknown: an HTTPRoute needs a host, and none is configured.
	ReasonHostUnknown = "HostUnknown"
	// ReasonGatewayUnknown: an HTTPRoute needs a Gateway, and none is configured.
	ReasonGatewayUnknown = "GatewayUnknown"
	// ReasonGatewayMissing: a Gateway that the HTTPRoute attaches to does not exist. Resolves automatically, within a minute,
	// when it is created.
	ReasonGatewayMissing = "GatewayMissing"
	// ReasonGatewayAPIMissing: the cluster has no HTTPRoute of gateway.networking.k8s.io/v1.
	ReasonGatewayAPIMissing = "GatewayAPIMissing"
	// ReasonHostConflict: another HeymarketWebhook claims the same host and path, and keeps it, because its path begins with its
	// own namespace and name, or because it is older. An empty host means every host, and a path includes all paths below it.
	// Resolves automatically when the other one releases it.
	ReasonHostConflict = "HostConflict"
	// ReasonPathNotAllowed: spec.exposure.path begins with the name of another namespace that has HeymarketWebhooks.
	ReasonPathNotAllowed = "PathNotAllowed"
	// ReasonNotExposed: there is no Ingress yet, because Accepted is not True.
	ReasonNotExposed = "NotExposed"
)

// Reasons of ConditionDurable, in addition to ReasonNotDeployed.
const (
	// ReasonDurable: Redis has the policy noeviction and writes an append-only file.
	ReasonDurable = "Durable"
	// ReasonNotDurable: Redis can be reached, but may lose accepted events, or rejects new ones. The message has the reason and
	// the remedy.
	ReasonNotDurable = "NotDurable"
	// ReasonRedisUnreachable: a receiver cannot use Redis. Events are rejected with 503, so that Heymarket repeats them.
	ReasonRedisUnreachable = "RedisUnreachable"
	// ReasonDeadLettersFull: a target has as many dead letters as spec.retention.deadLetterLimit allows. Further events that it
	// rejects stay in its queue until dead letters are replayed or discarded.
	ReasonDeadLettersFull = "DeadLettersFull"
	// ReasonBacklogFull: the webhook has as many bytes in Redis, pending events and dead letters, as the operator's
	// --max-backlog-bytes allows. New events are rejected with 429, so that Heymarket sends them again, until targets have
	// accepted some.
	ReasonBacklogFull = "BacklogFull"
	// ReasonDurabilityUnknown: no receiver has reported Redis durability yet.
	ReasonDurabilityUnknown = "DurabilityUnknown"
)

// Reasons of ConditionScaled, in addition to ReasonNotDeployed.
const (
	// ReasonScaling: KEDA has accepted the ScaledObject.
	ReasonScaling = "Scaling"
	// ReasonKEDAMissing: the cluster has no ScaledObject of keda.sh/v1alpha1. The message describes the fallback.
	ReasonKEDAMissing = "KEDAMissing"
	// ReasonScaledObjectPending: KEDA has not reported yet whether it accepts the ScaledObject.
	ReasonScaledObjectPending = "ScaledObjectPending"
	// ReasonScaledObjectRefused: KEDA does not accept the ScaledObject. The message is KEDA's own.
	ReasonScaledObjectRefused = "ScaledObjectRefused"
)

// Reasons of ConditionReachable.
const (
	// ReasonReachable: the receiver answers at its public URL, and the certificate is valid.
	ReasonReachable = "Reachable"
	// ReasonCertificateEnding: the receiver answers, and the certificate expires within two weeks, or is in the last sixth of its
	// lifetime.
	ReasonCertificateEnding = "CertificateEnding"
	// ReasonNameNotResolved: the operator finds no address for the host in DNS.
	ReasonNameNotResolved = "NameNotResolved"
	// ReasonAddressBlocked: the host has an address to which the operator does not connect, such as a loopback or metadata address.
	ReasonAddressBlocked = "AddressBlocked"
	// ReasonNotConnected: the operator cannot connect to the host. The cluster's network may not reach its own public address.
	ReasonNotConnected = "NotConnected"
	// ReasonCertificateInvalid: TLS fails, because the certificate has expired, is for other names, or is not trusted.
	ReasonCertificateInvalid = "CertificateInvalid"
	// ReasonRouteElsewhere: something other than the receiver answers, such as another route, a login or a redirect.
	ReasonRouteElsewhere = "RouteElsewhere"
	// ReasonReceiverNotAnswering: the route exists, but no receiver answers.
	ReasonReceiverNotAnswering = "ReceiverNotAnswering"
)

// Reasons of Events that are not reasons of a condition.
const (
	// EventCircuitOpened: a target fails, and gets fewer attempts until it answers again.
	EventCircuitOpened = "CircuitOpened"
	// EventCircuitClosed: the target accepts events again.
	EventCircuitClosed = "CircuitClosed"
	// EventDeadLetters: a target has its first dead letters.
	EventDeadLetters = "DeadLetters"
	// EventRotationFinished: the previous token has been revoked.
	EventRotationFinished = "RotationFinished"
	// EventURLRenewed: spec.exposure.urlRevision has increased, and the URL has a new secret segment.
	EventURLRenewed = "URLRenewed"
	// EventURLChanged: the host or path of the URL has changed.
	EventURLChanged = "URLChanged"
	// EventRedisKeysRemoved: the deleted resource's keys have been removed from Redis.
	EventRedisKeysRemoved = "RedisKeysRemoved"
	// EventRedisKeysKept: the resource has been deleted, and its keys are still in Redis. The message names them and how to
	// remove them. If the namespace is being deleted, it is an event about the Namespace.
	EventRedisKeysKept = "RedisKeysKept"
	// EventPreviousURLWithdrawn: the URL from before the last change is no longer accepted.
	EventPreviousURLWithdrawn = "PreviousURLWithdrawn"
)

// ReasonReady is the reason of ConditionReady when all other conditions are True.
const ReasonReady = "Ready"

// Reasons of ConditionReady while a resource with DeletionDelete is being deleted.
const (
	// ReasonReceiverEnding: the receiver Pods have to stop first; then one Pod removes the keys.
	ReasonReceiverEnding = "ReceiverEnding"
	// ReasonRedisKeysLeft: the keys cannot be removed. The message has the reason. The operator retries for five minutes.
	ReasonRedisKeysLeft = "RedisKeysLeft"
	// ReasonReceiverNotEnded: the API server rejects stopping the receiver or removing the keys. The message is the API server's
	// own. The operator retries for five minutes. ReasonFinalizerRefused stays until the finalizer may be removed.
	ReasonReceiverNotEnded = "ReceiverNotEnded"
)
