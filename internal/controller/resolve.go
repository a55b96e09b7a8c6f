package controller

import (
	"cmp"
	"context"
	"time"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
)

// resolve reads all facts for the children and the conditions, except the reports of Pods. live is that of readChild.
func (r *Reconciler) resolve(ctx context.Context, hook *v1alpha1.HeymarketWebhook, finalizerErr error, live bool) (condition.Facts, error) {
	f := condition.Facts{
		Now: time.Now(), Webhook: hook, FinalizerErr: finalizerErr,
		Input: desired.Input{
			Webhook:     hook,
			SharedRedis: r.Redis(),
			Image:       r.Settings.ReceiverImage,
			UserID:      r.Settings.ReceiverUserID,

			ReceiverDefaults: r.Settings.ReceiverDefaults,

			IngressClass:  r.Settings.IngressClass,
			NetworkPolicy: r.Settings.NetworkPolicy,
			Gateways:      r.Settings.Gateways,

			TargetAddresses: r.Settings.TargetAddresses,
			TrustedProxies:  r.Settings.TrustedProxies,
			MaxBacklogBytes: r.Settings.MaxBacklogBytes,
			Traces:          r.Settings.Traces,

			KEDA: r.OptionalKinds.Served(desired.ScaledObjectKind),
		},
		AllowedAnnotations: DefaultAnnotations, AllowedLabels: DefaultLabels,
		NoGatewayAPI:    !r.OptionalKinds.Served(desired.HTTPRouteKind),
		ExposureTimeout: cmp.Or(r.Settings.exposureTimeout, condition.ExposureTimeout),
	}
	if r.Settings.AllowedAnnotations != nil {
		f.AllowedAnnotations = r.Settings.AllowedAnnotations
	}
	if r.Settings.AllowedLabels != nil {
		f.AllowedLabels = r.Settings.AllowedLabels
	}
	if err := r.readChildren(ctx, &f, live); err != nil {
		return f, err
	}
	for _, read := range []func(context.Context, *condition.Facts) error{
		r.readRedisUser, r.readSecrets, r.readServices, r.readCertificate, r.readGateways, r.resolveHost, check, r.resolveConflict, r.resolveURL,
	} {
		if err := read(ctx, &f); err != nil {
			return f, err
		}
	}
	if r.Probes != nil {
		f.Probes, f.Probe = true, r.Probes.result(hook.UID, desired.URL(f.Input))
	}
	if f.Mistake == nil && finalizerErr != nil {
		f.Mistake = condition.FinalizerRejected(finalizerErr)
	}
	return f, nil
}

func check(_ context.Context, f *condition.Facts) error {
	f.Mistake = condition.Check(*f)
	return nil
}

// build adds the wanted children, if the facts suffice for them.
func build(f condition.Facts) condition.Facts {
	if f.Input.Segment == "" {
		return f
	}
	want, err := desired.Build(f.Input)
	if err != nil {
		f.Mistake = cmp.Or(f.Mistake, condition.Invalid(err))
		return f
	}
	f.Want = want
	return f
}
