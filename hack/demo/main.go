// Command demo shows the operator's main job on a real cluster that it brings up itself: from a HeymarketWebhook to a delivered event.
//
//	demo        play it; what stands already is used
//	demo down   take everything away again
//
// With DEMO_ONCE=1 it takes everything away when it is done, also when it failed.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"heymarket.dev/operator/test/support/quickstart"
)

const clusterName = "demo"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted; `make demo` goes on from here, `make demo-down` takes everything away")
	}
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	if len(args) > 1 || len(args) == 1 && args[0] != "down" {
		return fmt.Errorf("%q is nothing that it knows; call it without an argument, or with \"down\"", strings.Join(args, " "))
	}
	driver, err := quickstart.NewDriver(ctx, clusterName, os.Stderr)
	if err != nil {
		return err
	}
	if len(args) == 1 {
		return driver.Down(ctx)
	}
	once := os.Getenv("DEMO_ONCE") == "1"
	if once {
		defer func() {
			// An interrupt ends the demo, not its tidying up.
			if wrong := driver.Down(context.WithoutCancel(ctx)); wrong != nil {
				err = errors.Join(err, wrong)
			}
		}()
	}
	return demo(ctx, driver, newScreen(os.Stdout), once)
}

// demo plays it, step by step. Once means that nothing will stand afterwards, so there is nothing to go on with by hand.
func demo(ctx context.Context, driver *quickstart.Driver, s *screen, once bool) error {
	var images quickstart.Images
	var standing quickstart.Standing
	var cluster *quickstart.Cluster
	var heymarket *quickstart.Heymarket
	for _, step := range []struct {
		title string
		talks bool // the driver shows its progress
		do    func() (string, error)
	}{
		{"Build the operator and a target", true, func() (detail string, err error) {
			images, err = driver.Images(ctx)
			return size(images), err
		}},
		{"Start Kubernetes", true, func() (string, error) {
			err := driver.Up(ctx)
			if err == nil {
				standing, err = driver.Standing(ctx)
			}
			return "one node at " + standing.Node, err
		}},
		{"Load the images", false, func() (string, error) { return images.Operator, driver.Load(ctx, images.Archives...) }},
		{"Install Redis and the operator", false, func() (detail string, err error) {
			cluster, err = quickstart.Connect(driver.Root, standing.Kubeconfig, standing.Kubectl, standing.CA, images)
			if err == nil {
				err = cluster.InstallOperator(ctx)
			}
			return "hack/demo/overlay", err
		}},
		{"Apply a HeymarketWebhook", false, func() (string, error) {
			return "examples/quickstart", cluster.ApplyQuickstart(ctx, quickstart.Namespace)
		}},
		{"Wait until it is Ready", false, func() (detail string, err error) {
			if err = cluster.AwaitReady(ctx, quickstart.Namespace, 2*time.Minute); err == nil {
				heymarket, err = cluster.Heymarket(ctx, quickstart.Namespace)
			}
			if err != nil {
				return "", err
			}
			return "https://" + heymarket.Host() + ", the rest of the URL is a secret", nil
		}},
	} {
		if err := s.step(step.title, step.talks, step.do); err != nil {
			if errors.Is(err, quickstart.ErrSaid) {
				return fmt.Errorf("%q failed, %w", step.title, err)
			}
			return fmt.Errorf("%q failed: %w; `make demo` tries again, `make demo-down` takes everything away", step.title, err)
		}
	}
	rows, err := quickstart.Play(ctx, heymarket, cluster.Target(quickstart.Namespace, quickstart.TargetName))
	s.table(rows)
	if err != nil {
		return fmt.Errorf("not as it should be: %w; `kubectl --namespace %s logs deployment/%s-receiver` may tell why", err, quickstart.Namespace, quickstart.WebhookName)
	}
	if !once {
		s.farewell(standing, heymarket)
	}
	return nil
}

// size tells how large the programs are that go into the operator's image.
func size(images quickstart.Images) string {
	var parts []string
	for _, archive := range images.Archives {
		if info, err := os.Stat(archive); err == nil {
			name := strings.TrimSuffix(filepath.Base(archive), ".tar")
			parts = append(parts, fmt.Sprintf("%s image %.1f MB", name, float64(info.Size())/1e6))
		}
	}
	return strings.Join(parts, ", ")
}
