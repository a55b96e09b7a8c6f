// Command serve runs a kube-apiserver with its etcd and the CRDs of a directory, for tests of other modules. It writes an
// administrator's kubeconfig to a file, prints a line, and ends when its standard input is closed.
package main

import (
	"fmt"
	"io"
	"os"

	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: serve DIRECTORY KUBECONFIG")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "serve: %v\n", err)
		os.Exit(1)
	}
}

func run(crds, kubeconfig string) (err error) {
	env := &envtest.Environment{CRDDirectoryPaths: []string{crds}, ErrorIfCRDPathMissing: true}
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
