// Command serve runs a kube-apiserver with its etcd and this repository's CRDs, for tests of other modules. It writes an
// administrator's kubeconfig to the file that it is given, prints a line, and ends when its standard input does.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sigs.k8s.io/controller-runtime/pkg/envtest"

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
	root, err := apiservertest.Root()
	if err != nil {
		return err
	}
	env := &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join(root, "config", "crd")}, ErrorIfCRDPathMissing: true}
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
