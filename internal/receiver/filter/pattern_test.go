package filter

import (
	"fmt"
	"strings"
	"testing"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// A pattern that an event brings along is bounded as one of an expression is.
func TestComputedPatternsAreBounded(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text  ref.Val
		taken bool
	}{
		"as long as may be": {types.String(strings.Repeat("a", maxPatternLength)), true},
		"a byte longer":     {types.String(strings.Repeat("a", maxPatternLength+1)), false},
		"no text":           {types.Int(1), false},
		"no pattern":        {types.String("("), false},
	} {
		for range 2 { // the second time it may be known
			if _, err := computedPattern(tc.text); (err == nil) != tc.taken {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// A memo keeps what is used, and at most twice its bound.
func TestMemo(t *testing.T) {
	t.Parallel()
	m := newMemo[int, int](4)
	for i := range 100 {
		m.put(i, -i)
		if v, known := m.get(0); !known || v != 0 {
			t.Fatalf("after %d others, what is always used is forgotten: %d, %t", i, v, known)
		}
		if len(m.recent)+len(m.old) > 8 {
			t.Fatalf("%d are kept", len(m.recent)+len(m.old))
		}
	}
	if v, known := m.get(99); !known || v != -99 {
		t.Errorf("the last one is %d, %t", v, known)
	}
	if _, known := m.get(1); known {
		t.Error("what has not been used for long is kept")
	}
}

// The states of a regular expression are counted with its repetitions, and classes by their ranges.
func TestStatesAreCounted(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"": 1, "abc": 3, "[0-9]": 1, "[acegikmoqsuwy02468]": 3, "a|bc": 4, "(ab){3}": 12, "(ab){2,5}": 20, "(ab){4,}": 16, "(ab){0}": 4,
		"a{512}": maxPatternStates,
	} {
		if got, err := patternStates(text); err != nil || got != want {
			t.Errorf("%q has %d states, %v; want %d", text, got, err, want)
		}
	}
	if _, err := patternStates("a{513}"); err == nil {
		t.Error("a pattern of more states than may be is accepted")
	}
}

// A match costs the text times the states, and a pattern that is not a constant costs its states as well.
func TestTheCostOfAMatch(t *testing.T) {
	t.Parallel()
	p, err := compilePattern("a{20}")
	if err != nil {
		t.Fatal(err)
	}
	if got := p.cost(99); p.states != 40 || got != 100 {
		t.Errorf("99 characters by %d states cost %d, want 100", p.states, got)
	}
	text := types.String(strings.Repeat("x", 99))
	for name, tc := range map[string]struct {
		known   constants
		pattern ref.Val
		want    uint64
	}{
		"a constant":     {constants{"a{20}": p}, types.String("a{20}"), 100},
		"of an event":    {constants{}, types.String("a{20}"), 140},
		"no pattern":     {constants{}, types.String("("), maxPatternStates},
		"beyond a bound": {constants{}, types.String("a{513}"), maxPatternStates},
	} {
		if got := tc.known.cost([]ref.Val{text, tc.pattern}, nil); got == nil || *got != tc.want {
			t.Errorf("%s: the cost is %v, want %d", name, got, tc.want)
		}
	}
	if got := p.match(types.Int(1)); !types.IsError(got) {
		t.Errorf("a number matches: %v", got)
	}
}

// A pattern that an event brings along is compiled once.
func TestComputedPatternsAreKept(t *testing.T) {
	t.Parallel()
	first, err := computedPattern(types.String("kept{1,2}"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := computedPattern(types.String("kept{1,2}")); err != nil || again.Regexp != first.Regexp {
		t.Errorf("it is compiled again: %v", err)
	}
	if fmt.Sprint(first) != "kept{1,2}" || first.states != 8 {
		t.Errorf("it is %v with %d states", first, first.states)
	}
}
