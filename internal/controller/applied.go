package controller

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// annotationApplied is on every child: a digest of what the operator last applied.
	annotationApplied = "heymarket.dev/applied"
	// annotationAppliedTemplate is on the Deployment: a digest of only the Pod template. When it changes, Pods are replaced.
	annotationAppliedTemplate = "heymarket.dev/applied-template"

	// freeRepeats is how often the same write is repeated without delay: a person may try twice.
	freeRepeats = 3
	// firstRepeatDelay doubles with every further repeat, up to lastRepeatDelay.
	firstRepeatDelay, lastRepeatDelay = 10 * time.Second, 10 * time.Minute
	// maxRemembered bounds the number of remembered writes, some 10 MiB. Beyond it all are dropped.
	maxRemembered = 1 << 16
)

// digestOf identifies an encoded apply configuration. 64 bits are enough: it is compared only with its predecessor.
func digestOf(encoded []byte) string {
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:8])
}

// templateDigest identifies the wanted Pod template.
func templateDigest(want *appsv1ac.DeploymentApplyConfiguration) (string, error) {
	encoded, err := json.Marshal(want.Spec.Template)
	if err != nil {
		return "", fmt.Errorf("encode the Pod template of Deployment %s: %w", *want.GetName(), err)
	}
	return digestOf(encoded), nil
}

// appliedMemory is the state of the operator's writes that the children themselves do not show. It is lost on a restart,
// which costs one more write for each affected child. The zero value is empty.
type appliedMemory struct {
	mu       sync.Mutex
	children map[types.UID]*appliedChild
}

// appliedChild is the remembered state of one child.
type appliedChild struct {
	// digest is that of the last write, made at the time at.
	digest string
	at     time.Time
	// missing are the fields that the API server dropped from that write; unmarked reports that the annotation with the
	// digest is among them: an older API server drops unknown fields, a policy may remove annotations.
	missing  []string
	unmarked bool
	// repeats is how often the same digest had to be written again.
	repeats int
}

// needed reports whether asked must be applied to the child: it differs from the last write, or the operator no longer owns
// all of its fields.
func (m *appliedMemory) needed(child client.Object, asked []byte, digest string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.children[child.GetUID()]
	last := child.GetAnnotations()[annotationApplied]
	if known != nil && known.unmarked {
		last = known.digest
	}
	if last != digest {
		return true, nil
	}
	missing, err := notOwned(child.GetManagedFields(), asked)
	if err != nil {
		return false, err
	}
	if known != nil && known.digest == digest {
		missing = slices.DeleteFunc(missing, func(field string) bool { return slices.Contains(known.missing, field) })
	}
	return len(missing) > 0, nil
}

// delay returns how long a write of digest must wait, and whether the same write has been undone repeatedly.
func (m *appliedMemory) delay(child types.UID, digest string, now time.Time) (wait time.Duration, repeated bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.children[child]
	if known == nil || known.digest != digest || known.repeats < freeRepeats {
		return 0, false
	}
	backoff := min(firstRepeatDelay<<min(known.repeats-freeRepeats, 10), lastRepeatDelay)
	return max(0, backoff-now.Sub(known.at)), true
}

// remember stores the fields that the API server's answer to a write lacks.
func (m *appliedMemory) remember(answer client.Object, asked []byte, digest string, now time.Time) error {
	missing, err := notOwned(answer.GetManagedFields(), asked)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.children == nil {
		m.children = map[types.UID]*appliedChild{}
	}
	if len(m.children) >= maxRemembered {
		clear(m.children)
	}
	maps.DeleteFunc(m.children, func(_ types.UID, c *appliedChild) bool {
		return now.Sub(c.at) > 2*lastRepeatDelay && len(c.missing) == 0 && !c.unmarked
	})
	is := &appliedChild{digest: digest, at: now, missing: missing, unmarked: answer.GetAnnotations()[annotationApplied] != digest}
	if was := m.children[answer.GetUID()]; was != nil && was.digest == digest && now.Sub(was.at) <= 2*lastRepeatDelay {
		is.repeats = was.repeats + 1
	}
	m.children[answer.GetUID()] = is
	return nil
}

// notOwned returns the fields of an encoded apply configuration that the operator does not own, as paths such as
// spec.replicas.
func notOwned(entries []metav1.ManagedFieldsEntry, asked []byte) ([]string, error) {
	owned := map[string]any{}
	for _, e := range entries {
		if e.Manager != FieldOwner || e.Operation != metav1.ManagedFieldsOperationApply || e.Subresource != "" || e.FieldsV1 == nil {
			continue
		}
		if err := json.Unmarshal(e.FieldsV1.GetRawBytes(), &owned); err != nil {
			return nil, err
		}
	}
	var want map[string]any
	if err := json.Unmarshal(asked, &want); err != nil {
		return nil, err
	}
	// Not tracked: they identify the object.
	delete(want, "apiVersion")
	delete(want, "kind")
	if metadata, ok := want["metadata"].(map[string]any); ok {
		delete(metadata, "name")
		delete(metadata, "namespace")
		delete(metadata, "uid")
		if len(metadata) == 0 {
			delete(want, "metadata")
		}
	}
	var missing []string
	for name, value := range want {
		missingField(&missing, "."+name, owned, name, value)
	}
	slices.Sort(missing)
	return missing, nil
}

// missingField adds the paths of one field and of its subfields.
func missingField(missing *[]string, path string, owned map[string]any, name string, value any) {
	below, found := owned["f:"+name].(map[string]any)
	if !found {
		*missing = append(*missing, path)
		return
	}
	missingFields(missing, path, below, value)
}

// missingFields adds the paths of want that are not in owned, a set of fields in the format FieldsV1: "f:" and a field's
// name, "k:" and the keys of a list's item, "v:" and a set's value. A field that is owned as a whole has no subfields.
func missingFields(missing *[]string, path string, owned map[string]any, want any) {
	switch want := want.(type) {
	case map[string]any:
		if !owns(owned, "f:") {
			return
		}
		for name, value := range want {
			missingField(missing, path+"."+name, owned, name, value)
		}
	case []any:
		if !owns(owned, "k:") {
			return
		}
		for i, item := range want {
			below, found := ownedItem(owned, item)
			at := fmt.Sprintf("%s[%d]", path, i)
			if !found {
				*missing = append(*missing, at)
				continue
			}
			missingFields(missing, at, below, item)
		}
	}
}

// owns reports whether a set of fields has members of a kind.
func owns(owned map[string]any, kind string) bool {
	for member := range owned {
		if strings.HasPrefix(member, kind) {
			return true
		}
	}
	return false
}

// ownedItem returns the owned fields of a list's item, which it finds by the item's keys. The API server sets keys that have
// a default, such as a port's protocol.
func ownedItem(owned map[string]any, item any) (map[string]any, bool) {
	fields, _ := item.(map[string]any)
	for member, below := range owned {
		encoded, ok := strings.CutPrefix(member, "k:")
		if !ok {
			continue
		}
		var keys map[string]any
		if json.Unmarshal([]byte(encoded), &keys) != nil {
			continue
		}
		same := true
		for name, value := range keys {
			v, set := fields[name]
			same = same && (!set || v == value)
		}
		if same {
			below, _ := below.(map[string]any)
			return below, true
		}
	}
	return nil, false
}
