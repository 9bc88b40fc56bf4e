// Package archtest holds the rules that docs/architecture.md states about who may
// import whom. Its test applies them to the whole module:
//
//   - Imports go down the floors, or stay inside one component.
//   - The words, at the root, reach only the standard library.
//   - The clients reach only the standard library and the words, so that any
//     program may import them at little cost.
//   - The pure packages do no input or output and ask no clock and no dice:
//     equal arguments, equal results.
//   - Traefik stays out of the main module.
package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// Package is what the rules look at of one Go package.
type Package struct {
	Path        string
	Standard    bool     // of the standard library
	Imports     []string // by its own code
	TestImports []string // by its tests alone
	// Uses are the places where its own code, without tests, mentions something
	// of the packages time and math/rand.
	Uses []Use
}

// Use is one mention of a package's identifier, such as time.Now.
type Use struct {
	Import, Name string
	Pos          string // file:line
}

// floors lists the folders of the module from the ground up. A package may import
// those below its own floor, and those of its own folder.
var floors = [][]string{
	{""}, // the words
	{"internal"},
	{"jobspec", "web", "*/client"},
	{"scheduler", "executor", "sidecar", "goavail", "proviso"},
	{"cmd"},
	{"test", "examples"},
}

// pure lists the packages that only compute. What they import of this module has
// to be pure as well.
var pure = []string{
	"", "jobspec", "scheduler/plan", "scheduler/deploy", "executor/step",
	"sidecar/catalog", "sidecar/traefik", "goavail/vote", "proviso/fleet",
}

// Standard packages that pure code leaves alone, with all below them, and the
// exceptions, which only parse and print.
var (
	impure        = []string{"os", "net", "io/ioutil", "syscall", "database", "log", "plugin", "unsafe", "crypto/rand"}
	impureButPure = []string{"net/netip", "net/url"}
)

// pureLibraries are the modules that pure code may use: they only parse.
var pureLibraries = []string{"go.yaml.in/yaml/v4", "github.com/traefik/paerser"}

// clock and dice are what makes equal arguments give different results. Of
// math/rand only generators with a seed of the caller's are allowed.
var (
	clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer"}
	dice  = []string{"New", "NewSource", "NewPCG", "NewChaCha8", "NewZipf", "Rand", "Source", "PCG", "ChaCha8", "Zipf"}
)

// Check returns one line for each violation of the rules in a module, whose
// packages come with all that they reach.
func Check(module string, packages []Package) []string {
	c := checker{module: module, byPath: map[string]Package{}}
	for _, p := range packages {
		c.byPath[p.Path] = p
	}
	for _, p := range packages {
		if below(p.Path, "github.com/traefik/traefik") {
			c.report("%s is reached: Traefik belongs into the module ingress", p.Path)
		}
		if c.own(p.Path) {
			c.checkFloor(p)
		}
		if rel := c.rel(p.Path); c.own(p.Path) && strings.HasSuffix(rel, "/client") && !below(rel, "internal") {
			c.checkClient(p)
		}
	}
	for _, p := range c.reach(pure) {
		c.checkPure(p)
	}
	slices.Sort(c.found)
	return slices.Compact(c.found)
}

type checker struct {
	module string
	byPath map[string]Package
	found  []string
}

func (c *checker) report(format string, args ...any) {
	c.found = append(c.found, fmt.Sprintf(format, args...))
}

// own reports whether the package is of the module.
func (c *checker) own(path string) bool { return below(path, c.module) }

// rel is the package's folder in the module.
func (c *checker) rel(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, c.module), "/")
}

// place returns the floor of a package of the module, and its folder.
func place(rel string) (floor int, folder string) {
	folder, rest, _ := strings.Cut(rel, "/")
	if below(rest, "client") && folder != "internal" {
		rel, folder = "*/client", folder+"/client"
	}
	floor = slices.IndexFunc(floors, func(names []string) bool {
		return slices.Contains(names, rel) || slices.Contains(names, folder)
	})
	return floor, folder
}

func (c *checker) checkFloor(p Package) {
	rel := c.rel(p.Path)
	floor, folder := place(rel)
	if floor < 0 {
		c.report("%s has no floor: name its folder in internal/archtest", rel)
		return
	}
	for _, imported := range slices.Concat(p.Imports, p.TestImports) {
		if !c.own(imported) {
			if floor == 0 && !c.byPath[imported].Standard && slices.Contains(p.Imports, imported) {
				c.report("the words import %s: only the standard library is allowed", imported)
			}
			continue
		}
		to := c.rel(imported)
		if toFloor, toFolder := place(to); toFolder != folder && toFloor >= floor {
			c.report("%s imports %s: imports go down the floors, or stay inside one component", name(rel), to)
		}
	}
}

func (c *checker) checkClient(p Package) {
	for _, path := range c.closure(p.Path) {
		if q, ok := c.byPath[path]; ok && path != p.Path && path != c.module && !q.Standard {
			c.report("%s reaches %s: a client reaches only the standard library and the words", c.rel(p.Path), path)
		}
	}
}

func (c *checker) checkPure(p Package) {
	rel := name(c.rel(p.Path))
	for _, path := range p.Imports {
		switch q := c.byPath[path]; {
		case q.Standard && anyBelow(path, impure) && !slices.Contains(impureButPure, path):
			c.report("%s imports %s: a pure package does no input or output", rel, path)
		case !q.Standard && !c.own(path) && p.Path != c.module && !anyBelow(path, pureLibraries):
			c.report("%s imports %s: a pure package uses only libraries that archtest lists", rel, path)
		}
	}
	for _, u := range p.Uses {
		switch {
		case u.Import == "time" && slices.Contains(clock, u.Name):
			c.report("%s: %s uses time.%s: pass the time in", u.Pos, rel, u.Name)
		case below(u.Import, "math/rand") && !slices.Contains(dice, u.Name):
			c.report("%s: %s uses rand.%s: pass a generator in", u.Pos, rel, u.Name)
		}
	}
}

// reach returns the packages in the given folders that exist, and all of the
// module that they import.
func (c *checker) reach(folders []string) []Package {
	var out []Package
	for _, rel := range folders {
		for _, path := range c.closure(strings.TrimSuffix(c.module+"/"+rel, "/")) {
			if p, ok := c.byPath[path]; ok && c.own(path) {
				out = append(out, p)
			}
		}
	}
	return out
}

// closure returns the package and all that it imports, directly or not.
func (c *checker) closure(path string) []string {
	paths := []string{path}
	for i := 0; i < len(paths); i++ {
		for _, imported := range c.byPath[paths[i]].Imports {
			if !slices.Contains(paths, imported) {
				paths = append(paths, imported)
			}
		}
	}
	return paths
}

// below reports whether path is prefix or lies below it.
func below(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

func anyBelow(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return below(path, prefix) })
}

// name is how messages call a folder of the module.
func name(rel string) string {
	if rel == "" {
		return "the root"
	}
	return rel
}
