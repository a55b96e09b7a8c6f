// Command dial reports whether an address can be reached from where it runs: "open", "refused" by the host that it belongs to, or "dropped", which
// is no answer within two seconds. A name that does not resolve is "unknown". Without an address it waits, so that a container stays.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		<-ctx.Done()
	}
	for _, address := range os.Args[1:] {
		fmt.Println(address, try(address))
	}
}

func try(address string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	var dns *net.DNSError
	var network net.Error
	switch {
	case err == nil:
		_ = connection.Close()
		return "open"
	case errors.As(err, &dns):
		return "unknown"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.As(err, &network) && network.Timeout():
		return "dropped"
	}
	return err.Error()
}
