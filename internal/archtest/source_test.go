package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// modulePath is how our own packages are imported.
const modulePath = "github.com/restock-dev/restock"

// file is what the rules look at in one source file, whatever its build tags.
type file struct {
	dir        string // of the package, relative to the module, "." at its root
	name       string
	doc        bool // has a package comment
	test       bool
	outside    bool // a test in a package of its own, such as relay_test
	imports    []string
	uses       []use
	envTags    []int // lines with a struct tag env:"…"
	unfinished []int // lines that panic for want of code
}

// use is a mention of an exported name of an imported package, such as os.Getenv.
type use struct {
	name string // import path, dot, name
	line int
}

func (f file) at(line int) string { return fmt.Sprintf("%s:%d", path.Join(f.dir, f.name), line) }

// ours returns the directories of this module that the file imports.
func (f file) ours() []string {
	var dirs []string
	for _, imported := range f.imports {
		if imported == modulePath {
			dirs = append(dirs, ".")
		} else if dir, is := strings.CutPrefix(imported, modulePath+"/"); is {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// loadModule parses every Go file below root.
func loadModule(root string) ([]file, error) {
	var files []file
	err := filepath.WalkDir(root, func(full string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			hidden := full != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_"))
			if hidden || name == "testdata" || name == "node_modules" {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		relative, err := filepath.Rel(root, full)
		if err != nil {
			return err
		}
		source, err := os.ReadFile(full)
		if err != nil {
			return err
		}
		parsed, err := parse(filepath.ToSlash(relative), string(source))
		if err != nil {
			return err
		}
		files = append(files, parsed)
		return nil
	})
	return files, err
}

// parse reads one file; name is its path relative to the module.
func parse(name, source string) (file, error) {
	positions := token.NewFileSet()
	tree, err := parser.ParseFile(positions, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return file{}, err
	}
	f := file{
		dir:  path.Dir(name),
		name: path.Base(name),
		doc:  tree.Doc.Text() != "",
		test: strings.HasSuffix(name, "_test.go"),
	}
	f.outside = f.test && strings.HasSuffix(tree.Name.Name, "_test")
	called := map[string]string{} // by which name the file knows an import
	for _, spec := range tree.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return file{}, err
		}
		f.imports = append(f.imports, imported)
		known := path.Base(imported)
		if spec.Name != nil {
			known = spec.Name.Name
		}
		called[known] = imported
	}
	ast.Inspect(tree, func(node ast.Node) bool {
		if node == nil {
			return false
		}
		line := positions.Position(node.Pos()).Line
		switch n := node.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && called[x.Name] != "" {
				f.uses = append(f.uses, use{called[x.Name] + "." + n.Sel.Name, line})
			}
		case *ast.Field:
			if n.Tag != nil && strings.Contains(n.Tag.Value, `env:"`) {
				f.envTags = append(f.envTags, line)
			}
		case *ast.CallExpr:
			if panicsUnfinished(n) {
				f.unfinished = append(f.unfinished, line)
			}
		}
		return true
	})
	return f, nil
}

// panicsUnfinished recognises panic("not implemented") and its like.
func panicsUnfinished(call *ast.CallExpr) bool {
	name, ok := call.Fun.(*ast.Ident)
	if !ok || name.Name != "panic" || len(call.Args) != 1 {
		return false
	}
	text, ok := call.Args[0].(*ast.BasicLit)
	if !ok || text.Kind != token.STRING {
		return false
	}
	lower := strings.ToLower(text.Value)
	return strings.Contains(lower, "implement") || strings.Contains(lower, "todo")
}
