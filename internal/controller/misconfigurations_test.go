package controller

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/apiservertest"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/controller/source"
	"heymarket.dev/operator/internal/testenv"
)

var update = flag.Bool("update", false, "rewrite docs/reference/misconfigurations.md")

// misconfiguration is a mistake that people make. Its row in docs/reference/misconfigurations.md holds what the API
// server or the operator says to it.
type misconfiguration struct {
	// mistake is its description in the row.
	mistake string
	// spec is laid over the smallest one, field by field. The row shows it.
	spec string
	// shared makes a mistake of who installs the operator, in how the shared Redis is reached: it returns URL and certificates.
	// nil for a mistake in a resource.
	shared func(*testing.T) desired.SharedRedis
	// before prepares the cluster. nil means that the Secret of the smallest spec exists.
	before func(*world)
	// after is the cluster's effect on the children.
	after func(*world)
	// condition that the mistake falsifies; empty for a mistake that the API server refuses.
	condition, reason string
	// silent reports that there is no event, because the same state occurs whenever a Pod is replaced.
	silent bool
	// words that the text must have: the field or object, what is wrong with it, and what to do.
	words []string
}

// Each mistake yields a sentence that names field, cause and remedy: at once from the API server, or as a condition and
// an event.
func TestMisconfigurations(t *testing.T) {
	t.Parallel()
	apiservertest.Config(t)
	var page bytes.Buffer
	page.WriteString(misconfigurationsHead)
	for _, section := range misconfigurations {
		said := make([]string, len(section.cases))
		t.Run(section.title, func(t *testing.T) {
			if section.gateways {
				installExtensions(t)
			}
			for i, m := range section.cases {
				t.Run(m.mistake, func(t *testing.T) {
					t.Parallel()
					if m.shared != nil {
						said[i] = m.start(t)
						return
					}
					w := newWorld(t)
					w.serves[desired.HTTPRouteKind] = section.gateways
					said[i] = m.make(w)
				})
			}
		})
		fmt.Fprintf(&page, "\n## %s\n\n%s\n\n| mistake | answer |\n|---|---|\n", section.title, section.lead)
		for i, m := range section.cases {
			fmt.Fprintf(&page, "| %s%s | %s |\n", m.mistake, cellOf(m.spec), said[i])
		}
	}
	if t.Failed() || t.Skipped() {
		return
	}
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root, "docs", "reference", "misconfigurations.md")
	if *update {
		if err := os.WriteFile(file, page.Bytes(), 0o644); err != nil { //nolint:gosec // A page is for everyone.
			t.Fatal(err)
		}
		return
	}
	committed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(committed), page.String()); diff != "" {
		t.Errorf("the page is stale (-page +now); run go test ./internal/controller -run TestMisconfigurations -update:\n%s", diff)
	}
}

// make makes the mistake, and returns what is said to it as a cell of the page.
func (m misconfiguration) make(w *world) string {
	w.t.Helper()
	if m.before != nil {
		m.before(w)
	} else {
		w.secret("heymarket", map[string]string{"token": canary})
	}
	err := w.person.Create(w.t.Context(), m.resource(w), client.FieldValidation(metav1.FieldValidationStrict))
	if m.condition == "" {
		return m.refused(w, err)
	}
	w.do(err)
	_, _ = w.tryReconcile() // A child that is refused is a condition and an error.
	if m.after != nil {
		m.after(w)
		_, _ = w.tryReconcile()
	}
	w.condition(m.condition, false, m.reason, m.words...)
	c := meta.FindStatusCondition(w.hook().Status.Conditions, m.condition)
	if got, want := w.recorded(), "Warning "+c.Reason+" "+c.Message; slices.Contains(got, want) == m.silent {
		w.t.Errorf("events: %q; is %q to be among them: %v", got, want, !m.silent)
	}
	w.writes.take()
	_, _ = w.tryReconcile()
	if got := w.writes.take(); m.reason != v1alpha1.ReasonChildRefused && m.reason != v1alpha1.ReasonChildFailed && len(got) != 0 {
		w.t.Errorf("the same again was written: %v", got)
	}
	if got := w.recorded(); len(got) != 0 {
		w.t.Errorf("the same again caused events: %v", got)
	}
	return fmt.Sprintf("`%s`: %s", c.Reason, textOf(w, c.Message))
}

// start starts the operator with the mistake, and returns what it ends with as a cell of the page.
func (m misconfiguration) start(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	redis := m.shared(t)
	url, ca := filepath.Join(dir, "redis", "url"), ""
	files := map[string][]byte{url: []byte(redis.URL)}
	if redis.CA != nil {
		ca = filepath.Join(dir, "redis-ca", "ca.crt")
		files[ca] = redis.CA
	}
	for file, content := range files {
		if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o700), os.WriteFile(file, content, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := source.OpenRedisFiles(url, ca)
	if err == nil {
		t.Fatal("it starts")
	}
	for _, word := range m.words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the operator says %q, want it to name %q", err, word)
		}
	}
	return cell.Replace(strings.ReplaceAll(err.Error(), dir, "/etc/heymarket"))
}

func (m misconfiguration) refused(w *world, err error) string {
	w.t.Helper()
	if !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) {
		w.t.Fatalf("not refused: %v", err)
	}
	_, text, _ := strings.Cut(err.Error(), `"support" is invalid: `)
	if text == "" {
		text = err.Error()
	}
	for _, word := range m.words {
		if !strings.Contains(text, word) {
			w.t.Errorf("the API server says %q, want it to name %q", text, word)
		}
	}
	return textOf(w, text)
}

// resource is the webhook "support" with the mistake in it.
func (m misconfiguration) resource(w *world) *unstructured.Unstructured {
	w.t.Helper()
	spec, mistake := map[string]any{}, map[string]any{}
	w.do(yaml.Unmarshal([]byte(smallest), &spec))
	w.do(yaml.Unmarshal([]byte(m.spec), &mistake))
	maps.Copy(spec, mistake)
	u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("HeymarketWebhook"))
	u.SetNamespace(w.namespace)
	u.SetName("support")
	return u
}

// textOf makes what was said fit for a cell of a table, the same in every run.
func textOf(w *world, said string) string {
	return cell.Replace(strings.ReplaceAll(said, w.namespace, "staging"))
}

var cell = strings.NewReplacer("|", `\|`, "<", "&lt;", ">", "&gt;", "*", `\*`)

// cellOf shows lines of YAML below each other in a cell.
func cellOf(spec string) string {
	var out strings.Builder
	for line := range strings.Lines(spec) {
		out.WriteString("<br>`" + strings.ReplaceAll(strings.TrimRight(line, "\n"), "|", `\|`) + "`")
	}
	return out.String()
}
