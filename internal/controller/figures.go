package controller

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
)

// figuresPeriod is how often the figures of one status may change.
const figuresPeriod = time.Minute

// serving returns the reports of receivers that serve one of the configurations. At the addresses that an EndpointSlice names,
// receivers of another namespace may answer: their figures are not for this one to read.
func serving(reports []contract.Status, digests ...string) []contract.Status {
	return slices.DeleteFunc(slices.Clone(reports), func(r contract.Status) bool { return !slices.Contains(digests, r.ConfigDigest) })
}

// circuits from the best to the worst.
var circuits = []v1alpha1.Circuit{v1alpha1.CircuitClosed, v1alpha1.CircuitOpen, v1alpha1.CircuitGone}

// lastUsedStep is by how much a time in the status has to be behind before it is written again.
const lastUsedStep = 5 * time.Minute

// tokens carries over the time at which each reference's token was used last, whichever place it had before, and moves
// it on by what the Pods say.
func tokens(hook *v1alpha1.HeymarketWebhook, after *v1alpha1.HeymarketWebhookStatus, reports []contract.Status, digest string, now time.Time) {
	before := hook.Status.Token
	known := map[v1alpha1.TokenReference]*metav1.Time{}
	if before != nil {
		known[before.SecretKeyRef] = before.LastUsed
		if p := before.PreviousSecretKeyRef; p != nil {
			known[*p] = before.PreviousLastUsed
		}
	}
	used := map[string]time.Time{}
	for _, r := range reports {
		if r.ConfigDigest != digest {
			continue // Its current token may be the previous one by now.
		}
		for _, t := range r.Tokens {
			used[t.Name] = newest(used[t.Name], t.LastUsed, now)
		}
	}
	spec := hook.Spec.Token
	after.Token = &v1alpha1.TokenStatus{
		SecretKeyRef:         spec.SecretKeyRef,
		LastUsed:             moved(known[spec.SecretKeyRef], used["current"]),
		PreviousSecretKeyRef: spec.PreviousSecretKeyRef,
	}
	last := after.Token.LastUsed
	if p := spec.PreviousSecretKeyRef; p != nil {
		after.Token.PreviousLastUsed = moved(known[*p], used["previous"])
		if last == nil || last.Before(after.Token.PreviousLastUsed) {
			last = after.Token.PreviousLastUsed
		}
	}
	after.LastEventTime = hook.Status.LastEventTime
	if last != nil {
		after.LastEventTime = moved(after.LastEventTime, last.Time)
	}
}

// newest is the later of two times that Pods told. A Pod's clock may be ahead, and anybody's Pod may answer: a time from
// the future does not count.
func newest(a, b, now time.Time) time.Time {
	if b.After(a) && b.Before(now.Add(lastUsedStep)) {
		return b
	}
	return a
}

// moved returns the later time if it is later by lastUsedStep, so that a busy webhook does not write at every event.
func moved(before *metav1.Time, seen time.Time) *metav1.Time {
	if seen.IsZero() || before != nil && seen.Sub(before.Time) < lastUsedStep {
		return before
	}
	return new(metav1.NewTime(seen.Truncate(time.Second).Local()))
}

// figures puts what the Pods say about the targets into after. It keeps the figures of before where no Pod knows better,
// and where they are younger than figuresPeriod, so that a busy webhook costs no more than a write a minute and an idle
// one none.
func figures(hook *v1alpha1.HeymarketWebhook, after *v1alpha1.HeymarketWebhookStatus, reports []contract.Status, now time.Time) {
	before := &hook.Status
	after.Pending, after.DeadLetters, after.CountTime = before.Pending, before.DeadLetters, before.CountTime
	for _, t := range hook.Spec.Targets {
		if old := targetStatus(before, t.Name); old != nil {
			after.Targets = append(after.Targets, *old)
		}
	}
	reports = slices.DeleteFunc(slices.Clone(reports), func(r contract.Status) bool { return r.Backlog == nil && !redisWorks(r) })
	if len(reports) == 0 {
		return
	}
	var pending, deadLetters int64
	var targets []v1alpha1.TargetStatus
	for _, t := range hook.Spec.Targets {
		s, known := counted(t.Name, reports)
		if !known {
			continue // Its Pods have not taken over the configuration yet.
		}
		pending += s.Pending
		deadLetters += s.DeadLetters
		s.Pending, s.DeadLetters = coarse(s.Pending), coarse(s.DeadLetters)
		s.LastDelivered = lastDelivered(targetStatus(before, t.Name), t.Name, reports, now)
		targets = append(targets, s)
	}
	pending, deadLetters = coarse(pending), coarse(deadLetters)
	same := ptr.Equal(before.Pending, &pending) && ptr.Equal(before.DeadLetters, &deadLetters) && equality.Semantic.DeepEqual(targets, after.Targets)
	if same || before.CountTime != nil && now.Sub(before.CountTime.Time) < figuresPeriod {
		return
	}
	after.Pending, after.DeadLetters, after.Targets = &pending, &deadLetters, targets
	after.CountTime = new(metav1.NewTime(now))
}

// counted merges what the Pods say about one target: the backlog is one for all of them, and the circuit is each one's.
func counted(name string, reports []contract.Status) (out v1alpha1.TargetStatus, known bool) {
	out = v1alpha1.TargetStatus{Name: name, Circuit: v1alpha1.CircuitClosed}
	for _, r := range reports {
		for _, t := range r.Targets {
			if t.Name != name {
				continue
			}
			known = true
			out.Pending = max(out.Pending, t.Pending)
			out.DeadLetters = max(out.DeadLetters, t.DeadLetters)
			if c := v1alpha1.Circuit(t.Circuit); slices.Index(circuits, c) > slices.Index(circuits, out.Circuit) {
				out.Circuit = c
			}
		}
	}
	return out, known
}

// lastDelivered is the latest time that a Pod or the status of before knows of. A Pod forgets when it ends, the status does not.
func lastDelivered(before *v1alpha1.TargetStatus, name string, reports []contract.Status, now time.Time) *metav1.Time {
	var last time.Time
	for _, r := range reports {
		for _, t := range r.Targets {
			if t.Name == name {
				last = newest(last, t.LastDelivered, now)
			}
		}
	}
	if before == nil {
		return moved(nil, last)
	}
	return moved(before.LastDelivered, last)
}

// coarse keeps the first digit: 0 to 9, 10, 20 … 90, 100, 200 and so on. What is small is exact, and what is large moves
// seldom.
func coarse(n int64) int64 {
	unit := int64(1)
	for n/unit >= 10 {
		unit *= 10
	}
	return n / unit * unit
}

func targetStatus(s *v1alpha1.HeymarketWebhookStatus, name string) *v1alpha1.TargetStatus {
	for i := range s.Targets {
		if s.Targets[i].Name == name {
			return &s.Targets[i]
		}
	}
	return nil
}

// tellTraffic records an event when a rotation ends, when a circuit opens or closes, and when a target gets its first
// dead letter.
func (r *Reconciler) tellTraffic(hook *v1alpha1.HeymarketWebhook, before, after *v1alpha1.HeymarketWebhookStatus) {
	if before.Token != nil && before.Token.PreviousSecretKeyRef != nil && after.Token != nil && after.Token.PreviousSecretKeyRef == nil {
		r.event(hook, corev1.EventTypeNormal, v1alpha1.EventRotationFinished, "Rotate",
			"The previous token is withdrawn: only the one in Secret %q is accepted.", after.Token.SecretKeyRef.Name)
	}
	for i := range after.Targets {
		is := &after.Targets[i]
		was := targetStatus(before, is.Name)
		if was == nil {
			was = &v1alpha1.TargetStatus{Name: is.Name, Circuit: v1alpha1.CircuitClosed}
		}
		switch {
		case was.Circuit == is.Circuit:
		case is.Circuit == v1alpha1.CircuitClosed:
			r.event(hook, corev1.EventTypeNormal, v1alpha1.EventCircuitClosed, "Deliver", "Target %q takes events again.", is.Name)
		case is.Circuit == v1alpha1.CircuitGone:
			r.event(hook, corev1.EventTypeWarning, v1alpha1.EventCircuitOpened, "Deliver",
				"Target %q says that it is gone for good (410): remove it from spec.targets, or give it the right URL. Its events are kept meanwhile.", is.Name)
		default:
			r.event(hook, corev1.EventTypeWarning, v1alpha1.EventCircuitOpened, "Deliver",
				"Target %q fails, so it gets fewer attempts until it answers again: see the log of Deployment %q. Its events are kept meanwhile.",
				is.Name, desired.ReceiverName(hook.Name))
		}
		if was.DeadLetters == 0 && is.DeadLetters > 0 {
			r.event(hook, corev1.EventTypeWarning, v1alpha1.EventDeadLetters, "Deliver",
				"Target %q has dead letters, events that were given up: see the log of Deployment %q for why, mend the target, and replay them.",
				is.Name, desired.ReceiverName(hook.Name))
		}
	}
}

// observeDurability says whether Redis keeps what it has confirmed, by the word of all Pods that could be asked, and whether
// there is room for dead letters. Of what Pods answer it takes codes and no text: anything in the cluster can answer at a Pod's
// address.
func observeDurability(hook *v1alpha1.HeymarketWebhook, reports []contract.Status) verdict {
	var problems []contract.Problem
	unknown, unnamed := len(reports) == 0, false
	for _, r := range reports {
		named := slices.DeleteFunc(slices.Clone(r.Problems), func(p contract.Problem) bool { return !p.Known() })
		problems = append(problems, named...)
		some := len(r.Problems)+len(r.DurabilityProblems) > 0
		switch {
		case len(named) > 0 || r.Durable && redisWorks(r):
		case some:
			unnamed = true // by a receiver of another version
		case redisWorks(r) || r.Redis == contract.RedisConnecting:
			unknown = true
		default:
			problems = append(problems, contract.RedisUnreachable)
		}
	}
	slices.Sort(problems)
	problems = slices.Compact(problems)
	var sentences []string
	for _, p := range problems {
		sentences = append(sentences, p.Message())
	}
	message := bounded(strings.Join(sentences, " "))
	switch {
	case slices.ContainsFunc(problems, contract.Problem.OfConnection):
		return verdict{reason: v1alpha1.ReasonRedisUnreachable, message: message + " The log of the receiver has more."}
	case len(problems) > 0:
		return verdict{reason: v1alpha1.ReasonNotDurable, message: message}
	case unnamed:
		return verdict{reason: v1alpha1.ReasonNotDurable, message: "A receiver of another version reports a problem with Redis: see the log of the receiver."}
	case unknown:
		return verdict{reason: v1alpha1.ReasonDurabilityUnknown, message: "No receiver Pod has reported Redis durability yet."}
	}
	if full := withoutRoom(hook, reports); len(full) > 0 {
		return verdict{reason: v1alpha1.ReasonDeadLettersFull, message: bounded(fmt.Sprintf(
			"Targets at spec.retention.deadLetterLimit: %s. Events that these reject wait in their queues: replay or discard dead letters, or raise the limit.",
			strings.Join(full, ", ")))}
	}
	return verdict{ok: true, reason: v1alpha1.ReasonDurable, message: "Redis is durable: maxmemory-policy is noeviction and the append-only file is on."}
}

// withoutRoom are the targets that have as many dead letters as they may have.
func withoutRoom(hook *v1alpha1.HeymarketWebhook, reports []contract.Status) (names []string) {
	limit := ptr.Deref(hook.Spec.Retention.DeadLetterLimit, math.MaxInt64) // the API server fills in the default
	for _, t := range hook.Spec.Targets {
		if s, known := counted(t.Name, reports); known && s.DeadLetters >= limit {
			names = append(names, t.Name)
		}
	}
	return names
}

// event records one event. Its text is the same for the same thing, so that repeated ones are counted and not listed.
func (r *Reconciler) event(hook *v1alpha1.HeymarketWebhook, kind, reason, action, format string, args ...any) {
	r.Events.Eventf(hook, nil, kind, reason, action, "%s", fmt.Sprintf(format, args...))
}
