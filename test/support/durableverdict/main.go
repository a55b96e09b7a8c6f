// Command durableverdict reads the /status of a receiver from standard input and writes the condition Durable that the operator makes of it. Tests in
// modules that cannot link the operator run it.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/condition"
)

func main() {
	var status contract.Status
	if err := json.NewDecoder(os.Stdin).Decode(&status); err != nil {
		fmt.Fprintf(os.Stderr, "durableverdict: read the status: %v\n", err)
		os.Exit(1)
	}
	facts := condition.Facts{Webhook: &v1alpha1.HeymarketWebhook{}, Reports: []contract.Status{status}}
	c := condition.Durable(facts, condition.Writes{})
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"ok": c.OK, "reason": c.Reason, "message": c.Message}); err != nil {
		fmt.Fprintf(os.Stderr, "durableverdict: %v\n", err)
		os.Exit(1)
	}
}
