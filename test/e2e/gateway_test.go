//go:build neighbours

package e2e

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/test/support/quickstart"
)

const gateways = "gateways"

// installGateways installs the Gateway API while the operator runs, and lets Traefik serve it with the certificate that it serves Ingresses with.
func (s scene) installGateways(t *testing.T) {
	t.Helper()
	crds := filepath.Join(moduleDir(t, "traefik", "sigs.k8s.io/gateway-api"), "config", "crd", "standard")
	kubectl(t, "", "apply", "--server-side", "-f", crds)
	kubectl(t, "", "wait", "--for=condition=Established", "--timeout=30s", "crd/gateways.gateway.networking.k8s.io", "crd/httproutes.gateway.networking.k8s.io")
	install(t, neighbour(t, "gateways.yaml"), nil)
	var certificate corev1.Secret
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: "traefik", Name: "default-certificate"}, &certificate); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: gateways, Name: "certificate"}, Type: corev1.SecretTypeTLS, Data: certificate.Data,
	}); client.IgnoreAlreadyExists(err) != nil {
		t.Fatal(err)
	}
	addArgs(t, "traefik", "traefik", "--providers.kubernetesgateway=true", "--providers.kubernetesgateway.statusaddress.ip="+s.heymarket.Address)
	kubectl(t, "", "wait", "--for=condition=Programmed", "--timeout=60s", "--namespace="+gateways, "gateway", "--all")
}

// attach attaches the webhook's route to the listeners of Gateways, which have the Gateways' names.
func (s scene) attach(t *testing.T, names ...string) {
	t.Helper()
	s.change(t, func(spec *v1alpha1.HeymarketWebhookSpec) {
		route := &v1alpha1.HTTPRouteExposure{}
		for _, name := range names {
			route.ParentRefs = append(route.ParentRefs, v1alpha1.GatewayReference{Name: name, Namespace: gateways, SectionName: name})
		}
		spec.Exposure = v1alpha1.Exposure{Type: v1alpha1.ExposureHTTPRoute, HTTPRoute: route}
	})
}

// awaitAnswer waits until a new message is answered with a status.
func (s scene) awaitAnswer(t *testing.T, status int, text string) {
	t.Helper()
	var answer quickstart.Answer
	err := quickstart.Poll(t.Context(), 30*time.Second, func(ctx context.Context) (_ bool, err error) {
		answer, err = s.heymarket.Send(ctx, quickstart.Message(ids.Add(1), text))
		return answer.Status == status, err
	})
	if err != nil {
		t.Fatalf("%s: answered %d, want %d: %v", text, answer.Status, status, err)
	}
}

func TestGateways(t *testing.T) {
	s := newScene(t)
	s.installGateways(t)
	const exposed = v1alpha1.ConditionExposed

	s.attach(t, "public")
	s.awaitCondition(t, exposed, metav1.ConditionTrue, v1alpha1.ReasonAdmitted)
	ingress := client.ObjectKey{Namespace: s.namespace, Name: quickstart.WebhookName + "-receiver"}
	err := quickstart.Poll(t.Context(), 30*time.Second, func(ctx context.Context) (bool, error) {
		err := cluster.Client.Get(ctx, ingress, &networkingv1.Ingress{})
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	})
	if err != nil {
		t.Fatalf("the Ingress, by which an event could come as well, is still there: %v", err)
	}
	s.awaitAnswer(t, http.StatusOK, "one")

	// A Gateway that takes routes of its own namespace alone: the condition reports it, and no event comes in.
	s.attach(t, "closed")
	s.awaitCondition(t, exposed, metav1.ConditionFalse, v1alpha1.ReasonRouteRefused, `"closed"`, "NotAllowedByListeners")
	s.awaitAnswer(t, http.StatusNotFound, "refused")

	// Of two Gateways both must take it.
	s.attach(t, "public", "partners")
	s.awaitCondition(t, exposed, metav1.ConditionTrue, v1alpha1.ReasonAdmitted)
	s.awaitAnswer(t, http.StatusOK, "two")
	s.attach(t, "public", "closed")
	s.awaitCondition(t, exposed, metav1.ConditionFalse, v1alpha1.ReasonRouteRefused, `"closed"`, "NotAllowedByListeners")
	s.awaitAnswer(t, http.StatusOK, "one of two")

	// A Gateway is deleted and created again. Traefik does not change the route's status; the operator reports the missing Gateway.
	s.attach(t, "public")
	s.awaitCondition(t, exposed, metav1.ConditionTrue, v1alpha1.ReasonAdmitted)
	kubectl(t, "", "delete", "gateway", "public", "--namespace="+gateways)
	s.awaitAnswer(t, http.StatusNotFound, "away")
	s.awaitCondition(t, exposed, metav1.ConditionFalse, v1alpha1.ReasonGatewayMissing, `"public"`, `does not exist in namespace "`+gateways+`"`)
	install(t, neighbour(t, "gateways.yaml"), nil)
	s.awaitCondition(t, exposed, metav1.ConditionTrue, v1alpha1.ReasonAdmitted)
	s.awaitAnswer(t, http.StatusOK, "back")

	// And back to an Ingress.
	s.change(t, func(spec *v1alpha1.HeymarketWebhookSpec) { spec.Exposure = v1alpha1.Exposure{} })
	s.awaitCondition(t, exposed, metav1.ConditionTrue, v1alpha1.ReasonAdmitted, "ingress controller")
	s.awaitAnswer(t, http.StatusOK, "by the Ingress")
	s.texts(t, 5)
}
