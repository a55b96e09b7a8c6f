package controller

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// deadWebhook lets the world's API server ask an admission webhook about Services that does not answer.
func deadWebhook(w *world) {
	probe := &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	registerWebhook(w, "services", probe, admissionregistrationv1.WebhookClientConfig{URL: new("https://127.0.0.1:1/")})
}

// denyingWebhook lets the world's API server ask an admission webhook that denies every Ingress, with no code, as most do.
func denyingWebhook(message string) func(*world) {
	return func(w *world) {
		srv := httptest.NewTLSServer(http.HandlerFunc(func(out http.ResponseWriter, req *http.Request) {
			var review admissionv1.AdmissionReview
			if err := json.NewDecoder(req.Body).Decode(&review); err != nil {
				http.Error(out, err.Error(), http.StatusBadRequest)
				return
			}
			review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Result: &metav1.Status{Message: message}}
			_ = json.NewEncoder(out).Encode(review) // The API server notices what is cut off.
		}))
		w.t.Cleanup(srv.Close)
		probe := &networkingv1.Ingress{Spec: networkingv1.IngressSpec{DefaultBackend: &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
			Name: "probe", Port: networkingv1.ServiceBackendPort{Number: 80},
		}}}}
		registerWebhook(w, "ingresses", probe, admissionregistrationv1.WebhookClientConfig{URL: &srv.URL, CABundle: []byte(inPEM(srv))})
	}
}

// registerWebhook returns when the API server asks the webhook about such objects as probe in the world's namespace.
func registerWebhook(w *world, resource string, probe client.Object, to admissionregistrationv1.WebhookClientConfig) {
	w.t.Helper()
	secret("heymarket", "token", canary)(w)
	config := &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: w.namespace},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "validate.example.com", ClientConfig: to,
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{"*"}, APIVersions: []string{"*"}, Resources: []string{resource}},
			}},
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: w.namespace}},
			AdmissionReviewVersions: []string{"v1"},
			SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
		}},
	}
	w.do(w.person.Create(w.t.Context(), config))
	w.t.Cleanup(func() { _ = w.person.Delete(context.Background(), config) })
	probe.SetNamespace(w.namespace)
	probe.SetName("probe")
	for w.person.Create(w.t.Context(), probe.DeepCopyObject().(client.Object), client.DryRunAll) == nil {
		select {
		case <-time.After(50 * time.Millisecond): // The API server takes a moment to read the configuration.
		case <-w.t.Context().Done():
			w.t.Fatal("the API server does not ask the webhook")
		}
	}
}
