package filter

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"cel.dev/cel-go/interpreter"
)

// What is exactly at a bound is accepted, and one more is not.
func TestBoundsOfAnExpression(t *testing.T) {
	t.Parallel()
	within := func(open, inner, closing string, n int) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(closing, n)
	}
	pattern := "'a'.matches('a{512}')"
	for name, tc := range map[string]struct{ accepted, rejected, why string }{
		"parts": {
			"![1" + strings.Repeat(",1", 1020) + "].optMap(x,x)", // one, a macro with its two names, and a list of 1,021 twice
			"[1" + strings.Repeat(",1", 1021) + "].optMap(x,x)", "more than 2048 parts",
		},
		"loops":            {within("[1].all(x,", "true", ")", maxLoops), within("[1].all(x,", "true", ")", maxLoops+1), "nested or chained"},
		"lists":            {within("[", "1", "]", maxLiterals), within("[", "1", "]", maxLiterals+1), "nested more than 8 deep"},
		"maps":             {within("{1:", "1", "}", maxLiterals), within("{1:", "1", "}", maxLiterals+1), "nested more than 8 deep"},
		"lists in maps":    {within("{1:[", "1", "]}", maxLiterals/2), within("{1:[", "1", "]}", maxLiterals/2+1), "nested more than 8 deep"},
		"states":           {pattern + strings.Repeat("||"+pattern, 3), pattern + strings.Repeat("||"+pattern, 3) + "||'a'.matches('a')", "more than 4096 states"},
		"without argument": {"matches()", "a.matches('(')", "invalid matches argument"},
		"another argument": {"a.matches(1)", "matches(a, '(')", "invalid matches argument"},
	} {
		if err := affordable(tc.accepted); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := affordable(tc.rejected); err == nil || !strings.Contains(err.Error(), tc.why) {
			t.Errorf("%s: %v, want %s", name, err, tc.why)
		}
	}
	longest := "true" + strings.Repeat(" ", MaxLength-len("true"))
	if err := Check(longest, Wanted); err != nil {
		t.Error(err)
	}
	if err := Check(longest+" ", Wanted); err == nil {
		t.Error("an expression of more bytes than may be is accepted")
	}
	if full := strings.Repeat("x", maxMistake); shortened(full) != full || shortened(full+"x") != full+"…" || shortened(full[1:]+"é") != full[1:]+"…" {
		t.Errorf("an error is shortened to %q", shortened(full+"x"))
	}
}

// CEL's errors may quote the event. Each kind is reported by a sentence of its own, which quotes only names from the expression.
func TestErrorsAreExplained(t *testing.T) {
	t.Parallel()
	p, err := Compile("event.data.inbox == 1", Wanted)
	if err != nil {
		t.Fatal(err)
	}
	cancelled := func(cause interpreter.CancellationCause) error {
		return interpreter.EvalCancelledError{Message: "canary", Cause: cause}
	}
	for _, tc := range []struct {
		err  error
		want string
	}{
		{cancelled(interpreter.CostLimitExceeded), "it costs more than 25000 for this event; look at fewer members, or loop less"},
		{cancelled(interpreter.ContextCancelled), "its evaluation was interrupted"},
		{interpreter.InterruptError{}, "its evaluation was interrupted"},
		{errors.New("pattern: canary"), "a regular expression that is not a constant cannot be used in this event"},
		{errors.New("no such key: canary"), "the event lacks a member that it asks for; put has(…) && before"},
		{errors.New("no such key: inbox"), `the event has no member "inbox"; put has(…) && before`},
		{errors.New("no such attribute(s): canary"), "the event lacks a member that it asks for; put has(…) && before"},
		{errors.New("no such overload: canary"), "a member of the event is of another type than the expression expects"},
		{errors.New("unsupported conversion of canary"), "a member of the event is of another type than the expression expects"},
		{errors.New("type conversion error from canary"), "a member of the event cannot be converted"},
		{errors.New("parsing time canary"), "a member of the event cannot be converted"},
		{errors.New("canary cannot be converted"), "a member of the event cannot be converted"},
		{errors.New("index out of bounds: canary"), "a list of the event is shorter than the expression expects"},
		{errors.New("integer overflow of canary"), "an arithmetic result does not exist or does not fit"},
		{errors.New("modulus by zero of canary"), "an arithmetic result does not exist or does not fit"},
		{errors.New("canary"), "it cannot be evaluated for this event"},
	} {
		if got := p.explain(tc.err).Error(); got != tc.want {
			t.Errorf("%v is explained as %q, want %q", tc.err, got, tc.want)
		}
	}
}

// The body of an event is parsed once for all expressions.
func TestABodyIsParsedOnce(t *testing.T) {
	t.Parallel()
	p, err := Compile("has(event.webhook_id) && event.data.inbox == 1", Wanted)
	if err != nil {
		t.Fatal(err)
	}
	e := &Event{Body: []byte(`{"id":1,"event_data":{"inbox":1}}`)}
	for range 2 {
		if got, err := p.Wants(context.Background(), e); err != nil || !got {
			t.Errorf("%t, %v", got, err)
		}
		e.Body = nil
	}
}

// Deduplication keys make the event's id, so they cannot use it.
func TestTheMembersOfAnEvent(t *testing.T) {
	t.Parallel()
	for kind, want := range map[Kind][]string{Wanted: {"type", "webhook_id", "data", "id"}, Key: {"type", "webhook_id", "data"}} {
		names, known := provider{kind: kind}.FindStructFieldNames(typeName)
		if !known || !slices.Equal(names, want) {
			t.Errorf("the members are %v, %t", names, known)
		}
		for _, name := range append(names, "id", "other") {
			if _, known := (provider{kind: kind}).FindStructFieldType(typeName, name); known != slices.Contains(want, name) {
				t.Errorf("event.%s is known: %t", name, known)
			}
		}
	}
}
