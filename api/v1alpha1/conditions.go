package v1alpha1

// Condition types of a HeymarketWebhook. All have positive polarity: True is good. Each carries the generation that it
// speaks of in observedGeneration.
const (
	// ConditionAccepted says whether the spec and everything that it refers to is good. While it is False nothing new
	// is rolled out, and what already runs keeps running.
	ConditionAccepted = "Accepted"
	// ConditionAvailable says whether receiver Pods are serving the configuration of this generation.
	ConditionAvailable = "Available"
	// ConditionExposed says whether the way from outside the cluster to the receiver stands.
	ConditionExposed = "Exposed"
	// ConditionReady is True if and only if all the others are True; otherwise its reason and message are those of the
	// first one that is not.
	ConditionReady = "Ready"
)

// Reasons of ConditionAccepted.
const (
	// ReasonAccepted: the spec and its references are good.
	ReasonAccepted = "Accepted"
	// ReasonTokenSecretNotFound: the Secret of spec.token.secretKeyRef does not exist. Heals by itself when it appears.
	ReasonTokenSecretNotFound = "TokenSecretNotFound"
	// ReasonTokenKeyNotFound: that Secret exists, but has no such key. Heals by itself when the key appears.
	ReasonTokenKeyNotFound = "TokenKeyNotFound"
	// ReasonTokenEmpty: the key exists, but holds nothing, or nothing but white space.
	ReasonTokenEmpty = "TokenEmpty"
	// ReasonInvalidConfiguration: the spec passed the schema, yet no receiver would take it. The message says why.
	ReasonInvalidConfiguration = "InvalidConfiguration"
	// ReasonChildNameTaken: an object with the name of a child exists and belongs to somebody else. It is left alone.
	ReasonChildNameTaken = "ChildNameTaken"
	// ReasonChildRefused: the API server refused a child object, because of a value in the spec or of a policy in the
	// cluster. The message is the API server's own.
	ReasonChildRefused = "ChildRefused"
)

// Reasons of ConditionAvailable.
const (
	// ReasonServing: every ready receiver Pod serves the configuration of this generation.
	ReasonServing = "Serving"
	// ReasonNotDeployed: there is no receiver yet, because Accepted is not True.
	ReasonNotDeployed = "NotDeployed"
	// ReasonRolloutInProgress: the Deployment is replacing its Pods.
	ReasonRolloutInProgress = "RolloutInProgress"
	// ReasonRolloutStuck: the Deployment exceeded its progress deadline.
	ReasonRolloutStuck = "RolloutStuck"
	// ReasonNoReadyReplicas: no receiver Pod is ready.
	ReasonNoReadyReplicas = "NoReadyReplicas"
	// ReasonConfigurationPending: a ready Pod still serves an earlier configuration. The kubelet brings the new one
	// within about a minute.
	ReasonConfigurationPending = "ConfigurationPending"
	// ReasonStatusUnreachable: a ready Pod did not tell the operator which configuration it serves.
	ReasonStatusUnreachable = "StatusUnreachable"
)

// Reasons of ConditionExposed.
const (
	// ReasonAdmitted: an ingress controller has published an address for the Ingress.
	ReasonAdmitted = "Admitted"
	// ReasonNotRequested: spec.exposure.type is None, so there is nothing to expose.
	ReasonNotRequested = "NotRequested"
	// ReasonAddressPending: no ingress controller has published an address for the Ingress.
	ReasonAddressPending = "AddressPending"
	// ReasonNotExposed: there is no Ingress yet, because Accepted is not True.
	ReasonNotExposed = "NotExposed"
)

// ReasonReady is the reason of ConditionReady when all other conditions are True.
const ReasonReady = "Ready"
