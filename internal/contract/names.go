package contract

// The ports of a receiver Pod.
const (
	// EventsPort accepts events.
	EventsPort = 8080
	// OperationsPort answers StatusPath, /readyz, /healthz and /metrics.
	OperationsPort = 8081
	// AdminPort serves the administrative API, only on the Pod's own localhost.
	AdminPort = 8082
)

// The labels of a webhook's children and Pods.
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

// ReceiverName is the name of all children of a webhook except the Secret with its URL.
func ReceiverName(webhook string) string { return webhook + "-receiver" }

// URLSecretName is the name of the Secret with the URL of a webhook.
func URLSecretName(webhook string) string { return webhook + "-url" }

// RedisNamespacePrefix is the prefix of every Redis key of a namespace's webhooks. A namespace's name is a DNS label, so no
// prefix is a prefix of another.
func RedisNamespacePrefix(namespace string) string { return "hmw:{" + namespace + "/" }

// RedisPrefix is the prefix of every Redis key of a webhook. The part in braces keeps them on one node of a Cluster.
func RedisPrefix(namespace, name string) string { return RedisNamespacePrefix(namespace) + name + "}:" }
