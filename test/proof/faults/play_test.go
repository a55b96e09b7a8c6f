package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller"
	"heymarket.dev/operator/internal/controller/source"
	"heymarket.dev/operator/test/support/snapshot"
)

// bound is the time in which every plan must come to its end. The longest wait that the operator and its informers
// have in them is a few seconds; the rest is for slow machines.
const bound = 90 * time.Second

// play is one run of a scenario, in a namespace of its own.
type play struct {
	*cluster
	wire *wire
	hook client.ObjectKey
	// stop ends the present process and waits until it has ended.
	stop func() error
	// file holds the URL of Redis.
	file string
}

func (c *cluster) newPlay(ctx context.Context, dir string, faults ...fault) (*play, error) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "faults-"}}
	if err := c.person.Create(ctx, ns); err != nil {
		return nil, err
	}
	p := &play{
		cluster: c, wire: newWire(ns.Name, faults...),
		hook: client.ObjectKey{Namespace: ns.Name, Name: "support"}, file: filepath.Join(dir, "redis-url"),
	}
	return p, os.WriteFile(p.file, []byte("redis://redis.example.com:6379/0\n"), 0o600)
}

// start runs the operator until stop is called, and another one whenever it dies on the way.
func (p *play) start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	proc, mgr, err := p.newManager(ctx)
	if err != nil {
		cancel()
		return err
	}
	go func() {
		for {
			err := mgr.Start(proc.dead)
			if ctx.Err() != nil || err != nil && proc.dead.Err() == nil {
				ended <- err
				return
			}
			if proc, mgr, err = p.newManager(ctx); err != nil {
				ended <- err
				return
			}
		}
	}()
	p.stop = func() error {
		cancel()
		return <-ended
	}
	return nil
}

func (p *play) newManager(ctx context.Context) (*process, ctrl.Manager, error) {
	proc := p.wire.newProcess(ctx)
	redis, err := source.OpenRedisFiles(p.file, "")
	if err != nil {
		return nil, nil, err
	}
	namespaces := []string{p.hook.Namespace}
	mgr, err := ctrl.NewManager(proc.config(p.cfg), ctrl.Options{
		Scheme:                  controller.Scheme(),
		Logger:                  logr.Discard(),
		Cache:                   controller.CacheOptions(namespaces),
		Client:                  controller.ClientOptions(namespaces),
		NewClient:               p.newClient,
		MapperProvider:          p.mapper,
		Metrics:                 server.Options{BindAddress: "0"},
		Controller:              config.Controller{SkipNameValidation: new(true)}, // Many managers in one process, in tests alone.
		GracefulShutdownTimeout: new(10 * time.Second),
	})
	if err != nil {
		return nil, nil, fmt.Errorf("set up the manager: %w", err)
	}
	template, err := controller.ParseHostTemplate("{{.Namespace}}.hooks.example.com")
	if err != nil {
		return nil, nil, err
	}
	settings := controller.Settings{ReceiverImage: "heymarket.dev/operator:v1", HostTemplate: template, Namespaces: namespaces, AllowedLabels: controller.AllowList{"*"}}
	if err := controller.Setup(proc.dead, mgr, settings, redis, p.stage); err != nil {
		return nil, nil, fmt.Errorf("set up the controller: %w", err)
	}
	return proc, mgr, nil
}

// settled waits until the operator has reached the state of the resource and of want, if it is known.
func (p *play) settled(ctx context.Context, want *snapshot.State) (snapshot.State, error) {
	var state snapshot.State
	err := p.until(ctx, bound, func() (bool, error) {
		if !p.ready(ctx) {
			return false, nil
		}
		var err error
		state, err = snapshot.Read(ctx, p.person, p.kinds, p.hook)
		return err == nil && (want == nil || difference(*want, state) == ""), err
	})
	if err == nil {
		return state, nil
	}
	hook := &v1alpha1.HeymarketWebhook{}
	_ = p.person.Get(ctx, p.hook, hook)
	status, _ := yaml.Marshal(hook.Status)
	if want != nil {
		state, _ = snapshot.Read(ctx, p.person, p.kinds, p.hook)
		err = fmt.Errorf("%w; the end state differs (-good +this):\n%s", err, difference(*want, state))
	}
	return state, fmt.Errorf("%w; the status is:\n%s", err, status)
}

func (p *play) ready(ctx context.Context) bool {
	hook := &v1alpha1.HeymarketWebhook{}
	if err := p.seen.Get(ctx, p.hook, hook); err != nil {
		return false
	}
	c := meta.FindStatusCondition(hook.Status.Conditions, v1alpha1.ConditionReady)
	return c != nil && c.Status == metav1.ConditionTrue && c.ObservedGeneration == hook.Generation
}

// difference is "" for states that are equal, as far as they do not depend on which of two figures came first: those
// are reported once a minute.
func difference(a, b snapshot.State) string {
	return cmp.Diff(compared(a), compared(b))
}

func compared(s snapshot.State) map[string]any {
	out := map[string]any{"children": s.Children}
	if s.Webhook != nil {
		hook := map[string]any{"metadata": s.Webhook["metadata"]}
		if status, ok := s.Webhook["status"].(map[string]any); ok {
			for k, v := range status {
				switch k {
				case "targets", "pending", "deadLetters", "countTime":
				default:
					hook[k] = v
				}
			}
		}
		out["webhook"] = hook
	}
	return out
}

// rest wakes the resource, again and again, until two rounds in a row have written nothing. That a round comes shows that
// the watch works again; that nothing is written shows that the end is one. An informer that must list again may wait
// seconds for it, and until then the operator tries what conflicts.
func (p *play) rest(ctx context.Context) error {
	for began := time.Now(); ; {
		p.wire.take()
		for range 2 {
			asked := p.stage.Asked(p.hook)
			if err := p.touch(ctx); err != nil {
				return err
			}
			err := p.until(ctx, bound, func() (bool, error) { return p.stage.Asked(p.hook) > asked, nil })
			if err != nil {
				return fmt.Errorf("a change of the token's Secret does not wake the operator: %w", err)
			}
		}
		late := p.wire.take()
		switch {
		case len(late) == 0:
			return nil
		case time.Since(began) > bound:
			return fmt.Errorf("writes and does not come to rest: %s", strings.Join(late, ", "))
		}
	}
}

func (p *play) touch(ctx context.Context) error {
	patch := fmt.Sprintf(`{"metadata":{"annotations":{"touched":%q}}}`, time.Now().Format(time.RFC3339Nano))
	return p.person.Patch(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: p.hook.Namespace, Name: "heymarket"}},
		client.RawPatch("application/merge-patch+json", []byte(patch)))
}

// gone waits until nothing is left.
func (p *play) gone(ctx context.Context) error {
	var left []string
	err := p.until(ctx, bound, func() (bool, error) {
		if err := p.collect(ctx, p.hook); err != nil {
			return false, err
		}
		s, err := snapshot.Read(ctx, p.person, p.kinds, p.hook)
		left = nil
		if s.Webhook != nil {
			left = append(left, "the resource")
		}
		for name := range s.Children {
			left = append(left, name)
		}
		return len(left) == 0, err
	})
	if err != nil {
		return fmt.Errorf("%w; what is left: %s", err, strings.Join(left, ", "))
	}
	return nil
}

func (p *play) secret(ctx context.Context, name string, data map[string]string) error {
	return p.person.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: p.hook.Namespace, Name: name}, StringData: data})
}

func (p *play) create(ctx context.Context, spec string) error {
	hook := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: p.hook.Namespace, Name: p.hook.Name}}
	if err := yaml.UnmarshalStrict([]byte(spec), &hook.Spec); err != nil {
		return err
	}
	return p.person.Create(ctx, hook)
}

// update gives the resource another spec, again if the operator has written to it in between.
func (p *play) update(ctx context.Context, spec string) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		hook := &v1alpha1.HeymarketWebhook{}
		if err := p.person.Get(ctx, p.hook, hook); err != nil {
			return err
		}
		hook.Spec = v1alpha1.HeymarketWebhookSpec{}
		if err := yaml.UnmarshalStrict([]byte(spec), &hook.Spec); err != nil {
			return err
		}
		return p.person.Update(ctx, hook)
	})
}
