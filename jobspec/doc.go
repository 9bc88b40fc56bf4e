// Package jobspec reads job files: the YAML in which a team writes down what
// Pancake shall run. The format is that of nmesos 3.0.7.
//
// A file holds what its environments share under "common" and the rest under
// "environments"; see [File.Environment] for how the two are merged. Parse
// reports everything that is wrong with a file at once, each problem with its
// place and with what to do about it.
//
// Where it differs from nmesos:
//   - singularity and its url may be missing: the scheduler's address is a flag;
//   - common, and instances (then 1), may be missing, an environment may be empty;
//   - an unquoted 8080:22 under ports is two ports, not the number that YAML 1.1 reads;
//   - merged lists keep their order, so that port indexes are stable;
//   - unknown and repeated keys are warned about;
//   - keys that Pancake knows and does not act on are refused where ignoring
//     them would change what runs, and warned about otherwise.
//
// The package is pure: bytes in, values out. It reads no file and no clock.
package jobspec
