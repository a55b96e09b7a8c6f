package mutations

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	kstatus "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/apiservertest"
	"heymarket.dev/operator/internal/controller"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/testenv"
	"heymarket.dev/operator/test/support/snapshot"
)

const (
	// sampled is the number of changes that `make test` has time for.
	sampled = 100
	// length of a chain, in changes.
	length = 50
)

// tally counts what became of the changes.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func (t *tally) add(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[what]++
}

func TestChains(t *testing.T) {
	apiservertest.InstallExtensions(t)
	changes := testenv.Number(t, "MUTATIONS", sampled, 1)
	// Every day another sample; what failed yesterday is repeated by its seed.
	now := time.Now().UTC()
	seed := testenv.Number(t, "MUTATIONS_SEED", now.Year()*1000+now.YearDay(), 0)
	t.Logf("MUTATIONS=%d MUTATIONS_SEED=%d", changes, seed)
	sch := readSchema(t)
	counts := &tally{counts: map[string]int{}}
	t.Run("chain", func(t *testing.T) {
		for i := range (changes + length - 1) / length {
			t.Run(strconv.Itoa(seed+i), func(t *testing.T) {
				t.Parallel()
				newChain(t, sch, uint64(seed+i), counts).run(min(length, changes-i*length))
			})
		}
	})
	for _, what := range sorted(counts.counts) {
		t.Logf("%6d %s", counts.counts[what], what)
	}
	if changes >= 1000 { // Among fewer, one sort may be missing by chance.
		for _, what := range []string{"accepted", "refused by the schema", "refused by a rule", "rolled back", "a Secret missing"} {
			if counts.counts[what] == 0 {
				t.Errorf("not one change was %q: the generator has lost its breadth", what)
			}
		}
	}
}

// chain is a resource through its changes, beside a place where a fresh one is made of each spec.
type chain struct {
	t             *testing.T
	generator     generator
	schema        schema
	worlds        [2]*world
	spec          map[string]any // as last sent
	state         snapshot.State
	remembered    []memory
	steps         []string
	counts        *tally
	refusedBefore string
	// had are the paths that the URL has had, and revision is the latest urlRevision that the operator has followed.
	had      map[string]bool
	revision int64
}

// memory is a spec that was accepted, and what it came to.
type memory struct {
	spec   map[string]any
	fresh  snapshot.State
	played bool
}

func newChain(t *testing.T, sch schema, seed uint64, counts *tally) *chain {
	t.Helper()
	settings := controller.Settings{
		ReceiverImage: "heymarket.dev/operator:v1", AllowedAnnotations: controller.AllowList{"*"}, AllowedLabels: controller.AllowList{"*"},
	}
	if seed%3 > 0 { // Otherwise the cluster determines the host.
		template, err := controller.ParseHostTemplate("{{.Namespace}}.hooks.example.com")
		if err != nil {
			t.Fatal(err)
		}
		settings.HostTemplate = template
	}
	if seed%2 > 0 {
		settings.NetworkPolicy = &controller.NetworkPolicy{OperatorNamespace: "heymarket-system"}
	}
	c := &chain{t: t, had: map[string]bool{}, generator: generator{random(seed)}, schema: sch, counts: counts}
	for i := range c.worlds {
		c.worlds[i] = newWorld(t, settings)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("The last steps of MUTATIONS_SEED=%d:\n%s", seed, strings.Join(c.steps[max(0, len(c.steps)-12):], "\n"))
			text, _ := yaml.Marshal(c.spec)
			t.Logf("The spec:\n%s", text)
		}
	})
	return c
}

func (c *chain) own() *world   { return c.worlds[0] }
func (c *chain) fresh() *world { return c.worlds[1] }

func (c *chain) do(what string, err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
}

func (c *chain) step(format string, args ...any) {
	c.steps = append(c.steps, fmt.Sprintf("%3d ", len(c.steps))+fmt.Sprintf(format, args...))
}

func (c *chain) run(changes int) {
	first := map[string]any{
		"token":   map[string]any{"secretKeyRef": map[string]any{"name": "heymarket"}},
		"targets": []any{map[string]any{"name": "crm", "url": "http://crm.example.com/in"}},
	}
	c.step("the smallest spec")
	c.do("create the resource", c.own().put(c.t.Context(), first))
	c.settled(first, nil)
	for range changes {
		c.change()
	}
}

// change makes one change of some sort.
func (c *chain) change() {
	g := c.generator
	switch n := g.IntN(100); {
	case n < 20:
		c.violate()
	case n < 26 && c.refusedBefore == "":
		c.miss()
	case n < 35 && len(c.remembered) > 0 || c.refusedBefore != "" && n < 65:
		c.rollBack()
	default:
		c.mutate()
	}
}

// violate sends what the schema forbids.
func (c *chain) violate() {
	v := c.generator.broken(c.schema.spec, c.spec)
	c.step("violate %s: %s", v.path, v.what)
	err := c.refuse(v.spec)
	if err == nil {
		c.t.Fatalf("%s: %s, and the API server took it", v.path, v.what)
	}
	if !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) {
		c.t.Fatalf("%s: %s: %v", v.path, v.what, err)
	}
	c.counts.add("refused by the schema")
}

// refuse sends a spec. If it is refused, nothing may have changed, and refuse returns why.
func (c *chain) refuse(spec map[string]any) error {
	before, err := c.own().get(c.t.Context())
	c.do("read the resource", err)
	refusal := c.own().put(c.t.Context(), spec)
	if refusal == nil {
		return nil
	}
	after, err := c.own().get(c.t.Context())
	c.do("read the resource", err)
	if before.GetResourceVersion() != after.GetResourceVersion() {
		c.t.Errorf("a refused change has changed the resource: %s", cmp.Diff(before, after))
	}
	return refusal
}

// mutate sends what OpenAPI allows, and what the rules allow more often than not.
func (c *chain) mutate() {
	g := c.generator
	spec, where := c.spec, ""
	for cmp.Equal(spec, c.spec) {
		changed, path := g.change(c.schema.spec, "", c.spec)
		spec, where = changed.(map[string]any), path
	}
	if autoscaled(c.spec) && c.refusedBefore == "" && g.one(3) {
		n := 1 + g.Int64N(20)
		c.step("scale to %d", n)
		c.do("scale", c.own().scale(c.t.Context(), n))
		c.look()
	}
	if err := c.refuse(spec); err != nil {
		c.step("change %s, refused", where)
		c.do("change "+where, bySentence(err, c.schema.sentences))
		c.counts.add("refused by a rule")
		return
	}
	c.step("change %s", where)
	c.counts.add("accepted")
	c.settled(spec, nil)
}

// rollBack goes back to what was good once, and more often the worse things stand.
func (c *chain) rollBack() {
	if len(c.remembered) == 0 {
		return
	}
	m := c.remembered[c.generator.IntN(len(c.remembered))]
	c.counts.add("rolled back")
	if now, then := urlRevision(c.spec), urlRevision(m.spec); now > then {
		// A URL does not come back; all else does.
		c.step("roll back, but for urlRevision %d", now)
		spec := runtime.DeepCopyJSON(m.spec)
		c.do("keep urlRevision", unstructured.SetNestedField(spec, now, "exposure", "urlRevision"))
		c.do("roll back", c.own().put(c.t.Context(), spec))
		c.settled(spec, nil)
		return
	}
	c.step("roll back")
	c.do("roll back", c.own().put(c.t.Context(), m.spec))
	c.settled(m.spec, &m)
}

// miss takes a Secret away for a while.
func (c *chain) miss() {
	ctx, w := c.t.Context(), c.own()
	hook := &v1alpha1.HeymarketWebhook{}
	c.do("read the resource", w.person.Get(ctx, w.hook, hook))
	refs := desired.References(hook)
	ref := refs[c.generator.IntN(len(refs))]
	c.step("miss Secret %s of %s", ref.Secret, ref.Field)
	c.do("delete the Secret", w.person.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.hook.Namespace, Name: ref.Secret}}))
	c.do("reconcile without the Secret", w.settle(ctx))
	accepted, err := w.accepted(ctx)
	c.do("read the resource", err)
	if accepted == nil || accepted.Status != metav1.ConditionFalse || !strings.Contains(accepted.Message, strconv.Quote(ref.Secret)) {
		c.t.Errorf("Secret %q is missing, and Accepted says %+v", ref.Secret, accepted)
	}
	without, err := w.state(ctx)
	c.do("read the children", err)
	if diff := cmp.Diff(c.state.Children, without.Children); diff != "" {
		c.t.Errorf("a missing Secret has changed children (-before +after):\n%s", diff)
	}
	c.do("restore the Secret", w.putSecret(ctx, ref.Secret))
	c.do("reconcile with the Secret", w.settle(ctx))
	again, err := w.state(ctx)
	c.do("read the children", err)
	if diff := cmp.Diff(c.state.Children, again.Children); diff != "" {
		c.t.Errorf("the Secret is back, and the children are not (-before +after):\n%s", diff)
	}
	if reason := unaccepted(again); reason != "" {
		c.t.Errorf("the Secret is back, and Accepted still says %s", reason)
	}
	c.state = again
	c.counts.add("a Secret missing")
}

// look reads the chain's state.
func (c *chain) look() {
	var err error
	c.state, err = c.own().state(c.t.Context())
	c.do("read the children", err)
}

// settled reconciles the chain's resource, which has this spec now, until it is quiet, and compares it with a fresh one:
// with the one that is remembered, or with a new one.
func (c *chain) settled(spec map[string]any, remembered *memory) {
	c.t.Helper()
	ctx, before := c.t.Context(), c.state
	c.spec = spec
	m := memory{spec: spec}
	if remembered != nil {
		m = *remembered
	} else {
		m.played = c.own().reconciler.Settings.HostTemplate == nil || c.generator.one(5)
		m.fresh = c.bringUp(ctx, c.fresh(), m.played, func() error { return c.fresh().put(ctx, spec) })
		c.do("remove the fresh resource", c.fresh().clear(ctx, m.fresh.Objects))
		m.fresh.Objects = nil
	}
	c.state = c.bringUp(ctx, c.own(), m.played, func() error { return nil })
	if wrong := compare(before, c.state, m.fresh, autoscaled(spec), m.played); wrong != "" {
		c.t.Fatal(wrong)
	}
	c.followURL(before)
	c.refusedBefore = unaccepted(c.state)
	if c.refusedBefore == "" {
		c.remembered = append(c.remembered, m)
	} else {
		c.counts.add("not accepted: " + c.refusedBefore)
	}
}

// followURL reports whether the URL and those before it are the resource's own.
func (c *chain) followURL(before snapshot.State) {
	c.t.Helper()
	if len(c.state.Paths) == 0 {
		return
	}
	for _, previous := range c.state.Paths[1:] {
		if !c.had[previous] {
			c.t.Errorf("%s is accepted, and was never the URL's path", previous)
		}
	}
	changed := len(before.Paths) > 0 && segment(before) != segment(c.state)
	// The URL comes before a child that the API server refuses, so it may still be renewed.
	reason := unaccepted(c.state)
	renewed := urlRevision(c.spec) > c.revision && (reason == "" || reason == "ChildRefused" && changed)
	if changed && !renewed {
		c.t.Errorf("the URL is another one, and nobody has asked for that")
	}
	if renewed {
		c.revision = urlRevision(c.spec)
		if len(before.Paths) > 0 && !changed {
			c.t.Errorf("urlRevision has risen to %d, and the URL is the same", c.revision)
		}
	}
	c.had[c.state.Paths[0]] = true
}

func segment(s snapshot.State) string {
	return s.Paths[0][strings.LastIndexByte(s.Paths[0], '/')+1:]
}

func urlRevision(spec map[string]any) int64 {
	n, _, _ := unstructured.NestedInt64(spec, "exposure", "urlRevision")
	return n
}

func (c *chain) bringUp(ctx context.Context, w *world, play bool, put func() error) snapshot.State {
	c.t.Helper()
	c.do("create the resource", put())
	c.do("create Secrets", w.furnish(ctx))
	if w == c.own() || play {
		c.do("reconcile until nothing is written", w.settle(ctx))
	} else {
		c.do("reconcile", w.round(ctx)) // What is fresh is complete after one round.
	}
	if play {
		c.do("play the cluster", w.stage.Play(ctx, w.hook))
		c.do("reconcile until nothing is written", w.settle(ctx))
	}
	c.agreesWithKstatus(ctx, w)
	s, err := w.state(ctx)
	c.do("read the children", err)
	return s
}

// agreesWithKstatus compares what kubectl wait, Flux and Argo CD make of the resource with its condition Ready.
func (c *chain) agreesWithKstatus(ctx context.Context, w *world) {
	c.t.Helper()
	object, err := w.get(ctx)
	c.do("read the resource", err)
	computed, err := kstatus.Compute(object)
	c.do("compute the status", err)
	want := kstatus.InProgressStatus
	for _, condition := range conditions(snapshot.State{Webhook: object.Object}) {
		if condition["type"] == "Ready" && condition["status"] == "True" {
			want = kstatus.CurrentStatus
		}
	}
	if computed.Status != want {
		c.t.Fatalf("kstatus: %s (%s), want %s", computed.Status, computed.Message, want)
	}
	c.counts.add("kstatus: " + string(want))
}

func autoscaled(spec map[string]any) bool {
	_, found, _ := unstructured.NestedMap(spec, "receiver", "autoscaling")
	return found
}
