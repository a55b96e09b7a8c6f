package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/dev"
	"heymarket.dev/operator/internal/receiver/admin"
)

// place is where webhooks run: a cluster, or this machine.
type place interface {
	// webhook reads a resource.
	webhook(ctx context.Context, name string) (*v1alpha1.HeymarketWebhook, error)
	// url returns the full URL of a webhook, and token a token that it accepts: both are secret.
	url(ctx context.Context, name string) (string, error)
	token(ctx context.Context, hook *v1alpha1.HeymarketWebhook) (string, error)
	// reach returns a client whose requests go to a port of a receiver, whatever host they name, until end is called.
	reach(ctx context.Context, name string, port int) (client *http.Client, end func(), err error)
	// receivers returns the names of the running receivers, and reachOne is reach for one of them.
	receivers(ctx context.Context, name string) ([]string, error)
	reachOne(ctx context.Context, receiver string, port int) (client *http.Client, end func(), err error)
	// current reads a resource with what its receivers report now.
	current(ctx context.Context, name string) (hook *v1alpha1.HeymarketWebhook, from origin, err error)
	// list prints the webhooks of the namespace, or of all.
	list(ctx context.Context, out io.Writer, as output, everywhere bool) error
	// all returns the webhooks of the namespace.
	all(ctx context.Context) ([]v1alpha1.HeymarketWebhook, error)
	// flags returns the flags with which a command selects this place.
	flags() string
}

// names returns the names of all webhooks in a place.
func names(ctx context.Context, c place) (names []string, err error) {
	hooks, err := c.all(ctx)
	for _, hook := range hooks {
		names = append(names, hook.Name)
	}
	return names, err
}

// missing is the error for a webhook that does not exist.
func missing(format string, args ...any) error {
	return admin.Problem{Status: http.StatusNotFound, Sentence: fmt.Sprintf(format, args...)}
}

// open returns the place selected by the flags.
func (c *connection) open() (place, error) {
	if !c.dev {
		return c.openCluster()
	}
	if c.chosen() {
		return nil, errDevAndCluster
	}
	file, err := dev.StateFile()
	if err != nil {
		return nil, err
	}
	running, err := dev.Find(file)
	if err != nil {
		return nil, err
	}
	return local{running}, nil
}

var errDevAndCluster = errors.New("--dev means the webhook on this machine: leave out --namespace, --context and the other flags of a cluster")

var errChangesCluster = errors.New("this changes a resource in a cluster: leave out --dev")

// openToChange returns the cluster in which a command changes a resource.
func (c *connection) openToChange() (*cluster, error) {
	if c.dev {
		return nil, errChangesCluster
	}
	return c.openCluster()
}

// reasonInMemory is why dev's storage is not durable, which is intended.
const reasonInMemory = "InMemory"

// local is the webhook that `kubectl heymarket dev` runs.
type local struct{ *dev.Running }

func (l local) flags() string { return "--dev" }

func (l local) all(ctx context.Context) ([]v1alpha1.HeymarketWebhook, error) {
	hook, err := l.webhook(ctx, l.Webhook.Name)
	if err != nil {
		hook = l.Webhook // it exists even if its receiver does not answer
	}
	return []v1alpha1.HeymarketWebhook{*hook}, nil
}

func (l local) list(ctx context.Context, out io.Writer, as output, _ bool) error {
	hook, err := l.webhook(ctx, l.Webhook.Name)
	if err != nil {
		return err
	}
	if as.structured() {
		return as.print(out, hook)
	}
	describe(out, hook, l.flags(), origin{}, time.Now())
	return nil
}

func (l local) current(ctx context.Context, name string) (*v1alpha1.HeymarketWebhook, origin, error) {
	hook, err := l.webhook(ctx, name)
	return hook, origin{}, err
}

// webhook returns the resource with a status derived from the receiver's state.
func (l local) webhook(ctx context.Context, name string) (*v1alpha1.HeymarketWebhook, error) {
	if name != l.Webhook.Name {
		return nil, missing("`kubectl heymarket dev` runs the webhook %q, not %q", l.Webhook.Name, name)
	}
	reported, err := l.Status(ctx)
	if err != nil {
		return nil, err
	}
	hook := l.Webhook.DeepCopy()
	hook.Status.URL = l.URL[:strings.LastIndexByte(l.URL, '/')+1] + "****" // masked as by the operator
	ready := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Serving", ObservedGeneration: hook.Generation}
	if reported.Redis != contract.RedisOK {
		ready.Status, ready.Reason = metav1.ConditionFalse, "RedisUnavailable"
	}
	durable := metav1.Condition{Type: v1alpha1.ConditionDurable, Status: metav1.ConditionTrue, Reason: "Durable", Message: "Redis is durable: maxmemory-policy is noeviction and the append-only file is on."}
	if !reported.Durable && len(reported.Problems) > 0 {
		durable.Status, durable.Reason, durable.Message = metav1.ConditionFalse, string(reported.Problems[0]), reported.Problems[0].Message()
	}
	if l.InMemory {
		durable.Reason, durable.Message = reasonInMemory, "Events are kept in memory: they are lost when kubectl heymarket dev ends."
	}
	hook.Status.Conditions = []metav1.Condition{ready, durable}
	merge(&hook.Status, reported)
	return hook, nil
}

func (l local) url(ctx context.Context, name string) (string, error) {
	_, err := l.webhook(ctx, name)
	return l.URL, err
}

func (l local) token(context.Context, *v1alpha1.HeymarketWebhook) (string, error) {
	return l.Token, nil
}

func (l local) reach(ctx context.Context, _ string, port int) (*http.Client, func(), error) {
	return l.reachOne(ctx, "", port)
}

func (l local) receivers(context.Context, string) ([]string, error) { return []string{"dev"}, nil }

func (l local) reachOne(_ context.Context, _ string, port int) (*http.Client, func(), error) {
	address := l.Admin
	if port == contract.EventsPort {
		address = l.Address
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	return &http.Client{Timeout: requestLimit, Transport: transport, CheckRedirect: noRedirect}, transport.CloseIdleConnections, nil
}
