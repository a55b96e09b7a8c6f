package apiservertest

import (
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"
)

// httpRouteCRD has the defaults of the Gateway API's own CRD, and nothing else.
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

// gatewayCRD knows nothing of what Gateways are.
const gatewayCRD = `
metadata:
  name: gateways.gateway.networking.k8s.io
  annotations: {api-approved.kubernetes.io: https://github.com/kubernetes-sigs/gateway-api/pull/3328}
spec:
  group: gateway.networking.k8s.io
  names: {kind: Gateway, listKind: GatewayList, plural: gateways, singular: gateway}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object}}
`

// scaledObjectCRD has the used fields of KEDA's own CRD, and nothing else.
const scaledObjectCRD = `
metadata:
  name: scaledobjects.keda.sh
spec:
  group: keda.sh
  names: {kind: ScaledObject, listKind: ScaledObjectList, plural: scaledobjects, singular: scaledobject}
  scope: Namespaced
  versions:
  - name: v1alpha1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
          spec:
            type: object
            required: [scaleTargetRef, triggers]
            properties:
              scaleTargetRef:
                type: object
                required: [name]
                properties:
                  apiVersion: {type: string}
                  kind: {type: string}
                  name: {type: string}
              minReplicaCount: {type: integer, format: int32}
              maxReplicaCount: {type: integer, format: int32}
              triggers:
                type: array
                items:
                  type: object
                  required: [metadata, type]
                  properties:
                    type: {type: string}
                    metricType: {type: string}
                    metadata: {type: object, additionalProperties: {type: string}}
`

// ExtensionCRDs returns the CRDs of other projects that the operator uses if installed.
func ExtensionCRDs(t testing.TB) envtest.CRDInstallOptions {
	t.Helper()
	var out envtest.CRDInstallOptions
	for _, text := range []string{httpRouteCRD, gatewayCRD, scaledObjectCRD} {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict([]byte(text), crd); err != nil {
			t.Fatal(err)
		}
		out.CRDs = append(out.CRDs, crd)
	}
	return out
}

// InstallExtensions installs these kinds until the API server ends.
func InstallExtensions(t testing.TB) {
	t.Helper()
	if _, err := envtest.InstallCRDs(Config(t), ExtensionCRDs(t)); err != nil {
		t.Fatal(err)
	}
}
