package desired

import (
	"fmt"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/receiver/filter"
)

// CheckExpressions checks the resource's filters and its deduplication key. The error contains the field, line, column
// and message of the first mistake, and a link to the documentation.
func CheckExpressions(w *v1alpha1.HeymarketWebhook) error {
	for _, t := range w.Spec.Targets {
		if t.Filter == "" {
			continue
		}
		if err := filter.Check(t.Filter, filter.Wanted); err != nil {
			return mistaken(targetField(t)+".filter", "spec.targets.filter", err)
		}
	}
	if key := w.Spec.Deduplication.Key; key != "" {
		if err := filter.Check(key, filter.Key); err != nil {
			return mistaken("spec.deduplication.key", "spec.deduplication.key", err)
		}
	}
	return nil
}

func mistaken(field, path string, err error) error {
	return fmt.Errorf("%s has a mistake at line:column %w; kubectl explain hmw.%s lists what it may use", field, err, path)
}
