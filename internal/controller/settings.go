package controller

import (
	"errors"
	"fmt"
	"strings"
	"text/template"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"heymarket.dev/operator/internal/controller/desired"
)

// Settings are the operator's own, from its flags.
type Settings struct {
	// ReceiverImage is the image of the receiver Pods.
	ReceiverImage string
	// HostTemplate makes the host of resources that name none; nil means that there is no such rule.
	HostTemplate *HostTemplate
	// AllowedHosts bound the hosts that resources may name; empty means any.
	AllowedHosts AllowedHosts
	// IngressClass of resources that name none; empty means the cluster's default class.
	IngressClass string
	// NetworkPolicy shuts receivers off by NetworkPolicies; nil means that the operator makes none.
	NetworkPolicy *NetworkPolicy
	// Namespaces to work in; empty means all.
	Namespaces []string

	// pollPeriod, exposurePatience, extensionPeriod and removalDeadline are others than the constants, in tests.
	pollPeriod, exposurePatience, extensionPeriod, removalDeadline time.Duration
}

// NetworkPolicy says who may reach receivers where NetworkPolicies shut them off.
type NetworkPolicy = desired.NetworkPolicy

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

// AllowedHosts are templates of hosts, some with "*." in front. The zero value allows every host.
type AllowedHosts []allowedHost

type allowedHost struct {
	template *HostTemplate
	// below says that names below the template's host are meant, and not the host itself.
	below bool
}

// ParseAllowedHosts reads a comma separated list of templates like those of ParseHostTemplate; "*." in front of one
// stands for one or more labels. An error says what is wrong with it.
func ParseAllowedHosts(s string) (AllowedHosts, error) {
	var out AllowedHosts
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		rest, below := strings.CutPrefix(part, "*.")
		t, err := ParseHostTemplate(rest)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", part, err)
		}
		out = append(out, allowedHost{template: t, below: below})
	}
	return out, nil
}

// Allow says whether the resource with this namespace and name may ask for the host.
func (a AllowedHosts) Allow(namespace, name, host string) bool {
	for _, allowed := range a {
		pattern, err := allowed.template.Host(namespace, name)
		if err != nil {
			continue
		}
		if host == pattern && !allowed.below || allowed.below && strings.HasSuffix(host, "."+pattern) {
			return true
		}
	}
	return len(a) == 0
}
