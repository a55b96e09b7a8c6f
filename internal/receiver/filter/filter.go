// Package filter evaluates a webhook's expressions, written in the Common Expression Language (CEL): whether a target gets
// an event, and which key identifies a repeat. It is a leaf, and the operator calls Check on reconcile.
//
// An expression sees one variable, event:
//
//	event.type        string  the type in its wire spelling, such as "message_recieved"
//	event.id          string  the event's own id, "evt_…"; not in deduplication keys, which make it
//	event.webhook_id  int     the provider's webhook configuration; 0 where the delivery named none; check with has()
//	event.data        map     "event_data" as it was sent
//
// Members of event.data are strings, bools, null, lists, maps and numbers: an integer is an int if it fits a signed 64-bit
// integer, a uint if it fits an unsigned one, and every other number is a double. So 64-bit ids keep all their digits. Any
// member may be absent: has(event.data.text), or event.data.?text.orValue(""), reads it safely. Both treat a null member
// as absent.
//
// The language is CEL's standard library with macros and optional values, without the creation of messages. The cost of
// compiling is bounded before anything is compiled (budget.go, pattern.go). The cost of evaluating is bounded twice, by
// MaxCost: an expression whose estimated cost is beyond it is refused, and an evaluation that exceeds it is stopped.
package filter

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"
)

const (
	// MaxLength bounds an expression, in bytes.
	MaxLength = 4096
	// MaxCost bounds one evaluation, in CEL's units: about one for each step, and one for ten examined characters. A
	// filter that reads a few members costs less than fifty. The library's own cost accounting of a loop is quadratic in
	// its rounds: this bound takes about ten milliseconds, a million would take seconds.
	MaxCost = 25_000
	// interruptEvery is after how many rounds of a loop the context is checked.
	interruptEvery = 256
	// maxNesting bounds parentheses and the like.
	maxNesting = 64
	// maxMistakes is how many errors of an expression are reported at once.
	maxMistakes = 3
	// maxMistake bounds the text of an error, in bytes.
	maxMistake = 512
)

// Kind is the purpose of an expression.
type Kind int

const (
	// Wanted expressions yield a bool: whether a target gets the event.
	Wanted Kind = iota
	// Key expressions yield a string that replaces the deduplication profile.
	Key
)

func (k Kind) result() *cel.Type {
	if k == Key {
		return cel.StringType
	}
	return cel.BoolType
}

// keptVerdicts is how many results of Check are cached: enough for a large cluster, in a few hundred KB of memory.
const keptVerdicts = 4096

// question is an expression and its kind, by a digest: expressions have up to MaxLength bytes.
type question struct {
	digest [sha256.Size]byte
	kind   Kind
}

var verdicts = newMemo[question, error](keptVerdicts)

// Check checks whether an expression is valid. Its error names line and column of each mistake, and quotes only the
// expression. The result is cached, so that repeated checks cost nothing.
func Check(expression string, kind Kind) error {
	q := question{sha256.Sum256([]byte(expression)), kind}
	if err, known := verdicts.get(q); known {
		return err
	}
	_, err := Compile(expression, kind)
	if err != nil {
		err = errors.New(shortened(err.Error())) // The wrapped error holds on to the syntax tree.
	}
	verdicts.put(q, err)
	return err
}

// shortened truncates an error so that thousands can be cached.
func shortened(s string) string {
	if len(s) <= maxMistake {
		return s
	}
	return strings.ToValidUTF8(s[:maxMistake], "") + "…"
}

// Program is a compiled expression. Its methods may be called concurrently.
type Program struct {
	program    cel.Program
	expression string
	positions  *ast.SourceInfo
}

// compiling allows one compilation at a time, which bounds the memory in use.
var compiling sync.Mutex

// Compile returns the Program of an expression. Its errors are those of Check. It takes a few MB of memory for a moment,
// and waits for other calls.
func Compile(expression string, kind Kind) (*Program, error) {
	compiling.Lock()
	defer compiling.Unlock()
	checked, err := compile(expression, kind)
	if err != nil {
		return nil, err
	}
	env, err := environment(kind)
	if err != nil {
		return nil, err
	}
	options := append(constants{}.options(),
		cel.CustomDecoratorV2(nullIsAbsent), cel.EvalOptions(cel.OptOptimize), cel.CostLimit(MaxCost), cel.InterruptCheckFrequency(interruptEvery),
		cel.CostTracking(costs{}))
	program, err := env.Program(checked, options...)
	if err != nil {
		return nil, fmt.Errorf("1:1: the expression cannot be prepared: %w", err)
	}
	return &Program{program: program, expression: expression, positions: checked.NativeRep().SourceInfo()}, nil
}

// Wants reports whether a Program of the kind Wanted selects the event. Its error is one sentence, which quotes nothing
// from the event.
func (p *Program) Wants(ctx context.Context, e *Event) (bool, error) {
	out, err := p.evaluate(ctx, e)
	if err != nil {
		return false, err
	}
	wanted, ok := out.(bool)
	if !ok {
		return false, errors.New("the result is not a bool in this event")
	}
	return wanted, nil
}

// Key returns the deduplication key of the event, computed by a Program of the kind Key. Its error is one sentence, which
// quotes nothing from the event.
func (p *Program) Key(ctx context.Context, e *Event) (string, error) {
	out, err := p.evaluate(ctx, e)
	if err != nil {
		return "", err
	}
	switch key, ok := out.(string); {
	case !ok:
		return "", errors.New("the result is not a string in this event")
	case key == "":
		return "", errors.New("the result is empty in this event")
	default:
		return key, nil
	}
}

func (p *Program) evaluate(ctx context.Context, e *Event) (any, error) {
	out, _, err := p.program.ContextEval(ctx, map[string]any{variable: e})
	if err != nil {
		return nil, p.explain(err)
	}
	return out.Value(), nil
}

// explain converts an evaluation error into a sentence. CEL's own texts may quote the event.
func (p *Program) explain(err error) error {
	sentence := "it cannot be evaluated for this event"
	text := err.Error()
	var cancelled interpreter.EvalCancelledError
	switch {
	case errors.As(err, &cancelled) && cancelled.Cause == interpreter.CostLimitExceeded:
		sentence = fmt.Sprintf("it costs more than %d for this event; look at fewer members, or loop less", MaxCost)
	case strings.HasPrefix(text, "pattern"):
		sentence = "a regular expression that is not a constant cannot be used in this event"
	case errors.As(err, &cancelled), errors.Is(err, interpreter.InterruptError{}):
		sentence = "its evaluation was interrupted"
	case strings.HasPrefix(text, "no such key: "), strings.HasPrefix(text, "no such attribute"):
		sentence = "the event lacks a member that it asks for; put has(…) && before"
		// A key that the expression itself names is not a secret of the event.
		if key := strings.TrimPrefix(text, "no such key: "); key != text && strings.Contains(p.expression, key) {
			sentence = fmt.Sprintf("the event has no member %q; put has(…) && before", key)
		}
	case strings.HasPrefix(text, "no such overload"), strings.HasPrefix(text, "unsupported"):
		sentence = "a member of the event is of another type than the expression expects"
	case strings.Contains(text, "conversion"), strings.Contains(text, "parsing"), strings.Contains(text, "cannot be converted"):
		sentence = "a member of the event cannot be converted"
	case strings.HasPrefix(text, "index"):
		sentence = "a list of the event is shorter than the expression expects"
	case strings.Contains(text, "overflow"), strings.Contains(text, "by zero"):
		sentence = "an arithmetic result does not exist or does not fit"
	}
	if at := p.position(err); at != "" {
		return errors.New(at + ": " + sentence)
	}
	return errors.New(sentence)
}

// position returns "line:column" of the part of the expression that err refers to, or "".
func (p *Program) position(err error) string {
	var located *types.Err
	if !errors.As(err, &located) || located.NodeID() == 0 {
		return ""
	}
	start := p.positions.GetStartLocation(located.NodeID())
	if start.Line() < 1 {
		return ""
	}
	return fmt.Sprintf("%d:%d", start.Line(), start.Column()+1)
}

func compile(expression string, kind Kind) (*cel.Ast, error) {
	switch {
	case strings.TrimSpace(expression) == "":
		return nil, errors.New("1:1: the expression is empty")
	case len(expression) > MaxLength:
		return nil, fmt.Errorf("1:1: the expression is longer than %d bytes", MaxLength)
	case !utf8.ValidString(expression):
		return nil, errors.New("1:1: the expression is not valid UTF-8")
	}
	if err := affordable(expression); err != nil {
		return nil, err
	}
	env, err := environment(kind)
	if err != nil {
		return nil, err
	}
	checked, issues := env.Compile(expression)
	if found := issues.Errors(); len(found) > 0 {
		return nil, mistakes(found)
	}
	if out := checked.OutputType(); !out.IsExactType(kind.result()) && !out.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("1:1: the expression yields %s, and %s is needed", out, kind.result())
	}
	cost, err := env.EstimateCost(checked, sizes{})
	if err != nil {
		return nil, fmt.Errorf("1:1: the cost of the expression cannot be estimated: %w", err)
	}
	if cost.Max > MaxCost {
		return nil, fmt.Errorf("1:1: the expression may cost more than %d for one event; nest fewer loops, or match shorter patterns", MaxCost)
	}
	return checked, nil
}

// environment returns the environment in which expressions of a kind are compiled. It is created lazily: a receiver
// without expressions does not pay for it.
func environment(k Kind) (*cel.Env, error) {
	if k == Key {
		return keyEnvironment()
	}
	return wantedEnvironment()
}

var (
	wantedEnvironment = sync.OnceValues(func() (*cel.Env, error) { return newEnvironment(Wanted) })
	keyEnvironment    = sync.OnceValues(func() (*cel.Env, error) { return newEnvironment(Key) })
)

func newEnvironment(kind Kind) (*cel.Env, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, fmt.Errorf("prepare CEL: %w", err)
	}
	env, err := cel.NewCustomEnv(
		withoutMatches(),
		matches(),
		cel.CustomTypeAdapter(registry),
		cel.CustomTypeProvider(provider{registry, kind}),
		cel.Variable(variable, eventType),
		cel.OptionalTypes(),
		cel.Macros(hasMacro),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.ParserRecursionLimit(maxNesting),
		cel.ParserExpressionSizeLimit(MaxLength),
		cel.ASTValidators(cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals()),
	)
	if err != nil {
		return nil, fmt.Errorf("prepare CEL: %w", err)
	}
	return env, nil
}
