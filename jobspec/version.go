package jobspec

import (
	"regexp"
	"strconv"
)

// newest is the newest nmesos whose files this package reads.
const newest = "3.0.7"

// versionPattern is the one by which nmesos finds a version.
var versionPattern = regexp.MustCompile(`^\D*(\d+)\.(\d+)\.(\d+)`)

// checkVersion reads nmesos_version, the oldest nmesos that the file is for.
func checkVersion(out *report, root *node) {
	const key = "nmesos_version"
	n := root.get(key)
	if n == nil {
		out.errorf(place{root.line, root.column, key}, "is missing; add as the first line %s: '%s'", key, newest)
		return
	}
	required, ok := parseVersion(n.text)
	if !ok || n.kind != scalar || n.tag != "!!str" {
		out.errorf(n.place, "%s is not a version of nmesos; write three numbers in quotes, for example %s: '%s'", n.describe(), key, newest)
		return
	}
	known, _ := parseVersion(newest)
	for i := range required {
		switch {
		case required[i] < known[i]:
			return
		case required[i] > known[i] && i == 0:
			out.errorf(n.place, "the file is for nmesos %s, and this Pancake reads files up to %s; install a newer Pancake or write %s: '%s'", quoted(n.text), newest, key, newest)
			return
		case required[i] > known[i]:
			out.warnf(n.place, "the file is for nmesos %s, and this Pancake knows the keys of %s", quoted(n.text), newest)
			return
		}
	}
}

func parseVersion(text string) (v [3]int, ok bool) {
	match := versionPattern.FindStringSubmatch(text)
	if match == nil {
		return v, false
	}
	for i, digits := range match[1:] {
		number, err := strconv.Atoi(digits)
		if err != nil {
			return v, false
		}
		v[i] = number
	}
	return v, true
}
