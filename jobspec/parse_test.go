package jobspec

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/pancake-stack/pancake"
)

func TestEnvironment(t *testing.T) {
	text := minimal + "  prod: {resources: {cpus: x}}\n"
	f, all := Parse("hello.yml", []byte(text))
	if f.Service() != "hello" || !slices.Equal(f.Environments(), []string{"dev", "prod"}) {
		t.Errorf("service %q, environments %q", f.Service(), f.Environments())
	}
	if err := all.Err(); pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), "environments.prod.resources.cpus") {
		t.Errorf("the whole file: %v", err)
	}
	if spec, diagnostics := f.Environment("dev"); spec == nil || strings.Contains(diagnostics.String(), "prod") {
		t.Errorf("dev: %v", diagnostics)
	}
	if spec, diagnostics := f.Environment("prod"); spec != nil || diagnostics.Err() == nil {
		t.Error("prod has no errors")
	}
	const want = `hello.yml:2:1: environments: there is no environment "prdo"; there are: dev, prod; did you mean prod?`
	if spec, diagnostics := f.Environment("prdo"); spec != nil || diagnostics.String() != want {
		t.Errorf("got  %s\nwant %s", diagnostics, want)
	}
	if _, diagnostics := f.Environment("qa"); !strings.Contains(diagnostics.String(), "there are: dev, prod; choose") {
		t.Errorf("qa: %s", diagnostics)
	}
}

func TestEnvironmentOfABrokenFile(t *testing.T) {
	f, all := Parse("hello.yml", []byte("a: ["))
	spec, diagnostics := f.Environment("dev")
	if spec != nil || !slices.Equal(diagnostics, all) || len(all.Errors()) != 1 {
		t.Errorf("got %v, want %v", diagnostics, all)
	}
}

func TestLimits(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"size":         {strings.Repeat("#", MaxSize+1), "may have 1048576"},
		"depth":        {strings.Repeat("[", 33) + strings.Repeat("]", 33), "max depth of 32"},
		"values":       {"a: [" + strings.Repeat("1,", maxValues) + "]", "more than 20000 values"},
		"environments": {"environments: {" + numbered("e%d: {}, ", maxEnvironments+1) + "}", "there are 101 environments"},
		"name":         {minimal, "the file has no name"},
	} {
		file := "hello.yml"
		if name == "name" {
			file = "jobs/.yml"
		}
		if _, diagnostics := Parse(file, []byte(tc.text)); !strings.Contains(diagnostics.Errors().String(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, diagnostics, tc.want)
		}
	}
	if _, diagnostics := Parse("hello.yml", []byte(minimal+strings.Repeat("#", MaxSize-len(minimal)))); diagnostics.Err() != nil {
		t.Errorf("a file of just the largest size: %v", diagnostics)
	}
}

// numbered repeats a format with the numbers below n.
func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func TestManyProblems(t *testing.T) {
	text := minimal + "      env_vars: {" + numbered("V%d: 1, ", 3000) + "}\n"
	_, diagnostics := Parse("hello.yml", []byte(text))
	if len(diagnostics) != maxDiagnostics {
		t.Fatalf("%d diagnostics", len(diagnostics))
	}
	last := diagnostics[maxDiagnostics-1]
	if last.Severity != Error || last.Message != "there are more problems; mend these first" {
		t.Errorf("the last one says %s", last)
	}
}

// An error behind more than maxDiagnostics warnings must not get lost.
func TestErrorBehindManyWarnings(t *testing.T) {
	text := minimal + "      forcePullImage: perhaps\n" + numbered("v%d: 1\n", 3000)
	if _, diagnostics := Parse("hello.yml", []byte(text)); diagnostics.Err() == nil {
		t.Error("no error")
	}
}

func TestPositionsAreSorted(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.yml")
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, diagnostics := Parse(path, text)
		if !slices.IsSortedFunc(diagnostics, func(a, b Diagnostic) int {
			if a.Line != b.Line {
				return a.Line - b.Line
			}
			return a.Column - b.Column
		}) {
			t.Errorf("%s: not in the order of the file", path)
		}
	}
}

// The examples are what newcomers begin with: nothing may be wrong with them.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../examples/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, diagnostics := Parse(path, text)
		if len(diagnostics) > 0 {
			t.Errorf("%s", diagnostics)
		}
		for _, name := range f.Environments() {
			spec, _ := f.Environment(name)
			if spec == nil {
				t.Fatalf("%s: no %s", path, name)
			}
			if _, _, err := spec.Release("1", "ann"); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

// TestSchema guards the table against slips that no file would show.
func TestSchema(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range schema {
		if seen[row.key] {
			t.Errorf("%s is there twice", row.key)
		}
		seen[row.key] = true
		if row.into != nil && !strings.Contains(row.example, ": ") {
			t.Errorf("%s has no example", row.key)
		}
		if row.into == nil && row.unused == "" && row.refused == nil {
			t.Errorf("%s is neither read nor refused nor warned about", row.key)
		}
		if row.into == nil {
			continue
		}
		switch row.into(newSpec("", "", "")).(type) {
		case *string, *bool, *int, *float64, *map[string]string, *[]string, *[]pancake.PortMapping, *[]pancake.Volume:
		default:
			t.Errorf("%s goes into a type that value does not read", row.key)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yml")
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, all := Parse("hello.yml", []byte(text))
		if len(all) > maxDiagnostics {
			t.Fatalf("%d diagnostics", len(all))
		}
		_, unknown := file.Environment("no such")
		for _, d := range slices.Concat(all, unknown) {
			if strings.ContainsFunc(d.String(), func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("%q cannot be printed safely", d.String())
			}
		}
		for _, name := range file.Environments() {
			spec, diagnostics := file.Environment(name)
			if (spec == nil) != (diagnostics.Err() != nil) {
				t.Fatalf("%q: spec %v, diagnostics %v", name, spec, diagnostics)
			}
			if spec == nil {
				continue
			}
			_, deploy, err := spec.Release("1", "")
			if err == nil && (deploy.Resources.CPUs <= 0 || deploy.Resources.MemoryMB <= 0 || spec.Resources.Instances < 1) {
				t.Fatalf("released with %+v", deploy.Resources)
			}
		}
	})
}
