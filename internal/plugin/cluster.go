package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/pflag"
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

// connection holds the kubectl flags that select a cluster and a namespace.
type connection struct {
	kubeconfig string
	overrides  clientcmd.ConfigOverrides
	// flags are the flags that set the fields above.
	flags *pflag.FlagSet
	dev   bool // the webhook on this machine instead
}

// shownFlags are the connection flags that every help text lists; the others are rarely needed.
var shownFlags = []string{"namespace", "context", "kubeconfig"}

// bind adds kubectl's flags, from client-go, which defines their names and meaning.
func (c *connection) bind(flags *pflag.FlagSet) {
	c.flags = pflag.NewFlagSet("", pflag.ContinueOnError)
	names := clientcmd.RecommendedConfigOverrideFlags("")
	names.ContextOverrideFlags.Namespace.Description = "namespace of the HeymarketWebhook; default: that of the context"
	names.ContextOverrideFlags.Namespace.ShortName = "n"
	names.CurrentContext.Description = "context of the kubeconfig; default: the current one"
	clientcmd.BindOverrideFlags(&c.overrides, c.flags, names)
	c.flags.StringVar(&c.kubeconfig, "kubeconfig", "", "path of the kubeconfig; default: $KUBECONFIG, or ~/.kube/config")
	c.flags.VisitAll(func(f *pflag.Flag) { f.Hidden = !slices.Contains(shownFlags, f.Name) })
	flags.AddFlagSet(c.flags)
}

// chosen reports whether a flag selects a cluster or a namespace.
func (c *connection) chosen() (chosen bool) {
	c.flags.VisitAll(func(f *pflag.Flag) { chosen = chosen || f.Changed })
	return chosen
}

// cluster is a cluster as seen from one namespace.
type cluster struct {
	namespace string
	context   string // by --context; "" means the current one
	config    *rest.Config
	// core and webhooks read resources. They are plain REST clients: controller-runtime's would compile and link all of
	// client-go's informers.
	core, webhooks rest.Interface
}

func (c *connection) openCluster() (*cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.kubeconfig
	loaded := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &c.overrides)
	config, err := loaded.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("which cluster is meant is not clear: %w; set KUBECONFIG, --kubeconfig or --context", err)
	}
	namespace, _, err := loaded.Namespace()
	if err != nil {
		return nil, fmt.Errorf("which namespace is meant is not clear: %w; set --namespace", err)
	}
	opened := &cluster{namespace: namespace, context: c.overrides.CurrentContext, config: config}
	if opened.core, err = restClient(config, "/api", corev1.SchemeGroupVersion, corev1.AddToScheme); err == nil {
		opened.webhooks, err = restClient(config, "/apis", v1alpha1.GroupVersion, v1alpha1.AddToScheme)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w; check --context and --kubeconfig", err)
	}
	return opened, nil
}

// restClient returns a client for the resources of one group and version.
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

// webhookResource is the resource's name in paths.
const webhookResource = "heymarketwebhooks"

func (c *cluster) all(ctx context.Context) ([]v1alpha1.HeymarketWebhook, error) {
	var list v1alpha1.HeymarketWebhookList
	if err := c.webhooks.Get().Namespace(c.namespace).Resource(webhookResource).Do(ctx).Into(&list); err != nil {
		return nil, c.explain("list HeymarketWebhooks", err)
	}
	return list.Items, nil
}

func (c *cluster) flags() string {
	if c.context != "" {
		return "--namespace " + c.namespace + " --context " + c.context
	}
	return "--namespace " + c.namespace
}

// webhook reads the HeymarketWebhook with a name.
func (c *cluster) webhook(ctx context.Context, name string) (*v1alpha1.HeymarketWebhook, error) {
	var hook v1alpha1.HeymarketWebhook
	err := c.webhooks.Get().Namespace(c.namespace).Resource(webhookResource).Name(name).Do(ctx).Into(&hook)
	switch {
	case apierrors.IsNotFound(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse):
		return nil, missing("this cluster has no HeymarketWebhooks: install the operator, or choose another --context")
	case apierrors.IsNotFound(err):
		return nil, missing("there is no HeymarketWebhook %q in namespace %q; `kubectl get hmw --all-namespaces` lists all of them", name, c.namespace)
	case err != nil:
		return nil, c.explain("read HeymarketWebhook "+name, err)
	}
	return &hook, nil
}

// secret reads one value of a Secret, without the trailing newline that an editor may have added.
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
	return c.secret(ctx, ref.Name, ref.Key, "store the token from the Heymarket app in it")
}

// explain adds the remedy to an error of the API server.
func (c *cluster) explain(doing string, err error) error {
	switch {
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: %w; ask an administrator for a Role in namespace %q that allows it", doing, err, c.namespace)
	case apierrors.ReasonForError(err) == "" && !errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w; does the cluster answer? Check --context and --kubeconfig", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
