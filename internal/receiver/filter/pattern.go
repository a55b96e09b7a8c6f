package filter

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"regexp/syntax"

	"cel.dev/cel-go/cel"
	celcommon "cel.dev/cel-go/common"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
)

// Regular expressions are bounded by the states that they expand to: (a{1,1000}){1,9} has 16 bytes and 9,000 states. CEL's
// own matches compiles any pattern, and accounts for the cost of a match by the length of its pattern, after the match.
const (
	// maxPatternLength bounds a regular expression, in bytes.
	maxPatternLength = 1024
	// maxPatternStates bounds the states to which one regular expression expands.
	maxPatternStates = 1024
	// keptPatterns is how many compiled regular expressions are cached that are not constants.
	keptPatterns = 16

	matchesFunction = "matches"
)

var errMatchCost = errors.New("matching costs too much")

// patternStates returns about how many states a regular expression has when it is compiled. It returns an error if it is
// invalid or too large.
func patternStates(text string) (int, error) {
	if len(text) > maxPatternLength {
		return 0, fmt.Errorf("the regular expression is longer than %d bytes", maxPatternLength)
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return 0, fmt.Errorf("%w", err) // It names the mistake, and begins with "error parsing regexp".
	}
	states := expanded(parsed)
	if states > maxPatternStates {
		return 0, fmt.Errorf("the regular expression needs more than %d states; shorten it, or repeat less", maxPatternStates)
	}
	return states, nil
}

// runesPerState is how many range bounds in a character class take the memory of a state.
const runesPerState = 16

// expanded counts the states of re with all repetitions expanded, capped a little above maxPatternStates.
func expanded(re *syntax.Regexp) int {
	states := 1
	switch re.Op {
	case syntax.OpLiteral:
		states = len(re.Rune)
	case syntax.OpCharClass:
		states += len(re.Rune) / runesPerState
	}
	for _, sub := range re.Sub {
		states += expanded(sub)
	}
	if re.Op == syntax.OpRepeat {
		states *= max(re.Min, re.Max, 1)
	}
	return min(states, maxPatternStates+1)
}

// pattern is a compiled regular expression.
type pattern struct {
	*regexp.Regexp
	states int
}

func compilePattern(text string) (pattern, error) {
	states, err := patternStates(text)
	if err != nil {
		return pattern{}, err
	}
	re, err := regexp.Compile(text)
	return pattern{re, states}, err
}

// cost returns the cost of searching for the pattern in a text of n characters, in CEL's units.
func (p pattern) cost(n int) uint64 {
	return uint64(math.Ceil(float64(1+n)*celcommon.StringTraversalCostFactor)) * uint64(math.Ceil(float64(p.states)*celcommon.RegexStringLengthCostFactor))
}

func (p pattern) match(text ref.Val) ref.Val {
	s, ok := text.Value().(string)
	if !ok {
		return types.NoSuchOverloadErr()
	}
	if p.cost(len(s)) > MaxCost {
		return types.WrapErr(errMatchCost) // The cost accounting stops the evaluation.
	}
	return types.Bool(p.MatchString(s))
}

// computed are the patterns that are not constants of an expression.
var computed = newMemo[string, pattern](keptPatterns)

func computedPattern(text ref.Val) (pattern, error) {
	s, ok := text.Value().(string)
	if !ok || len(s) > maxPatternLength {
		return pattern{}, fmt.Errorf("pattern is longer than %d bytes", maxPatternLength)
	}
	if p, known := computed.get(s); known {
		return p, nil
	}
	p, err := compilePattern(s)
	if err != nil {
		return pattern{}, fmt.Errorf("pattern: %w", err)
	}
	computed.put(s, p)
	return p, nil
}

// matches replaces CEL's own function of this name.
func matches() cel.EnvOption {
	args := []*cel.Type{cel.StringType, cel.StringType}
	return cel.Function(matchesFunction,
		cel.Overload(overloads.Matches, args, cel.BoolType),
		cel.MemberOverload(overloads.MatchesString, args, cel.BoolType),
		cel.SingletonBinaryBinding(func(text, expression ref.Val) ref.Val {
			p, err := computedPattern(expression)
			if err != nil {
				return types.WrapErr(err)
			}
			return p.match(text)
		}))
}

// withoutMatches is CEL's standard library without the function that matches replaces.
func withoutMatches() cel.EnvOption {
	return cel.StdLib(cel.StdLibSubset(env.NewLibrarySubset().AddExcludedFunctions(env.NewFunction(matchesFunction))))
}

// constants are the patterns of one expression that are constants. They are set while its program is prepared.
type constants map[string]pattern

// options compile constant patterns once, and account for the cost of each match.
func (c constants) options() []cel.ProgramOption {
	var out []cel.ProgramOption
	for _, overload := range []string{overloads.Matches, overloads.MatchesString} {
		out = append(out,
			cel.OptimizeRegex(&interpreter.RegexOptimization{Function: matchesFunction, OverloadID: overload, RegexIndex: 1, Factory: c.prepare}),
			cel.CostTrackerOptions(interpreter.OverloadCostTracker(overload, c.cost)))
	}
	return out
}

func (c constants) prepare(call interpreter.InterpretableCall, text string) (interpreter.InterpretableCall, error) {
	p, err := compilePattern(text)
	if err != nil {
		return nil, err
	}
	c[text] = p
	return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), func(values ...ref.Val) ref.Val {
		return p.match(values[0])
	}), nil
}

func (c constants) cost(args []ref.Val, _ ref.Val) *uint64 {
	text, _ := args[0].Value().(string)
	expression, _ := args[1].Value().(string)
	p, constant := c[expression]
	if !constant {
		var err error
		if p, err = computedPattern(args[1]); err != nil {
			return new(uint64(maxPatternStates)) // It was parsed.
		}
	}
	cost := p.cost(len(text))
	if !constant {
		cost += uint64(p.states) // It may have been compiled for this match.
	}
	return &cost
}
