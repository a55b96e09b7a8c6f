package filter

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"
)

// JSON has two ways to leave a value out: no member, and a member that is null. The provider may use either, so has(),
// ".?" and "[?…]" treat null as absent. A plain selection still yields null.

// hasMacro makes has(a.b) true if a.?b has a value.
var hasMacro = cel.GlobalMacro("has", 1, func(f cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	if args[0].Kind() != ast.SelectKind {
		return nil, f.NewError(args[0].ID(), "invalid argument to has() macro")
	}
	s := args[0].AsSelect()
	return f.NewMemberCall("hasValue", f.NewCall(operators.OptSelect, s.Operand(), f.NewLiteral(types.String(s.FieldName())))), nil
})

// nullIsAbsent is a decorator: it makes every optional selection treat null as absent.
func nullIsAbsent(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	if a, ok := i.(interpreter.InterpretableAttribute); ok {
		if _, done := i.(attribute); !done {
			return attribute{a}, nil
		}
	}
	return i, nil
}

type attribute struct {
	interpreter.InterpretableAttribute
}

// AddQualifier implements interpreter.InterpretableAttribute.
func (a attribute) AddQualifier(q interpreter.Qualifier) (interpreter.Attribute, error) {
	return a.InterpretableAttribute.AddQualifier(qualifier{q})
}

type qualifier struct{ interpreter.Qualifier }

// QualifyIfPresent implements interpreter.Qualifier.
func (q qualifier) QualifyIfPresent(vars interpreter.Activation, object any, _ bool) (any, bool, error) {
	if e, ok := object.(*Event); ok {
		return q.memberOf(e)
	}
	value, present, err := q.Qualifier.QualifyIfPresent(vars, object, false)
	if value == nil || value == types.NullValue {
		return nil, false, err
	}
	return value, present, err
}

// memberOf selects a member of the event itself, of which the library knows the plain selection only.
func (q qualifier) memberOf(e *Event) (any, bool, error) {
	name, ok := q.Qualifier.(interpreter.ConstantQualifier)
	if !ok {
		return nil, false, nil
	}
	text, _ := name.Value().Value().(string)
	field, ok := provider{kind: Wanted}.FindStructFieldType(typeName, text)
	if !ok || !field.IsSet(e) {
		return nil, false, nil
	}
	value, err := field.GetFrom(e)
	return value, err == nil, err
}
