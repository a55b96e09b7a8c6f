package controller

import (
	"errors"
	"fmt"
	"strings"
	"text/template"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Settings are the operator's own, from its flags.
type Settings struct {
	// ReceiverImage is the image of the receiver Pods.
	ReceiverImage string
	// HostTemplate makes the host of resources that name none; nil means that there is no such rule.
	HostTemplate *HostTemplate
	// IngressClass of resources that name none; empty means the cluster's default class.
	IngressClass string
	// Namespaces to work in; empty means all.
	Namespaces []string
}

// HostTemplate makes a host from a namespace and a name.
type HostTemplate struct {
	template *template.Template
}

// ParseHostTemplate reads a text/template with .Namespace and .Name, such as {{.Namespace}}.hooks.example.com.
// An error says what is wrong with it.
func ParseHostTemplate(s string) (*HostTemplate, error) {
	t, err := template.New("host").Option("missingkey=error").Parse(s)
	if err != nil {
		return nil, err
	}
	h := &HostTemplate{template: t}
	if _, err := h.Host("namespace", "name"); err != nil {
		return nil, err
	}
	return h, nil
}

// Host returns the host of one resource. It returns an error if that is not a DNS name.
func (h *HostTemplate) Host(namespace, name string) (string, error) {
	var b strings.Builder
	if err := h.template.Execute(&b, struct{ Namespace, Name string }{namespace, name}); err != nil {
		return "", err
	}
	if problems := validation.IsDNS1123Subdomain(b.String()); len(problems) > 0 {
		return "", fmt.Errorf("%q is no DNS name: %w", b.String(), errors.New(strings.Join(problems, "; ")))
	}
	return b.String(), nil
}
