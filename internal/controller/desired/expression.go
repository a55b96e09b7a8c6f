package desired

import (
	"fmt"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/receiver/filter"
)

// CheckExpressions says whether receivers can use the resource's filters and its deduplication key. The error names the
// field, line, column and mistake of the first that they cannot.
func CheckExpressions(w *v1alpha1.HeymarketWebhook) error {
	for _, t := range w.Spec.Targets {
		if t.Filter == "" {
			continue
		}
		if err := filter.Check(t.Filter, filter.Wanted); err != nil {
			return fmt.Errorf("%s.filter:%w", targetField(t), err)
		}
	}
	if key := w.Spec.Deduplication.Key; key != "" {
		if err := filter.Check(key, filter.Key); err != nil {
			return fmt.Errorf("spec.deduplication.key:%w", err)
		}
	}
	return nil
}
