package desired

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/receiver/address"
)

// ways of one egress, in short: the resolver left out, namespaces and the ports outside, "any" for all of them.
func waysOut(t *testing.T, targets []string, redis, own string) string {
	t.Helper()
	return waysOutWith(t, []string{"*"}, targets, redis, own)
}

func waysOutWith(t *testing.T, allowed, targets []string, redis, own string) string {
	t.Helper()
	in := input(t, "smallest", Input{NetworkPolicy: &NetworkPolicy{OperatorNamespace: "heymarket-system", TargetNamespaces: allowed}})
	in.SharedRedis.URL = redis
	if own != "" {
		in.OwnRedisURL, in.Webhook.Spec.Redis = own, &v1alpha1.Redis{SecretKeyRef: v1alpha1.SecretKeyReference{Name: "redis", Key: "url"}}
	}
	in.Webhook.Spec.Targets = nil
	for i, u := range targets {
		in.Webhook.Spec.Targets = append(in.Webhook.Spec.Targets, v1alpha1.Target{Name: fmt.Sprint("t", i), URL: new(u)})
	}
	var out []string
	for _, rule := range wanted[*networkingv1ac.NetworkPolicyApplyConfiguration](t, build(t, in)).Spec.Egress[1:] {
		if s := rule.To[0].NamespaceSelector; s != nil {
			out = append(out, "in "+strings.Join(s.MatchExpressions[0].Values, " "))
			if len(rule.Ports) != 0 {
				t.Errorf("the ports of Pods are not known, and the rule names some")
			}
			continue
		}
		var ports []string
		for _, p := range rule.Ports {
			ports = append(ports, p.Port.String())
		}
		if ports == nil {
			ports = []string{"any"}
		}
		out = append(out, "out "+strings.Join(ports, " "))
	}
	return strings.Join(out, ", ")
}

func TestNetworkPolicyLeadsToRedisAndTargets(t *testing.T) {
	t.Parallel()
	const redis, crm = "redis://redis.redis.svc:6379/0", "http://crm"
	for _, tc := range []struct {
		target, redis, own, want string
	}{
		// A target.
		{target: "http://crm:8080/in", want: "in redis staging"},
		{target: "http://crm.data.svc:8080", want: "in data redis"},
		{target: "http://CRM.Data.SVC:8080", want: "in data redis"},
		{target: "http://crm.data.svc.cluster.local", want: "in data redis"},
		{target: "http://crm.data.svc.cluster.local.", want: "in data redis"},
		{target: "http://crm-0.crm.data.svc", want: "in data redis"},
		{target: "http://crm.data.svc.corp.example:81", want: "in data redis, out 81"},
		{target: "http://crm.data:8080", want: "in data redis, out 8080"},
		{target: "https://example.com", want: "in com redis, out 443"},
		{target: "https://example.com.", want: "in redis, out 443"},
		{target: "http://crm.", want: "in redis, out 80"},
		{target: "https://hooks.example.com", want: "in redis, out 443"},
		{target: "https://hooks.example.com:8443", want: "in redis, out 8443"},
		{target: "http://svc.example.com", want: "in redis, out 80"},
		{target: "http://crm.a_b", want: "in redis, out 80"},
		{target: "http://10.1.2.3:9000", want: "in redis, out 9000"},
		{target: "http://[2001:db8::1]", want: "in redis, out 80"},
		// The shared Redis.
		{redis: "redis://redis:6379", want: "in staging"}, // Its name is looked up in the receiver's namespace.
		{redis: "redis://:secret@redis.example.com", want: "in staging, out 6379"},
		{redis: "rediss://10.0.0.9:6380", want: "in staging, out 6380"},
		{redis: "redis://a.example.com:7000?addr=b.example.com:7001", want: "in staging, out any"},
		{redis: "redis://s.example.com:26379?master_set=main", want: "in staging, out any"},
		{redis: "redis://s.redis.svc:26379?master_set=main&addr=s.other.svc:26379", want: "in other redis staging"},
		{redis: "redis://s.redis.svc:26379?master_set=main&addr=10.0.0.9:26379", want: "in redis staging, out any"},
		// A Redis of the resource's own takes the shared one's place.
		{own: "redis://mine:6379", want: "in staging"},
		{own: "redis://mine.example.com:6380", want: "in staging, out 6380"},
	} {
		targets, shared := []string{crm}, redis
		if tc.target != "" {
			targets[0] = tc.target
		}
		if tc.redis != "" {
			shared = tc.redis
		}
		if got := waysOut(t, targets, shared, tc.own); got != tc.want {
			t.Errorf("%+v: %s", tc, got)
		}
	}
	if got, want := waysOut(t, []string{"http://b.z.svc", "https://c.example.com", "http://a.y.svc", "http://c.example.com", "https://d.example.com"}, redis, ""),
		"in redis y z, out 80 443"; got != want {
		t.Errorf("several targets: %s, want %s", got, want)
	}
}

// Destinations set by a webhook's author open only its own namespace and those that the operator allows. Destinations set by the
// operator are open.
func TestNetworkPolicyOpensAllowedNamespacesOnly(t *testing.T) {
	t.Parallel()
	targets := []string{"http://crm", "http://a.data.svc", "http://b.kube-system.svc", "https://example.com", "http://c.secret.svc.corp.example"}
	const shared = "redis://redis.redis.svc:6379/0"
	for _, tc := range []struct {
		allowed   []string
		own, want string
	}{
		{nil, "", "in redis staging, out 80 443"},
		{[]string{"data"}, "", "in data redis staging, out 80 443"},
		{nil, "redis://r.kube-system.svc", "in staging, out 80 443"},
		{[]string{"kube-system"}, "redis://r.kube-system.svc", "in kube-system staging, out 80 443"},
	} {
		if got := waysOutWith(t, tc.allowed, targets, shared, tc.own); got != tc.want {
			t.Errorf("%v, Redis %q: %s, want %s", tc.allowed, tc.own, got, tc.want)
		}
	}
}

// The administrator's lists are neither reordered nor changed.
func TestNetworkPolicyLeavesItsSettingsAlone(t *testing.T) {
	t.Parallel()
	settings := &NetworkPolicy{OperatorNamespace: "z", EventsFrom: []string{"c", "b"}, OperationsFrom: []string{"b", "a", "b"}}
	p := wanted[*networkingv1ac.NetworkPolicyApplyConfiguration](t, build(t, input(t, "smallest", Input{NetworkPolicy: settings})))
	if diff := cmp.Diff([]string{"c", "b"}, settings.EventsFrom); diff != "" {
		t.Errorf("the settings have changed: %s", diff)
	}
	if got, want := p.Spec.Ingress[1].From[0].NamespaceSelector.MatchExpressions[0].Values, []string{"a", "b", "z"}; !slices.Equal(got, want) {
		t.Errorf("operations from %v, want %v", got, want)
	}
}

// The policy blocks the same addresses as the receiver, so that the two agree.
func TestNetworkPolicyShutsOffWhatReceiversRefuse(t *testing.T) {
	t.Parallel()
	v4, v6 := outside()
	missing := map[string]bool{"169.254.0.0/16": true, "fe80::/10": true, "168.63.129.16/32": true, "fd00:ec2::254/128": true}
	for _, block := range []*networkingv1ac.IPBlockApplyConfiguration{v4, v6} {
		around := netip.MustParsePrefix(*block.CIDR)
		for _, text := range block.Except {
			delete(missing, text)
			except := netip.MustParsePrefix(text)
			if !around.Contains(except.Addr()) || except.Masked() != except {
				t.Errorf("%s is no part of %s", text, around)
			}
			if (address.Policy{}).Check(except.Addr()) == nil {
				t.Errorf("the policy shuts off %s, and the receiver would go there", text)
			}
		}
	}
	if len(missing) > 0 {
		t.Errorf("the policy leaves open %v", missing)
	}
}

// A target in a namespace that the NetworkPolicy blocks is reported, and what may be outside the cluster is not.
func TestClosedNamespace(t *testing.T) {
	t.Parallel()
	policy := &NetworkPolicy{TargetNamespaces: []string{"data"}}
	for _, tc := range []struct {
		policy    *NetworkPolicy
		url, want string
	}{
		{policy, "http://crm.sales.svc:8080/in", "sales"},
		{policy, "http://crm.sales.svc.cluster.local/in", "sales"},
		{policy, "http://crm.data.svc/in", ""},
		{policy, "http://crm.own.svc/in", ""},
		{policy, "http://crm/in", ""},
		{policy, "http://crm.sales/in", ""}, // may be a name such as example.com
		{policy, "https://crm.example.com/in", ""},
		{policy, "http://10.0.0.7/in", ""},
		{policy, "http://%", ""},
		{&NetworkPolicy{TargetNamespaces: []string{"*"}}, "http://crm.sales.svc/in", ""},
		{&NetworkPolicy{}, "http://crm.data.svc/in", "data"},
		{nil, "http://crm.sales.svc/in", ""},
	} {
		if got := tc.policy.ClosedNamespace("own", tc.url); got != tc.want {
			t.Errorf("%s: %q is closed, want %q", tc.url, got, tc.want)
		}
	}
}
