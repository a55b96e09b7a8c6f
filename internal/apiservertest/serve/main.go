// Command serve runs a kube-apiserver with its etcd and this repository's CRDs, for tests of other modules. It writes an
// administrator's kubeconfig to a file, prints a line, and ends when its standard input is closed.
package main

import (
	"fmt"
	"io"
	"os"

	"heymarket.dev/operator/internal/apiservertest"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: serve KUBECONFIG")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "serve: %v\n", err)
		os.Exit(1)
	}
}

func run(kubeconfig string) (err error) {
	env, err := apiservertest.Environment()
	if err != nil {
		return err
	}
	defer func() {
		if stopped := env.Stop(); err == nil {
			err = stopped
		}
	}()
	if _, err := env.Start(); err != nil {
		return err
	}
	if err := os.WriteFile(kubeconfig, env.KubeConfig, 0o600); err != nil {
		return err
	}
	fmt.Println("serving")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent closes it, or ends
	return nil
}
