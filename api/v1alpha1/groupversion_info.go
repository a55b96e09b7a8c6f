// Package v1alpha1 is the API heymarket.dev/v1alpha1: the contract between the operator and its users.
//
// +kubebuilder:object:generate=true
// +groupName=heymarket.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of every type in this package.
var GroupVersion = schema.GroupVersion{Group: "heymarket.dev", Version: "v1alpha1"}

// AddToScheme registers the types of this package in a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &HeymarketWebhook{}, &HeymarketWebhookList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
