// Command kubectl-heymarket is the kubectl plugin for managing HeymarketWebhooks. It is not part of the operator's image.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"heymarket.dev/operator/internal/plugin"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := plugin.Command(version).ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "kubectl heymarket: %s\n", plugin.Printable(err))
		os.Exit(1)
	}
}
