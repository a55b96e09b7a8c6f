package filter

import (
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
