package filter

import (
	"cel.dev/cel-go/checker"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// assumedSize is the assumed number of elements of an event's lists and of characters of its strings when a cost is
// estimated. It allows two nested loops and rejects three; the actual cost is bounded at run time.
const assumedSize = 32

// sizes estimates sizes that the language cannot know: the lengths of an event's lists and strings.
type sizes struct{}

// EstimateSize implements checker.CostEstimator.
func (sizes) EstimateSize(checker.AstNode) *checker.SizeEstimate {
	return &checker.SizeEstimate{Min: 0, Max: assumedSize}
}

// EstimateCallCost implements checker.CostEstimator: the language's own estimates apply.
func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}

// costs are those of calls at run time. CEL's own are 1 if the type of an argument is known at run time only, as that of each member
// of an event, and for adding lists: a list or a string that is repeatedly added to itself has billions of elements. And it compares
// lists and maps by their elements, which it counts as one.
type costs struct{}

// CallCost implements interpreter.ActualCostEstimator. Nil leaves a call to the language's own costs.
func (costs) CallCost(function, overload string, args []ref.Val, result ref.Val) *uint64 {
	switch function {
	case operators.Add:
		return new(size(result))
	case operators.In:
		if _, isList := args[1].(traits.Lister); isList {
			return new(size(args[1]) * visited(args[0], MaxCost))
		}
	case operators.Equals, operators.NotEquals:
		if size(args[0]) == size(args[1]) {
			return new(visited(args[0], MaxCost))
		}
		return new(min(size(args[0]), size(args[1])))
	}
	if overload != "" {
		return nil
	}
	cost := uint64(1)
	for _, a := range args {
		if _, isText := a.(traits.Comparer); isText {
			cost += size(a)
		}
	}
	return &cost
}

// size is the number of elements of a list or map, or of tens of bytes of a text, and at least 1.
func size(v ref.Val) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v))/10 + 1
	case types.Bytes:
		return uint64(len(v))/10 + 1
	case traits.Sizer:
		n, _ := v.Size().Value().(int64)
		return uint64(max(n, 1))
	}
	return 1
}

// visited is the size of v and of all that it contains, or a little more than most.
func visited(v ref.Val, most uint64) uint64 {
	contents, ok := v.(traits.Iterable)
	if !ok {
		return size(v)
	}
	sum := uint64(1)
	for i := contents.Iterator(); sum <= most && i.HasNext() == types.True; {
		element := i.Next()
		if m, isMap := v.(traits.Mapper); isMap {
			sum += size(element)
			element = m.Get(element)
		}
		sum += visited(element, most)
	}
	return sum
}
