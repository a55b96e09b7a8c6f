package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"heymarket.dev/operator/api/v1alpha1"
)

// connection is which cluster and namespace a person means, as kubectl's flags of these names say it.
type connection struct {
	namespace, context, kubeconfig string
	dev                            bool // the webhook on this machine instead
}

// cluster is a cluster as seen from one namespace.
type cluster struct {
	namespace string
	config    *rest.Config
	// core and webhooks read resources. They are REST clients as they are: controller-runtime's would compile and link all of
	// client-go's informers.
	core, webhooks rest.Interface
}

func (c connection) openCluster() (*cluster, error) {
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
	opened := &cluster{namespace: namespace, config: config}
	if opened.core, err = restClient(config, "/api", corev1.SchemeGroupVersion, corev1.AddToScheme); err == nil {
		opened.webhooks, err = restClient(config, "/apis", v1alpha1.GroupVersion, v1alpha1.AddToScheme)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w; check --context and --kubeconfig", err)
	}
	return opened, nil
}

// restClient is a client for the resources of one group and version.
func restClient(config *rest.Config, path string, version schema.GroupVersion, add func(*runtime.Scheme) error) (rest.Interface, error) {
	known := runtime.NewScheme()
	metav1.AddToGroupVersion(known, version)
	if err := add(known); err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.APIPath, config.GroupVersion, config.NegotiatedSerializer = path, &version, serializer.NewCodecFactory(known).WithoutConversion()
	return rest.RESTClientFor(config)
}

// webhookResource is the name of the resource in paths.
const webhookResource = "heymarketwebhooks"

func (c *cluster) names(ctx context.Context) (names []string, err error) {
	var list v1alpha1.HeymarketWebhookList
	if err := c.webhooks.Get().Namespace(c.namespace).Resource(webhookResource).Do(ctx).Into(&list); err != nil {
		return nil, c.explain("list HeymarketWebhooks", err)
	}
	for _, hook := range list.Items {
		names = append(names, hook.Name)
	}
	return names, nil
}

func (c *cluster) flags() string { return "--namespace " + c.namespace }

// webhook reads the HeymarketWebhook of a name.
func (c *cluster) webhook(ctx context.Context, name string) (*v1alpha1.HeymarketWebhook, error) {
	var hook v1alpha1.HeymarketWebhook
	err := c.webhooks.Get().Namespace(c.namespace).Resource(webhookResource).Name(name).Do(ctx).Into(&hook)
	switch {
	case apierrors.IsNotFound(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse):
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
	err := c.core.Get().Namespace(c.namespace).Resource("secrets").Name(name).Do(ctx).Into(&secret)
	switch value := bytes.TrimSpace(secret.Data[key]); {
	case err != nil && !apierrors.IsNotFound(err):
		return "", c.explain("read Secret "+name, err)
	case err != nil || len(value) == 0:
		return "", fmt.Errorf("there is no key %q in a Secret %q of namespace %q: %s", key, name, c.namespace, whenMissing)
	default:
		return string(value), nil
	}
}

// token reads the current token of a webhook.
func (c *cluster) token(ctx context.Context, hook *v1alpha1.HeymarketWebhook) (string, error) {
	ref := hook.Spec.Token.SecretKeyRef
	return c.secret(ctx, ref.Name, ref.Key, "put the token there that the Heymarket app shows")
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
