package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// The environment variables of a test binary: which mistake to make, and the file for the places that it ran.
const (
	chosenVariable = "HEYMARKET_MUTANT"
	ranVariable    = "HEYMARKET_MUTANTS_RAN"
)

// runtimeSource is compiled into the package. Each place asks whether the mistake is the one to make.
const runtimeSource = `package %s

import (
	"os"
	"strconv"
	"sync"
)

var mutantChosen, _ = strconv.Atoi(os.Getenv("` + chosenVariable + `"))
var mutantRan sync.Map
var mutantFile = os.Getenv("` + ranVariable + `")

func mutant(number int) bool {
	if mutantFile != "" {
		if _, known := mutantRan.LoadOrStore(number, true); !known {
			if f, err := os.OpenFile(mutantFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
				f.WriteString(strconv.Itoa(number) + "\n")
				f.Close()
			}
		}
	}
	return mutantChosen == number
}
`

// instrument writes a package's files with all mistakes in them into a folder, and the overlay that puts them in their places. It returns what each mistake
// is; mistake i has the number i+1.
func instrument(ctx context.Context, root, pkg, folder string) (mistakes []string, overlay string, err error) {
	files, exports, err := list(ctx, root, pkg)
	if err != nil {
		return nil, "", err
	}
	m := &mutator{fset: token.NewFileSet(), info: &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}}
	var parsed []*ast.File
	for _, path := range files {
		file, err := parser.ParseFile(m.fset, path, nil, 0)
		if err != nil {
			return nil, "", err
		}
		parsed = append(parsed, file)
	}
	lookup := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	config := types.Config{Importer: importer.ForCompiler(m.fset, "gc", lookup)}
	if _, err := config.Check(pkg, m.fset, parsed, m.info); err != nil {
		return nil, "", fmt.Errorf("check types: %w", err)
	}
	replace := map[string]string{}
	for i, file := range parsed {
		source, err := os.ReadFile(files[i])
		if err != nil {
			return nil, "", err
		}
		replace[files[i]] = filepath.Join(folder, fmt.Sprintf("file%d.go", i))
		if err := os.WriteFile(replace[files[i]], m.mutate(file, source, filepath.Base(files[i])), 0o600); err != nil {
			return nil, "", err
		}
	}
	added := filepath.Join(folder, "runtime.go")
	if err := os.WriteFile(added, fmt.Appendf(nil, runtimeSource, parsed[0].Name.Name), 0o600); err != nil {
		return nil, "", err
	}
	replace[filepath.Join(root, pkg, "zz_mutants.go")] = added
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return nil, "", err
	}
	overlay = filepath.Join(folder, "overlay.json")
	return m.mistakes, overlay, os.WriteFile(overlay, text, 0o600)
}

// list returns the files of a package, and the export data of all that it imports.
func list(ctx context.Context, root, pkg string) (files []string, exports map[string]string, err error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-export", "-json=ImportPath,Export,Dir,GoFiles,DepOnly", "./"+pkg)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("list the package: %w", err)
	}
	exports = map[string]string{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); decoder.More(); {
		var p struct {
			ImportPath, Export, Dir string
			GoFiles                 []string
			DepOnly                 bool
		}
		if err := decoder.Decode(&p); err != nil {
			return nil, nil, err
		}
		exports[p.ImportPath] = p.Export
		if !p.DepOnly {
			for _, name := range p.GoFiles {
				files = append(files, filepath.Join(p.Dir, name))
			}
		}
	}
	return files, exports, nil
}

// mutator finds places and rewrites them as text, so that nothing else of a file changes.
type mutator struct {
	fset     *token.FileSet
	info     *types.Info
	mistakes []string
	edits    []edit
}

// edit inserts text at an offset. Of two at one offset, the one that was added first comes first.
type edit struct {
	at   int
	text string
}

// swapped maps an operator to its replacements.
var swapped = map[token.Token][]token.Token{
	token.EQL: {token.NEQ}, token.NEQ: {token.EQL},
	token.LSS: {token.LEQ, token.GEQ}, token.LEQ: {token.LSS, token.GTR}, token.GTR: {token.GEQ, token.LEQ}, token.GEQ: {token.GTR, token.LSS},
	token.LAND: {token.LOR}, token.LOR: {token.LAND},
	token.ADD: {token.SUB}, token.SUB: {token.ADD}, token.MUL: {token.QUO}, token.QUO: {token.MUL},
}

func (m *mutator) mutate(file *ast.File, source []byte, name string) []byte {
	m.edits = nil
	m.walk(file, source, name)
	sort.SliceStable(m.edits, func(i, j int) bool { return m.edits[i].at < m.edits[j].at })
	var out bytes.Buffer
	last := 0
	for _, e := range m.edits {
		out.Write(source[last:e.at])
		out.WriteString(e.text)
		last = e.at
	}
	out.Write(source[last:])
	return out.Bytes()
}

func (m *mutator) walk(file *ast.File, source []byte, name string) {
	text := func(n ast.Node) string { return string(source[m.offset(n.Pos()):m.offset(n.End())]) }
	note := func(n ast.Node, old, replacement string) int {
		at := m.fset.Position(n.Pos())
		m.mistakes = append(m.mistakes, fmt.Sprintf("%s:%d:%d: %s  →  %s", name, at.Line, at.Column, oneLine(old), oneLine(replacement)))
		return len(m.mistakes)
	}
	negate := func(cond ast.Expr) {
		if _, binary := cond.(*ast.BinaryExpr); binary || cond == nil {
			return
		}
		if tv := m.info.Types[cond]; tv.Value != nil || tv.Type == nil || tv.Type.Underlying() != types.Typ[types.Bool] {
			return
		}
		number := note(cond, text(cond), "!("+text(cond)+")")
		m.insert(cond.Pos(), fmt.Sprintf("func() bool { if mutant(%d) { return !bool(%s) }; return bool(", number, text(cond)))
		m.insertBefore(cond.End(), ") }()")
	}
	time := slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"time"` && i.Name == nil })
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GenDecl:
			return n.Tok == token.VAR
		case *ast.IfStmt:
			negate(n.Cond)
		case *ast.SwitchStmt:
			for _, clause := range n.Body.List {
				for _, condition := range clause.(*ast.CaseClause).List {
					if n.Tag == nil {
						negate(condition)
					}
				}
			}
		case *ast.BlockStmt:
			m.statements(n.List, source, note)
		case *ast.CaseClause:
			m.statements(n.Body, source, note)
		case *ast.CommClause:
			m.statements(n.Body, source, note)
		case *ast.BinaryExpr:
			kind, ok := m.kind(n, time)
			if !ok {
				return true
			}
			var cases strings.Builder
			for _, op := range swapped[n.Op] {
				wrong := text(n.X) + " " + op.String() + " " + text(n.Y)
				fmt.Fprintf(&cases, "if mutant(%d) { return %s }; ", note(n, text(n), wrong), wrong)
			}
			m.insert(n.Pos(), "func() "+kind+" { "+cases.String()+"return ")
			m.insertBefore(n.End(), " }()")
		}
		return true
	})
}

// statements puts each statement that can be left out behind a number.
func (m *mutator) statements(list []ast.Stmt, source []byte, note func(ast.Node, string, string) int) {
	for _, s := range list {
		switch s := s.(type) {
		case *ast.ExprStmt, *ast.IncDecStmt, *ast.SendStmt:
		case *ast.AssignStmt:
			if s.Tok == token.DEFINE || blank(s) {
				continue
			}
		default:
			continue
		}
		old := string(source[m.offset(s.Pos()):m.offset(s.End())])
		if strings.HasPrefix(old, "panic(") {
			continue // without it a function may not return
		}
		m.insert(s.Pos(), fmt.Sprintf("if !mutant(%d) { ", note(s, old, "nothing")))
		m.insertBefore(s.End(), " }")
	}
}

func blank(s *ast.AssignStmt) bool {
	for _, left := range s.Lhs {
		if id, ok := left.(*ast.Ident); ok && id.Name == "_" {
			return true
		}
	}
	return false
}

// kind is the type of an expression, as the file can write it, which may import time; false if it is a constant, or of a type that the file may have no name for.
func (m *mutator) kind(n *ast.BinaryExpr, time bool) (string, bool) {
	if len(swapped[n.Op]) == 0 {
		return "", false
	}
	tv, known := m.info.Types[n]
	if !known || tv.Value != nil {
		return "", false
	}
	switch t := types.Unalias(tv.Type).(type) {
	case *types.Basic:
		if t.Info()&types.IsUntyped != 0 && t.Info()&types.IsBoolean != 0 {
			return "bool", true
		}
		return t.Name(), t.Info()&(types.IsBoolean|types.IsNumeric) != 0 && t.Info()&types.IsUntyped == 0
	case *types.Named:
		if t.Obj().Pkg() != nil && t.Obj().Pkg().Path() == "time" && t.Obj().Name() == "Duration" {
			return "time.Duration", time
		}
	}
	return "", false
}

func (m *mutator) offset(p token.Pos) int { return m.fset.Position(p).Offset }

func (m *mutator) insert(at token.Pos, text string) {
	m.edits = append(m.edits, edit{m.offset(at), text})
}

// insertBefore puts an end before the ends that were put there already: what began last ends first.
func (m *mutator) insertBefore(at token.Pos, text string) {
	offset := m.offset(at)
	i := len(m.edits)
	for j, e := range slices.Backward(m.edits) {
		if e.at == offset && (strings.HasSuffix(e.text, "}") || strings.HasSuffix(e.text, "}()")) {
			i = j
		}
	}
	m.edits = append(m.edits[:i], append([]edit{{offset, text}}, m.edits[i:]...)...)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
