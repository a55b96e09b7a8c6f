package main

import (
	"bytes"
	"errors"
	"flag"
	"slices"
	"strings"
	"testing"
)

func TestBadFlagsOfCheckEndWithASentence(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args []string
		want []string // what the sentence names
	}{
		{nil, []string{"--namespace"}},
		{[]string{"--bogus"}, []string{"-bogus", "--help"}},
		{[]string{"--namespace=a", "--host=10.0.0.1", "extra"}, []string{`"extra"`}},
		{[]string{"--namespace=a b", "--host=10.0.0.1"}, []string{"--namespace", "a b"}},
		{[]string{"--namespace=a"}, []string{"--host"}},
		{[]string{"--namespace=a", "--host=here"}, []string{"--host", "here"}},
		{[]string{"--namespace=a", "--host=10.0.0.1", "--name=1"}, []string{"--name", `"1"`}},
		{[]string{"--namespace=a", "--host=10.0.0.1", "--name=" + strings.Repeat("a", 53)}, []string{"--name", "52"}},
		{[]string{"--namespace=a", "--host=10.0.0.1", "--timeout=0s"}, []string{"--timeout"}},
	} {
		var stdout, stderr bytes.Buffer
		if code := realMain(t.Context(), append([]string{"check"}, tc.args...), &stdout, &stderr); code != exitUsage {
			t.Errorf("%v: exit code %d, want %d", tc.args, code, exitUsage)
		}
		said := stderr.String()
		if strings.Count(said, "\n") != 1 {
			t.Errorf("%v: more than a sentence: %s", tc.args, said)
		}
		for _, w := range tc.want {
			if !strings.Contains(said, w) {
				t.Errorf("%v: %q does not name %q", tc.args, said, w)
			}
		}
	}
}

func TestOptionsOfCheck(t *testing.T) {
	t.Parallel()
	o, err := parseCheckOptions([]string{"--namespace=staging", "--host=fd00::1", "--image-pull-secrets=a,,b"}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if o.namespace != "staging" || o.host != "fd00::1" || o.name != "heymarket-check" || !slices.Equal(o.pullSecrets, []string{"a", "b"}) {
		t.Errorf("options: %+v", o)
	}
	if _, err := parseCheckOptions([]string{"-h"}, &bytes.Buffer{}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}
