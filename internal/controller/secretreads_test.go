package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
)

// largeSecrets are as many Secrets as are asked for, each as large as the API server allows.
type largeSecrets struct{ client.Reader }

func (largeSecrets) Get(_ context.Context, key client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	s := obj.(*corev1.Secret)
	s.Name, s.Annotations = key.Name, map[string]string{"notes": strings.Repeat("a", 200<<10)}
	s.Data = map[string][]byte{"token": []byte("x"), "blob": make([]byte, 1<<20)}
	return nil
}

// It measures allocated memory, so it does not run in parallel.
func TestSecretsThatAreReferencedAreNotKept(t *testing.T) { //nolint:paralleltest // what others allocate counts as well
	r := &Reconciler{Live: largeSecrets{}}
	before := heap()
	var kept []*corev1.Secret
	for i := range 512 {
		s, err := r.readSecret(t.Context(), client.ObjectKey{Name: fmt.Sprint(i)}, "token")
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, s)
	}
	if took := heap() - before; took > 2<<20 {
		t.Errorf("512 referenced Secrets of 1 MiB take %d KiB, want at most 2 MiB", took>>10)
	}
	if s := kept[511]; string(s.Data["token"]) != "x" || len(s.Data) != 1 {
		t.Errorf("kept %d keys, want the one that is referenced", len(s.Data))
	}
}

func TestReferencedValuesAreBoundedTogether(t *testing.T) {
	w := newWorld(t)
	w.secret("heymarket", map[string]string{"token": canary})
	one := certificate(t)
	bundle := strings.Repeat(one, 400<<10/len(one))
	spec := "token: {secretKeyRef: {name: heymarket}}\ntargets:\n"
	for i := range 3 {
		name := fmt.Sprint("ca-", i)
		w.secret(name, map[string]string{"ca.crt": bundle})
		spec += fmt.Sprintf("- {name: %s, url: 'https://crm.example.com/in', tls: {caSecretKeyRef: {name: %s, key: ca.crt}}}\n", name, name)
	}
	w.webhook(spec)
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonSecretValueInvalid, "larger than 1 MiB together")
}
