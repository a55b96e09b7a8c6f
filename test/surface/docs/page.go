// Package docs reads the documentation as its tests do. A page is a list of fenced blocks, and an invisible comment before a block states what is
// special about it:
//
//	<!-- not run: needs a registry -->      these commands (sh) are not executed, or this manifest (yaml) not held against an API server, for this reason
//	<!-- retried -->                        these commands only look, and are repeated until they succeed and print the page's output
//	<!-- file: webhook.yaml -->             the reader saves the block under this name, so that later commands find it
//
// Every other block in sh is executed, block after block in one shell for a page, on the cluster of test/e2e. A block of "text" that follows it is what
// it prints, with … for what differs from time to time. A block in yaml is a manifest, or begins with spec: and is a part of a HeymarketWebhook; both are
// held against a real API server.
package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

// Page is one file of the documentation.
type Page struct {
	// Path from the root of the repository, with slashes.
	Path string
	// Blocks are the blocks of code, in order.
	Blocks []Block
	// Links are the destinations of links and images, and Anchors the headings that a link can lead to.
	Links, Anchors []string
}

// Block is one block of code.
type Block struct {
	// Language after the fence; empty for none.
	Language string
	// Text between the fences.
	Text string
	// Line of the first line of Text, from 1.
	Line int
	// Fenced is false for a block that is only indented.
	Fenced bool
	// NotRun is why the block is neither executed nor applied; empty: it is.
	NotRun string
	// Retried reports that the commands may be repeated.
	Retried bool
	// File is the name that the reader saves the block under.
	File string
}

// Name is the page's name, for a test or a namespace: lower-case letters and dashes.
func (p Page) Name() string {
	return strings.ToLower(strings.TrimSuffix(filepath.Base(p.Path), ".md"))
}

// Executed reports whether anything of the page is.
func (p Page) Executed() bool {
	return slices.ContainsFunc(p.Blocks, func(b Block) bool { return b.Language == "sh" && b.NotRun == "" })
}

// Where names a block for a person.
func (p Page) Where(b Block) string { return fmt.Sprintf("%s:%d", p.Path, b.Line) }

// Read reads README.md and everything below docs.
func Read(root string) ([]Page, error) {
	paths := []string{"README.md"}
	err := fs.WalkDir(os.DirFS(root), "docs", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(path, ".md") {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var pages []Page
	for _, path := range paths {
		source, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
		if err != nil {
			return nil, err
		}
		page, err := parse(path, source)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		pages = append(pages, page)
	}
	return pages, nil
}

func parse(path string, source []byte) (Page, error) {
	page := Page{Path: path}
	document := goldmark.New(goldmark.WithExtensions(extension.Table), goldmark.WithParserOptions(parser.WithAutoHeadingID())).Parser().Parse(text.NewReader(source))
	err := ast.Walk(document, func(node ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := node.(type) {
		case *ast.FencedCodeBlock:
			b := block(node, source)
			b.Language, b.Fenced = string(n.Language(source)), true
			if err := b.read(comments(node, source)); err != nil {
				return ast.WalkStop, fmt.Errorf("line %d: %w", b.Line, err)
			}
			page.Blocks = append(page.Blocks, b)
		case *ast.CodeBlock:
			page.Blocks = append(page.Blocks, block(node, source))
		case *ast.Link:
			page.Links = append(page.Links, string(n.Destination))
		case *ast.Image:
			page.Links = append(page.Links, string(n.Destination))
		case *ast.Heading:
			if id, ok := n.AttributeString("id"); ok {
				page.Anchors = append(page.Anchors, string(id.([]byte)))
			}
		}
		return ast.WalkContinue, nil
	})
	return page, err
}

func block(node ast.Node, source []byte) Block {
	lines := node.Lines()
	b := Block{Text: string(lines.Value(source))}
	if lines.Len() > 0 {
		b.Line = 1 + strings.Count(string(source[:lines.At(0).Start]), "\n")
	}
	return b
}

// comments are the invisible comments directly before a block.
func comments(node ast.Node, source []byte) (found []string) {
	for before := node.PreviousSibling(); before != nil && before.Kind() == ast.KindHTMLBlock; before = before.PreviousSibling() {
		raw := strings.TrimSpace(string(before.Lines().Value(source)))
		if html := before.(*ast.HTMLBlock); html.HasClosure() {
			raw = strings.TrimSpace(raw + string(html.ClosureLine.Value(source)))
		}
		inner, ok := strings.CutPrefix(raw, "<!--")
		if !ok {
			break
		}
		found = append(found, strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(inner), "-->")))
	}
	return found
}

// read applies the comments about a block. An unknown one is a mistake: it would silently have no effect.
func (b *Block) read(comments []string) error {
	for _, comment := range comments {
		key, value, _ := strings.Cut(comment, ":")
		value = strings.TrimSpace(value)
		switch {
		case key == "not run" && value != "":
			b.NotRun = value
		case key == "file" && value != "" && filepath.IsLocal(value):
			b.File = value
		case comment == "retried":
			b.Retried = true
		default:
			return fmt.Errorf("the comment %q says nothing that this test knows; see the package comment of test/surface/docs", comment)
		}
	}
	return nil
}
