package controller

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/condition"
)

// mostPods bounds how many Pods of one resource are queried: its maximum number of replicas.
const mostPods = 100

// PodStatus queries the status of receiver Pods.
type PodStatus interface {
	// Report returns the status of the Pod at this address. It returns an error if there is no answer, or the address must not
	// be queried.
	Report(ctx context.Context, at PodAddress) (contract.Status, error)
}

// observe adds the reports of the Pods. If no Pod is ready, those that are not ready may report why.
func (r *Reconciler) observe(ctx context.Context, f condition.Facts) (condition.Facts, error) {
	pods, err := listPods(ctx, r.Client, f.Webhook)
	if err != nil {
		return f, err
	}
	f.Ready = askPods(ctx, r.Pods, pods.ready)
	reports := f.Ready
	if len(pods.ready) == 0 {
		reports = askPods(ctx, r.Pods, pods.waiting)
	}
	noteRedisUser(r.Users, f.Webhook, f.Input.SharedRedis.URL, reports)
	f.Reports = answers(reports)
	return f, nil
}

// answers returns the reports of the Pods that answered.
func answers(reports []*contract.Status) (out []contract.Status) {
	for _, p := range reports {
		if p != nil {
			out = append(out, *p)
		}
	}
	return out
}

// podAddresses are the addresses of one Pod, sorted; two if it has one of each IP family.
type podAddresses []PodAddress

// pods are the Pods behind a Service, without duplicates.
type pods struct {
	ready, waiting []podAddresses
}

func listPods(ctx context.Context, c client.Reader, hook *v1alpha1.HeymarketWebhook) (pods, error) {
	var slicesOfService discoveryv1.EndpointSliceList
	if err := c.List(ctx, &slicesOfService, client.InNamespace(hook.Namespace), client.UnsafeDisableDeepCopy,
		client.MatchingLabels{discoveryv1.LabelServiceName: contract.ReceiverName(hook.Name)}); err != nil {
		return pods{}, fmt.Errorf("list EndpointSlices: %w", err)
	}
	ready, waiting := map[string]podAddresses{}, map[string]podAddresses{}
	for _, s := range slicesOfService.Items {
		for _, e := range s.Endpoints {
			if len(e.Addresses) == 0 {
				continue
			}
			ip, err := netip.ParseAddr(e.Addresses[0])
			a := PodAddress{Webhook: client.ObjectKeyFromObject(hook), Address: ip}
			pod := e.Addresses[0]
			if e.TargetRef != nil {
				pod, a.Pod = e.TargetRef.Name, e.TargetRef.Name // The slices of the two families name the same Pod.
			}
			switch {
			case err != nil:
			case ptr.Deref(e.Conditions.Ready, true):
				ready[pod] = append(ready[pod], a)
			case !ptr.Deref(e.Conditions.Terminating, false):
				waiting[pod] = append(waiting[pod], a)
			}
		}
	}
	for pod := range ready {
		delete(waiting, pod) // One of the slices is outdated.
	}
	return pods{ready: sorted(ready), waiting: sorted(waiting)}, nil
}

func sorted(byPod map[string]podAddresses) []podAddresses {
	var out []podAddresses
	for _, addresses := range byPod {
		slices.SortFunc(addresses, byAddress)
		out = append(out, slices.Compact(addresses))
	}
	slices.SortFunc(out, func(a, b podAddresses) int { return slices.CompareFunc(a, b, byAddress) })
	return out
}

func byAddress(a, b PodAddress) int { return a.Address.Compare(b.Address) }

// askPods queries all Pods concurrently, and returns nil for one that does not answer.
func askPods(ctx context.Context, status PodStatus, pods []podAddresses) []*contract.Status {
	pods = pods[:min(len(pods), mostPods)]
	reports := make([]*contract.Status, len(pods))
	var wg sync.WaitGroup
	for i, addresses := range pods {
		wg.Go(func() { reports[i] = askPod(ctx, status, addresses) })
	}
	wg.Wait()
	return reports
}

// askPod queries a Pod at its addresses in turn: the operator may reach only one of the IP families. It returns nil if the Pod
// answers at none.
func askPod(ctx context.Context, status PodStatus, addresses podAddresses) *contract.Status {
	for _, a := range addresses {
		report, err := status.Report(ctx, a)
		if err == nil {
			return new(plausible(report, time.Now()))
		}
		log.FromContext(ctx).V(1).Info("Receiver did not answer", "pod", a.Address.String(), "error", err.Error())
	}
	return nil
}
