package filter

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/parser"
)

// Bounds on the cost of compiling an expression. All are measured on the source, before macros are expanded, types are
// checked and regular expressions are compiled: each of these can take memory and time exponential in the length of the
// expression.
const (
	// maxNodes bounds the parts of an expression (names, members, values, calls) after macro expansion.
	maxNodes = 2048
	// maxLoops bounds how deeply all, exists, map, filter and the like may be nested or chained.
	maxLoops = 8
	// maxLiterals bounds how deeply lists and maps may be nested.
	maxLiterals = 8
	// maxPatterns bounds the total number of states of all regular expressions in one expression.
	maxPatterns = 4 * maxPatternStates
)

// loops are the macros that iterate, with the number of copies of their operand in the expansion.
var loops = map[string]int{
	operators.All: 1, operators.Exists: 1, operators.ExistsOne: 1, "existsOne": 1, operators.Map: 1, operators.Filter: 1,
	"optMap": 2, "optFlatMap": 2,
}

// plainParser expands no macros, so that its result is no larger than the expression.
var plainParser = func() *parser.Parser {
	p, err := parser.NewParser(parser.EnableOptionalSyntax(true), parser.MaxRecursionDepth(maxNesting), parser.ExpressionSizeCodePointLimit(MaxLength))
	if err != nil {
		panic(err) // Only contradictory options fail.
	}
	return p
}()

// affordable returns an error if the expression has a syntax error, or if it would cost too much to compile.
func affordable(expression string) error {
	parsed, errs := plainParser.Parse(common.NewTextSource(expression))
	if found := errs.GetErrors(); len(found) > 0 {
		return mistakes(found)
	}
	b := &budget{source: parsed.SourceInfo()}
	size := b.measure(parsed.Expr(), 0, 0)
	switch {
	case b.err != nil:
		return b.err
	case size > maxNodes:
		return fmt.Errorf("1:1: the expression has more than %d parts when its macros are expanded; shorten it, or use fewer optMap and optFlatMap", maxNodes)
	}
	return nil
}

// budget is the cost of one expression so far. It keeps the first error.
type budget struct {
	source *ast.SourceInfo
	states int
	err    error
}

// measure returns how many parts e has after macro expansion, capped a little above maxNodes. loopDepth and literalDepth
// are those at the position of e.
func (b *budget) measure(e ast.Expr, loopDepth, literalDepth int) int {
	if b.err != nil {
		return 0
	}
	switch e.Kind() {
	case ast.CallKind:
		return b.call(e, loopDepth, literalDepth)
	case ast.SelectKind:
		return 1 + b.measure(e.AsSelect().Operand(), loopDepth, literalDepth)
	case ast.ListKind:
		b.literal(e, literalDepth)
		return 1 + b.all(e.AsList().Elements(), loopDepth, literalDepth+1)
	case ast.MapKind:
		b.literal(e, literalDepth)
		size := 1
		for _, entry := range e.AsMap().Entries() {
			pair := entry.AsMapEntry()
			size += b.all([]ast.Expr{pair.Key(), pair.Value()}, loopDepth, literalDepth+1)
		}
		return size
	case ast.StructKind:
		b.fail(e, "messages cannot be created; use a map or a plain value")
	}
	return 1
}

func (b *budget) all(list []ast.Expr, loopDepth, literalDepth int) int {
	size := 0
	for _, e := range list {
		size += b.measure(e, loopDepth, literalDepth)
	}
	return size
}

func (b *budget) call(e ast.Expr, loopDepth, literalDepth int) int {
	call := e.AsCall()
	b.pattern(call)
	copies := 1
	if n, loop := loops[call.FunctionName()]; loop && call.IsMemberFunction() {
		copies = n
		if loopDepth++; loopDepth > maxLoops {
			b.fail(e, fmt.Sprintf("more than %d of all, exists, map, filter, optMap and the like are nested or chained", maxLoops))
		}
	}
	size := 1 + b.all(call.Args(), loopDepth, literalDepth)
	if call.IsMemberFunction() {
		size += copies * b.measure(call.Target(), loopDepth, literalDepth)
	}
	return min(size, maxNodes+1)
}

func (b *budget) literal(e ast.Expr, depth int) {
	if depth >= maxLiterals {
		b.fail(e, fmt.Sprintf("lists and maps are nested more than %d deep", maxLiterals))
	}
}

// pattern adds the states of a regular expression given as a literal. Others are bounded when they are used.
func (b *budget) pattern(call ast.CallExpr) {
	args := call.Args()
	if call.FunctionName() != matchesFunction || len(args) == 0 || args[len(args)-1].Kind() != ast.LiteralKind {
		return
	}
	argument := args[len(args)-1]
	text, isString := argument.AsLiteral().(types.String)
	if !isString {
		return // The type check reports it.
	}
	states, err := patternStates(string(text))
	if err != nil {
		b.fail(argument, "invalid matches argument: "+err.Error())
	}
	if b.states += states; b.states > maxPatterns {
		b.fail(argument, fmt.Sprintf("the regular expressions need more than %d states together; shorten them, or repeat less", maxPatterns))
	}
}

func (b *budget) fail(e ast.Expr, message string) {
	if b.err == nil {
		at := b.source.GetStartLocation(e.ID())
		b.err = fmt.Errorf("%d:%d: %s", max(at.Line(), 1), max(at.Column(), 0)+1, message)
	}
}

// mistakes joins the first errors of the parser or checker, each with line and column, both from 1.
func mistakes(found []*common.Error) error {
	var texts []string
	for _, m := range found[:min(len(found), maxMistakes)] {
		message, _, _ := strings.Cut(m.Message, "\n")
		texts = append(texts, fmt.Sprintf("%d:%d: %s", m.Location.Line(), m.Location.Column()+1, message))
	}
	return errors.New(strings.Join(texts, "; "))
}
