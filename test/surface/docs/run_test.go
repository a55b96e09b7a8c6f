package docs

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		want, got string
		is        bool
	}{
		{"a b", "a   b\n", true},
		{"NAME  READY\nsupport  True", "NAME    READY\nsupport   True\n", true},
		{"a … c", "a b\nb c", true},
		{"a …", "a", true},
		{"a … b", "a", false},
		{"id: …", "id: 17", true},
		{"…", "", true},
		{"a", "a b", false},
		{"a.c", "abc", false},
		{"{…}", "{\"x\": 1}", true},
	} {
		if is := Matches(tc.want, tc.got); is != tc.is {
			t.Errorf("Matches(%q, %q) is %v", tc.want, tc.got, is)
		}
	}
}

func TestSession(t *testing.T) {
	t.Parallel()
	s, err := Start(t.TempDir(), t.TempDir(), []string{"PATH=/usr/bin:/bin"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.End)
	for _, step := range []struct{ commands, out string }{
		{"X=seen\necho one >file", ""},
		{"cat file; echo $X >&2", "one\nseen\n"},
		{"sleep 60 &\ncat <<END\nhere\nEND\n", "here\n"},
	} {
		out, err := s.Run(t.Context(), step.commands)
		if diff := cmp.Diff(step.out, out); diff != "" || err != nil {
			t.Errorf("%q: %v (-want +got):\n%s", step.commands, err, diff)
		}
	}
	out, err := s.Retry(t.Context(), "test -e count && echo again >>count\ntouch count\ncat count", func(out string) bool { return strings.Count(out, "again") == 2 })
	if err != nil {
		t.Errorf("tried until it is so: %v, %s", err, out)
	}
	given, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	if _, err := s.Retry(given, "echo never", func(string) bool { giveUp(); return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("in vain: %v", err)
	}
	if out, err := s.Run(t.Context(), "echo before\ncat nothing\necho after"); err == nil || !strings.HasPrefix(out, "before\ncat: nothing") || strings.Contains(out, "after") {
		t.Errorf("a command that fails: %v, %s", err, out)
	}
	if _, err := s.Run(t.Context(), "echo more"); err == nil {
		t.Error("the session goes on after a failure")
	}
}
