package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/reach"
)

func doctorCommand(to *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor [NAME]",
		Short: "Check the whole way of an event, and report what is wrong and what to do",
		Long: `Check the whole way of an event: the resource and its conditions, the Secrets, each receiver Pod, each target, and from this machine the
name and the certificate of the URL's host and whether this webhook's own receiver answers there. Nothing is changed and no event is sent. Without a NAME, every
HeymarketWebhook of the namespace is checked. The exit status is 0 only if everything is in order.`,
		Example: "  kubectl heymarket doctor support",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return oneName(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := to.open()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				if args, err = names(cmd.Context(), c); err != nil {
					return err
				}
				if len(args) == 0 {
					return errors.New("there is no HeymarketWebhook here; `kubectl get hmw --all-namespaces` lists all of them")
				}
			}
			failed := 0
			for _, name := range args {
				e := examination{place: c, name: name}
				e.examine(cmd.Context())
				failed += e.show(cmd.OutOrStdout())
			}
			if failed > 0 {
				return fmt.Errorf("%d of the checks failed, see above", failed)
			}
			return nil
		},
	}
}

// examination collects doctor's findings about one webhook.
type examination struct {
	place
	name     string
	findings []finding
}

type finding struct {
	what, detail string
	ok           bool
}

// found records a finding: err is a problem with its remedy, detail describes a check that passed.
func (e *examination) found(what, detail string, err error) bool {
	if err != nil {
		detail = err.Error()
	}
	e.findings = append(e.findings, finding{what, detail, err == nil})
	return err == nil
}

func (e *examination) examine(ctx context.Context) {
	hook, err := e.webhook(ctx, e.name)
	if !e.found("Resource", "HeymarketWebhook "+e.name, err) {
		return
	}
	e.conditions(hook)
	_, err = e.token(ctx, hook)
	e.found("Token", "the Secret holds one", err)
	e.targets(ctx)
	address, err := e.url(ctx, e.name)
	if !e.found("URL", "the Secret holds it", err) {
		return
	}
	e.route(ctx, hook, address)
}

func (e *examination) conditions(hook *v1alpha1.HeymarketWebhook) {
	if len(hook.Status.Conditions) == 0 {
		e.found("Operator", "", errors.New("the resource has no status: is the operator running, and does it watch this namespace?"))
	}
	for _, c := range hook.Status.Conditions {
		var err error
		switch {
		case c.Type == v1alpha1.ConditionReady:
			continue // the other conditions have the reason
		case c.Reason == reasonInMemory: // expected with dev
		case c.ObservedGeneration < hook.Generation:
			err = errors.New("the operator has not seen the latest change of the resource: is it running?")
		case c.Status != metav1.ConditionTrue:
			err = fmt.Errorf("%s: %s", c.Reason, c.Message)
		}
		e.found(c.Type, c.Message, err)
	}
	if hook.Spec.Paused {
		e.found("Deliveries", "", fmt.Errorf("paused: `kubectl heymarket resume %s %s` delivers what is stored", e.name, e.flags()))
	}
}

// targets checks the receivers, and each target as all of them see it.
func (e *examination) targets(ctx context.Context) {
	answers, err := askAll[[]contract.TargetStatus](ctx, e.place, e.name, contract.AdminPort, "/v1/targets")
	if err != nil {
		e.found("Receiver", "", err)
		return
	}
	var all [][]contract.TargetStatus
	for _, a := range answers {
		if e.found("Receiver", a.receiver+" answers", a.err) {
			all = append(all, a.value)
		}
	}
	for _, t := range contract.MergeTargets(all...) {
		letters := fmt.Sprintf("`kubectl heymarket dead list %s --target %s %s` shows why", e.name, t.Name, e.flags())
		e.found("Target "+t.Name, fmt.Sprintf("%d pending", t.Pending), problems(t, letters))
	}
}

// problems returns what is wrong with a target, or nil. letters is what to do about dead letters.
func problems(t contract.TargetStatus, letters string) error {
	var all []string
	switch t.Circuit {
	case contract.CircuitClosed:
	case contract.CircuitGone:
		all = append(all, "it answers 410 Gone, so it gets no more events: remove it from spec.targets, or set the right URL")
	default:
		all = append(all, "its circuit is "+strings.ToLower(string(t.Circuit))+" because most attempts fail")
	}
	if t.LastError != nil {
		all = append(all, fmt.Sprintf("attempts fail: %s since %s", t.LastError.Class, t.LastError.Since.Format(time.RFC3339)))
	}
	if t.DeadLetters > 0 {
		all = append(all, deadLetters(int(t.DeadLetters))+": "+letters)
	}
	if len(all) == 0 {
		return nil
	}
	return errors.New(strings.Join(all, "; "))
}

// route probes the URL as the operator does for the condition Reachable, from this machine.
func (e *examination) route(ctx context.Context, hook *v1alpha1.HeymarketWebhook, address string) {
	u, err := url.Parse(address)
	if err != nil {
		u = &url.URL{}
	}
	result := reach.Prober{OwnMachine: true}.Probe(ctx, address, []string{u.Path[strings.LastIndexByte(u.Path, '/')+1:]})
	verdict := condition.Reachable(condition.Facts{
		Now: time.Now(), Webhook: hook, Input: desired.Input{Host: u.Hostname()}, Probes: true, Probe: &result,
	}, condition.Writes{})
	if verdict == nil {
		e.found("Route", "", errors.New("the Secret holds no valid URL: delete the Secret, and the operator writes a new one"))
		return
	}
	switch result.Outcome {
	case reach.NoName:
		verdict.Message = fmt.Sprintf("%s does not resolve here: create a DNS record for the address of the Ingress or Gateway", u.Hostname())
	case reach.NoConnection:
		verdict.Message = fmt.Sprintf("%s does not accept a connection from here, without a proxy: check the load balancer of the Ingress or Gateway, its firewall and the DNS record", u.Host)
	}
	problem := fmt.Errorf("%s: %s", verdict.Reason, verdict.Message)
	for _, step := range []struct {
		what, detail string
		last         reach.Outcome // with which it fails
	}{
		{"DNS", u.Hostname() + " resolves", reach.Blocked},
		{"Connection", u.Host + " accepts one", reach.NoConnection},
		{"Certificate", fmt.Sprintf("issued by %q, valid until %s", result.Issuer, result.NotAfter.Format(time.DateOnly)), reach.CertificateOfController},
		{"Route", "the receiver of this webhook answers at the URL", reach.AnsweredByOther},
	} {
		certificate := step.what == "Certificate"
		switch {
		case result.Outcome <= step.last:
			e.found(step.what, "", problem)
			return
		case certificate && u.Scheme == "http": // dev's URL
		case certificate && verdict.Reason == v1alpha1.ReasonCertificateEnding:
			e.found(step.what, "", problem)
		default:
			e.found(step.what, step.detail, nil)
		}
	}
}

func (e *examination) show(out io.Writer) (failed int) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range e.findings {
		mark := "ok"
		if !f.ok {
			mark = "NOT OK"
			failed++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", printable(e.name), printable(f.what), mark, printable(f.detail))
	}
	_ = w.Flush()
	return failed
}
