package redisusers

import (
	"os"
	"slices"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/receiver/redistest"
)

// documented returns the arguments of a user that docs/redis.md has people create: the one whose command begins with these
// words and grants that right.
func documented(t *testing.T, begins, grants string) []string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	for block := range strings.SplitSeq(string(page), "```") {
		if args := strings.Fields(block); strings.HasPrefix(strings.TrimSpace(block), begins) && slices.Contains(args, grants) {
			return args
		}
	}
	t.Fatalf("docs/redis.md has no user %q with %s", begins, grants)
	return nil
}

// The operator can work with the rights listed in the documentation, and not without any one of them.
func TestTheAdministratorOfTheDocumentation(t *testing.T) {
	t.Parallel()
	args := documented(t, "ACL SETUSER heymarket-operator", "+scan")
	work := func(t *testing.T, args []string) error {
		r := redistest.Start(t)
		r.MustDo("SETNX", "hmw:{staging/support}:x", "1")
		r.MustDo(args...)
		f := newFleet(t, strings.Replace(r.URL(), "redis://", "redis://heymarket-operator:PASSWORD@", 1)+"/1", nil, "staging")
		r.MustDo("ACL", "SETUSER", "heymarket.heymarket-system.gone")
		users := New(f.options(func(o *Options) { o.Linger = 1 }))
		for range 2 { // in the second look the user that is not wanted goes
			if err := users.look(t.Context()); err != nil {
				return err
			}
		}
		_, err := users.RemoveKeys(t.Context(), "staging", "support")
		if err == nil {
			got, _ := users.URL("staging")
			s, connected := connect(t, got, nil, "staging")
			if connected != nil {
				return connected
			}
			if err := live(t.Context(), s); err != nil {
				return err
			}
			_, err = users.RemoveKeys(t.Context(), "staging", "support")
			f.handed["staging"] = got
		}
		if err == nil { // a manager that starts again
			err = New(f.options(nil)).look(t.Context())
		}
		return err
	}
	if err := work(t, args); err != nil {
		t.Fatalf("with all rights: %v", err)
	}
	for i, right := range args {
		if !strings.HasPrefix(right, "+") || right == "+ping" || right == "+cluster|nodes" { // for people, and for a Cluster
			continue
		}
		if err := work(t, slices.Delete(slices.Clone(args), i, i+1)); err == nil {
			t.Errorf("without %s all works as well: it is a right too many", right)
		}
	}
}

func TestTheUserOfANamespaceInTheDocumentation(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	r.MustDo(documented(t, "ACL SETUSER staging", "+eval")...)
	mustLive(t, strings.Replace(r.URL(), "redis://", "redis://staging:PASSWORD@", 1), nil, "staging")
}
