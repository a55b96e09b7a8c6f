package controller

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// deadWebhook lets the world's API server ask an admission webhook about Services that does not answer.
func deadWebhook(w *world) {
	secret("heymarket", "token", canary)(w)
	probe := &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	registerWebhook(w, admissionregistrationv1.Create, "services", w.dryCreation(probe), admissionregistrationv1.WebhookClientConfig{URL: new("https://127.0.0.1:1/")})
}

// denyingWebhook lets the world's API server ask an admission webhook that denies every Ingress, with no code, as most do.
func denyingWebhook(message string) func(*world) {
	return func(w *world) {
		secret("heymarket", "token", canary)(w)
		denyIngresses(w, metav1.Status{Message: message})
	}
}

func denyIngresses(w *world, answer metav1.Status) (allow func()) {
	w.t.Helper()
	probe := &networkingv1.Ingress{Spec: networkingv1.IngressSpec{DefaultBackend: &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
		Name: "probe", Port: networkingv1.ServiceBackendPort{Number: 80},
	}}}}
	return deny(w, admissionregistrationv1.Create, "ingresses", w.dryCreation(probe), answer)
}

// deny lets the world's API server ask an admission webhook that gives this answer to all such requests as ask makes.
func deny(w *world, operation admissionregistrationv1.OperationType, resource string, ask func() error, answer metav1.Status) (allow func()) {
	w.t.Helper()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(out http.ResponseWriter, req *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(req.Body).Decode(&review); err != nil {
			http.Error(out, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Result: &answer}
		_ = json.NewEncoder(out).Encode(review) // The API server notices what is cut off.
	}))
	w.t.Cleanup(srv.Close)
	return registerWebhook(w, operation, resource, ask, admissionregistrationv1.WebhookClientConfig{URL: &srv.URL, CABundle: []byte(inPEM(srv))})
}

// registerWebhook returns when the API server asks the webhook about such requests as ask makes in the world's namespace. What
// it returns returns when it no longer does.
func registerWebhook(
	w *world, operation admissionregistrationv1.OperationType, resource string, ask func() error, to admissionregistrationv1.WebhookClientConfig,
) (allow func()) {
	w.t.Helper()
	config := &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: w.namespace},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "validate.example.com", ClientConfig: to,
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{operation},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{"*"}, APIVersions: []string{"*"}, Resources: []string{resource}},
			}},
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: w.namespace}},
			AdmissionReviewVersions: []string{"v1"},
			SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
		}},
	}
	w.do(w.person.Create(w.t.Context(), config))
	unregister := func() { _ = w.person.Delete(context.Background(), config) }
	w.t.Cleanup(unregister)
	// The API server takes a moment to read the configuration.
	w.eventually("the API server asks the webhook", func() bool { return ask() != nil })
	return func() {
		unregister()
		w.eventually("the API server no longer asks the webhook", func() bool { return ask() == nil })
	}
}

// dryCreation asks for an object without making it.
func (w *world) dryCreation(probe client.Object) func() error {
	probe.SetNamespace(w.namespace)
	probe.SetName("probe")
	return func() error {
		return w.person.Create(w.t.Context(), probe.DeepCopyObject().(client.Object), client.DryRunAll)
	}
}
