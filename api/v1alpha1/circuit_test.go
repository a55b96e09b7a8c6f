package v1alpha1_test

import (
	"testing"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

// The API is a leaf, so it writes the circuits itself. What receivers report is copied into the status.
func TestCircuitsAreThoseOfReceivers(t *testing.T) {
	t.Parallel()
	ours := map[contract.Circuit]bool{}
	for _, c := range []v1alpha1.Circuit{v1alpha1.CircuitClosed, v1alpha1.CircuitOpen, v1alpha1.CircuitGone} {
		ours[contract.Circuit(c)] = true
	}
	for _, c := range contract.Circuits() {
		if !ours[c] {
			t.Errorf("receivers report %q, which the API does not know", c)
		}
	}
	if len(ours) != len(contract.Circuits()) {
		t.Errorf("the API has %d circuits, receivers report %d", len(ours), len(contract.Circuits()))
	}
}
