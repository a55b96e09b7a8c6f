package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
)

// connection is which cluster and namespace a person means, as kubectl's flags of these names say it.
type connection struct {
	namespace, context, kubeconfig string
}

// cluster is a cluster as seen from one namespace.
type cluster struct {
	namespace string
	config    *rest.Config
	client    client.Client
}

func (c connection) open() (*cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: c.context}
	overrides.Context.Namespace = c.namespace
	loaded := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
	config, err := loaded.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("which cluster is meant is not clear: %w; set KUBECONFIG, --kubeconfig or --context", err)
	}
	namespace, _, err := loaded.Namespace()
	if err != nil {
		return nil, fmt.Errorf("which namespace is meant is not clear: %w; set --namespace", err)
	}
	known := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(known), v1alpha1.AddToScheme(known)); err != nil {
		return nil, err
	}
	api, err := client.New(config, client.Options{Scheme: known})
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w; check --context and --kubeconfig", err)
	}
	return &cluster{namespace: namespace, config: config, client: api}, nil
}

// webhook reads the HeymarketWebhook of a name.
func (c *cluster) webhook(ctx context.Context, name string) (*v1alpha1.HeymarketWebhook, error) {
	var hook v1alpha1.HeymarketWebhook
	err := c.client.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: name}, &hook)
	switch {
	case meta.IsNoMatchError(err):
		return nil, errors.New("this cluster knows no HeymarketWebhooks: install the operator, or choose another --context")
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("there is no HeymarketWebhook %q in namespace %q; `kubectl get hmw --all-namespaces` lists all of them", name, c.namespace)
	case err != nil:
		return nil, c.explain("read HeymarketWebhook "+name, err)
	}
	return &hook, nil
}

// secret reads one value of a Secret, without the newline that an editor may have left at its end.
func (c *cluster) secret(ctx context.Context, name, key, whenMissing string) (string, error) {
	var secret corev1.Secret
	err := c.client.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: name}, &secret)
	switch value := bytes.TrimSpace(secret.Data[key]); {
	case err != nil && !apierrors.IsNotFound(err):
		return "", c.explain("read Secret "+name, err)
	case err != nil || len(value) == 0:
		return "", fmt.Errorf("there is no key %q in a Secret %q of namespace %q: %s", key, name, c.namespace, whenMissing)
	default:
		return string(value), nil
	}
}

// explain adds what to do to an error of the API server.
func (c *cluster) explain(doing string, err error) error {
	switch {
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: %w; have somebody with the right do it, or give it to you by a Role in namespace %q", doing, err, c.namespace)
	case apierrors.ReasonForError(err) == "" && !errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w; does the cluster answer? Check --context and --kubeconfig", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
