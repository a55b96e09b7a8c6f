package filter

import (
	"context"
	"strings"
	"testing"

	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// What doubles again and again, or is compared by its elements, is stopped, whether CEL knows its type or not.
func TestWhatGrowsIsBounded(t *testing.T) {
	t.Parallel()
	double := strings.Repeat(".map(x, "+strings.TrimSuffix(strings.Repeat("x+", 16), "+")+")", 4)
	for _, expression := range []string{
		"[[1]]" + double + ".all(x, size(x) > 0)",
		"[dyn([1])]" + double + ".all(x, size(x) > 0)",
		"[event.data.list]" + double + ".all(x, x == x)",
		"['a']" + double + ".all(x, size(x) > 0)",
		"[event.data.text]" + double + ".all(x, size(x) > 0)",
		"[b'a']" + double + ".all(x, size(x) > 0)",
		"event.data.list.all(x, event.data.list == event.data.list)",
		"event.data.list.all(x, event.data.list != event.data.other)",
		"event.data.list.all(x, event.data.map == event.data.map)",
		"event.data.list.all(x, event.data.nested in [event.data.nested, event.data.nested])",
		"event.data.list.all(x, !(x in event.data.other))",
		"event.data.list.all(x, event.data.text < event.data.text + 'a')",
		"event.data.list.all(x, string(event.data.text) != '')",
	} {
		numbers := "[0" + strings.Repeat(",0", 999) + "]"
		e := &Event{Body: []byte(`{"event_data":{"list":` + numbers + `,"other":[1` + strings.Repeat(",1", 999) + `],"nested":[` + numbers + `],"map":{"a":` + numbers +
			`},"text":"` + strings.Repeat("a", 1000) + `"}}`)}
		p, err := Compile(expression, Wanted)
		if err != nil {
			t.Fatalf("%s: %v", expression, err)
		}
		if got, err := p.Wants(context.Background(), e); err == nil || !strings.Contains(err.Error(), "costs more than") {
			t.Errorf("%s = %t, %v; want it to cost too much", expression, got, err)
		}
	}
}

// A call costs what it looks at, and what ends at once costs little.
func TestTheCostOfACall(t *testing.T) {
	t.Parallel()
	value := types.DefaultTypeAdapter.NativeToValue
	long, list := types.String(strings.Repeat("x", 99)), value([]any{int64(1), "abc", []any{int64(2)}})
	member := value(map[string]any{"a": []any{int64(1), int64(2)}, "b": strings.Repeat("y", 20)})
	for _, tc := range []struct {
		function, overload string
		args               []ref.Val
		result             ref.Val
		want               uint64 // 0: CEL's own
	}{
		{operators.Add, "", []ref.Val{list, list}, list, 3},
		{operators.Add, "", nil, long, 10},
		{operators.Add, "", nil, types.Bytes(long), 10},
		{operators.Add, "", nil, types.Int(5), 1},
		{operators.Add, "", nil, value([]any{}), 1},
		{operators.Equals, "equals", []ref.Val{list, list}, nil, 5},
		{operators.NotEquals, "", []ref.Val{member, member}, nil, 9}, // two names, three of the list, three of the text
		{operators.Equals, "equals", []ref.Val{list, value([]any{})}, nil, 1},
		{operators.Equals, "equals", []ref.Val{long, types.String("a")}, nil, 1},
		{operators.Equals, "equals", []ref.Val{long, long}, nil, 10},
		{operators.In, "", []ref.Val{types.Int(1), list}, nil, 3},
		{operators.In, "", []ref.Val{list, list}, nil, 15},
		{operators.In, "", []ref.Val{types.String("a"), member}, nil, 2},
		{operators.Less, "", []ref.Val{long, long}, nil, 21},
		{"size", "", []ref.Val{list}, nil, 1},
		{"contains", "contains_string", []ref.Val{long, long}, nil, 0},
	} {
		switch got := (costs{}).CallCost(tc.function, tc.overload, tc.args, tc.result); {
		case (got != nil) != (tc.want > 0):
			t.Errorf("%s of %v is left to CEL: %t", tc.function, tc.args, got == nil)
		case got != nil && *got != tc.want:
			t.Errorf("%s of %v costs %d, want %d", tc.function, tc.args, *got, tc.want)
		}
	}
	endless := value(make([]any, 10*MaxCost))
	if got := visited(endless, MaxCost); got != MaxCost+1 {
		t.Errorf("of a list that is too long %d elements are visited", got)
	}
}
