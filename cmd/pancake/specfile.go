package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/suggest"
	"github.com/pancake-stack/pancake/jobspec"
)

// repositoryVariable names the folder that services are looked up in after the
// current one. The name is nmesos'.
const repositoryVariable = "NMESOS_CONFIG_REPOSITORY"

// specExtensions are the endings of a spec file, in the order in which they are tried.
var specExtensions = []string{".yml", ".yaml"}

// specFolders are the folders that a service's file may be in.
func specFolders(getenv func(string) string) []string {
	folders := []string{"."}
	if repository := getenv(repositoryVariable); repository != "" {
		folders = append(folders, repository)
	}
	return folders
}

// specCandidates lists the absolute paths at which the file of a service may be,
// the best first. The service may contain a path, with or without the ending.
func specCandidates(service string, folders []string) ([]string, error) {
	names := []string{service}
	if !slices.Contains(specExtensions, filepath.Ext(service)) {
		names = []string{service + specExtensions[0], service + specExtensions[1]}
	}
	if filepath.IsAbs(service) {
		return names, nil
	}
	var paths []string
	for _, folder := range folders {
		for _, name := range names {
			path, err := filepath.Abs(filepath.Join(folder, name))
			if err != nil {
				return nil, err
			}
			if !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
	return paths, nil
}

// readSpec finds and reads the file of a service. Its errors are Invalid.
func readSpec(service string, folders []string) (path string, text []byte, err error) {
	paths, err := specCandidates(service, folders)
	if err != nil {
		return "", nil, err
	}
	for _, path := range paths {
		text, err := readBounded(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", nil, pancake.Errorf(pancake.Invalid, "cannot read the spec %s: %w", path, unwrapPath(err))
		}
		return path, text, nil
	}
	hint := ""
	if near, ok := suggest.Nearest(filepath.Base(service), specNames(folders)); ok {
		hint = "\nDid you mean " + near + "?"
	} else if len(folders) == 1 {
		hint = "\n" + repositoryVariable + " can name a folder to look in as well."
	}
	return "", nil, pancake.Errorf(pancake.Invalid, "there is no spec for %q. Tried:\n  %s%s", service, strings.Join(paths, "\n  "), hint)
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, jobspec.MaxSize+1)) // one byte behind the limit makes Parse refuse it
}

// unwrapPath drops the path that os repeats in its errors.
func unwrapPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// specNames lists the services that have a file in one of the folders.
func specNames(folders []string) []string {
	var names []string
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		if err != nil {
			continue // it only serves suggestions
		}
		for _, entry := range entries {
			name, ext := strings.TrimSuffix(entry.Name(), filepath.Ext(entry.Name())), filepath.Ext(entry.Name())
			if !entry.IsDir() && name != "" && slices.Contains(specExtensions, ext) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// loadSpec reads one environment of a service's file. Its problems go to stderr,
// one a line, but with -o json the warnings, which are returned. A file with
// errors is Invalid.
func (e *environment) loadSpec(service, environment string) (*jobspec.Spec, jobspec.Diagnostics, error) {
	path, text, err := readSpec(service, specFolders(e.getenv))
	if err != nil {
		return nil, nil, err
	}
	path = shortPath(path)
	file, _ := jobspec.Parse(path, text)
	if environment == "" {
		return nil, nil, pancake.Errorf(pancake.Invalid, "say which environment with --environment (-e); %s has: %s",
			path, strings.Join(file.Environments(), ", "))
	}
	spec, problems := file.Environment(environment)
	errs, warnings := problems.Errors(), problems.Warnings()
	if len(errs) > 0 {
		fmt.Fprintln(e.stderr, problems)
		return nil, nil, pancake.Errorf(pancake.Invalid, "%s has %s; nothing was sent", path, plural(len(errs), "error"))
	}
	if len(warnings) > 0 && !e.json() {
		fmt.Fprintln(e.stderr, warnings)
	}
	return spec, warnings, nil
}

// shortPath makes a path below the current folder relative to it.
func shortPath(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	if short, err := filepath.Rel(here, path); err == nil && filepath.IsLocal(short) {
		return short
	}
	return path
}
