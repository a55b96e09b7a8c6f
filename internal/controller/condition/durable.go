package condition

import (
	"fmt"
	"math"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
)

// Durable reports whether Redis keeps confirmed writes, according to all Pods that answered, and whether every target is
// below its dead letter limit. It uses only codes from Pods, no text: anything in the cluster can answer at a Pod's address.
func Durable(f Facts, w Writes) *Condition {
	if len(f.Reports) == 0 && desired.Deployment.In(f.Children) == nil && !w.DeploymentWritten {
		return False(v1alpha1.ReasonNotDeployed, "There is no receiver to check Redis, because %s.", notWritten(f, w))
	}
	problems, otherVersion, unknown := redisProblems(f.Reports)
	full := fullTargets(f.Webhook, f.Reports)
	switch {
	case slices.ContainsFunc(problems, contract.Problem.OfConnection):
		return False(v1alpha1.ReasonRedisUnreachable, "%s The log of the receiver has more.", sentences(problems))
	case len(problems) > 0:
		return False(v1alpha1.ReasonNotDurable, "%s", sentences(problems))
	case otherVersion:
		return False(v1alpha1.ReasonNotDurable, "A receiver of another version reports a problem with Redis: see the log of the receiver.")
	case unknown:
		c := False(v1alpha1.ReasonDurabilityUnknown, "No receiver Pod has reported Redis durability yet.")
		if Available(f, w).OK { // No watch reports that a Pod has checked Redis.
			c.Again = askAgain(f, metav1.ConditionTrue)
		}
		return c
	case slices.ContainsFunc(f.Reports, func(r contract.Status) bool { return r.BacklogFull }):
		return False(v1alpha1.ReasonBacklogFull, "Pending events and dead letters take as much of Redis as one webhook may use, so new events are rejected with 429: "+
			"fix or resume the targets that do not take events, or replay or discard dead letters; the limit is the operator's --max-backlog-bytes.")
	case len(full) > 0:
		return False(v1alpha1.ReasonDeadLettersFull, "%s", Bounded(fmt.Sprintf(
			"Targets at spec.retention.deadLetterLimit: %s. Events that these reject wait in their queues: replay or discard dead letters, or raise the limit.",
			strings.Join(full, ", "))))
	}
	return True(v1alpha1.ReasonDurable, "Redis is durable: maxmemory-policy is noeviction and the append-only file is on.")
}

var durableAlarms = only(v1alpha1.ReasonNotDurable, v1alpha1.ReasonRedisUnreachable, v1alpha1.ReasonDeadLettersFull, v1alpha1.ReasonBacklogFull)

// redisProblems returns the problems that the Pods report, sorted. otherVersion means that a Pod reports one unknown to this
// version, unknown that a Pod has no verdict yet, or that there are no reports.
func redisProblems(reports []contract.Status) (problems []contract.Problem, otherVersion, unknown bool) {
	unknown = len(reports) == 0
	for _, r := range reports {
		known := slices.DeleteFunc(slices.Clone(r.Problems), func(p contract.Problem) bool { return !p.Known() })
		problems = append(problems, known...)
		works := r.Redis == contract.RedisOK
		switch {
		case len(known) > 0 || r.Durable && works:
		case len(r.Problems)+len(r.DurabilityProblems) > 0:
			otherVersion = true
		case works || r.Redis == contract.RedisConnecting:
			unknown = true
		default:
			problems = append(problems, contract.RedisUnreachable)
		}
	}
	slices.Sort(problems)
	return slices.Compact(problems), otherVersion, unknown
}

func sentences(problems []contract.Problem) string {
	var out []string
	for _, p := range problems {
		out = append(out, p.Message())
	}
	return Bounded(strings.Join(out, " "))
}

// fullTargets returns the targets that have reached their dead letter limit.
func fullTargets(w *v1alpha1.HeymarketWebhook, reports []contract.Status) (names []string) {
	limit := ptr.Deref(w.Spec.Retention.DeadLetterLimit, math.MaxInt64) // the API server sets the default
	for _, t := range w.Spec.Targets {
		if slices.ContainsFunc(reports, func(r contract.Status) bool {
			return slices.ContainsFunc(r.Targets, func(s contract.TargetStatus) bool { return s.Name == t.Name && s.DeadLetters >= limit })
		}) {
			names = append(names, t.Name)
		}
	}
	return names
}
