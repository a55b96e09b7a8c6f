package contract_test

import (
	"testing"

	"heymarket.dev/operator/internal/contract"
)

// Names on which other releases, NetworkPolicies, scripts and keys in Redis depend. Changing them breaks installations.
func TestNamesThatStay(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		contract.ReceiverName("support"):                            "support-receiver",
		contract.URLSecretName("support"):                           "support-url",
		contract.RedisNamespacePrefix("staging"):                    "hmw:{staging/",
		contract.RedisPrefix("staging", "support"):                  "hmw:{staging/support}:",
		contract.LabelManagedBy:                                     "app.kubernetes.io/managed-by",
		contract.ManagedByValue:                                     "heymarket-operator",
		contract.PodLabels("support")["app.kubernetes.io/name"]:     "heymarket-receiver",
		contract.PodLabels("support")["app.kubernetes.io/instance"]: "support",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for got, want := range map[int]int{contract.EventsPort: 8080, contract.OperationsPort: 8081, contract.AdminPort: 8082} {
		if got != want {
			t.Errorf("port %d, want %d", got, want)
		}
	}
}
