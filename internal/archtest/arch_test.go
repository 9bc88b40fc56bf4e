package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/pancake-stack/pancake"

// TestProject applies the rules to this module.
func TestProject(t *testing.T) {
	packages, err := load("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{module, module + "/internal/archtest", "time"} {
		if !slices.ContainsFunc(packages, func(p Package) bool { return p.Path == want }) {
			t.Errorf("go list did not name %s: the rules were not applied", want)
		}
	}
	for _, violation := range Check(module, packages) {
		t.Error(violation)
	}
}

// TestPlanted plants a violation of each kind, and the nearest things that are allowed.
func TestPlanted(t *testing.T) {
	for name, tc := range map[string]struct {
		from  string // "folder: imports; test imports"
		extra string // a second package, written the same way
		uses  []Use  // by the first
		want  string // in the only violation; empty when all is well
	}{
		"words use the library":         {from: ": time fmt"},
		"words use a module":            {from: ": example.com/m", want: "the words import example.com/m"},
		"words use internal":            {from: ": ./internal/x", want: "the root imports internal/x"},
		"words' tests use a module":     {from: ": time; example.com/m"},
		"internal uses a client":        {from: "internal/x: ./sidecar/client", want: "internal/x imports sidecar/client"},
		"internal uses a component":     {from: "internal/x: ./executor", want: "internal/x imports executor"},
		"internal uses internal":        {from: "internal/x: ./internal/y example.com/m os"},
		"job spec uses a client":        {from: "jobspec: ./scheduler/client", want: "jobspec imports scheduler/client"},
		"component uses its own":        {from: "executor/docker: ./executor/step ./internal/x ."},
		"component uses a client":       {from: "executor: ./sidecar/client ./jobspec"},
		"component uses another":        {from: "executor: ./sidecar/catalog", want: "executor imports sidecar/catalog"},
		"component's tests use another": {from: "scheduler/api: time; ./executor", want: "scheduler/api imports executor"},
		"component uses cmd":            {from: "proviso: ./cmd/pancake", want: "proviso imports cmd/pancake"},
		"cmd uses all":                  {from: "cmd/pancake: ./scheduler ./executor ./jobspec ."},
		"cmd uses test":                 {from: "cmd/pancake: ./test/bench/report", want: "cmd/pancake imports test/bench/report"},
		"test uses cmd":                 {from: "test/cli: ./cmd/pancake ./sidecar"},
		"unknown folder":                {from: "pkg/util: time", want: "pkg/util has no floor"},

		"client uses the words":       {from: "sidecar/client: . net/http"},
		"client uses internal":        {from: "scheduler/client: ./internal/x", want: "scheduler/client reaches " + module + "/internal/x"},
		"client uses a module":        {from: "sidecar/client: example.com/m", want: "sidecar/client reaches example.com/m"},
		"client reaches a module":     {from: "sidecar/client: encoding/json", extra: "encoding/json: example.com/m", want: "sidecar/client reaches example.com/m"},
		"client's tests use internal": {from: "sidecar/client: net/http; ./internal/x"},
		"client of no component":      {from: "internal/x/client: example.com/m"},

		"pure uses files":             {from: "scheduler/plan: os", want: "scheduler/plan imports os"},
		"pure uses the network":       {from: "sidecar/catalog: net/http", want: "sidecar/catalog imports net/http"},
		"pure parses addresses":       {from: "sidecar/traefik: net/url net/netip github.com/traefik/paerser/parser"},
		"pure starts programs":        {from: "executor/step: os/exec", want: "executor/step imports os/exec"},
		"pure logs":                   {from: "goavail/vote: log/slog", want: "goavail/vote imports log/slog"},
		"pure uses etcd":              {from: "scheduler/deploy: go.etcd.io/etcd/client/v3", want: "scheduler/deploy imports go.etcd.io/etcd/client/v3"},
		"pure reaches files":          {from: "jobspec: ./internal/x", extra: "internal/x: os", want: "internal/x imports os"},
		"pure's tests use files":      {from: "proviso/fleet: time; os testing"},
		"words use files":             {from: ": os", want: "the root imports os"},
		"pure asks the clock":         {from: "scheduler/plan: time", uses: []Use{{"time", "Now", "plan.go:7"}}, want: "plan.go:7: scheduler/plan uses time.Now"},
		"pure waits":                  {from: "executor/step: time", uses: []Use{{"time", "After", "step.go:1"}}, want: "uses time.After"},
		"pure computes with times":    {from: "executor/step: time", uses: []Use{{"time", "Duration", "step.go:1"}, {"time", "Unix", "step.go:2"}}},
		"pure throws dice":            {from: "scheduler/plan: math/rand/v2", uses: []Use{{"math/rand/v2", "IntN", "plan.go:1"}}, want: "uses rand.IntN"},
		"pure takes a generator":      {from: "scheduler/plan: math/rand/v2", uses: []Use{{"math/rand/v2", "Rand", "plan.go:1"}, {"math/rand", "New", "plan.go:2"}}},
		"others do all of that":       {from: "scheduler/api: time os log/slog", uses: []Use{{"time", "Now", "api.go:1"}}},
		"a folder that only looks so": {from: "scheduler/planner: os", uses: []Use{{"time", "Now", "p.go:1"}}},

		"Traefik":           {from: "sidecar: github.com/traefik/traefik/v3/pkg/config/dynamic", want: "traefik/v3/pkg/config/dynamic is reached"},
		"Traefik by others": {from: "sidecar: example.com/m", extra: "example.com/m: github.com/traefik/traefik/v3", want: "traefik/v3 is reached"},
	} {
		t.Run(name, func(t *testing.T) {
			packages := plant(tc.uses, tc.from, tc.extra)
			got := Check(module, packages)
			switch {
			case tc.want == "" && len(got) > 0:
				t.Errorf("%s: found %q, want nothing", tc.from, got)
			case tc.want != "" && (len(got) != 1 || !strings.Contains(got[0], tc.want)):
				t.Errorf("%s: found %q, want only %q", tc.from, got, tc.want)
			}
		})
	}
}

// plant makes packages from descriptions, and an empty one for each import that
// has no description. The first package has the uses.
func plant(uses []Use, descriptions ...string) []Package {
	full := func(p string) string {
		if rel, ok := strings.CutPrefix(p, "."); ok {
			return module + rel
		}
		return p
	}
	var packages []Package
	for _, d := range descriptions {
		folder, imports, ok := strings.Cut(d, ":")
		if !ok {
			continue
		}
		own, tests, _ := strings.Cut(imports, ";")
		p := Package{Path: strings.TrimSuffix(module+"/"+folder, "/")}
		if first, _, _ := strings.Cut(folder, "/"); strings.Contains(first, ".") || first == "encoding" {
			p.Path, p.Standard = folder, first == "encoding"
		}
		for i := range strings.FieldsSeq(own) {
			p.Imports = append(p.Imports, full(i))
		}
		for i := range strings.FieldsSeq(tests) {
			p.TestImports = append(p.TestImports, full(i))
		}
		packages = append(packages, p)
	}
	packages[0].Uses = uses
	for _, p := range slices.Clone(packages) {
		for _, i := range slices.Concat(p.Imports, p.TestImports) {
			if !slices.ContainsFunc(packages, func(q Package) bool { return q.Path == i }) {
				first, _, _ := strings.Cut(i, "/")
				packages = append(packages, Package{Path: i, Standard: !strings.Contains(first, ".")})
			}
		}
	}
	return packages
}

// TestUses shows that mentions are found under other names, and only of imports.
func TestUses(t *testing.T) {
	uses, err := usesOf("testdata/uses.go")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"time.Duration", "time.Now", "math/rand/v2.IntN", "time.Sleep"}
	var got []string
	for _, u := range uses {
		got = append(got, u.Import+"."+u.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("uses %q, want %q", got, want)
	}
}

// load asks the go command for the packages of the module in dir and for all that they reach.
func load(dir string) ([]Package, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Standard,Imports,TestImports,XTestImports,GoFiles,CgoFiles", "./...")
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, stderr.Bytes())
	}
	var packages []Package
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Dir                                       string
			Standard                                              bool
			Imports, TestImports, XTestImports, GoFiles, CgoFiles []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		q := Package{Path: p.ImportPath, Standard: p.Standard, Imports: p.Imports}
		if below(p.ImportPath, module) {
			q.TestImports = slices.Concat(p.TestImports, p.XTestImports)
			for _, file := range slices.Concat(p.GoFiles, p.CgoFiles) {
				uses, err := usesOf(filepath.Join(p.Dir, file))
				if err != nil {
					return nil, err
				}
				q.Uses = append(q.Uses, uses...)
			}
		}
		packages = append(packages, q)
	}
}

// usesOf finds the mentions of time and math/rand in one file.
func usesOf(file string) ([]Use, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	imported := map[string]string{} // by the name in this file
	for _, i := range f.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return nil, err
		}
		switch {
		case p != "time" && !below(p, "math/rand"):
		case i.Name != nil:
			imported[i.Name.Name] = p
		default:
			imported[path.Base(strings.TrimSuffix(p, "/v2"))] = p
		}
	}
	var uses []Use
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := sel.X.(*ast.Ident); ok && imported[id.Name] != "" {
				pos := fset.Position(sel.Pos())
				uses = append(uses, Use{imported[id.Name], sel.Sel.Name, fmt.Sprintf("%s:%d", pos.Filename, pos.Line)})
			}
		}
		return true
	})
	if imported["."] != "" {
		return nil, fmt.Errorf("%s imports %s by a dot, which hides its uses", file, imported["."])
	}
	return uses, nil
}
