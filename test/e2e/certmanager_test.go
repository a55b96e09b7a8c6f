//go:build neighbours

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/test/support/quickstart"
)

// served is the certificate that the ingress controller presents for the host of the webhook.
func (s scene) served(ctx context.Context, roots *x509.CertPool) (*x509.Certificate, error) {
	dialer := &tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: s.heymarket.Host(), MinVersion: tls.VersionTLS12}}
	connection, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(s.heymarket.Address, "443"))
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	return connection.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// issueBy has cert-manager issue the certificate of the webhook's Ingress.
func (s scene) issueBy(t *testing.T, issuer, secret string) {
	t.Helper()
	s.change(t, func(spec *v1alpha1.HeymarketWebhookSpec) {
		spec.Exposure.Ingress = &v1alpha1.IngressExposure{
			Annotations: map[string]v1alpha1.AnnotationValue{"cert-manager.io/issuer": v1alpha1.AnnotationValue(issuer)}, TLSSecretName: secret,
		}
	})
}

func TestCertManager(t *testing.T) {
	s := newScene(t)
	crds := filepath.Join(moduleDir(t, "certmanager", "github.com/cert-manager/cert-manager"), "deploy", "crds")
	kubectl(t, "", "apply", "--server-side", "-f", filepath.Join(crds, "cert-manager.io_certificates.yaml"), "-f", filepath.Join(crds, "cert-manager.io_certificaterequests.yaml"),
		"-f", filepath.Join(crds, "cert-manager.io_issuers.yaml"), "-f", filepath.Join(crds, "cert-manager.io_clusterissuers.yaml"),
		"-f", filepath.Join(crds, "acme.cert-manager.io_challenges.yaml"), "-f", filepath.Join(crds, "acme.cert-manager.io_orders.yaml"))
	kubectl(t, "", "wait", "--for=condition=Established", "--timeout=30s", "crd/certificates.cert-manager.io", "crd/issuers.cert-manager.io")
	install(t, neighbour(t, "cert-manager.yaml"), []string{"cert-manager"}, "cert-manager/deployment/cert-manager")
	t.Cleanup(func() { kubectl(t, "", "delete", "--namespace=cert-manager", "deployment/cert-manager") })
	kubectl(t, neighbour(t, "issuers.yaml"), "apply", "--server-side", "--namespace="+s.namespace, "-f", "-")
	kubectl(t, "", "wait", "--for=condition=Ready", "--timeout=60s", "--namespace="+s.namespace, "issuer/authority")

	// An issuer that fails: the condition names the Secret that is missing and where to look.
	const exposed = v1alpha1.ConditionExposed
	s.issueBy(t, "broken", "broken-tls")
	s.awaitCondition(t, exposed, metav1.ConditionFalse, v1alpha1.ReasonCertificatePending, `"broken-tls"`, "kubectl describe certificate")

	// One that works: the certificate is issued and served, and events that trust nothing but its authority come in.
	s.issueBy(t, "authority", "good-tls")
	s.awaitCondition(t, exposed, metav1.ConditionTrue, v1alpha1.ReasonAdmitted)
	var authority corev1.Secret
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: "authority"}, &authority); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.Data[corev1.TLSCertKey])
	var first *x509.Certificate
	err := quickstart.Poll(t.Context(), time.Minute, func(ctx context.Context) (_ bool, err error) {
		first, err = s.served(ctx, roots)
		return err == nil, err
	})
	if err != nil {
		t.Fatalf("the certificate is not served: %v", err)
	}
	h := quickstart.NewHeymarket(s.heymarket.URL, s.heymarket.Token, s.heymarket.Address, roots)

	// It is renewed while events flow.
	l := startLoad(t.Context(), h)
	defer l.end()
	l.more(t, 100)
	kubectl(t, "", "patch", "certificate", "good-tls", "--namespace="+s.namespace, "--subresource=status", "--type=merge", "--patch="+
		fmt.Sprintf(`{"status":{"conditions":[{"type":"Issuing","status":"True","reason":"ManuallyTriggered","message":"renewal by a test","lastTransitionTime":%q}]}}`, time.Now().UTC().Format(time.RFC3339)))
	var second *x509.Certificate
	err = quickstart.Poll(t.Context(), time.Minute, func(ctx context.Context) (_ bool, err error) {
		second, err = s.served(ctx, roots)
		return err == nil && second.SerialNumber.Cmp(first.SerialNumber) != 0, err
	})
	if err != nil {
		t.Fatalf("the renewed certificate is not served: %v", err)
	}
	t.Logf("serial %x was renewed by %x", first.SerialNumber, second.SerialNumber)
	l.more(t, 100)
	s.awaitCondition(t, exposed, metav1.ConditionTrue, v1alpha1.ReasonAdmitted)
	var renewed corev1.Secret
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: "good-tls"}, &renewed); err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(renewed.Data[corev1.TLSCertKey]); block == nil || string(block.Bytes) != string(second.Raw) {
		t.Error("what is served is not what the Secret holds")
	}
	if refused := l.refusals(); len(refused) > 0 {
		t.Errorf("refused: %v", refused)
	}
	l.allDelivered(t, s.target)
}
