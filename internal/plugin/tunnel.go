package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

// tunnel connects to one port of a Pod, through the API server. It opens no local port: the administrative API does not
// authenticate clients, and on a shared machine any user could connect to the port.
type tunnel struct {
	connection httpstream.Connection
	port       int
	requests   atomic.Int64
}

// openTunnel opens a tunnel to a Pod.
func (c *cluster) openTunnel(pod string, port int) (*tunnel, error) {
	dialer, err := c.forwarder(pod)
	if err != nil {
		return nil, fmt.Errorf("reach Pod %s: %w", pod, err)
	}
	connection, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		return nil, fmt.Errorf("reach Pod %s: %w; that takes the right to create pods/portforward in namespace %q", pod, err, c.namespace)
	}
	return &tunnel{connection: connection, port: port}, nil
}

// reach opens a tunnel for requests to a port of a receiver Pod.
func (c *cluster) reach(ctx context.Context, webhook string, port int) (*http.Client, func(), error) {
	pod, err := c.receiver(ctx, webhook)
	if err != nil {
		return nil, nil, err
	}
	return c.reachOne(ctx, pod, port)
}

// reachOne opens a tunnel for requests to a port of one receiver Pod.
func (c *cluster) reachOne(_ context.Context, pod string, port int) (*http.Client, func(), error) {
	way, err := c.openTunnel(pod, port)
	if err != nil {
		return nil, nil, err
	}
	return way.client(), way.Close, nil
}

// current implements place.
func (c *cluster) current(ctx context.Context, name string) (hook *v1alpha1.HeymarketWebhook, from origin, err error) {
	if hook, err = c.webhook(ctx, name); err != nil {
		return nil, from, err
	}
	answers, err := askAll[contract.Status](ctx, c, name, contract.OperationsPort, contract.StatusPath)
	return hook, update(&hook.Status, answers, err), nil
}

// pods lists the receiver Pods of a webhook.
func (c *cluster) pods(ctx context.Context, webhook string) (pods corev1.PodList, err error) {
	err = c.core.Get().Namespace(c.namespace).Resource("pods").Param("labelSelector", labels.FormatLabels(contract.PodLabels(webhook))).Do(ctx).Into(&pods)
	if err != nil {
		err = c.explain("list the receiver Pods", err)
	}
	return pods, err
}

// receivers returns the names of the running receiver Pods, including those that are not ready or about to end: they deliver as
// well.
func (c *cluster) receivers(ctx context.Context, webhook string) (names []string, err error) {
	pods, err := c.pods(ctx, webhook)
	for _, pod := range pods.Items {
		if pod.Status.Phase == corev1.PodRunning {
			names = append(names, pod.Name)
		}
	}
	return names, err
}

// receiver returns the name of a ready receiver Pod.
func (c *cluster) receiver(ctx context.Context, webhook string) (string, error) {
	pods, err := c.pods(ctx, webhook)
	if err != nil {
		return "", err
	}
	for _, pod := range pods.Items {
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue && pod.DeletionTimestamp.IsZero() {
				return pod.Name, nil
			}
		}
	}
	return "", fmt.Errorf("no receiver Pod of %s is ready; `kubectl heymarket status %s --namespace %s` shows why", webhook, webhook, c.namespace)
}

// forwarder dials as kubectl does: by WebSocket, and by SPDY if the API server, or a proxy in front of it, does not support it.
func (c *cluster) forwarder(pod string) (httpstream.Dialer, error) {
	address := c.core.Post().Namespace(c.namespace).Resource("pods").Name(pod).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(c.config)
	if err != nil {
		return nil, err
	}
	old := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, address)
	dialer, err := portforward.NewSPDYOverWebsocketDialerForStreaming(address, c.config)
	if err != nil {
		return nil, err
	}
	return portforward.NewFallbackDialerForStreaming(dialer, old, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	}), nil
}

// Close closes the tunnel and every connection through it.
func (t *tunnel) Close() { _ = t.connection.Close() }

// client sends requests through the tunnel, whatever host they name.
func (t *tunnel) client() *http.Client {
	return &http.Client{
		Timeout: requestLimit,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       func(context.Context, string, string) (net.Conn, error) { return t.dial() },
		},
		CheckRedirect: noRedirect,
	}
}

// dial opens one connection: a stream for data, and one on which the kubelet reports errors.
func (t *tunnel) dial() (net.Conn, error) {
	headers := http.Header{}
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	headers.Set(corev1.PortHeader, strconv.Itoa(t.port))
	headers.Set(corev1.PortForwardRequestIDHeader, strconv.FormatInt(t.requests.Add(1), 10))
	trouble, err := t.connection.CreateStream(headers)
	if err != nil {
		return nil, fmt.Errorf("open a stream to the Pod: %w", err)
	}
	_ = trouble.Close() // nothing is written to it
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := t.connection.CreateStream(headers)
	if err != nil {
		return nil, fmt.Errorf("open a stream to the Pod: %w", err)
	}
	return &stream{Stream: data, trouble: trouble}, nil
}

// stream is a stream of a tunnel as a net.Conn. It has no deadlines: requests are bounded by their client.
type stream struct {
	httpstream.Stream
	trouble httpstream.Stream
}

// Read implements net.Conn. If the Pod refuses, the stream ends, and the reason is on the error stream.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(p)
	if n == 0 && err != nil {
		reason := make([]byte, 512)
		if m, _ := s.trouble.Read(reason); m > 0 {
			return 0, errors.New(string(reason[:m]))
		}
	}
	return n, err
}

// Close implements net.Conn. Closing would leave the other direction open.
func (s *stream) Close() error { return s.Reset() }

func (*stream) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*stream) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*stream) SetDeadline(time.Time) error      { return nil }
func (*stream) SetReadDeadline(time.Time) error  { return nil }
func (*stream) SetWriteDeadline(time.Time) error { return nil }
