package mutations

import (
	"fmt"
	"maps"
	"strings"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"heymarket.dev/operator/test/support/snapshot"
)

// The rules by which a state that has a history is held against one that has none. Everything else must be equal, the
// fields that the operator owns included.
//
//  1. The URL's secret segment belongs to the resource: it is normalised, and a chain may change it only when urlRevision
//     rises. The paths that the URL had before are history too: each must have been the chain's once.
//  2. Under an autoscaler the number of replicas does not change: it is the autoscaler's.
//  3. A spec that is not accepted changes no child: the chain's are those of the step before, where a fresh one has none.
//     Where the API server refuses a child, those before it may have been written: each is as before, or as a fresh one.
//     What is not accepted for a target's Service alone holds nothing up, and is compared like what is.
//  4. The figures of the status may change once a minute, so they are as old as that.
//  5. Conditions that depend on others (Available, Exposed, Durable, and so Ready) are compared if others have played in both
//     worlds; otherwise a Deployment that was rolled out before is held against one that was not.

const (
	deployment   = "Deployment/support-receiver"
	urlSecret    = "Secret/support-url"
	configSecret = "Secret/support-receiver"
)

func unaccepted(s snapshot.State) string {
	for _, c := range conditions(s) {
		if c["type"] == "Accepted" && c["status"] != "True" {
			return c["reason"].(string)
		}
	}
	return ""
}

func conditions(s snapshot.State) []map[string]any {
	list, _, _ := unstructured.NestedSlice(s.Webhook, "status", "conditions")
	var out []map[string]any
	for _, c := range list {
		out = append(out, c.(map[string]any))
	}
	return out
}

// heldUp is why a fresh resource has not got what it asks for, or "".
func heldUp(fresh snapshot.State) string {
	if reason := unaccepted(fresh); reason == "ChildRefused" || len(fresh.Children) == 0 {
		return reason
	}
	return ""
}

// compare returns the difference of now, or "". before is the chain's state at the step before, fresh that of the fresh
// resource, autoscaled reports whether an autoscaler is asked for, and played that the cluster has been played in both worlds.
func compare(before, now, fresh snapshot.State, autoscaled, played bool) string {
	var wrong strings.Builder
	refused := heldUp(fresh)
	is, want := maps.Clone(now.Children), maps.Clone(fresh.Children)
	switch refused {
	case "":
	case "ChildRefused":
		for name := range is {
			if _, ok := want[name]; !ok || cmp.Equal(is[name], before.Children[name]) {
				want[name] = before.Children[name]
			}
		}
		for name := range before.Children {
			if _, ok := is[name]; !ok && want[name] == nil {
				want[name] = before.Children[name]
			}
		}
	default:
		want = before.Children
	}
	for _, name := range []string{urlSecret, configSecret} {
		is[name], want[name] = withoutPrevious(is[name]), withoutPrevious(want[name])
	}
	if autoscaled {
		was, existed := before.Children[deployment]
		if number := replicas(is[deployment]); existed && number != replicas(was) {
			fmt.Fprintf(&wrong, "The autoscaler's number of replicas was %v, and is %v.\n", replicas(was), number)
		}
		is[deployment], want[deployment] = withoutReplicas(is[deployment]), withoutReplicas(want[deployment])
	}
	if diff := cmp.Diff(want, is); diff != "" {
		fmt.Fprintf(&wrong, "The children differ (-fresh +chain):\n%s\n", diff)
	}
	if diff := cmp.Diff(status(fresh, refused, played), status(now, refused, played)); diff != "" {
		fmt.Fprintf(&wrong, "The status differs (-fresh +chain):\n%s\n", diff)
	}
	return wrong.String()
}

func replicas(d map[string]any) any {
	n, _, _ := unstructured.NestedFieldNoCopy(d, "spec", "replicas")
	return n
}

// withoutPrevious leaves out the paths that the URL had before.
func withoutPrevious(secret map[string]any) map[string]any {
	if secret == nil {
		return nil
	}
	secret = (&unstructured.Unstructured{Object: secret}).DeepCopy().Object
	unstructured.RemoveNestedField(secret, "data", "previous")
	unstructured.RemoveNestedField(secret, "owned by heymarket-operator", "f:data", "f:previous")
	if paths, found, _ := unstructured.NestedSlice(secret, "data", "config.json", "paths"); found {
		_ = unstructured.SetNestedSlice(secret, paths[:1], "data", "config.json", "paths")
	}
	return secret
}

// withoutReplicas leaves out the number of replicas, and that the operator owns it, which it does of a Deployment that
// it has just created.
func withoutReplicas(d map[string]any) map[string]any {
	if d == nil {
		return nil
	}
	d = (&unstructured.Unstructured{Object: d}).DeepCopy().Object
	unstructured.RemoveNestedField(d, "spec", "replicas")
	unstructured.RemoveNestedField(d, "owned by heymarket-operator", "f:spec", "f:replicas")
	return d
}

// status is the comparable part of the status, and the finalizers.
func status(s snapshot.State, refused string, played bool) map[string]any {
	out := map[string]any{}
	out["finalizers"], _, _ = unstructured.NestedFieldNoCopy(s.Webhook, "metadata", "finalizers")
	fields, _, _ := unstructured.NestedMap(s.Webhook, "status")
	for _, figure := range []string{"targets", "pending", "deadLetters", "countTime", "previousURLUntil"} {
		delete(fields, figure)
	}
	delete(fields, "conditions")
	if refused == "" {
		out["fields"] = fields
	}
	for _, c := range conditions(s) {
		if c["type"] == "Accepted" || played && refused == "" {
			out["condition "+c["type"].(string)] = c
		}
	}
	return out
}
