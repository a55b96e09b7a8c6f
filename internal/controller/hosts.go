package controller

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// HostTemplate builds a host from a namespace and a name.
type HostTemplate struct {
	text string
}

// blank matches the placeholders of a HostTemplate. It is not text/template: that calls methods by name, so the linker would have
// to keep every exported method in the binary, which grows by half.
var blank = regexp.MustCompile(`{{\s*\.(Namespace|Name)\s*}}`)

// ParseHostTemplate parses a host with {{.Namespace}} and {{.Name}} in it, such as {{.Namespace}}.hooks.example.com. Its error
// describes the mistake.
func ParseHostTemplate(s string) (*HostTemplate, error) {
	if strings.Contains(blank.ReplaceAllLiteralString(s, ""), "{{") {
		return nil, fmt.Errorf("%q holds more than {{.Namespace}} and {{.Name}} in braces", s)
	}
	h := &HostTemplate{text: s}
	if _, err := h.Host("namespace", "name"); err != nil {
		return nil, err
	}
	return h, nil
}

// Host returns the host of one resource. It returns an error if the result is not a DNS name.
func (h *HostTemplate) Host(namespace, name string) (string, error) {
	host := blank.ReplaceAllStringFunc(h.text, func(s string) string {
		if strings.Contains(s, ".Namespace") {
			return namespace
		}
		return name
	})
	if problems := validation.IsDNS1123Subdomain(host); len(problems) > 0 {
		return "", fmt.Errorf("%q is no DNS name: %w", host, errors.New(strings.Join(problems, "; ")))
	}
	for label := range strings.SplitSeq(host, ".") {
		if len(label) > validation.DNS1123LabelMaxLength {
			return "", fmt.Errorf("%q is no DNS name: its part %q has %d characters, and at most %d are allowed between two dots",
				host, label, len(label), validation.DNS1123LabelMaxLength)
		}
	}
	return host, nil
}

// makesFor reports whether the template produces the host for a namespace other than the given one. A template in which the
// namespace is not a whole DNS label assigns hosts to no namespace in particular.
func (h *HostTemplate) makesFor(namespace, host string) bool {
	parts := strings.Split(blank.ReplaceAllString(h.text, "{{.$1}}"), "{{.Namespace}}")
	if len(parts) != 2 || parts[0] != "" && !strings.HasSuffix(parts[0], ".") || !strings.HasPrefix(parts[1], ".") {
		return false
	}
	pattern := regexp.QuoteMeta(parts[0]) + "([^.]+)" + regexp.QuoteMeta(parts[1])
	labels := strings.ReplaceAll(pattern, regexp.QuoteMeta("{{.Name}}"), "[^.]+")
	match := regexp.MustCompile("^" + labels + "$").FindStringSubmatch(host)
	return match != nil && match[1] != namespace
}

// AllowedHosts are templates of hosts, some with the prefix "*.". The zero value allows every host.
type AllowedHosts []allowedHost

type allowedHost struct {
	template *HostTemplate
	// below reports that names below the template's host are allowed, and not the host itself.
	below bool
}

// ParseAllowedHosts parses a comma-separated list of templates like those of ParseHostTemplate; the prefix "*." stands for one or
// more labels. Its error describes the mistake.
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

// Allow reports whether the resource with this namespace and name may use the host.
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
