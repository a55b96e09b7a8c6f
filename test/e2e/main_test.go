//go:build e2e || neighbours

// Package e2e plays Heymarket against the operator on a real cluster.
//
// `make e2e` brings up a cluster of its own beside whatever stands, and takes it away; that the host is then as it was is a part of the
// test. Another cluster is used by these variables:
//
//	E2E_KUBECONFIG  its kubeconfig. It needs an ingress controller with a default IngressClass, and a default StorageClass
//	E2E_CA          the file with the CA that the Ingress's certificate is verified by
//	E2E_LOAD        a command that loads an image archive, which is put after it: "kind load image-archive", "docker load --input"
//	E2E_PREVIOUS    a checkout of the previous release, whose image the test of upgrades begins with. Default: what testdata keeps of it
//	E2E_CLUSTER     the name of the own cluster. Default: e2e
//	E2E_KEEP=1      leaves the own cluster standing, to look at it
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/test/support/quickstart"
)

// cluster is where the tests run. The operator is installed there.
var cluster *quickstart.Cluster

// driver builds images, and loadImages makes the archives that hold them known to the cluster.
var (
	driver     *quickstart.Driver
	loadImages func(ctx context.Context, archives ...string) error
)

func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, m)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %v\n", err)
		code = 1
	}
	os.Exit(code)
}

func run(ctx context.Context, m *testing.M) (code int, err error) {
	name := "e2e"
	if other := os.Getenv("E2E_CLUSTER"); other != "" {
		name = other
	}
	if driver, err = quickstart.NewDriver(ctx, name, os.Stderr); err != nil {
		return 1, err
	}
	image, err := driver.Image(ctx)
	if err != nil {
		return 1, err
	}
	if os.Getenv("E2E_KUBECONFIG") != "" {
		err = useExisting(ctx, image)
	} else {
		if code, err = 1, driver.Down(ctx); err != nil { // of a run that was cut short
			return code, err
		}
		before, wrong := driver.Snapshot(ctx)
		if wrong != nil {
			return 1, wrong
		}
		if os.Getenv("E2E_KEEP") != "1" {
			defer func() {
				err = errors.Join(err, takeDown(context.WithoutCancel(ctx), before))
			}()
		}
		err = useOwn(ctx, image)
	}
	if err != nil {
		return 1, err
	}
	if err := cluster.InstallOperator(ctx); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

func useOwn(ctx context.Context, image quickstart.Image) error {
	if err := driver.Up(ctx); err != nil {
		return err
	}
	standing, err := driver.Standing(ctx)
	if err != nil {
		return err
	}
	loadImages = driver.Load
	if err := loadImages(ctx, image.Archives...); err != nil {
		return err
	}
	cluster, err = quickstart.Connect(driver.Root, standing.Kubeconfig, standing.Kubectl, standing.CA, image)
	return err
}

func useExisting(ctx context.Context, image quickstart.Image) error {
	loadImages = loadByCommand
	if err := loadImages(ctx, image.Archives...); err != nil {
		return err
	}
	assets, err := driver.Run(ctx, "assets")
	if err != nil {
		return err
	}
	cluster, err = quickstart.Connect(driver.Root, os.Getenv("E2E_KUBECONFIG"), filepath.Join(assets, "kubectl"), os.Getenv("E2E_CA"), image)
	return err
}

// loadByCommand loads archives with the command in E2E_LOAD, if set; otherwise they must have been loaded.
func loadByCommand(ctx context.Context, archives ...string) error {
	command := strings.Fields(os.Getenv("E2E_LOAD"))
	if len(command) == 0 {
		return nil
	}
	for _, archive := range archives {
		cmd := exec.CommandContext(ctx, command[0], append(command[1:], archive)...)
		cmd.Dir = driver.Root
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("load %s: %w: %s", archive, err, out)
		}
	}
	return nil
}

// takeDown ends the cluster and compares the host with what it was before.
func takeDown(ctx context.Context, before string) error {
	if err := driver.Down(ctx); err != nil {
		return err
	}
	after, err := driver.Snapshot(ctx)
	if err != nil {
		return err
	}
	if diff := cmp.Diff(strings.Split(before, "\n"), strings.Split(after, "\n")); diff != "" {
		return fmt.Errorf("the cluster left the host different (- before, + after):\n%s", diff)
	}
	return nil
}
