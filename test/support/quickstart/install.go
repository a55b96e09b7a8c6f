package quickstart

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"heymarket.dev/operator/api/v1alpha1"
)

// The quickstart's names: examples/quickstart is applied unchanged, except for the namespace if a test uses its own.
const (
	Namespace   = "staging"
	WebhookName = "support"
	TokenSecret = "heymarket"
	TokenKey    = "token"
	TargetName  = "crm"
)

// System is the namespace that the operator is installed into.
const System = "heymarket-system"

// Cluster is a cluster with everything that it takes to install the operator on it and to look at it.
type Cluster struct {
	Client     client.Client
	Kubeconfig string // path
	Kubectl    string // path
	Image      Image

	root  string // of the checkout
	roots *x509.CertPool
	core  rest.Interface
}

// Connect makes a client for a cluster. The certificates in the file ca, if one is named, are trusted besides the system's when Heymarket is played.
func Connect(root, kubeconfig, kubectl, ca string, image Image) (*Cluster, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	config.QPS, config.Burst = 100, 200
	log.SetLogger(logr.Discard()) // else the client logs a stack trace, because none is set
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	c := &Cluster{Kubeconfig: kubeconfig, Kubectl: kubectl, Image: image, root: root}
	if c.Client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return nil, fmt.Errorf("connect to the cluster of %s: %w", kubeconfig, err)
	}
	core := rest.CopyConfig(config)
	core.APIPath, core.GroupVersion, core.NegotiatedSerializer = "/api", &corev1.SchemeGroupVersion, clientgoscheme.Codecs.WithoutConversion()
	if c.core, err = rest.RESTClientFor(core); err != nil {
		return nil, err
	}
	if c.roots, err = x509.SystemCertPool(); err != nil {
		c.roots = x509.NewCertPool()
	}
	if ca != "" {
		data, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("read the Ingress's CA: %w", err)
		}
		if !c.roots.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("%s holds no certificate", ca)
		}
	}
	return c, nil
}

// RunKubectl runs kubectl and returns what it prints.
func (c *Cluster) RunKubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.Kubectl, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig)
	cmd.Stdin = strings.NewReader(stdin)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(complaint.Bytes()))
	}
	return out.String(), nil
}

// apply builds a kustomization of the checkout, puts the image's name into it, changes it by edit, and applies it.
func (c *Cluster) apply(ctx context.Context, dir string, edit func(string) string) error {
	manifest, err := c.RunKubectl(ctx, "", "kustomize", filepath.Join(c.root, dir))
	if err != nil {
		return err
	}
	if edit != nil {
		manifest = edit(manifest)
	}
	_, err = c.RunKubectl(ctx, c.Image.In(manifest), "apply", "--server-side", "--force-conflicts", "-f", "-")
	return err
}

// InstallOperator installs the operator with a Redis of its own, and waits until both serve.
func (c *Cluster) InstallOperator(ctx context.Context) error {
	if err := c.apply(ctx, "hack/demo/overlay", nil); err != nil {
		return fmt.Errorf("install the operator: %w", err)
	}
	for _, wait := range [][]string{
		{"wait", "--for=condition=Established", "--timeout=30s", "crd/heymarketwebhooks.heymarket.dev"},
		{"rollout", "status", "--timeout=120s", "--namespace=redis", "statefulset/redis"},
		{"rollout", "status", "--timeout=120s", "--namespace=" + System, "deployment/heymarket-operator"},
	} {
		if _, err := c.RunKubectl(ctx, "", wait...); err != nil {
			return fmt.Errorf("wait for the operator: %w", err)
		}
	}
	return nil
}

// ApplyQuickstart applies examples/quickstart in a namespace.
func (c *Cluster) ApplyQuickstart(ctx context.Context, namespace string) error {
	err := c.apply(ctx, "examples/quickstart", func(manifest string) string {
		return strings.NewReplacer(
			"namespace: "+Namespace+"\n", "namespace: "+namespace+"\n",
			"name: "+Namespace+"\n", "name: "+namespace+"\n",
			"."+Namespace+".svc", "."+namespace+".svc",
		).Replace(manifest)
	})
	if err != nil {
		return fmt.Errorf("apply examples/quickstart: %w", err)
	}
	if _, err := c.RunKubectl(ctx, "", "rollout", "status", "--timeout=60s", "--namespace="+namespace, "deployment/"+TargetName); err != nil {
		return fmt.Errorf("wait for the target: %w", err)
	}
	return nil
}

// Webhook reads the HeymarketWebhook of a namespace.
func (c *Cluster) Webhook(ctx context.Context, namespace string) (*v1alpha1.HeymarketWebhook, error) {
	var webhook v1alpha1.HeymarketWebhook
	err := c.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: WebhookName}, &webhook)
	return &webhook, err
}

// AwaitReady waits until the HeymarketWebhook of a namespace is Ready as it is now, served by this checkout's image. When it does not become so in time,
// the error contains its conditions.
func (c *Cluster) AwaitReady(ctx context.Context, namespace string, within time.Duration) error {
	var last string
	err := Poll(ctx, within, func(ctx context.Context) (bool, error) {
		webhook, err := c.Webhook(ctx, namespace)
		if err != nil {
			return false, err
		}
		conditions := webhook.Status.Conditions
		last = describe(conditions)
		ready := meta.FindStatusCondition(conditions, "Ready")
		return ready != nil && ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == webhook.Generation &&
			(c.Image.Name == "" || webhook.Status.Image == c.Image.Name), nil
	})
	if err != nil {
		return fmt.Errorf("HeymarketWebhook %s/%s is not Ready: %w; %s", namespace, WebhookName, err, last)
	}
	return nil
}

func describe(conditions []metav1.Condition) string {
	if len(conditions) == 0 {
		return "it has no conditions yet: is the operator running?"
	}
	var parts []string
	for _, condition := range conditions {
		parts = append(parts, fmt.Sprintf("%s=%s (%s: %s)", condition.Type, condition.Status, condition.Reason, condition.Message))
	}
	return strings.Join(parts, ", ")
}

// Heymarket is Heymarket for the webhook of a namespace: its URL comes from the Secret of the operator, its token from the one of the user, and the
// address that the URL's host stands for from the status of the Ingress.
func (c *Cluster) Heymarket(ctx context.Context, namespace string) (*Heymarket, error) {
	url, err := c.secret(ctx, namespace, WebhookName+"-url", "url")
	if err != nil {
		return nil, err
	}
	token, err := c.secret(ctx, namespace, TokenSecret, TokenKey)
	if err != nil {
		return nil, err
	}
	address, err := c.IngressAddress(ctx, namespace)
	if err != nil {
		return nil, err
	}
	h := NewHeymarket(url, token, address, c.roots)
	return h, h.awaitRoute(ctx)
}

// IngressAddress is where the Ingress of a namespace's webhook is served.
func (c *Cluster) IngressAddress(ctx context.Context, namespace string) (string, error) {
	var ingress networkingv1.Ingress
	key := client.ObjectKey{Namespace: namespace, Name: WebhookName + "-receiver"}
	if err := c.Client.Get(ctx, key, &ingress); err != nil {
		return "", err
	}
	for _, point := range ingress.Status.LoadBalancer.Ingress {
		if point.IP != "" {
			return point.IP, nil
		}
		if point.Hostname != "" {
			return point.Hostname, nil
		}
	}
	return "", fmt.Errorf("the Ingress %s has no address in its status; does an ingress controller serve it?", key)
}

func (c *Cluster) secret(ctx context.Context, namespace, name, key string) (string, error) {
	var secret corev1.Secret
	if err := c.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &secret); err != nil {
		return "", err
	}
	value, ok := secret.Data[key]
	if !ok {
		return "", fmt.Errorf("the Secret %s/%s has no key %q", namespace, name, key)
	}
	return strings.TrimSpace(string(value)), nil
}

// Poll asks until the answer is true, every 100 ms. An error is an answer that may still change: the last one is returned when time is up.
func Poll(ctx context.Context, within time.Duration, ask func(context.Context) (bool, error)) error {
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		done, err := ask(limited)
		if done && err == nil {
			return nil
		}
		if err != nil && limited.Err() == nil {
			last = err
		}
		select {
		case <-limited.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if last != nil {
				return fmt.Errorf("not within %s: %w", within, last)
			}
			return fmt.Errorf("not within %s", within)
		case <-tick.C:
		}
	}
}
