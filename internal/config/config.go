// Package config fills in the flags that were not given on the command line:
// from environment variables, and failing these from one YAML file.
//
// The variable of a flag is PANCAKE_ and its name in upper case with "_" for
// "-", so PANCAKE_DATA_DIR for --data-dir. An empty variable counts as not set.
//
// The keys of the file are the names of flags. At the top they apply to every
// command that has such a flag; in a mapping under the name of a command, to
// that command and the ones below it:
//
//	data-dir: /var/lib/pancake
//	scheduler:
//	  http: 10.0.0.1:7099
//	agent:
//	  scheduler: 10.0.0.1:7098
//	  attributes: rack:r1
//
// A key that no command could use is an error, so that no setting is lost to a
// slip of the pen.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pancake-stack/pancake"
)

// The flags that AddFlags adds.
const (
	FileFlag  = "config"
	PrintFlag = "print-config"
)

// prefix begins the name of every variable.
const prefix = "PANCAKE_"

// maxFile bounds the file, in bytes.
const maxFile = 1 << 20

// Annotations of flags.
const (
	secretNote = "pancake_secret" // its value is never shown
	originNote = "pancake_origin" // where its value is from
)

// AddFlags adds --config and --print-config, for the root command's persistent flags.
func AddFlags(flags *pflag.FlagSet) {
	flags.String(FileFlag, "", "YAML `file` with settings: the names of flags, and of commands with their flags below them")
	flags.Bool(PrintFlag, false, "print the settings and where each is from, and do nothing else")
}

// MarkSecret says that the value of a flag must not be shown by Print or in an
// error. It fails when there is no such flag.
func MarkSecret(flags *pflag.FlagSet, name string) error {
	return flags.SetAnnotation(name, secretNote, []string{"true"})
}

// Variable is the name of the environment variable for a flag.
func Variable(flag string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Apply sets the flags of cmd that the command line did not set. It must run
// after the flags were parsed, best from PersistentPreRunE of the root command.
// The file is the one of --config, or of PANCAKE_CONFIG; there need not be any.
// All mistakes are reported at once, in an error whose kind is Invalid.
func Apply(cmd *cobra.Command, getenv func(string) string) error {
	var problems []error
	visit(cmd.Flags(), func(f *pflag.Flag) {
		if text := getenv(Variable(f.Name)); text != "" && !f.Changed {
			if err := set(cmd.Flags(), f, "env "+Variable(f.Name), func() error { return f.Value.Set(text) }); err != nil {
				problems = append(problems, fmt.Errorf("%s: %s", Variable(f.Name), reason(f, text, err)))
			}
		}
	})
	if name := fileName(cmd, getenv); name != "" {
		text, err := readFile(name)
		if err != nil {
			return err
		}
		problems = append(problems, applyFile(cmd, name, text)...)
	}
	if len(problems) > 0 {
		return pancake.Errorf(pancake.Invalid, "%w", errors.Join(problems...))
	}
	return nil
}

// fileName is the name of the settings file, "" if there is none.
func fileName(cmd *cobra.Command, getenv func(string) string) string {
	name := ""
	if f := cmd.Flags().Lookup(FileFlag); f != nil {
		name = f.Value.String()
	}
	return cmp.Or(name, getenv(Variable(FileFlag)))
}

func readFile(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "settings file: %w; check --%s and %s", err, FileFlag, Variable(FileFlag))
	}
	defer file.Close() // it was only read
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	switch {
	case err != nil:
		return nil, pancake.Errorf(pancake.Invalid, "settings file: %w", err)
	case len(text) > maxFile:
		return nil, pancake.Errorf(pancake.Invalid, "settings file: %s has more than %d bytes; is it the right file?", name, maxFile)
	}
	return text, nil
}

// visit calls fn for the flags that are settings, in the order of their names.
func visit(flags *pflag.FlagSet, fn func(*pflag.Flag)) {
	flags.VisitAll(func(f *pflag.Flag) {
		if !slices.Contains([]string{FileFlag, PrintFlag, "help", "version"}, f.Name) {
			fn(f)
		}
	})
}

// set changes a flag and notes where its value is from.
func set(flags *pflag.FlagSet, f *pflag.Flag, origin string, change func() error) error {
	if err := change(); err != nil {
		return err
	}
	f.Changed = true // so that a required flag may come from anywhere
	return flags.SetAnnotation(f.Name, originNote, []string{origin})
}

// SetOrigin says where the value of a flag is from that was set in another way. It
// fails when there is no such flag.
func SetOrigin(flags *pflag.FlagSet, name, from string) error {
	return flags.SetAnnotation(name, originNote, []string{from})
}

// origin says where the value of a flag is from.
func origin(f *pflag.Flag) string {
	switch note := f.Annotations[originNote]; {
	case len(note) > 0:
		return note[0]
	case f.Changed:
		return "flag"
	}
	return "default"
}

func secret(f *pflag.Flag) bool { return len(f.Annotations[secretNote]) > 0 }

// reason says why a flag does not take a text, without the text if it is a
// secret: flags repeat it in their errors.
func reason(f *pflag.Flag, text string, err error) string {
	if secret(f) {
		return "the value is not a valid " + f.Value.Type()
	}
	if number, ok := errors.AsType[*strconv.NumError](err); ok {
		err = number.Err // the rest of it says the text once more
	}
	return fmt.Sprintf("%q is not a valid %s: %v", text, f.Value.Type(), err)
}
