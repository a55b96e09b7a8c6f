package apiserver

import (
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"
)

// httpRouteCRD has the defaults of the Gateway API's own, and knows no more.
const httpRouteCRD = `
metadata:
  name: httproutes.gateway.networking.k8s.io
  annotations: {api-approved.kubernetes.io: https://github.com/kubernetes-sigs/gateway-api/pull/3328}
spec:
  group: gateway.networking.k8s.io
  names: {kind: HTTPRoute, listKind: HTTPRouteList, plural: httproutes, singular: httproute}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
          spec:
            type: object
            properties:
              hostnames: {type: array, items: {type: string}}
              parentRefs:
                type: array
                items:
                  type: object
                  properties:
                    group: {type: string, default: gateway.networking.k8s.io}
                    kind: {type: string, default: Gateway}
                    namespace: {type: string}
                    name: {type: string}
                    sectionName: {type: string}
                    port: {type: integer, format: int32}
              rules:
                type: array
                items:
                  type: object
                  x-kubernetes-preserve-unknown-fields: true
                  properties:
                    timeouts: {type: object, default: {}, properties: {request: {type: string, default: 10s}}}
`

// InstallGatewayAPI gives the API server HTTPRoutes until the test ends.
func InstallGatewayAPI(t testing.TB) {
	t.Helper()
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict([]byte(httpRouteCRD), &crd); err != nil {
		t.Fatal(err)
	}
	cfg, options := Config(t), envtest.CRDInstallOptions{CRDs: []*apiextensionsv1.CustomResourceDefinition{&crd}}
	if _, err := envtest.InstallCRDs(cfg, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := envtest.UninstallCRDs(cfg, options); err != nil {
			t.Error(err)
		}
	})
}
