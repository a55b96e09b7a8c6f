package contract

// The ports of a receiver Pod.
const (
	// EventsPort takes events.
	EventsPort = 8080
	// OperationsPort answers StatusPath, /readyz, /healthz and /metrics.
	OperationsPort = 8081
	// AdminPort serves the administrative API, on the Pod's own localhost alone.
	AdminPort = 8082
)

// The labels by which the children of a webhook and its Pods are found.
const (
	LabelManagedBy = "app.kubernetes.io/managed-by"
	LabelName      = "app.kubernetes.io/name"
	LabelInstance  = "app.kubernetes.io/instance"

	ManagedByValue = "heymarket-operator"
	nameValue      = "heymarket-receiver"
)

// PodLabels select the Pods of a webhook in its namespace.
func PodLabels(webhook string) map[string]string {
	return map[string]string{LabelName: nameValue, LabelInstance: webhook}
}

// ReceiverName is the name of all children of a webhook but the Secret with its URL.
func ReceiverName(webhook string) string { return webhook + "-receiver" }

// URLSecretName is the name of the Secret with the URL of a webhook.
func URLSecretName(webhook string) string { return webhook + "-url" }

// RedisNamespacePrefix begins every key that the webhooks of a namespace have in Redis. A namespace's name is a DNS label, so
// no prefix begins another one.
func RedisNamespacePrefix(namespace string) string { return "hmw:{" + namespace + "/" }

// RedisPrefix begins every key that a webhook has in Redis. The part in braces keeps them on one node of a Cluster.
func RedisPrefix(namespace, name string) string { return RedisNamespacePrefix(namespace) + name + "}:" }
