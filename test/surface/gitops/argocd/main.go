// Command argocd applies manifests as Argo CD does, and prints what Argo CD shows of objects, both by Argo CD's own code. It is a
// program in a module of its own because Argo CD needs an older Kubernetes library than the operator.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/argoproj/argo-cd/v3/common"
	"github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	"github.com/argoproj/argo-cd/v3/util/argo"
	argodiff "github.com/argoproj/argo-cd/v3/util/argo/diff"
	"github.com/argoproj/argo-cd/v3/util/argo/normalizers"
	"github.com/argoproj/argo-cd/v3/util/lua"
	"github.com/argoproj/argo-cd/v3/util/settings"
	"github.com/argoproj/gitops-engine/pkg/diff"
	"github.com/argoproj/gitops-engine/pkg/health"
	"github.com/argoproj/gitops-engine/pkg/utils/kube"
	"github.com/argoproj/gitops-engine/pkg/utils/tracing"
	"github.com/go-logr/logr"
	"github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

const usage = `usage: argocd KUBECONFIG apply|apply-server-side|compare < MANIFESTS
       argocd KUBECONFIG health < OBJECTS

apply and apply-server-side synchronize, without and with the option ServerSideApply=true. compare prints a line of JSON for each
manifest that differs from its object in the cluster. health prints a line of JSON for each object as it is given.
Settings of Argo CD are in the ConfigMap argocd-cm in the namespace argocd.`

// A difference is what Argo CD shows if an object is not as its manifest asks.
type difference struct {
	Object string `json:"object"`
	// Comparison is "client", "apply" or "server": the ways of Argo CD to compare, of which an application has one.
	Comparison string          `json:"comparison"`
	Expected   json.RawMessage `json:"expected"`
	Found      json.RawMessage `json:"found"`
}

// A verdict is the health of an object: an empty one where Argo CD knows none for the kind.
type verdict struct {
	Object  string `json:"object"`
	Health  string `json:"health"`
	Message string `json:"message"`
}

func main() {
	logrus.SetOutput(io.Discard)
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "argocd: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, kubeconfig, command string) error {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	cfg.QPS = -1
	objects, err := read(os.Stdin)
	if err != nil {
		return err
	}
	c := cluster{cfg: cfg, kubectl: &kube.KubectlCmd{Log: logr.Discard(), Tracer: tracing.NopTracer{}}}
	switch command {
	case "apply", "apply-server-side":
		return c.apply(ctx, objects, command == "apply-server-side")
	case "compare":
		return c.compare(ctx, objects)
	case "health":
		return c.health(ctx, objects)
	}
	return fmt.Errorf("%q is not a command", command)
}

func read(from io.Reader) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for decoder := yaml.NewYAMLOrJSONDecoder(bufio.NewReader(from), 4096); ; {
		u := &unstructured.Unstructured{}
		if err := decoder.Decode(&u.Object); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, err
		}
		if len(u.Object) > 0 {
			objects = append(objects, u)
		}
	}
}

// track gives manifests the annotation by which Argo CD finds what belongs to an application.
func track(manifests []*unstructured.Unstructured) error {
	for _, u := range manifests {
		if err := argo.NewResourceTracking().SetAppInstance(u, common.LabelKeyAppInstance, "shop", u.GetNamespace(), v1alpha1.TrackingMethodAnnotation, ""); err != nil {
			return err
		}
	}
	return nil
}

func name(u *unstructured.Unstructured) string { return u.GetKind() + " " + u.GetName() }

type cluster struct {
	cfg     *rest.Config
	kubectl *kube.KubectlCmd
}

func (c cluster) apply(ctx context.Context, objects []*unstructured.Unstructured, serverSide bool) error {
	schema, _, err := c.kubectl.LoadOpenAPISchema(c.cfg)
	if err != nil {
		return err
	}
	operations, clean, err := c.kubectl.ManageResources(c.cfg, schema)
	if err != nil {
		return err
	}
	defer clean()
	if err := track(objects); err != nil {
		return err
	}
	for _, u := range objects {
		if _, err := operations.ApplyResource(ctx, u, cmdutil.DryRunNone, false, true, serverSide, common.ArgoCDSSAManager); err != nil {
			return fmt.Errorf("apply %s: %w", name(u), err)
		}
	}
	return nil
}

func (c cluster) settings(ctx context.Context) (map[string]v1alpha1.ResourceOverride, error) {
	clients, err := kubernetes.NewForConfig(c.cfg)
	if err != nil {
		return nil, err
	}
	return settings.NewSettingsManager(ctx, clients, "argocd").GetResourceOverrides()
}

func (c cluster) compare(ctx context.Context, manifests []*unstructured.Unstructured) error {
	overrides, err := c.settings(ctx)
	if err != nil {
		return err
	}
	schema, parser, err := c.kubectl.LoadOpenAPISchema(c.cfg)
	if err != nil {
		return err
	}
	dry, clean, err := kube.ManageServerSideDiffDryRuns(c.cfg, schema, c.kubectl.Tracer, c.kubectl.Log, nil)
	if err != nil {
		return err
	}
	defer clean()
	if err := track(manifests); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for _, u := range manifests {
		live, err := c.kubectl.GetResource(ctx, c.cfg, u.GroupVersionKind(), u.GetName(), u.GetNamespace())
		if err != nil {
			return fmt.Errorf("get %s: %w", name(u), err)
		}
		for _, way := range []string{"client", "apply", "server"} {
			config, err := argodiff.NewDiffConfigBuilder().WithDiffSettings(nil, overrides, false, normalizers.IgnoreNormalizerOpts{}).
				WithTracking(common.LabelKeyAppInstance, string(v1alpha1.TrackingMethodAnnotation)).WithNoCache().
				WithGVKParser(parser).WithManager(common.ArgoCDSSAManager).WithStructuredMergeDiff(way == "apply").
				WithServerSideDiff(way == "server").WithServerSideDryRunner(diff.NewK8sServerSideDryRunner(dry)).Build()
			if err != nil {
				return err
			}
			result, err := argodiff.StateDiff(live, u, config)
			if err != nil {
				return fmt.Errorf("compare %s, %s: %w", name(u), way, err)
			}
			if !result.Modified {
				continue
			}
			if err := out.Encode(difference{name(u), way, result.PredictedLive, result.NormalizedLive}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c cluster) health(ctx context.Context, objects []*unstructured.Unstructured) error {
	overrides, err := c.settings(ctx)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for _, u := range objects {
		v := verdict{Object: name(u)}
		status, err := health.GetResourceHealth(u, lua.ResourceHealthOverrides(overrides))
		if err != nil {
			return err
		}
		if status != nil {
			v.Health, v.Message = string(status.Status), status.Message
		}
		if err := out.Encode(v); err != nil {
			return err
		}
	}
	return nil
}
