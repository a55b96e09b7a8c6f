package condition

import (
	"strings"
	"time"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// Writes are the results of the writes of one reconcile.
type Writes struct {
	// Rejected is a child that the API server rejected, because of a value in the spec, a quota or a policy; nil if there is none.
	Rejected *Failure
	// Failed is a child that the API server could not store.
	Failed *Failure
	// Undeleted is an unwanted child that the API server does not delete.
	Undeleted *Failure
	// Overwritten is a child that another field manager keeps changing back, and NextWrite when it may be written again.
	Overwritten *Failure
	NextWrite   time.Duration
	// Deleted are the children that were deleted.
	Deleted []*desired.Child
	// DeploymentWritten means that the Deployment has changed, so its status in Facts is out of date.
	DeploymentWritten bool
	// Err is an error to return once the status is written.
	Err error
}

// Failure is a child and the API server's answer about it.
type Failure struct {
	Child *desired.Child
	Name  string
	Err   error
}

// MayWrite reports whether further children may be written.
func MayWrite(f Facts, w Writes) bool { return accepted(f, w) && w.Failed == nil }

// accepted reports whether the resource is accepted so far.
func accepted(f Facts, w Writes) bool { return f.Mistake == nil && w.Rejected == nil }

// notWritten returns why a child does not exist if nothing more may be written.
func notWritten(f Facts, w Writes) string {
	if accepted(f, w) {
		return "an earlier child could not be stored"
	}
	return "the resource is not accepted"
}

// problem returns the condition for failed writes of the children that it is responsible for, nil if they succeeded.
func (w Writes) problem(f Facts, condition string) *Condition {
	switch {
	case w.Failed.concerns(f, condition):
		return False(v1alpha1.ReasonChildFailed, "The API server cannot store %s %q, and the operator retries. If it lasts, fix what the answer names: %s",
			w.Failed.Child.Kind, w.Failed.Name, Bounded(w.Failed.Err.Error()))
	case w.Undeleted.concerns(f, condition):
		return False(v1alpha1.ReasonChildFailed, "The API server does not delete %s %q, which is no longer wanted, and the operator retries. If it lasts, change the policy or fix what the answer names: %s",
			w.Undeleted.Child.Kind, w.Undeleted.Name, Bounded(APIMessage(w.Undeleted.Err)))
	case w.Overwritten.concerns(f, condition):
		kind, name := w.Overwritten.Child.Kind, w.Overwritten.Name
		return False(v1alpha1.ReasonChildOverwritten, "Another field manager keeps changing %s %q back, so the operator sets it less and less often, at last every ten minutes: "+
			"find it by kubectl get %s %s --show-managed-fields -o yaml, and make it leave the fields of %s alone.",
			kind, name, strings.ToLower(kind), name, FieldOwner).again(w.NextWrite)
	}
	return nil
}

// FieldOwner is the field manager of everything that the operator writes.
const FieldOwner = "heymarket-operator"

// concerns reports whether a condition is responsible for the child. Available is for those whose own condition does not apply.
func (f *Failure) concerns(facts Facts, condition string) bool {
	if f == nil {
		return false
	}
	if responsible := f.Child.Condition; responsible != "" && (responsible != v1alpha1.ConditionScaled || scalesByBacklog(facts)) {
		return condition == responsible
	}
	return condition == v1alpha1.ConditionAvailable
}
