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
	var image quickstart.Image
	var standing quickstart.Standing
	var cluster *quickstart.Cluster
	var heymarket *quickstart.Heymarket
	for _, step := range []struct {
		title string
		talks bool // the driver shows its progress
		do    func() (string, error)
	}{
		{"Build the operator", true, func() (detail string, err error) {
			image, err = driver.Image(ctx)
			return size(image), err
		}},
		{"Start Kubernetes", true, func() (string, error) {
			err := driver.Up(ctx)
			if err == nil {
				standing, err = driver.Standing(ctx)
			}
			return "one node at " + standing.Node, err
		}},
		{"Load its image", false, func() (string, error) { return image.Name, driver.Load(ctx, image.Archives...) }},
		{"Install Redis and the operator", false, func() (detail string, err error) {
			cluster, err = quickstart.Connect(driver.Root, standing.Kubeconfig, standing.Kubectl, standing.CA, image)
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

// size returns the size of the image.
func size(image quickstart.Image) string {
	info, err := os.Stat(image.Archives[0])
	if err != nil {
		return ""
	}
	return fmt.Sprintf("image of %.1f MB", float64(info.Size())/1e6)
}
